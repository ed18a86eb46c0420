"""Train an SAE on the activations of one layer, without the clips on which its certificate is measured."""

import os
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from reprise.identity import seed_from
from reprise.models.device import pick_device
from reprise.saes.eval_clips import measured_clips, stored_clips, training_clips
from reprise.saes.training import activation_batches, save_sae, train, untrained_sae
from reprise.storage.files import read_manifest, write_folder
from reprise.storage.stores import read_store
from reprise.workflow.job import log, start
from reprise.workflow.resume import remove_unfinished, unfinished_folder

settings = start(snakemake)
# Bit-exact results also on a GPU, as far as torch allows.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
torch.use_deterministic_algorithms(True, warn_only=True)

asked, layer, study = settings["sae_training"], settings["layer"], settings["study"]
# What initial weights and the order of the positions are drawn from.
identity = ("train_sae", study, layer, *([settings["seed"]] if "seed" in settings else []))
clips = stored_clips(snakemake.input.activations)
measured, trained_on = (f(clips, settings["n_measured"]) for f in (measured_clips, training_clips))
stores = {store: read_store(store)["resid_post"] for store in dict.fromkeys(clip.store for clip in clips)}
_, n_positions, d_model = stores[clips[0].store].shape
n_vectors, d_sae = len(trained_on) * n_positions, asked["expansion"] * d_model
if asked["k"] > d_sae:
    raise ValueError(
        f"studies.{study}.sae_training.k: got {asked['k']}; valid: at most {d_sae}, the number of features"
    )
if n_vectors < d_sae:
    raise ValueError(
        f"studies.{study}.sae_training.expansion: got {asked['expansion']}: {d_sae} features, but only {n_vectors} "
        f"positions to train on ({len(trained_on)} clips); valid: at most {n_vectors // d_model}, or more clips"
    )
log.info("%d of %d clips, %d positions, %d features", len(trained_on), len(clips), n_vectors, d_sae)

manifests = [read_manifest(store) for store in stores]
model = manifests[0]["meta"]["model"]
prompts_apart = {clip.prompt_id for clip in measured}.isdisjoint(clip.prompt_id for clip in trained_on)
training = asked | {"n_clips": len(trained_on), "n_positions": n_vectors, "prompts_apart": prompts_apart}
sae = untrained_sae(
    asked["architecture"],
    d_in=d_model,
    d_sae=d_sae,
    k=asked["k"],
    seed=seed_from(*identity)[0],
    metadata={
        "hook_name": f"transformer.layers.{layer}",
        "hook_layer": layer,
        "model_name": model["name"],
        "model_digest": model["weights_digest"],
        "context_size": n_positions,
        "training": training,
    },
)
depends_on = [settings, [manifest["digest"] for manifest in manifests], version("sae-lens"), version("torch")]
folder = Path(snakemake.output.sae)
sae = train(
    sae,
    partial(
        activation_batches,
        {clip.clip_id: partial(stores[clip.store].__getitem__, clip.i) for clip in trained_on},
        n_positions=n_positions,
        batch_size=asked["batch_size"],
        identity=identity,
    ),
    n_steps=asked["n_steps"],
    batch_size=asked["batch_size"],
    learning_rate=asked["learning_rate"],
    checkpoints=unfinished_folder(folder, depends_on),
    device=pick_device(snakemake.resources.device),
)
meta = {"training": training, "trained_on": [clip.clip_id for clip in trained_on]}
with write_folder(folder, meta=meta) as unfinished:
    save_sae(sae, unfinished)
remove_unfinished(folder)
