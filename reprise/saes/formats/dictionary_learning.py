"""dictionary_learning's format: `config.json` and `ae.pt`, of the classes in `_DICTIONARIES`.

What else the description says is how the dictionary was trained, and is passed over. Nobody says from which number its
layers are counted: the layer is kept as text, and the certificate rests on how well the SAE reconstructs.

Refused: other classes, files of more than tensors, a transcoder, and a hook that is no residual stream.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprise.saes.formats.fields import TRANSCODER, positive, read_json, refusal
from reprise.saes.formats.format import Format

# dictionary_learning: by class the names of its weights here, "" where it has none of that kind.
_ENCODER = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
_DICTIONARIES = {
    "AutoEncoder": ("relu", {**_ENCODER, "b_dec": "bias"}),
    "AutoEncoderNew": ("relu", {**_ENCODER, "b_dec": "decoder.bias"}),
    "AutoEncoderTopK": ("topk", {**_ENCODER, "b_dec": "b_dec", "k": "k", "threshold": "threshold"}),
    "BatchTopKSAE": ("jumprelu", {**_ENCODER, "b_dec": "b_dec", "k": "k", "threshold": "threshold"}),
    "MatryoshkaBatchTopKSAE": (
        "jumprelu",
        {
            "W_enc": "W_enc",
            "b_enc": "b_enc",
            "W_dec": "W_dec",
            "b_dec": "b_dec",
            "k": "k",
            "threshold": "threshold",
            "group_sizes": "group_sizes",
        },
    ),
    "JumpReluAutoEncoder": (
        "jumprelu",
        {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec", "threshold": "threshold"},
    ),
    "GatedAutoEncoder": (
        "gated",
        {
            "W_enc": "encoder.weight",
            "b_enc": "gate_bias",
            "W_dec": "decoder.weight",
            "b_dec": "decoder_bias",
            "r_mag": "r_mag",
            "b_mag": "mag_bias",
        },
    ),
}


def _read(folder: Path) -> dict[str, Any]:
    # Here, since it imports torch, and the Snakefile imports this module at every parse.
    from reprise.saes.formats.tensors import named, read_torch

    path, weights_path = (folder / file for file in FORMAT.files)
    trainer = read_json(path).get("trainer")
    if not isinstance(trainer, dict):
        raise refusal(path, "trainer", trainer, "an object of fields")
    kind = trainer.get("dict_class")
    if kind not in _DICTIONARIES:
        raise refusal(path, "trainer.dict_class", kind, ", ".join(_DICTIONARIES))
    d_in, d_sae = (positive(trainer, field, path) for field in ("activation_dim", "dict_size"))
    activation, names = _DICTIONARIES[kind]
    found = read_torch(weights_path)
    transposed = "encoder.weight" in names.values()
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (d_sae, d_in) if transposed else (d_in, d_sae),
        "W_dec": (d_in, d_sae) if transposed else (d_sae, d_in),
        "b_dec": (d_in,),
    }
    shapes |= {name: (d_sae,) for name in ("b_enc", "r_mag", "b_mag") if name in names}
    # A top-k dictionary keeps a threshold that it does not use, but not in older files.
    names = {
        n: theirs for n, theirs in names.items() if n != "threshold" or kind != "AutoEncoderTopK" or theirs in found
    }
    # Of the threshold there is one for all features in some classes, and one a feature in others.
    shapes |= {n: tuple(found[names[n]].shape) for n in ("threshold", "k", "group_sizes") if names.get(n) in found}
    weights = named(weights_path, found, names, shapes)
    k, _, threshold = (weights.pop(name, None) for name in ("k", "group_sizes", "threshold"))
    if k is not None and trainer.get("k", int(k)) != int(k):
        raise refusal(path, "trainer.k", trainer["k"], f"{int(k)}, as {weights_path.name} says")
    if transposed:
        weights |= {name: weights[name].T for name in ("W_enc", "W_dec")}
    maths: dict[str, Any] = {"activation": activation, "k": int(k) if activation == "topk" else None}
    if activation == "jumprelu":
        # Before it was estimated the threshold is -1: then all that ReLU leaves is active.
        maths["threshold"] = threshold.expand(d_sae).clone()
    # AutoEncoderNew and JumpReluAutoEncoder do not take the decoder's bias off.
    maths["apply_b_dec_to_input"] = kind not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    # Nobody says from which number layers are counted.
    named = trainer.get("submodule_name") or f"layer {trainer.get('layer')}"
    return {**weights, **maths, "declared": {"hook_name": named, "model_name": trainer.get("lm_name")}}


def _problem(cfg: Mapping[str, Any], folder: Path) -> str | None:
    trainer, buffer = (cfg.get(part) if isinstance(cfg.get(part), dict) else {} for part in ("trainer", "buffer"))
    kind, name = str(trainer.get("dict_class")), trainer.get("submodule_name")
    if re.search("transcoder|crosscoder", kind, re.IGNORECASE):
        return f"trainer.dict_class is {kind!r}: {TRANSCODER}"
    if buffer.get("io") == "in_and_out":
        return f"buffer.io is 'in_and_out': {TRANSCODER}"
    if re.search("attn|attention|mlp", str(name)):
        return f"trainer.submodule_name is {name!r}, which is no residual stream; valid: one of a residual stream"
    return None


FORMAT = Format(
    "dictionary_learning",
    description="config.json",
    weights="ae.pt",
    problem=_problem,
    read=_read,
)
