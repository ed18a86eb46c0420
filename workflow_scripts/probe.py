"""Fit one probe: one representation, one layer, one horizon, against the baseline."""

import json
from pathlib import Path

import pandas as pd

from reprise.identity import seed_from
from reprise.probing.probes import probe
from reprise.probing.questions import read_baseline, read_question
from reprise.probing.representations import Inputs, by_source, of_probe
from reprise.saes.certificate import require_passed
from reprise.storage.artifacts import read_clips
from reprise.storage.files import write_json, write_parquet
from reprise.targets.labels import label_grid, unusable_because, without_local
from reprise.workflow.job import log, start

settings = start(snakemake)
asked, name, horizon = settings["probes"], snakemake.wildcards.probe, snakemake.wildcards.horizon
certificates = [json.loads(Path(path).read_text()) for path in snakemake.input.certificate]
for path, certificate in zip(snakemake.input.certificate, certificates, strict=True):
    require_passed(certificate, see=path)
clips = read_clips(snakemake.input.descriptors)
labels = pd.read_parquet(snakemake.input.labels)
if snakemake.input.local:
    labels = without_local(labels, pd.read_parquet(snakemake.input.local[0]))
grid = label_grid(labels, clips["clip_id"])
question = read_question(snakemake.input.descriptors, clips, grid)
baseline = read_baseline(snakemake.input.baseline)
entry, hook = of_probe(name)
stores = by_source(snakemake.input.representation)
representation = entry.make(Inputs(stores, grid.positions, settings["study"], hook))
log.info("%d clips, %d times, %d baseline columns", *grid.y.shape, len(question.names))
unusable = [unusable_because(certificate, grid.times_s) for certificate in certificates]

result = probe(
    question,
    representation,
    # The same for every representation and layer: they are compared on the same folds and resamples.
    seed=seed_from("probe", settings["study"], horizon)[0],
    baseline=baseline,
    n_swaps=asked["n_swaps"],
    n_folds=asked["n_folds"],
    n_bootstrap=asked["n_bootstrap"],
    unusable_because="".join(unusable),
)
record = {"study": settings["study"], "horizon": horizon, "representation": entry.name, "hook": hook or "embedding"}
record["declared"] = json.loads(Path(snakemake.input.declared).read_text())["entry"]
log.info("%s", result.record)
write_json(Path(snakemake.output.record), record | result.record)
predictions = result.predictions
predictions["clip_id"] = clips["clip_id"].to_numpy()[predictions.pop("clip")]
predictions["time_s"] = grid.times_s[predictions.pop("time")]
write_parquet(Path(snakemake.output.predictions), predictions)
