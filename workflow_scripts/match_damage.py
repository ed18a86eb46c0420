"""Summarize the edits of one candidate over clips: effect, damage, and selectivity at equal damage."""

from pathlib import Path

import pandas as pd

from reprise.interventions.matched_damage import matched_damage
from reprise.interventions.sufficiency import sufficiency_summary
from reprise.storage.files import write_parquet
from reprise.workflow.job import log, start

start(snakemake)
inputs, outputs, name = snakemake.input, snakemake.output, snakemake.wildcards.candidate
effects = pd.read_parquet(inputs.effects)
# The best of several candidates decides, so the intervals must hold for all candidates at once (Bonferroni).
n_edited = int((pd.read_parquet(inputs.candidates)["name"] != "").sum())
level = 1 - 0.05 / max(1, n_edited)
# If the untouched continuation has no event, an edit cannot remove it.
judged = effects[effects["found_baseline"] == 1]
n_judged, n_clips = (of["clip_id"][of["arm"] == "necessity"].nunique() for of in (judged, effects))
log.info("untouched, %d of %d continuations have an event; intervals at %.4g", n_judged, n_clips, level)
write_parquet(Path(outputs.matched), matched_damage(judged, level=level).assign(candidate=name))
write_parquet(Path(outputs.sufficiency), sufficiency_summary(effects, level=level).assign(candidate=name))
