"""Encode one batch of activations with a certified SAE, kept sparse."""

import json
from pathlib import Path

from reprise.codes import code_arrays
from reprise.device import pick_device
from reprise.encoding import store_codes
from reprise.hub import sae_folder
from reprise.job import start
from reprise.sae import SaeError
from reprise.sae_files import load_sae
from reprise.stores import read_manifest, read_store, write_store

settings = start(snakemake)
certificate = json.loads(Path(snakemake.input.certificate).read_text())
unheard = bool(certificate.get("n_silent")) and certificate["failures"] == ["measured"]
# Where nothing is to be heard in any clip, none is usable, whatever its codes, and the verdict says so.
if not certificate["passed"] and not (unheard and certificate["all_silent"]):
    valid = (
        "the SAE of this layer, one that is trained here (saes: train), or bounds in `certificate` under which it may "
        "pass, which the report then shows"
    )
    if unheard:
        valid = "a larger certificate.n_clips, so that some are heard, or settings under which the model plays"
    raise SaeError(
        f"{settings['sae']} has no certificate for layer {certificate['hook_layer']}, so nothing is encoded: "
        f"{certificate['reason']} (see {snakemake.input.certificate}); valid: {valid}"
    )
sae = load_sae(sae_folder(settings["sae"]), device=pick_device(snakemake.resources.device))
if sae.digest != certificate["sae_digest"]:
    raise SaeError(f"{settings['sae']} is not the SAE that was certified; run snakemake again so that it notices")

path = Path(snakemake.input.activations.removesuffix(".manifest.json"))
clips = read_manifest(path)["meta"]["clips"]
acts = read_store(path)["resid_post"]
n_clips, n_positions, _ = acts.shape
arrays = code_arrays(n_clips, n_positions, d_sae=sae.d_sae, k=sae.k)
meta = {"clips": clips, "sae_digest": sae.digest, "d_sae": sae.d_sae, "hook_layer": certificate["hook_layer"]}
with write_store(Path(snakemake.output.codes), arrays, meta=meta) as store:
    store_codes(sae, acts, store)
