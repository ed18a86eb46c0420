"""Fit one probe: one representation, one layer, one horizon, against the baseline."""

import json
from pathlib import Path

import pandas as pd

from reprise.artifacts import read_array, read_clips, read_meta
from reprise.codes import read_codes, sae_size
from reprise.identity import seed_from
from reprise.job import log, start
from reprise.labels import label_grid, unusable_because, without_local
from reprise.probes import baseline_features, probe, random_codes
from reprise.stores import write_json, write_parquet

settings = start(snakemake)
asked, name, horizon = settings["probes"], snakemake.wildcards.probe, snakemake.wildcards.horizon
clips = read_clips(snakemake.input.descriptors)
labels = pd.read_parquet(snakemake.input.labels)
if snakemake.input.local:
    labels = without_local(labels, pd.read_parquet(snakemake.input.local[0]))
grid = label_grid(labels, clips["clip_id"])
heard = read_array(snakemake.input.descriptors, "descriptors", grid.positions)
baseline, columns = baseline_features(
    clips["prompt"],
    clips["prompt_id"],
    grid.times_s,
    heard,
    descriptor_names=read_meta(snakemake.input.descriptors)["names"],
)
sources = snakemake.input.representation
kind, _, hook = name.partition("-")
if kind == "sae":
    representation = read_codes(sources, grid.positions)
else:
    representation = read_array(sources, "resid_post", grid.positions).astype("float32")
if kind == "random_dictionary":
    d_sae, k = sae_size(snakemake.input.codes)
    seed = seed_from("random dictionary", settings["study"], hook)[0]
    representation = random_codes(representation, d_sae=d_sae, k=k, seed=seed)
log.info("%d clips, %d times, %d baseline columns", *grid.y.shape, len(columns))
unusable = [unusable_because(json.loads(Path(path).read_text()), grid.times_s) for path in snakemake.input.certificate]

result = probe(
    grid.y,
    grid.usable,
    clips["prompt_id"],
    baseline,
    representation,
    # The same for every representation and layer: they are compared on the same folds and resamples.
    seed=seed_from("probe", settings["study"], horizon)[0],
    n_swaps=asked["n_swaps"],
    n_folds=asked["n_folds"],
    n_bootstrap=asked["n_bootstrap"],
    unusable_because="".join(unusable),
)
record = {"study": settings["study"], "horizon": horizon, "representation": kind, "hook": hook or "embedding"}
log.info("%s", result.record)
write_json(Path(snakemake.output.record), record | result.record)
predictions = result.predictions
predictions["clip_id"] = clips["clip_id"].to_numpy()[predictions.pop("clip")]
predictions["time_s"] = grid.times_s[predictions.pop("time")]
write_parquet(Path(snakemake.output.predictions), predictions)
