"""The format of SAELens: `cfg.json` and `sae_weights.safetensors`.

There are two layouts. v5 keeps all fields at the top level of cfg.json. It calls a top-k SAE "standard" with
`activation_fn` "topk" (as published by Singh, Cherep & Maes, arXiv 2505.18186); this is loaded as top-k. v6 has
`architecture` "topk" and keeps the hook under `metadata`. This is the only format that declares a 0-based layer.

`rescale_acts_by_decoder_norm` multiplies activations by the decoder norms before top-k, and divides by them in
decoding. The norms are folded into the weights. The result is the same, and one unit of feature j adds `W_dec[j]`.
`expected_average_only_in` multiplies activations by a factor from training. The factor is folded into the weights if
it is in the folder (`activation_scaler.json`). Otherwise the SAE is refused.

Refused: an unknown field of cfg.json; a value that would change the computation; a transcoder; an SAE that was saved
in its training form; a hook that is not a residual stream, or whose name and layer disagree.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.saes.errors import SaeError
from reprise.saes.formats.fields import TRANSCODER, positive, read_json, refusal, refuse_unknown
from reprise.saes.formats.format import Format
from reprise.saes.hook_names import before_text, hook_layer, hook_problem, numbered_layer

if TYPE_CHECKING:
    import torch

# SAELens may write this file beside the two others.
SCALER_FILE = "activation_scaler.json"
# Fields of SAELens' cfg.json, by their effect on the computation. `_MATHS` is read. `_FIXED` must have a given value
# or be absent. `_INERT` is about the description, the training and the device. All other fields are refused.
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
ARCHITECTURES = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
# Fields that SAELens 6 writes for an SAE in its training form, but not for one that is saved for use.
_TRAINING_FIELDS = {
    "decoder_init_norm",
    "l1_warm_up_steps",
    "l0_coefficient",
    "l0_warm_up_steps",
    "pre_act_loss_coefficient",
    "jumprelu_sparsity_loss_mode",
    "aux_loss_coefficient",
    "use_sparse_activations",
    "topk_threshold_lr",
    "matryoshka_widths",
}
_TRAINING_ARCHITECTURES = ("batchtopk", "matryoshka_batchtopk")


def _read(folder: Path) -> dict[str, Any]:
    # Imported here because it needs torch, and the Snakefile imports this module at every parse.
    from reprise.saes.formats.tensors import dtype_of, named, read_safetensors

    path = folder / FORMAT.description
    cfg = read_json(path)
    refuse_unknown(path, cfg, _MATHS | _FIXED.keys() | _INERT)
    maths = _maths(cfg, path)
    d_in, d_sae = maths.pop("d_in"), maths.pop("d_sae")
    names = weight_names(maths["activation"])
    one = (d_sae,)
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    shapes |= {name: one for name in names if name not in shapes}
    weights = read_safetensors(folder / FORMAT.weights)
    # Some versions of v5 wrote a scaling factor of ones. Any other would change the computation.
    if "scaling_factor" in weights and bool((weights["scaling_factor"] == 1).all()):
        del weights["scaling_factor"]
    weights = named(folder / FORMAT.weights, weights, names, shapes, dtype=dtype_of(cfg, path))
    if maths.pop("rescale_acts_by_decoder_norm"):
        weights |= _fold_decoder_norm(weights)
    if maths["normalize_activations"] == "expected_average_only_in":
        weights |= _fold_scaler(weights, folder)
        maths["normalize_activations"] = "none"
    # v5 keeps the description at the top level, v6 under `metadata`.
    about = {**cfg, **(cfg.get("metadata") or {})}
    declared = {
        "hook_layer": _hook_layer(about, path),
        **{name: about.get(name) for name in ("hook_name", "model_name", "model_digest", "context_size")},
    }
    return {**weights, **maths, "declared": declared}


def weight_names(activation: str) -> dict[str, str]:
    """SAELens' names for the weights of an `Sae`: by our name, theirs."""
    names = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
    if activation == "jumprelu":
        names["threshold"] = "threshold"
    if activation == "gated":
        names |= {"b_enc": "b_gate", "r_mag": "r_mag", "b_mag": "b_mag"}
    return names


