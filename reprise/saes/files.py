"""Read SAEs in the forms in which people publish them, and write SAELens' own.

- SAELens (`cfg.json`, `sae_weights.safetensors`), two layouts. v5 keeps everything at the top of cfg.json and calls a
  top-k SAE "standard" with `activation_fn` "topk" (what Singh, Cherep & Maes, arXiv 2505.18186, published): it is
  loaded as top-k. v6 has `architecture` "topk" and keeps the hook under `metadata`.
- sparsify (`cfg.json`, `sae.safetensors`): top-k or one feature a group.
- dictionary_learning (`config.json`, `ae.pt`): AutoEncoder, AutoEncoderNew, AutoEncoderTopK, BatchTopKSAE,
  MatryoshkaBatchTopKSAE, JumpReluAutoEncoder, GatedAutoEncoder.
- DC-SAE (`model.json`, `model.safetensors`): two codes side by side, loaded as one SAE whose first half are the
  features of z_i and whose second half are those of z_j. What its tensors are called is assumed (`W_enc_i`, `W_enc_j`
  and so on), not read from a published file: other names are an error that lists them.

Loading is strict: weights of other names or shapes are an error, and so is a field of cfg.json that is not known, or
has a value that would change the maths. What else dictionary_learning and DC-SAE describe is how they were trained.
Only SAELens says which layer it counts from 0; the other forms' layer is kept as text, and their certificate rests
on how well they reconstruct.

Where a file asks for `rescale_acts_by_decoder_norm` (activations times the decoder norms before top-k, over them in
decoding), the norms are folded into the weights: the same numbers, and `W_dec[j]` is what one unit of feature j adds.
`expected_average_only_in` divides activations by a number found in training: it is folded in where it lies in the
folder (`activation_scaler.json`), and refused where it does not.
"""

import json
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reprise.saes.forms import (
    SAE_FORMS,
    SCALER_FILE,
    description_problem,
    hook_layer,
    missing_files,
    numbered_layer,
    sae_form,
)
from reprise.saes.sae import NORMALISATIONS, Sae, SaeError, make_sae
from reprise.storage.files import write_json

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SAELENS_VERSION = "6.54.12"  # whose form `save_saelens_v6` writes

# Fields of SAELens' cfg.json by what they mean for the maths. `_MATHS` is read; `_FIXED` must have the value given
# (or be absent); `_INERT` describes, trains or places the SAE. Whatever is in none of them is refused.
_MATHS = {
    "architecture",
    "d_in",
    "d_sae",
    "k",
    "dtype",
    "activation_fn",
    "activation_fn_str",
    "activation_fn_kwargs",
    "apply_b_dec_to_input",
    "rescale_acts_by_decoder_norm",
    "normalize_activations",
}
_FIXED = {
    "reshape_activations": ("none", None),
    "finetuning_scaling_factor": (False, None),
    "hook_head_index": (None,),
}
_DESCRIBING = {
    "model_name",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "hook_name",
    "hook_layer",
    "context_size",
    "seqpos_slice",
    "prepend_bos",
    "exclude_special_tokens",
    "dataset_path",
    "dataset_trust_remote_code",
    "neuronpedia_id",
    "sae_lens_version",
    "sae_lens_training_version",
}
_TRAINING_V5 = {
    "l1_coefficient",
    "lp_norm",
    "use_ghost_grads",
    "normalize_sae_decoder",
    "noise_scale",
    "decoder_orthogonal_init",
    "decoder_heuristic_init",
    "init_encoder_as_decoder_transpose",
    "mse_loss_normalization",
    "scale_sparsity_penalty_by_decoder_norm",
    "jumprelu_init_threshold",
    "jumprelu_bandwidth",
}
_INERT = {"device", "metadata", *_DESCRIBING, *_TRAINING_V5}
_SAELENS_ARCHITECTURES = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}

