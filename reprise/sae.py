"""Sparse autoencoders (SAEs): load, encode to sparse codes, decode, save in SAELens' form.

Conventions. x `[..., d_in]` is the residual stream at the SAE's hook; `W_enc` `[d_in, d_sae]`, `W_dec`
`[d_sae, d_in]`. Encoding is SAELens' (https://github.com/decoderesearch/SAELens, `topk_sae.py`): cast to float32,
subtract `b_dec` if `apply_b_dec_to_input`, times `W_enc`, plus `b_enc`, keep the k largest, ReLU. So fewer than k
features may be active (L0 <= k). Decoding: activations times `W_dec`, plus `b_dec`. Where a file asks for
`rescale_acts_by_decoder_norm` (activations times the decoder norms before top-k, over them in decoding), the norms
are folded into the weights on loading: the same numbers, and `W_dec[j]` is always what one unit of feature j adds.

A sparse code is `values` float32 `[..., k]` and `indices` int32 `[..., k]`: by falling value, equal values by rising
index, also when the tie is about the k-th place. A slot with value 0 is unused and has index 0, so a code must
be *added* into a dense row (`to_dense` does), not assigned, and `indices` be read only where `values > 0`.
A ReLU SAE has no k: its code is as wide as the fullest row of that call.

Two layouts of a SAELens folder (`cfg.json` and `sae_weights.safetensors`) are read. v5 keeps everything at the top of
cfg.json and calls a top-k SAE "standard" with `activation_fn` "topk" (what Singh, Cherep & Maes, arXiv 2505.18186,
published): it is loaded as top-k. v6 has `architecture` "topk" and keeps the hook under `metadata`. Loading is
strict: a field that is not known, or has a value that would change the maths, is an error that names it.

Degenerate input: no rows give a code of no rows; a row of NaN or infinity is an error, never a code.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reprise.stores import write_json

CFG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SAELENS_VERSION = "6.54.12"  # whose form `save_saelens_v6` writes
PRE_ACTIVATIONS_AT_ONCE = 2**22  # 16 MiB of float32: the most that encoding holds beside its result

# Fields of cfg.json by what they mean for the maths. `_MATHS` is read; `_FIXED` must have the value given (or be
# absent); `_INERT` describes, trains or places the SAE. Whatever is in none of them is refused.
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
    "normalize_activations": ("none", None, False),
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
_TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec")


class SaeError(ValueError):
    """An SAE that cannot be used: names the folder, the field, its value and what is valid."""


class Sae(NamedTuple):
    """A loaded SAE. Weights are float32 (rounded to the declared dtype, decoder norms folded in if the file says so).

    `k` is None for a ReLU SAE. `hook_layer` and what else the file says of itself is in `declared`: `architecture`,
    `d_in`, `d_sae`, `k`, `hook_layer`, `hook_name`, `model_name`, `model_digest`, `context_size` (None where it does
    not say). `digest`: SHA-256 (first 16 hex digits) of weights and maths, independent of the file form.
    """

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    W_dec: torch.Tensor
    b_dec: torch.Tensor
    k: int | None
    apply_b_dec_to_input: bool
    hook_layer: int | None
    d_in: int
    d_sae: int
    declared: dict[str, Any]
    digest: str


def load_sae(folder: Path, *, device: str = "cpu") -> Sae:
    """Load an SAE in SAELens' v5 or v6 form.

    Raises SaeError for a missing or damaged file, an unknown field, an unsupported architecture or normalisation,
    a weight of the wrong name or shape or that is not finite, and a hook whose name and layer disagree.
    """
    folder = Path(folder)
    cfg = _read_cfg(folder)
    maths = _maths(cfg, folder)
    weights = _read_weights(folder, cfg, d_in=maths["d_in"], d_sae=maths["d_sae"])
    if maths["rescale_acts_by_decoder_norm"]:
        weights = _fold_decoder_norm(weights)
    # v5 keeps its descriptions beside the maths, v6 under `metadata`.
    about = {**cfg, **(cfg.get("metadata") or {})}
    declared = {
        "architecture": maths["architecture"],
        "d_in": maths["d_in"],
        "d_sae": maths["d_sae"],
        "k": maths["k"],
        "hook_layer": _hook_layer(about, folder),
        **{name: about.get(name) for name in ("hook_name", "model_name", "model_digest", "context_size")},
    }
    return make_sae(
        **{name: tensor.to(device) for name, tensor in weights.items()},
        k=maths["k"],
        apply_b_dec_to_input=maths["apply_b_dec_to_input"],
        declared=declared,
    )


def make_sae(
    *,
    W_enc: torch.Tensor,
    b_enc: torch.Tensor,
    W_dec: torch.Tensor,
    b_dec: torch.Tensor,
    k: int | None,
    apply_b_dec_to_input: bool = True,
    declared: dict[str, Any],
) -> Sae:
    """An `Sae` from its weights (any float dtype; kept as float32). `declared` as in `Sae`, what it lacks is None."""
    d_in, d_sae = W_enc.shape
    weights = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
    weights = {name: tensor.detach().float().contiguous() for name, tensor in weights.items()}
    digest = hashlib.sha256(f"{k} {apply_b_dec_to_input}".encode())
    for name, tensor in weights.items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    facts = {"architecture": "topk" if k else "standard", "d_in": d_in, "d_sae": d_sae, "k": k}
    unsaid = dict.fromkeys(("hook_layer", "hook_name", "model_name", "model_digest", "context_size"))
    declared = {**facts, **unsaid, **declared}
    return Sae(
        **weights,
        k=k,
        apply_b_dec_to_input=apply_b_dec_to_input,
        hook_layer=declared["hook_layer"],
        d_in=d_in,
        d_sae=d_sae,
        declared=declared,
        digest=digest.hexdigest()[:16],
    )


@torch.no_grad()
def encode_topk(sae: Sae, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse code of x `[..., d_in]` (any float dtype): `values` float32 and `indices` int32, both `[..., k]`.

    Works through the rows in pieces, so that memory beside the result does not grow with their number.
    Raises SaeError when x has another width or is not finite.
    """
    if x.shape[-1] != sae.d_in:
        raise SaeError(f"activations have width {x.shape[-1]}; this SAE's d_in is {sae.d_in}")
    rows = x.reshape(-1, sae.d_in)
    pieces = []
    for piece in rows.split(max(1, PRE_ACTIVATIONS_AT_ONCE // sae.d_sae)):
        piece = piece.to(sae.W_enc.device, torch.float32)
        if not torch.isfinite(piece.sum()):
            raise SaeError("activations are not all finite; valid: finite numbers")
        if sae.apply_b_dec_to_input:
            piece = piece - sae.b_dec
        hidden = torch.addmm(sae.b_enc, piece, sae.W_enc)
        k = sae.k if sae.k is not None else max(1, int((hidden > 0).sum(dim=-1).max()))
        pieces.append(_largest(hidden, k))
    width = sae.k if sae.k is not None else max((values.shape[-1] for values, _ in pieces), default=1)
    values = rows.new_zeros((len(rows), width), dtype=torch.float32, device=sae.W_enc.device)
    indices = torch.zeros_like(values, dtype=torch.int32)
    start = 0
    for piece_values, piece_indices in pieces:
        stop, k = start + len(piece_values), piece_values.shape[-1]
        values[start:stop, :k], indices[start:stop, :k] = piece_values, piece_indices
        start = stop
    return values.reshape(*x.shape[:-1], width), indices.reshape(*x.shape[:-1], width)


@torch.no_grad()
def decode(sae: Sae, values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Reconstruction float32 `[..., d_in]` of a sparse code `[..., k]`."""
    weights, features = values.reshape(-1, values.shape[-1]).float(), indices.reshape(-1, indices.shape[-1]).long()
    total = torch.nn.functional.embedding_bag(features, sae.W_dec, per_sample_weights=weights, mode="sum")
    return (total + sae.b_dec).reshape(*values.shape[:-1], sae.d_in)


def to_dense(values: torch.Tensor, indices: torch.Tensor, d_sae: int) -> torch.Tensor:
    """Dense activations float32 `[..., d_sae]` of a sparse code `[..., k]`."""
    dense = torch.zeros(*values.shape[:-1], d_sae, dtype=torch.float32, device=values.device)
    return dense.scatter_add_(-1, indices.long(), values.float())


def feature_activation(sae: Sae, x: torch.Tensor, feature_indices: torch.Tensor | list[int]) -> torch.Tensor:
    """Activation float32 `[..., n]` of n chosen features on x `[..., d_in]`, after top-k has chosen among all.

    Raises SaeError when a feature is not in 0..d_sae - 1.
    """
    chosen = torch.as_tensor(feature_indices, dtype=torch.int32, device=sae.W_enc.device)
    _check_features(sae, chosen)
    values, indices = encode_topk(sae, x)
    return torch.stack([(values * (indices == feature)).sum(dim=-1) for feature in chosen], dim=-1)


def decoder_direction(sae: Sae, feature: int) -> torch.Tensor:
    """float32 `[d_in]`: by how much the reconstruction moves when this feature's activation grows by one."""
    _check_features(sae, torch.tensor([feature]))
    return sae.W_dec[feature].clone()


def save_saelens_v6(folder: Path, sae: Sae, *, metadata: dict[str, Any], dtype: str = "float32") -> None:
    """Write `cfg.json` and `sae_weights.safetensors` as SAELens 6 does; `dtype` is one of `DTYPES`.

    `metadata` should say `hook_name`, `hook_layer`, `model_name`, `model_digest` and `context_size`.
    """
    if dtype not in DTYPES:
        raise SaeError(f"dtype: {dtype!r} is unknown; valid: {', '.join(DTYPES)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cfg = {
        "architecture": "standard" if sae.k is None else "topk",
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
        # Without a version of 6 or more SAELens takes the file for its older form.
        "metadata": {"sae_lens_version": SAELENS_VERSION, "sae_lens_training_version": None, **metadata},
    }
    if sae.k is not None:
        cfg |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    partial = folder / f".{WEIGHTS_FILE}.partial"
    save_file({name: getattr(sae, name).to("cpu", DTYPES[dtype]).contiguous() for name in _TENSORS}, partial)
    partial.replace(folder / WEIGHTS_FILE)
    write_json(folder / CFG_FILE, cfg)


def _largest(hidden: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row after ReLU, by falling value, then rising index; unused slots (0, 0)."""
    # torch.topk breaks ties as it likes. One more than k shows whether a tie straddles the k-th place.
    values, indices = hidden.topk(min(k + 1, hidden.shape[-1]), dim=-1, sorted=True)
    tied = ((values[:, :-1] == values[:, 1:]) & (values[:, :-1] > 0)).any(dim=-1)
    if bool(tied.any()):
        exact = hidden[tied].sort(dim=-1, descending=True, stable=True)
        values[tied], indices[tied] = (part[:, : values.shape[-1]] for part in exact)
    values, indices = values[:, :k].relu(), indices[:, :k].int()
    return values, torch.where(values > 0, indices, 0)


def _check_features(sae: Sae, features: torch.Tensor) -> None:
    for feature in features.tolist():
        if not 0 <= feature < sae.d_sae:
            raise SaeError(f"feature {feature} is not in this SAE; valid: 0 to {sae.d_sae - 1}")


def _read_cfg(folder: Path) -> dict[str, Any]:
    path = folder / CFG_FILE
    if not path.is_file():
        raise SaeError(f"sae: {folder} has no {CFG_FILE}; an SAE folder holds {CFG_FILE} and {WEIGHTS_FILE}")
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SaeError(f"{path}: not JSON ({error})") from None
    if not isinstance(cfg, dict):
        raise SaeError(f"{path}: holds a {type(cfg).__name__}; valid: an object of fields")
    unknown = sorted(cfg.keys() - _MATHS - _FIXED.keys() - _INERT)
    if unknown:
        raise SaeError(f"{path}: unknown field {', '.join(unknown)}: it may change the maths, so it is not ignored")
    return cfg


def _maths(cfg: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields that the maths depends on, in one form for v5 and v6, or SaeError."""

    def refuse(field: str, value: Any, valid: str) -> SaeError:
        return SaeError(f"{folder / CFG_FILE}: {field} is {value!r}; valid: {valid}")

    for field, valid in _FIXED.items():
        for holder in (cfg, cfg.get("metadata") or {}):
            if holder.get(field) not in valid:
                shown = ", ".join(map(repr, valid))
                raise refuse(field, holder[field], f"{shown} (others are not supported yet)")
    sizes = {}
    for field in ("d_in", "d_sae"):
        sizes[field] = cfg.get(field)
        if type(sizes[field]) is not int or sizes[field] < 1:
            raise refuse(field, cfg.get(field), "a positive integer")
    for field in ("apply_b_dec_to_input", "rescale_acts_by_decoder_norm"):
        if type(cfg.get(field, False)) is not bool:
            raise refuse(field, cfg[field], "true, false")

    architecture = cfg.get("architecture", "standard")
    if architecture not in ("standard", "topk"):
        raise refuse("architecture", architecture, "'standard', 'topk' (others are not supported yet)")
    activation = cfg.get("activation_fn", cfg.get("activation_fn_str"))
    if activation not in (None, "relu", "topk"):
        raise refuse("activation_fn", activation, "'relu', 'topk'")
    if architecture == "topk" and activation == "relu":
        raise refuse("activation_fn", activation, "'topk', as the architecture is 'topk'")
    arguments = dict(cfg.get("activation_fn_kwargs") or {})
    k = arguments.pop("k", cfg.get("k"))
    if arguments:
        raise refuse("activation_fn_kwargs", cfg["activation_fn_kwargs"], "{'k': ...}, or empty")
    if "k" in cfg and cfg["k"] != k:
        raise refuse("k", cfg["k"], f"{k}, as activation_fn_kwargs says")

    topk = architecture == "topk" or activation == "topk"
    if topk and (type(k) is not int or not 1 <= k <= sizes["d_sae"]):
        raise refuse("k", k, f"an integer from 1 to d_sae = {sizes['d_sae']}")
    if not topk and k is not None:
        raise refuse("k", k, "absent, as neither architecture nor activation_fn is 'topk'")
    if not topk and cfg.get("rescale_acts_by_decoder_norm"):
        raise refuse("rescale_acts_by_decoder_norm", True, "false for a ReLU SAE")
    return {
        **sizes,
        "architecture": "topk" if topk else "standard",
        "k": k if topk else None,
        "apply_b_dec_to_input": cfg.get("apply_b_dec_to_input", True),
        "rescale_acts_by_decoder_norm": cfg.get("rescale_acts_by_decoder_norm", False),
    }


def _read_weights(folder: Path, cfg: dict[str, Any], *, d_in: int, d_sae: int) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise SaeError(f"sae: {folder} has no {WEIGHTS_FILE}; an SAE folder holds {CFG_FILE} and {WEIGHTS_FILE}")
    dtype = str(cfg.get("dtype", "float32")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise SaeError(f"{folder / CFG_FILE}: dtype is {cfg['dtype']!r}; valid: {', '.join(DTYPES)}")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SaeError(f"{path}: not a whole safetensors file ({error})") from None
    # v5 wrote a scaling factor of ones for a while; any other would change the maths.
    if "scaling_factor" in weights and bool((weights["scaling_factor"] == 1).all()):
        del weights["scaling_factor"]
    shapes = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if weights.keys() != shapes.keys():
        raise SaeError(f"{path}: holds {', '.join(sorted(weights))}; valid: exactly {', '.join(_TENSORS)}")
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise SaeError(f"{path}: {name} has shape {tuple(weights[name].shape)}; {CFG_FILE} says {shape}")
        weights[name] = weights[name].to(DTYPES[dtype]).float()
        if not bool(torch.isfinite(weights[name]).all()):
            raise SaeError(f"{path}: {name} is not all finite as {dtype}")
    return weights


def _fold_decoder_norm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    norm = weights["W_dec"].norm(dim=-1)
    return {
        "W_enc": weights["W_enc"] * norm,
        "b_enc": weights["b_enc"] * norm,
        # A decoder row of zeros never becomes active; it must not become NaN either.
        "W_dec": weights["W_dec"] / norm.clamp(min=torch.finfo(torch.float32).tiny)[:, None],
        "b_dec": weights["b_dec"],
    }


def _hook_layer(about: dict[str, Any], folder: Path) -> int | None:
    """The hook's layer, 0-based: `hook_layer`, or the one number in `hook_name` ("hook_layers.11"), or None."""
    layer, name = about.get("hook_layer"), about.get("hook_name") or ""
    numbers = [int(part) for part in re.findall(r"(?:^|\.)(\d+)(?=\.|$)", name)]
    if layer is not None and type(layer) is not int:
        raise SaeError(f"{folder / CFG_FILE}: hook_layer is {layer!r}; valid: an integer, 0-based")
    if layer is not None and len(numbers) == 1 and numbers[0] != layer:
        raise SaeError(f"{folder / CFG_FILE}: hook_layer is {layer}, but hook_name is {name!r}; they must agree")
    return layer if layer is not None else (numbers[0] if len(numbers) == 1 else None)
