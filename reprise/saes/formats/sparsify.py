"""The format of sparsify: `cfg.json` and `sae.safetensors`. Top-k, or one feature per group (`groupmax`).

Refused: an unknown field, another activation, and a transcoder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprise.saes.formats.fields import TRANSCODER, positive, read_json, refusal, refuse_unknown
from reprise.saes.formats.format import Format

# Fields of cfg.json: `_MATHS` is read, `_INERT` is about the training. All other fields are refused.
_MATHS = {
    "activation",
    "d_in",
    "expansion_factor",
    "num_latents",
    "k",
    "skip_connection",
    "transcode",
    "signed",
}
_INERT = {"normalize_decoder", "multi_topk"}


def _read(folder: Path) -> dict[str, Any]:
    # Imported here because it needs torch, and the Snakefile imports this module at every parse.
    from reprise.saes.formats.tensors import named, read_safetensors

    path, weights_path = (folder / file for file in FORMAT.files)
    cfg = read_json(path)
    refuse_unknown(path, cfg, _MATHS | _INERT)
    for field in ("skip_connection", "transcode"):
        if cfg.get(field, False) is not False:
            raise refusal(path, field, cfg[field], "false (a transcoder reads one hook and reconstructs another)")
    if cfg.get("signed", False) is not False:
        raise refusal(path, "signed", cfg["signed"], "false (latents below 0 are not supported)")
    d_in, k = positive(cfg, "d_in", path), positive(cfg, "k", path)
    # 0 means that the expansion factor gives the number.
    given = cfg.get("num_latents") not in (None, 0)
    d_sae = (
        positive(cfg, "num_latents", path)
        if given
        else d_in * positive({"expansion_factor": 32, **cfg}, "expansion_factor", path)
    )
    activation = cfg.get("activation", "topk")
    if activation not in ("topk", "groupmax"):
        raise refusal(path, "activation", activation, "'topk', 'groupmax'")
    if k > d_sae or (activation == "groupmax" and d_sae % k):
        raise refusal(path, "k", k, f"at most d_sae = {d_sae}, and a divisor of it for 'groupmax'")
    names = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
    shapes = {"W_enc": (d_sae, d_in), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    weights = named(weights_path, read_safetensors(weights_path), names, shapes)
    weights["W_enc"] = weights["W_enc"].T
    return {**weights, "k": k, "n_groups": k if activation == "groupmax" else 1, "declared": {}}


def _problem(cfg: Mapping[str, Any], folder: Path) -> str | None:
    field = next((field for field in ("transcode", "skip_connection") if cfg.get(field)), None)
    return field and f"{field} is {cfg[field]!r}: {TRANSCODER}"


FORMAT = Format(
    "sparsify",
    description="cfg.json",
    weights="sae.safetensors",
    problem=_problem,
    read=_read,
)
