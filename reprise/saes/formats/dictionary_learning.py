"""The format of dictionary_learning: `config.json` and `ae.pt`, for the classes in `_DICTIONARIES`.

Other fields of the description are ignored, because they are about the training. The format does not say from which
number layers are counted. So the layer is kept as text, and the certificate depends on how well the SAE reconstructs.

Refused: other classes, files with more than tensors, a transcoder, and a hook that is not a residual stream.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprise.saes.formats.fields import TRANSCODER, positive, read_json, refusal
from reprise.saes.formats.format import Format

# By class: its activation, and for each weight here its name in `ae.pt`.
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
    # Imported here because it needs torch, and the Snakefile imports this module at every parse.
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
    # Newer files of a top-k dictionary have a threshold, which is not used. Older files have none.
    names = {
        n: theirs for n, theirs in names.items() if n != "threshold" or kind != "AutoEncoderTopK" or theirs in found
    }
    # Some classes have one threshold for all features, others have one per feature.
    shapes |= {n: tuple(found[names[n]].shape) for n in ("threshold", "k", "group_sizes") if names.get(n) in found}
    for name, shape in shapes.items():
        valid = [(), (1,), (d_sae,)] if name == "threshold" else [(), (1,)]
        if name in ("threshold", "k") and shape not in valid:
            raise refusal(weights_path, f"the shape of {names[name]}", shape, ", ".join(map(str, valid)))
    weights = named(weights_path, found, names, shapes)
    k, _, threshold = (weights.pop(name, None) for name in ("k", "group_sizes", "threshold"))
    if k is not None and trainer.get("k", int(k)) != int(k):
        raise refusal(path, "trainer.k", trainer["k"], f"{int(k)}, as {weights_path.name} says")
    if transposed:
        weights |= {name: weights[name].T for name in ("W_enc", "W_dec")}
    maths: dict[str, Any] = {"activation": activation, "k": int(k) if activation == "topk" else None}
    if activation == "jumprelu":
        # The threshold is -1 until training has estimated it. Then every value above 0 is active.
        maths["threshold"] = threshold.expand(d_sae).clone()
    # AutoEncoderNew and JumpReluAutoEncoder do not subtract the decoder's bias from the input.
    maths["apply_b_dec_to_input"] = kind not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    # The format does not say from which number layers are counted.
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
        return f"trainer.submodule_name is {name!r}, which is not a residual stream; valid: one of a residual stream"
    return None


FORMAT = Format(
    "dictionary_learning",
    description="config.json",
    weights="ae.pt",
    problem=_problem,
    read=_read,
)