# The same for sparsify's cfg.json.
_SPARSIFY_MATHS = {
    "activation",
    "d_in",
    "expansion_factor",
    "num_latents",
    "k",
    "skip_connection",
    "transcode",
    "signed",
}
_SPARSIFY_INERT = {"normalize_decoder", "multi_topk"}

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


def load_sae(folder: Path, *, device: str = "cpu") -> Sae:
    """Load an SAE in any of the forms of this module.

    Raises SaeError for a missing or damaged file, an unknown field, an unsupported architecture or normalisation,
    a weight of the wrong name or shape or that is not finite, a hook that is no residual stream or whose name and
    layer disagree, a transcoder, and files of a training.
    """
    folder = Path(folder)
    form = sae_form(folder)
    if form is None:
        raise SaeError(f"sae: {folder} {missing_files(folder)}")
    if problem := description_problem(folder):
        raise SaeError(f"{folder}/{problem}")
    return make_sae(**_READERS[form](folder), device=device)


def save_saelens_v6(folder: Path, sae: Sae, *, metadata: dict[str, Any], dtype: str = "float32") -> None:
    """Write `cfg.json` and `sae_weights.safetensors` as SAELens 6 does; `dtype` is one of `DTYPES`.

    `metadata` should say `hook_name`, `hook_layer`, `model_name`, `model_digest` and `context_size`. Raises SaeError
    for features in groups, which SAELens does not know.
    """
    if dtype not in DTYPES:
        raise SaeError(f"dtype: {dtype!r} is unknown; valid: {', '.join(DTYPES)}")
    if sae.n_groups > 1:
        raise SaeError(f"sae: its features form {sae.n_groups} groups; SAELens has no such form")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    architectures = {activation: name for name, activation in _SAELENS_ARCHITECTURES.items()}
    cfg = {
        "architecture": architectures[sae.activation],
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalize_activations,
        "reshape_activations": "none",
        # Without a version of 6 or more SAELens takes the file for its older form.
        "metadata": {"sae_lens_version": SAELENS_VERSION, "sae_lens_training_version": None, **metadata},
    }
    if sae.k is not None:
        cfg |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    kept = {ours: getattr(sae, ours) for ours in _saelens_names(sae.activation)}
    partial = folder / ".sae_weights.safetensors.partial"
    names = _saelens_names(sae.activation)
    save_file({names[n]: w.to("cpu", DTYPES[dtype]).contiguous() for n, w in kept.items()}, partial)
    partial.replace(folder / SAE_FORMS["SAELens"][1])
    write_json(folder / SAE_FORMS["SAELens"][0], cfg)


# --- SAELens --------------------------------------------------------------------------------------------------


def _read_saelens(folder: Path) -> dict[str, Any]:
    path = folder / SAE_FORMS["SAELens"][0]
    cfg = _read_json(path)
    _refuse_unknown(path, cfg, _MATHS | _FIXED.keys() | _INERT)
    maths = _saelens_maths(cfg, path)
    d_in, d_sae = maths.pop("d_in"), maths.pop("d_sae")
    names = _saelens_names(maths["activation"])
    one = (d_sae,)
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    shapes |= {name: one for name in names if name not in shapes}
    weights = _read_safetensors(folder / SAE_FORMS["SAELens"][1])
    # v5 wrote a scaling factor of ones for a while; any other would change the maths.
    if "scaling_factor" in weights and bool((weights["scaling_factor"] == 1).all()):
        del weights["scaling_factor"]
    weights = _named(folder / SAE_FORMS["SAELens"][1], weights, names, shapes, dtype=_dtype(cfg, path))
    if maths.pop("rescale_acts_by_decoder_norm"):
        weights |= _fold_decoder_norm(weights)
    if maths["normalize_activations"] == "expected_average_only_in":
        weights |= _fold_scaler(weights, folder)
        maths["normalize_activations"] = "none"
    # v5 keeps its descriptions beside the maths, v6 under `metadata`.
    about = {**cfg, **(cfg.get("metadata") or {})}
    declared = {
        "hook_layer": _hook_layer(about, path),
        **{name: about.get(name) for name in ("hook_name", "model_name", "model_digest", "context_size")},
    }
    return {**weights, **maths, "declared": declared}


