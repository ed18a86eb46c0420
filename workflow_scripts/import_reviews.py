"""Join the downloaded reviews of a study with its events."""

import sys
from pathlib import Path

import pandas as pd

from reprise.review.decisions import import_reviews
from reprise.review.event_ids import read_audio_digests
from reprise.review.files import read_reviews
from reprise.storage.files import write_json, write_parquet
from reprise.targets.target import concat_events
from reprise.workflow.job import log, start

study = start(snakemake)["study"]
inputs, outputs = snakemake.input, snakemake.output
events = concat_events(map(pd.read_parquet, inputs.events))
reviews = read_reviews(inputs.files, study=study)
table, summary = import_reviews(events, read_audio_digests(inputs.audio), reviews, study=study)
log.info("%s", {name: value for name, value in summary.items() if name.startswith("n_")})
for decision in summary["orphaned"]:
    log.warning(
        "%s of %s has no effect: the event %s no longer exists (%s at %.2f s)",
        decision["decision"],
        decision["reviewer"],
        decision["event_id"],
        decision["clip_id"] or "clip not stated",
        decision["onset_s"],
    )
if lost := len(summary["orphaned"]):
    given = sum(len([d for d in review.decisions if d.decision]) for review in reviews)
    text = f"{lost} of {given} decisions have no effect, their events no longer exist: {outputs.summary} lists them"
    print(f"import_reviews: {study}: {text}", file=sys.stderr)
for pair in summary["agreement"]:
    log.info(
        "agreement of %s: kappa %s, n %d. %s", " and ".join(pair["reviewers"]), pair["kappa"], pair["n"], pair["note"]
    )
write_parquet(Path(outputs.table), table)
write_json(Path(outputs.summary), summary)
