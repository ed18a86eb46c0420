"""Fit the baseline of one horizon. All representations are compared with it."""

from pathlib import Path

import pandas as pd

from reprise.identity import seed_from
from reprise.probing.probes import fit_question
from reprise.probing.questions import read_question, write_baseline
from reprise.storage.artifacts import read_clips
from reprise.targets.labels import label_grid, without_local
from reprise.workflow.job import log, start

settings = start(snakemake)
horizon = snakemake.wildcards.horizon
clips = read_clips(snakemake.input.descriptors)
labels = pd.read_parquet(snakemake.input.labels)
if snakemake.input.local:
    labels = without_local(labels, pd.read_parquet(snakemake.input.local[0]))
question = read_question(snakemake.input.descriptors, clips, label_grid(labels, clips["clip_id"]))
# The same seed as for the probes, so that the folds are the same.
seed = seed_from("probe", settings["study"], horizon)[0]
baseline = fit_question(question, seed=seed, n_folds=settings["n_folds"])
log.info("%d rows, %d columns %s", len(baseline.folds), len(question.names), baseline.note)
for member, bits in baseline.bits.items():
    log.info("%s: %.4f bits", member, bits)
write_baseline(Path(snakemake.output[0]), baseline)
