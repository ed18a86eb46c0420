"""Judge a study by its declared thresholds."""

import json
from pathlib import Path

import pandas as pd

from reprise.artifacts import hook_layer, read_clips
from reprise.job import log, start
from reprise.overrule import read_events
from reprise.preregistration import Thresholds
from reprise.stores import read_records, write_json
from reprise.verdict import verdict
from reprise.versions import package_versions

settings = start(snakemake)
inputs = snakemake.input
identity = json.loads(Path(inputs.model).read_text())
clips = read_clips(inputs.tokens)
events = read_events(inputs.events, inputs.reviews, reviewed_only=settings["reviewed_only"])
accepted = events[events["accepted"].astype(bool)]
role_of = {name: role for role, name in settings["horizons_by_role"].items()}

probes = read_records(inputs.probes)
probes["layer"] = probes["hook"].map(hook_layer)
probes["role"] = probes["horizon"].map(role_of)
candidates = pd.read_parquet(inputs.candidates)
candidates = candidates[candidates["name"] != ""].rename(columns=lambda name: name.removeprefix("confirm_"))
matched = [pd.read_parquet(path) for path in inputs.effects]
thresholds = Thresholds(**settings["verdict"], alpha=settings["probes"]["alpha"])
declared = json.loads(Path(inputs.preregistration).read_text())
# Both nulls must be beaten: other prompts' performances, and other performances of the same prompt.
probes["null_gain"] = probes["swap_gain_auroc_q50"]
within = probes.dropna(subset=["p_swap_within_prompt"])
within = within.assign(p_swap=within["p_swap_within_prompt"], null_gain=within["swap_gain_auroc_q50_within_prompt"])
record = verdict(
    events={
        "n_clips": len(clips),
        "n_with_event": accepted["clip_id"].nunique(),
        "n_prompts_with_event": accepted["prompt_id"].nunique(),
    },
    probes=pd.concat([probes, within], ignore_index=True),
    candidates=candidates.reset_index(drop=True),
    matched=pd.concat(matched, ignore_index=True) if matched else pd.DataFrame(),
    thresholds=thresholds,
    long_role=settings["longer_roles"][-1],
    declared=declared,
)
record |= {
    "study": settings["study"],
    "model": identity,
    "horizons": settings["horizons_by_role"],
    "seeds": settings["seeds"],
    "declared": declared["settings"],
    "versions": package_versions(identity["backend"]),
}
if inputs.review_summary:
    # People overruled events, and a verdict says so.
    summary = json.loads(Path(inputs.review_summary[0]).read_text())
    record["reviews"] = {name: value for name, value in summary.items() if name.startswith("n_")}
log.info("verdict: %s (%s)", record["verdict"], record["reason"])
write_json(Path(snakemake.output[0]), record)