def _maths(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """The fields that the computation depends on, in one form for v5 and v6. Raises SaeError for invalid ones."""
    from reprise.saes.sae import NORMALISATIONS

    if not isinstance(cfg.get("metadata") or {}, dict):
        raise refusal(path, "metadata", cfg["metadata"], "an object of fields, or null")
    for field, valid in _FIXED.items():
        for holder in (cfg, cfg.get("metadata") or {}):
            if holder.get(field) not in valid:
                shown = ", ".join(map(repr, valid))
                raise refusal(path, field, holder[field], f"{shown} (others are not supported)")
    sizes = {field: positive(cfg, field, path) for field in ("d_in", "d_sae")}
    for field in ("apply_b_dec_to_input", "rescale_acts_by_decoder_norm"):
        if type(cfg.get(field, False)) is not bool:
            raise refusal(path, field, cfg[field], "true, false")
    # Older files have a boolean here.
    spelled = {None: "none", False: "none", True: "expected_average_only_in"}
    normalisation = cfg.get("normalize_activations")
    normalisation = spelled.get(normalisation, normalisation)
    valid = (*NORMALISATIONS, "expected_average_only_in")
    if normalisation not in valid:
        raise refusal(path, "normalize_activations", normalisation, ", ".join(map(repr, valid)))

    architecture = cfg.get("architecture", "standard")
    if architecture not in ARCHITECTURES:
        shown = ", ".join(map(repr, ARCHITECTURES))
        raise refusal(path, "architecture", architecture, shown)
    function = cfg.get("activation_fn", cfg.get("activation_fn_str"))
    if function not in (None, "relu", "topk"):
        raise refusal(path, "activation_fn", function, "'relu', 'topk'")
    right = {"topk": "topk", "jumprelu": "relu", "gated": "relu"}.get(architecture)
    if right and function not in (None, right):
        raise refusal(path, "activation_fn", function, f"{right!r}, as the architecture is {architecture!r}")
    arguments = dict(cfg.get("activation_fn_kwargs") or {})
    k = arguments.pop("k", cfg.get("k"))
    if arguments:
        raise refusal(path, "activation_fn_kwargs", cfg["activation_fn_kwargs"], "{'k': ...}, or empty")
    if "k" in cfg and cfg["k"] != k:
        raise refusal(path, "k", cfg["k"], f"{k}, as activation_fn_kwargs says")

    activation = "topk" if function == "topk" else ARCHITECTURES[architecture]
    if activation == "topk" and (type(k) is not int or not 1 <= k <= sizes["d_sae"]):
        raise refusal(path, "k", k, f"an integer from 1 to d_sae = {sizes['d_sae']}")
    if activation != "topk" and k is not None:
        raise refusal(path, "k", k, "absent, as neither architecture nor activation_fn is 'topk'")
    if activation != "topk" and cfg.get("rescale_acts_by_decoder_norm"):
        raise refusal(path, "rescale_acts_by_decoder_norm", True, f"false for architecture {architecture!r}")
    return {
        **sizes,
        "activation": activation,
        "k": k if activation == "topk" else None,
        "apply_b_dec_to_input": cfg.get("apply_b_dec_to_input", True),
        "rescale_acts_by_decoder_norm": cfg.get("rescale_acts_by_decoder_norm", False),
        "normalize_activations": normalisation,
    }


def _fold_decoder_norm(weights: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    import torch

    norm = weights["W_dec"].norm(dim=-1)
    return {
        "W_enc": weights["W_enc"] * norm,
        "b_enc": weights["b_enc"] * norm,
        # A feature whose decoder row is zero is never active. Its row must not become NaN.
        "W_dec": weights["W_dec"] / norm.clamp(min=torch.finfo(torch.float32).tiny)[:, None],
    }


def _fold_scaler(weights: dict[str, "torch.Tensor"], folder: Path) -> dict[str, "torch.Tensor"]:
    """The weights with the factor folded in by which activations were multiplied in training."""
    path = folder / SCALER_FILE
    if not path.is_file():
        raise SaeError(
            f"{folder / FORMAT.description}: normalize_activations is 'expected_average_only_in', and the folder "
            f"has no {SCALER_FILE} with its factor; valid: the SAE saved after SAELens' "
            "fold_activation_norm_scaling_factor"
        )
    factor = read_json(path).get("scaling_factor")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < float("inf"):
        raise refusal(path, "scaling_factor", factor, "a number above 0")
    return {
        "W_enc": weights["W_enc"] * factor,
        "W_dec": weights["W_dec"] / factor,
        "b_dec": weights["b_dec"] / factor,
    }


def _hook_layer(about: dict[str, Any], path: Path) -> int | None:
    """The layer after which the hook is, 0-based (`hooks.hook_layer`). SaeError if name and number disagree."""
    layer, name = about.get("hook_layer"), about.get("hook_name") or ""
    number = numbered_layer(name)
    if layer is not None and type(layer) is not int:
        raise SaeError(f"{path}: hook_layer is {layer!r}; valid: an integer, 0-based")
    if layer is not None and number not in (None, layer):
        raise SaeError(f"{path}: hook_layer is {layer}, but hook_name is {name!r}; they must agree")
    return hook_layer(about)


def _about(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """SAELens' description: v5 keeps it at the top level, v6 under `metadata`."""
    metadata = cfg.get("metadata")
    return {**cfg, **(metadata if isinstance(metadata, dict) else {})}


def _problem(cfg: Mapping[str, Any], folder: Path) -> str | None:
    about, architecture = _about(cfg), cfg.get("architecture")
    if "transcoder" in str(architecture):
        return f"architecture is {architecture!r}: {TRANSCODER}"
    for out, of in (("hook_name_out", "hook_name"), ("hook_layer_out", "hook_layer"), ("d_out", "d_in")):
        if about.get(out) not in (None, "", about.get(of)):
            return f"{out} is {about[out]!r}, and {of} {about.get(of)!r}: {TRANSCODER}"
    training = sorted(_TRAINING_FIELDS & cfg.keys())
    if training or architecture in _TRAINING_ARCHITECTURES:
        said = f"{', '.join(training)} show" if training else f"architecture {architecture!r} shows"
        return f"{said} that SAELens saved it in its training form (save_model); {_for_use(cfg, folder)}"
    return hook_problem(about.get("hook_name"))


def _for_use(cfg: Mapping[str, Any], folder: Path) -> str:
    """How to save an SAE in training form for use, as a command.

    The factor by which activations were multiplied is in a file beside the weights. The saved SAE has it only if it is
    folded in.
    """
    scaler, folded = folder / SCALER_FILE, ""
    if cfg.get("normalize_activations") == "expected_average_only_in":
        factor = f"json.load(open({str(scaler)!r}))['scaling_factor']"
        folded = f"sae.fold_activation_norm_scaling_factor({factor}); "
    program = (
        "import json, reprise.models.library_setup; from sae_lens import TrainingSAE; "
        f"sae = TrainingSAE.load_from_disk({str(folder)!r}); {folded}"
        f"sae.save_inference_model({f'{folder.name}-for-use'!r})"
    )
    lacking = f" (first copy the training's {SCALER_FILE} into the folder)" if folded and not scaler.is_file() else ""
    return f'valid: the SAE that is written by python -c "{program}"{lacking}'


def _said_layer(cfg: Mapping[str, Any]) -> tuple[int | None, str]:
    about = _about(cfg)
    layer = hook_layer(about)
    return (layer, before_text(about.get("hook_name"))) if type(layer) is int else (None, "")


FORMAT = Format(
    "SAELens",
    description="cfg.json",
    weights="sae_weights.safetensors",
    beside=(SCALER_FILE,),
    problem=_problem,
    said_layer=_said_layer,
    read=_read,
)
