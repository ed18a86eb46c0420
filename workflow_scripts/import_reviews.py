"""Join the downloaded reviews of a study with its events."""

from pathlib import Path

import pandas as pd

from reprise.job import log, start
from reprise.review import import_reviews, read_audio_digests, read_reviews
from reprise.stores import write_json, write_parquet

study = start(snakemake)["study"]
inputs, outputs = snakemake.input, snakemake.output
events = pd.concat([pd.read_parquet(path) for path in inputs.events], ignore_index=True)
table, summary = import_reviews(
    events, read_audio_digests(inputs.audio), read_reviews(inputs.files, study=study), study=study
)
log.info("%s", {name: value for name, value in summary.items() if name.startswith("n_")})
for lost in summary["orphaned"]:
    log.warning(
        "%s of %s decides nothing: there is no event %s any more (%s at %.2f s)",
        lost["decision"],
        lost["reviewer"],
        lost["event_id"],
        lost["clip_id"] or "clip not stated",
        lost["onset_s"],
    )
for pair in summary["agreement"]:
    log.info(
        "agreement of %s: kappa %s, n %d. %s", " and ".join(pair["reviewers"]), pair["kappa"], pair["n"], pair["note"]
    )
write_parquet(Path(outputs.table), table)
write_json(Path(outputs.summary), summary)
