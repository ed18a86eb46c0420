"""The format of DC-SAE: `model.json` and `model.safetensors`.

A DC-SAE has two latent vectors, z_i and z_j. They are loaded as one SAE: the first half of its features are those of
z_i, the second half those of z_j.

The names of the tensors (`W_enc_i`, `W_enc_j` and so on) are assumed, not taken from a published file. Other names
are an error that lists them. Only k is read from the description. Its other fields are ignored, because they are about
the training.

Refused: other names or shapes, and a k that is larger than the number of features of z_i.
"""

from pathlib import Path
from typing import Any

from reprise.saes.formats.fields import positive, read_json, refusal
from reprise.saes.formats.format import Format


def _read(folder: Path) -> dict[str, Any]:
    # Imported here because it needs torch, and the Snakefile imports this module at every parse.
    import torch

    from reprise.saes.formats.tensors import named, read_safetensors

    path, weights_path = (folder / file for file in FORMAT.files)
    k = positive(read_json(path), "k", path)
    found = read_safetensors(weights_path)
    names = {f"{w}_{code}": f"{w}_{code}" for w in ("W_enc", "b_enc", "W_dec") for code in "ij"} | {"b_dec": "b_dec"}
    first = found.get("W_enc_i")
    d_in, half = tuple(first.shape) if first is not None and first.ndim == 2 else (0, 0)
    of = {"W_enc": (d_in, half), "b_enc": (half,), "W_dec": (half, d_in)}
    shapes = {f"{w}_{code}": of[w] for w in of for code in "ij"} | {"b_dec": (d_in,)}
    weights = named(weights_path, found, names, shapes)
    if k > half:
        raise refusal(path, "k", k, f"at most {half}, the number of features of z_i")
    sides = {w: [weights[f"{w}_{code}"] for code in "ij"] for w in of}
    return {
        "W_enc": torch.cat(sides["W_enc"], dim=1),
        "b_enc": torch.cat(sides["b_enc"]),
        "W_dec": torch.cat(sides["W_dec"]),
        "b_dec": weights["b_dec"],
        "k": 2 * k,
        "n_groups": 2,
        "declared": {},
    }


FORMAT = Format("DC-SAE", description="model.json", weights="model.safetensors", read=_read)
