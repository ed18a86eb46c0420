"""Encode one batch of activations with a certified SAE, kept sparse."""

import json
from pathlib import Path

import torch

from reprise.device import pick_device
from reprise.job import progress, start
from reprise.sae import SaeError, encode_topk, load_sae
from reprise.stores import ArraySpec, read_manifest, read_store, write_store

settings = start(snakemake)
certificate = json.loads(Path(snakemake.input.certificate).read_text())
if not certificate["passed"]:
    raise SaeError(
        f"{settings['sae']} has no certificate for layer {certificate['hook_layer']}, so nothing is encoded: "
        f"{certificate['reason']} (see {snakemake.input.certificate})"
    )
sae = load_sae(Path(settings["sae"]), device=pick_device(snakemake.resources.device))
if sae.digest != certificate["sae_digest"]:
    raise SaeError(f"{settings['sae']} is not the SAE that was certified; run snakemake again so that it notices")

path = Path(snakemake.input.activations.removesuffix(".manifest.json"))
clips = read_manifest(path)["meta"]["clips"]
acts = read_store(path)["resid_post"]
n_clips, n_positions, _ = acts.shape
arrays = {
    "indices": ArraySpec((n_clips, n_positions, sae.k), "int32"),
    "values": ArraySpec((n_clips, n_positions, sae.k), "float32"),
}
meta = {"clips": clips, "sae_digest": sae.digest, "d_sae": sae.d_sae, "hook_layer": certificate["hook_layer"]}
with write_store(Path(snakemake.output.codes), arrays, meta=meta) as store:
    shard = arrays["values"].clips_per_shard
    for first in progress(range(0, n_clips, shard), total=-(-n_clips // shard), what="encode"):
        values, indices = encode_topk(sae, torch.from_numpy(acts[first : first + shard]))
        store.append("indices", indices.cpu().numpy())
        store.append("values", values.cpu().numpy())
