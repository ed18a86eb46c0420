"""Compute the verdict of a study from its declared thresholds."""

import json
from pathlib import Path

import pandas as pd

from reprise.identity import seed_from
from reprise.probing.learned import learned_gain
from reprise.probing.representations import REFERENCE
from reprise.review.apply import read_events
from reprise.storage.artifacts import hook_layer
from reprise.storage.files import read_records, write_json
from reprise.verdict.evidence import is_evidence
from reprise.verdict.gates import verdict
from reprise.verdict.preregistration import Thresholds, preregistration, problems_of
from reprise.verdict.reasons import count_reasons
from reprise.workflow.job import log, start
from reprise.workflow.versions import package_versions

settings = start(snakemake)
inputs = snakemake.input
identity = json.loads(Path(inputs.model).read_text())
events = read_events(inputs.events, inputs.reviews, reviewed_only=settings["reviewed_only"])
accepted = events[events["accepted"].astype(bool)]
clip_summaries = pd.concat([pd.read_parquet(path) for path in inputs.clip_summaries], ignore_index=True)
unusable = clip_summaries.loc[~clip_summaries["usable"], "no_events_because"].str.removeprefix("unusable: ")
role_of = {name: role for role, name in settings["horizons_by_role"].items()}
long_role = settings["longer_roles"][-1]

probes = read_records(inputs.probes)
probes["layer"] = probes["hook"].map(hook_layer)
probes["role"] = probes["horizon"].map(role_of)
predictions = {Path(path).stem: pd.read_parquet(path) for path in inputs.predictions}
for index, row in probes[(probes["role"] == long_role) & is_evidence(probes["representation"])].iterrows():
    # The same seed as for the probes, so that the resamples are the same.
    seed = seed_from("probe", settings["study"], row["horizon"])[0]
    trained, random = (predictions[f"{name}-{row['hook']}"] for name in (row["representation"], REFERENCE))
    learned = learned_gain(trained, random, seed=seed, n_bootstrap=settings["probes"]["n_bootstrap"])
    for name in ("learned_auroc", "learned_auroc_low", "learned_auroc_high", "p_learned"):
        probes.loc[index, name] = learned[name]
candidates = pd.read_parquet(inputs.candidates)
matched, sufficiency = (
    pd.concat(map(pd.read_parquet, paths), ignore_index=True) if paths else pd.DataFrame()
    for paths in (inputs.effects, inputs.sufficiency)
)
thresholds = Thresholds(**settings["verdict"], alpha=settings["probes"]["alpha"])
record = verdict(
    clips={
        "n_clips": len(clip_summaries),
        "n_usable": int(clip_summaries["usable"].sum()),
        "unusable": count_reasons(unusable),
        "n_with_event": accepted["clip_id"].nunique(),
        "n_prompts_with_event": accepted["prompt_id"].nunique(),
    },
    probes=probes,
    candidates=candidates.rename(columns=lambda name: name.removeprefix("confirm_")),
    matched=matched,
    sufficiency=sufficiency,
    thresholds=thresholds,
    long_role=long_role,
    second_target=settings["second_target"],
)
scored = is_evidence(probes["representation"]) & (probes["role"] == long_role)
columns = ["layer", "representation", "learned_auroc", "learned_auroc_low", "learned_auroc_high", "p_learned"]
record["learned"] = probes.loc[scored, columns].to_dict("records")

current = json.loads(Path(inputs.preregistration).read_text())
kept = sorted(Path(inputs.preregistration).with_name("preregistrations").glob("*.json"))
problems = problems_of(
    [json.loads(path.read_text()) for path in kept],
    json.loads(Path(inputs.declared).read_text()),
    current,
    asked=preregistration(thresholds, settings["declared"]),
    recorded={*probes["declared"], *candidates["declared"]},
)
for problem in problems:
    log.warning("declaration: %s", problem)
record["preregistration"] = {
    "digest": current["digest"],
    "intact": not problems,
    "problems": problems,
    "declarations": current["declarations"],
}
power = json.loads(Path(inputs.power).read_text())
# The power analysis only applies to gates that use probes. Gates that use edits need more clips with an event.
reads_probes = next((g["name"] for g in record["gates"] if g["outcome"] != "passed"), "") in (
    "positive_clips",
    "negative_clips",
    "positive_prompts",
    "prediction",
    "learned",
)
record["power"] = {"sentence": power["sentence"], "advice": power.get("advice", {}), "of_probes": reads_probes}
if record["verdict"] == "unresolved" and reads_probes and power["sentence"]:
    record["reason"] = f"{record['reason'].rstrip('.')}. {power['sentence']}"
record |= {
    "study": settings["study"],
    "model": identity,
    "horizons": settings["horizons_by_role"],
    "seeds": settings["seeds"],
    "declared": current["settings"],
    "versions": package_versions(identity.get("library", identity["backend"])),
}
if inputs.review_summary:
    # The verdict states that reviewers changed events.
    summary = json.loads(Path(inputs.review_summary[0]).read_text())
    record["reviews"] = {name: value for name, value in summary.items() if name.startswith("n_")}
log.info("verdict: %s (%s)", record["verdict"], record["reason"])
write_json(Path(snakemake.output[0]), record)
