"""Encode one batch of activations with a certified SAE, as sparse latents."""

import json
from pathlib import Path

from reprise.checkpoints.hub import sae_folder
from reprise.models.device import pick_device
from reprise.saes.certificate import judge, require_passed
from reprise.saes.encoding import store_latents
from reprise.saes.errors import SaeError
from reprise.saes.latents import latent_arrays
from reprise.saes.loading import load_sae
from reprise.saes.measurement import from_plain
from reprise.storage.files import read_manifest
from reprise.storage.stores import read_store, write_store
from reprise.workflow.job import start

settings = start(snakemake)
measurement = from_plain(json.loads(Path(snakemake.input.measurement).read_text()))
# The certificate is judged here again and is not an input. So a changed threshold alone does not rerun the encoding,
# and nothing is encoded without a passing certificate.
certificate = judge(measurement, snakemake.params.certificate)
require_passed(certificate, see=snakemake.input.measurement)
sae = load_sae(sae_folder(settings["sae"]), device=pick_device(snakemake.resources.device))
if sae.digest != measurement.sae_digest:
    raise SaeError(f"{settings['sae']} is not the SAE that was certified; run snakemake again to certify it")

path = Path(snakemake.input.activations.removesuffix(".manifest.json"))
clips = read_manifest(path)["meta"]["clips"]
acts = read_store(path)["resid_post"]
n_clips, n_positions, _ = acts.shape
arrays = latent_arrays(n_clips, n_positions, d_sae=sae.d_sae, k=sae.k)
meta = {"clips": clips, "sae_digest": sae.digest, "d_sae": sae.d_sae, "hook_layer": certificate["hook_layer"]}
with write_store(Path(snakemake.output.latents), arrays, meta=meta) as store:
    store_latents(sae, acts, store)
