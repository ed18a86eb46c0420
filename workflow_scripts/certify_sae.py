"""Measure how well an SAE reconstructs its hook and the hooks beside it, and write its certificate."""

import json
from itertools import chain
from pathlib import Path

import numpy as np

from reprise.artifacts import store_of, with_clips
from reprise.certificate import Hook, certify, reconstruction_metrics
from reprise.decoding import normed, residual_stream
from reprise.device import pick_device
from reprise.job import log, progress, start
from reprise.musicgen import load_identified
from reprise.sae_files import load_sae
from reprise.stores import read_manifest, read_store, write_json

# Short enough to see where a published SAE's training context ends, long enough for a sound mean.
BIN_S = 2.5

settings = start(snakemake)
identity = json.loads(Path(snakemake.input.model).read_text())
layer, asked = settings["layer"], settings["certificate"]
sae = load_sae(Path(settings["sae"]))
expected = {
    "hook_layer": layer,
    "d_model": identity["d_model"],
    "frame_rate_hz": identity["frame_rate_hz"],
    "model_name": settings["model"]["name"],
    "model_digest": identity["weights_digest"],
}

# The sample: clips spread evenly over all batches, in their stable order.
paths = [store_of(manifest) for manifest in with_clips(snakemake.input.tokens)]
clips = list(
    chain.from_iterable(
        [(path, i, clip) for i, clip in enumerate(read_manifest(path)["meta"]["clips"])] for path in paths
    )
)
chosen = [clips[i] for i in np.linspace(0, len(clips) - 1, min(asked["n_clips"], len(clips))).astype(int)]
tokens = np.stack([read_store(path)["tokens"][i] for path, i, _ in chosen])
expected["n_positions"] = tokens.shape[-1] + 1

metrics, unconditional = {}, None
if sae.d_in == identity["d_model"]:
    model = load_identified(settings["model"], identity, device=pick_device(snakemake.resources.device))
    layers = [i for i in range(layer - 2, layer + 2) if -1 <= i < model.n_layers]
    rows = min(settings["rows"], len(chosen))
    # By position: stretches of BIN_S, the last one up to half as long again.
    per_bin = round(BIN_S * identity["frame_rate_hz"])
    edges = range(per_bin, expected["n_positions"] - per_bin // 2, per_bin)

    def capture(prompts: list[str | None], of: list[int]) -> list[dict[int, np.ndarray]]:
        passes = residual_stream(model, tokens, prompts, layers=of, rows=rows)
        return list(progress(passes, total=-(-len(chosen) // rows), what="activations"))

    captured = capture([clip["prompt"] for _, _, clip in chosen], layers)
    for i in layers:
        acts = [c[i] for c in captured]
        metrics[Hook(i, normed=False)] = reconstruction_metrics(sae, acts, position_edges=edges)
        if sae.normalize_activations == "none":
            acts = [normed(model, i, x) for x in acts]
            metrics[Hook(i, normed=True)] = reconstruction_metrics(sae, acts, position_edges=edges)
    if settings["guided"]:
        captured = capture([None] * len(chosen), [layer])
        unconditional = reconstruction_metrics(sae, [c[layer] for c in captured], position_edges=edges)

record = certify(
    sae.declared,
    expected,
    metrics,
    max_fvu=asked["max_fvu"],
    min_neighbour_ratio=asked["min_neighbour_ratio"],
    unconditional=unconditional,
)
record |= {"sae": settings["sae"], "sae_digest": sae.digest, "n_clips": len(chosen), "settings": asked}
log.info("certificate %s: %s", "passed" if record["passed"] else "refused", record["reason"])
write_json(Path(snakemake.output[0]), record)