def _saelens_names(activation: str) -> dict[str, str]:
    """Weights of an `Sae` by what SAELens calls them."""
    names = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
    if activation == "jumprelu":
        names["threshold"] = "threshold"
    if activation == "gated":
        names |= {"b_enc": "b_gate", "r_mag": "r_mag", "b_mag": "b_mag"}
    return names


def _saelens_maths(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """The fields that the maths depends on, in one form for v5 and v6, or SaeError."""
    for field, valid in _FIXED.items():
        for holder in (cfg, cfg.get("metadata") or {}):
            if holder.get(field) not in valid:
                shown = ", ".join(map(repr, valid))
                raise _refusal(path, field, holder[field], f"{shown} (others are not supported)")
    sizes = {field: _positive(cfg, field, path) for field in ("d_in", "d_sae")}
    for field in ("apply_b_dec_to_input", "rescale_acts_by_decoder_norm"):
        if type(cfg.get(field, False)) is not bool:
            raise _refusal(path, field, cfg[field], "true, false")
    # Older files have a truth value here.
    spelled = {None: "none", False: "none", True: "expected_average_only_in"}
    normalisation = cfg.get("normalize_activations")
    normalisation = spelled.get(normalisation, normalisation)
    valid = (*NORMALISATIONS, "expected_average_only_in")
    if normalisation not in valid:
        raise _refusal(path, "normalize_activations", normalisation, ", ".join(map(repr, valid)))

    architecture = cfg.get("architecture", "standard")
    if architecture not in _SAELENS_ARCHITECTURES:
        shown = ", ".join(map(repr, _SAELENS_ARCHITECTURES))
        raise _refusal(path, "architecture", architecture, shown)
    function = cfg.get("activation_fn", cfg.get("activation_fn_str"))
    if function not in (None, "relu", "topk"):
        raise _refusal(path, "activation_fn", function, "'relu', 'topk'")
    right = {"topk": "topk", "jumprelu": "relu", "gated": "relu"}.get(architecture)
    if right and function not in (None, right):
        raise _refusal(path, "activation_fn", function, f"{right!r}, as the architecture is {architecture!r}")
    arguments = dict(cfg.get("activation_fn_kwargs") or {})
    k = arguments.pop("k", cfg.get("k"))
    if arguments:
        raise _refusal(path, "activation_fn_kwargs", cfg["activation_fn_kwargs"], "{'k': ...}, or empty")
    if "k" in cfg and cfg["k"] != k:
        raise _refusal(path, "k", cfg["k"], f"{k}, as activation_fn_kwargs says")

    activation = "topk" if function == "topk" else _SAELENS_ARCHITECTURES[architecture]
    if activation == "topk" and (type(k) is not int or not 1 <= k <= sizes["d_sae"]):
        raise _refusal(path, "k", k, f"an integer from 1 to d_sae = {sizes['d_sae']}")
    if activation != "topk" and k is not None:
        raise _refusal(path, "k", k, "absent, as neither architecture nor activation_fn is 'topk'")
    if activation != "topk" and cfg.get("rescale_acts_by_decoder_norm"):
        raise _refusal(path, "rescale_acts_by_decoder_norm", True, f"false for architecture {architecture!r}")
    return {
        **sizes,
        "activation": activation,
        "k": k if activation == "topk" else None,
        "apply_b_dec_to_input": cfg.get("apply_b_dec_to_input", True),
        "rescale_acts_by_decoder_norm": cfg.get("rescale_acts_by_decoder_norm", False),
        "normalize_activations": normalisation,
    }


def _fold_decoder_norm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    norm = weights["W_dec"].norm(dim=-1)
    return {
        "W_enc": weights["W_enc"] * norm,
        "b_enc": weights["b_enc"] * norm,
        # A decoder row of zeros never becomes active; it must not become NaN either.
        "W_dec": weights["W_dec"] / norm.clamp(min=torch.finfo(torch.float32).tiny)[:, None],
    }


def _fold_scaler(weights: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """The factor that activations were multiplied by in training, taken into the weights."""
    path = folder / SCALER_FILE
    if not path.is_file():
        raise SaeError(
            f"{folder / SAE_FORMS['SAELens'][0]}: normalize_activations is 'expected_average_only_in', and the folder "
            f"has no {SCALER_FILE} with its factor; valid: the SAE saved after SAELens' "
            "fold_activation_norm_scaling_factor"
        )
    factor = _read_json(path).get("scaling_factor")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < float("inf"):
        raise _refusal(path, "scaling_factor", factor, "a number above 0")
    return {
        "W_enc": weights["W_enc"] * factor,
        "W_dec": weights["W_dec"] / factor,
        "b_dec": weights["b_dec"] / factor,
    }


def _hook_layer(about: dict[str, Any], path: Path) -> int | None:
    """The layer after which the hook is, 0-based (`sae_forms.hook_layer`), where name and number agree."""
    layer, name = about.get("hook_layer"), about.get("hook_name") or ""
    number = numbered_layer(name)
    if layer is not None and type(layer) is not int:
        raise SaeError(f"{path}: hook_layer is {layer!r}; valid: an integer, 0-based")
    if layer is not None and number not in (None, layer):
        raise SaeError(f"{path}: hook_layer is {layer}, but hook_name is {name!r}; they must agree")
    return hook_layer(about)


# --- sparsify -------------------------------------------------------------------------------------------------


def _read_sparsify(folder: Path) -> dict[str, Any]:
    path, weights_path = (folder / file for file in SAE_FORMS["sparsify"])
    cfg = _read_json(path)
    _refuse_unknown(path, cfg, _SPARSIFY_MATHS | _SPARSIFY_INERT)
    for field in ("skip_connection", "transcode", "signed"):
        if cfg.get(field, False) is not False:
            raise _refusal(path, field, cfg[field], "false (a transcoder reconstructs another hook than it reads)")
    d_in, k = _positive(cfg, "d_in", path), _positive(cfg, "k", path)
    d_sae = cfg.get("num_latents") or d_in * _positive({"expansion_factor": 32, **cfg}, "expansion_factor", path)
    activation = cfg.get("activation", "topk")
    if activation not in ("topk", "groupmax"):
        raise _refusal(path, "activation", activation, "'topk', 'groupmax'")
    if k > d_sae or (activation == "groupmax" and d_sae % k):
        raise _refusal(path, "k", k, f"at most d_sae = {d_sae}, and a divisor of it for 'groupmax'")
    names = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
    shapes = {"W_enc": (d_sae, d_in), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    weights = _named(weights_path, _read_safetensors(weights_path), names, shapes)
    weights["W_enc"] = weights["W_enc"].T
    return {**weights, "k": k, "n_groups": k if activation == "groupmax" else 1, "declared": {}}


# --- dictionary_learning --------------------------------------------------------------------------------------


def _read_dictionary(folder: Path) -> dict[str, Any]:
    path, weights_path = (folder / file for file in SAE_FORMS["dictionary_learning"])
    trainer = _read_json(path).get("trainer")
    if not isinstance(trainer, dict):
        raise _refusal(path, "trainer", trainer, "an object of fields")
    kind = trainer.get("dict_class")
    if kind not in _DICTIONARIES:
        raise _refusal(path, "trainer.dict_class", kind, ", ".join(_DICTIONARIES))
    d_in, d_sae = (_positive(trainer, field, path) for field in ("activation_dim", "dict_size"))
    activation, names = _DICTIONARIES[kind]
    try:
        found = torch.load(weights_path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SaeError(f"{weights_path}: not a whole file of tensors ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise SaeError(f"{weights_path}: holds more than tensors: a backup of a training, or another form")
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
    weights = _named(weights_path, found, names, shapes)
    k, _, threshold = (weights.pop(name, None) for name in ("k", "group_sizes", "threshold"))
    if k is not None and trainer.get("k", int(k)) != int(k):
        raise _refusal(path, "trainer.k", trainer["k"], f"{int(k)}, as {weights_path.name} says")
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


# --- DC-SAE ---------------------------------------------------------------------------------------------------


def _read_dcsae(folder: Path) -> dict[str, Any]:
    path, weights_path = (folder / file for file in SAE_FORMS["DC-SAE"])
    k = _positive(_read_json(path), "k", path)
    found = _read_safetensors(weights_path)
    names = {f"{w}_{code}": f"{w}_{code}" for w in ("W_enc", "b_enc", "W_dec") for code in "ij"} | {"b_dec": "b_dec"}
    first = found.get("W_enc_i")
    d_in, half = tuple(first.shape) if first is not None and first.ndim == 2 else (0, 0)
    of = {"W_enc": (d_in, half), "b_enc": (half,), "W_dec": (half, d_in)}
    shapes = {f"{w}_{code}": of[w] for w in of for code in "ij"} | {"b_dec": (d_in,)}
    weights = _named(weights_path, found, names, shapes)
    if k > half:
        raise _refusal(path, "k", k, f"at most {half}, the features of one code")
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


_READERS = {
    "SAELens": _read_saelens,
    "sparsify": _read_sparsify,
    "dictionary_learning": _read_dictionary,
    "DC-SAE": _read_dcsae,
}


# --- what all forms share -------------------------------------------------------------------------------------


def _refusal(path: Path, field: str, value: Any, valid: str) -> SaeError:
    return SaeError(f"{path}: {field} is {value!r}; valid: {valid}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SaeError(f"{path}: not JSON ({error})") from None
    if not isinstance(cfg, dict):
        raise SaeError(f"{path}: holds a {type(cfg).__name__}; valid: an object of fields")
    return cfg


def _refuse_unknown(path: Path, cfg: dict[str, Any], known: Collection[str]) -> None:
    unknown = sorted(cfg.keys() - set(known))
    if unknown:
        raise SaeError(f"{path}: unknown field {', '.join(unknown)}: it may change the maths, so it is not ignored")


def _positive(cfg: dict[str, Any], field: str, path: Path) -> int:
    value = cfg.get(field)
    if type(value) is not int or value < 1:
        raise _refusal(path, field, value, "a positive integer")
    return value


def _dtype(cfg: dict[str, Any], path: Path) -> torch.dtype:
    dtype = str(cfg.get("dtype", "float32")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise _refusal(path, "dtype", cfg["dtype"], ", ".join(DTYPES))
    return DTYPES[dtype]


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise SaeError(f"{path}: not a whole safetensors file ({error})") from None


def _named(
    path: Path,
    found: dict[str, torch.Tensor],
    names: dict[str, str],
    shapes: dict[str, tuple[int, ...]],
    *,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """Weights under our names, float32 (rounded to `dtype`), after checking names, shapes and that all is finite."""
    if found.keys() != set(names.values()):
        raise SaeError(f"{path}: holds {', '.join(sorted(found))}; valid: exactly {', '.join(names.values())}")
    weights = {}
    for name, theirs in names.items():
        tensor = found[theirs]
        if tuple(tensor.shape) != shapes[name]:
            raise SaeError(f"{path}: {theirs} has shape {tuple(tensor.shape)}; its description says {shapes[name]}")
        tensor = tensor.to(dtype or tensor.dtype).float()
        if not bool(torch.isfinite(tensor).all()):
            raise SaeError(f"{path}: {theirs} is not all finite" + (f" as {str(dtype)[6:]}" if dtype else ""))
        weights[name] = tensor
    return weights
