"""Capture the residual stream of one batch of clips at all hooks, in one teacher-forced pass."""

import json
from contextlib import ExitStack
from pathlib import Path

from reprise.identity import seed_from
from reprise.models.capture import passes_at_once, store_residual_stream
from reprise.models.delay_pattern import n_positions
from reprise.models.device import pick_device
from reprise.models.loading import check_fits, load_identified
from reprise.models.memory import check_memory, free_memory, pass_need
from reprise.models.random_weights import randomly_initialised
from reprise.storage.artifacts import activation_arrays, hook_layer
from reprise.storage.files import read_manifest
from reprise.storage.stores import read_store, write_store
from reprise.workflow.job import start

settings = start(snakemake)
hooks = [Path(path).parent.name for path in snakemake.output.stores]
random_weights = hooks[0].startswith("random-")
identity = json.loads(Path(snakemake.input.model).read_text())
tokens_path = Path(snakemake.input.tokens.removesuffix(".manifest.json"))
clips = read_manifest(tokens_path)["meta"]["clips"]
tokens = read_store(tokens_path)["tokens"]
n_clips, _, n_frames = tokens.shape

device = pick_device(snakemake.resources.device)
n_kept = len(hooks) * passes_at_once(device)
need = pass_need(identity, n_frames=n_frames, dtype=settings["model"]["dtype"], n_hooks=n_kept)
check_memory(need, batch_size=settings["batch_size"], free=free_memory(device))
layers = [layer for hook in hooks if (layer := hook_layer(hook)) >= 0]
check_fits(identity, name=identity["name"], corpus=snakemake.wildcards.corpus, layers=layers, duration_s=0)
model = load_identified(settings["model"], identity, device=device)
if random_weights:
    model = randomly_initialised(model, seed=seed_from("random model", identity["weights_digest"])[0])

with ExitStack() as stack:
    stores = {}
    for hook, path in zip(hooks, snakemake.output.stores, strict=True):
        meta = {
            "clips": clips,
            "model": identity,
            "hook": hook,
            "seconds_per_position": 1 / model.frame_rate_hz,
            "cfg_half": "conditional",
            "random_weights": random_weights,
        }
        arrays = activation_arrays(n_clips, n_positions=n_positions(n_frames), d_model=model.d_model)
        stores[hook_layer(hook)] = stack.enter_context(write_store(Path(path), arrays, meta=meta))
    store_residual_stream(model, tokens, [clip["prompt"] for clip in clips], stores, batch_size=settings["batch_size"])
