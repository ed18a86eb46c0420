"""Screen all features of one layer for one horizon, on the prompts that are not reserved for confirmation."""

import json
from pathlib import Path

import pandas as pd

from reprise.candidates.screen import active_entries, screen
from reprise.identity import stable_fraction
from reprise.saes.certificate import require_passed
from reprise.saes.latents import latent_batches
from reprise.storage.artifacts import read_clips, read_meta
from reprise.storage.files import write_parquet
from reprise.targets.labels import label_grid, unusable_because, without_local
from reprise.workflow.job import log, start

settings = start(snakemake)["screen"]
certificate = json.loads(Path(snakemake.input.certificate).read_text())
require_passed(certificate, see=snakemake.input.certificate)
manifests = snakemake.input.latents
clips = read_clips(manifests)
labels = pd.read_parquet(snakemake.input.labels)
if snakemake.input.local:
    labels = without_local(labels, pd.read_parquet(snakemake.input.local[0]))
grid = label_grid(labels, clips["clip_id"])
d_sae = read_meta(manifests)["d_sae"]
entries = active_entries(latent_batches(manifests), grid.positions, d_sae)

unusable = unusable_because(certificate, grid.times_s)
if unusable:
    log.warning("no feature is tested: %s", unusable)
screened = clips["prompt_id"].map(stable_fraction).to_numpy() >= settings["confirm_fraction"]
table = screen(
    entries,
    d_sae,
    grid.y,
    grid.usable & screened[:, None] & (not unusable),
    clips["prompt_id"],
    min_active=settings["min_active"],
    max_active=settings["max_active"],
)
log.info("%d of %d features tested on %d clips", table["tested"].sum(), d_sae, screened.sum())
table.insert(0, "layer", int(snakemake.wildcards.layer))
table.insert(1, "horizon", snakemake.wildcards.horizon)
write_parquet(Path(snakemake.output[0]), table)
