"""Sparse autoencoders (SAEs): activations to sparse latents and back.

Conventions. x `[..., d_in]` is the residual stream at the SAE's hook; `W_enc` `[d_in, d_sae]`, `W_dec`
`[d_sae, d_in]`. Encoding is SAELens' (https://github.com/decoderesearch/SAELens, `sae_lens/saes`): cast to float32,
normalise where the SAE asks for it, subtract `b_dec` if `apply_b_dec_to_input`, times `W_enc`, plus `b_enc`. Then

- `relu` keeps what is above 0;
- `topk` keeps the k largest, of them those above 0: fewer than k features may be active (L0 <= k). With `n_groups`
  the features form as many groups of one size, in order, and each keeps k / n_groups: sparsify's `groupmax` has one
  feature a group, a DC-SAE two latents side by side;
- `jumprelu` keeps what is above 0 and above the feature's `threshold` (a BatchTopK SAE is saved in this form);
- `gated` (Rajamanoharan et al. 2024, arXiv 2404.16014) is active where x W_enc + b_enc is above 0, with the
  magnitude relu(x W_enc exp(`r_mag`) + `b_mag`).

Decoding: activations times `W_dec`, plus `b_dec`, and back from the normalisation. Normalisations: `layer_norm` takes
off the mean over the width and divides by the standard deviation (n - 1) + 1e-5; `constant_norm_rescale` makes the
norm sqrt(d_in). Where there is one, a unit of feature j adds `write_scale(x) * W_dec[j]` to the stream, not
`W_dec[j]`.

A sparse code is `values` float32 `[..., n]` and `indices` int32 `[..., n]`: by falling value, equal values by rising
index, also when the tie is about the k-th place. A slot with value 0 is unused and has index 0, so a code must
be *added* into a dense row (`to_dense` does), not assigned, and `indices` be read only where `values > 0`. n is k
where there is one, else as many as the fullest row of that call.

Degenerate input: no rows give a code of no rows; a row of NaN or infinity is an error, never a code. A row of zeros
stays one under `constant_norm_rescale`.
"""

import hashlib
from typing import Any, NamedTuple

import torch

from reprise.saes.errors import SaeError

PRE_ACTIVATIONS_AT_ONCE = 2**24  # 64 MiB of float32: the most that encoding holds beside its result
NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
LAYER_NORM_EPS = 1e-5


class ActivationsError(SaeError):
    """Activations that no SAE could encode, since they are not finite."""


class Sae(NamedTuple):
    """A loaded SAE. Weights are float32 (rounded to the declared dtype, scalings that the file asks for folded in).

    `k` is None unless the activation is `topk`. `threshold` `[d_sae]` for `jumprelu`; `r_mag` and `b_mag` `[d_sae]`
    for `gated`, whose `b_enc` is the gate's bias; None for others. `hook_layer` and what else the file says of itself
    is in `declared`: `architecture`, `d_in`, `d_sae`, `k`, `hook_layer`, `hook_name`, `model_name`, `model_digest`,
    `context_size` (None where it does not say). `digest`: SHA-256 (first 16 hex digits) of weights and maths,
    independent of the file form.
    """

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    W_dec: torch.Tensor
    b_dec: torch.Tensor
    activation: str
    k: int | None
    n_groups: int
    threshold: torch.Tensor | None
    r_mag: torch.Tensor | None
    b_mag: torch.Tensor | None
    apply_b_dec_to_input: bool
    normalize_activations: str
    hook_layer: int | None
    d_in: int
    d_sae: int
    declared: dict[str, Any]
    digest: str


def make_sae(
    *,
    W_enc: torch.Tensor,
    b_enc: torch.Tensor,
    W_dec: torch.Tensor,
    b_dec: torch.Tensor,
    k: int | None = None,
    activation: str | None = None,
    n_groups: int = 1,
    threshold: torch.Tensor | None = None,
    r_mag: torch.Tensor | None = None,
    b_mag: torch.Tensor | None = None,
    apply_b_dec_to_input: bool = True,
    normalize_activations: str = "none",
    declared: dict[str, Any],
    device: str = "cpu",
) -> Sae:
    """An `Sae` from its weights (any float dtype; kept as float32). `activation`: by default `topk` where there is a
    k, else `relu`. `declared` as in `Sae`, what it lacks is None."""
    d_in, d_sae = W_enc.shape
    activation = activation or ("topk" if k else "relu")
    weights: dict[str, torch.Tensor | None] = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
    weights |= {"threshold": threshold, "r_mag": r_mag, "b_mag": b_mag}
    kept = {n: None if w is None else w.detach().float().contiguous() for n, w in weights.items()}
    maths = f"{k} {apply_b_dec_to_input}"
    # What every SAE was once: their digests stay as they are.
    if activation not in ("topk", "relu") or n_groups > 1 or normalize_activations != "none":
        maths += f" {activation} {n_groups} {normalize_activations}"
    digest = hashlib.sha256(maths.encode())
    for name, tensor in kept.items():
        if tensor is not None:
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().numpy().tobytes())
    facts = {"architecture": "standard" if activation == "relu" else activation, "d_in": d_in, "d_sae": d_sae, "k": k}
    unsaid = dict.fromkeys(("hook_layer", "hook_name", "model_name", "model_digest", "context_size"))
    declared = {**facts, **unsaid, **declared}
    return Sae(
        **{name: None if tensor is None else tensor.to(device) for name, tensor in kept.items()},
        activation=activation,
        k=k,
        n_groups=n_groups,
        apply_b_dec_to_input=apply_b_dec_to_input,
        normalize_activations=normalize_activations,
        hook_layer=declared["hook_layer"],
        d_in=d_in,
        d_sae=d_sae,
        declared=declared,
        digest=digest.hexdigest()[:16],
    )


def write_scale(sae: Sae, x: torch.Tensor) -> torch.Tensor:
    """By how much a decoder row is stretched on its way into the stream x `[..., d_in]`: float32 `[..., 1]`."""
    if sae.normalize_activations == "layer_norm":
        return x.float().std(dim=-1, keepdim=True)
    if sae.normalize_activations == "constant_norm_rescale":
        return x.float().norm(dim=-1, keepdim=True) / sae.d_in**0.5
    return torch.ones(*x.shape[:-1], 1, device=x.device)


@torch.no_grad()
def encode(sae: Sae, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse code of x `[..., d_in]` (any float dtype): `values` float32 and `indices` int32, both `[..., n]`.

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
            raise ActivationsError("activations are not all finite; valid: finite numbers")
        pieces.append(_code(sae, _normalised(sae, piece)))
    width = sae.k if sae.k is not None else max((values.shape[-1] for values, _ in pieces), default=1)
    values = rows.new_zeros((len(rows), width), dtype=torch.float32, device=sae.W_enc.device)
    indices = torch.zeros_like(values, dtype=torch.int32)
    start = 0
    for piece_values, piece_indices in pieces:
        stop, n = start + len(piece_values), piece_values.shape[-1]
        values[start:stop, :n], indices[start:stop, :n] = piece_values, piece_indices
        start = stop
    return values.reshape(*x.shape[:-1], width), indices.reshape(*x.shape[:-1], width)


@torch.no_grad()
def decode(sae: Sae, values: torch.Tensor, indices: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Reconstruction float32 `[..., d_in]` of a sparse code `[..., n]` of x `[..., d_in]`. Of x only what the
    normalisation took away is used: nothing, where there is none."""
    weights, features = values.reshape(-1, values.shape[-1]).float(), indices.reshape(-1, indices.shape[-1]).long()
    total = torch.nn.functional.embedding_bag(features, sae.W_dec, per_sample_weights=weights, mode="sum")
    guess = (total + sae.b_dec).reshape(*values.shape[:-1], sae.d_in)
    if sae.normalize_activations != "none":
        guess = guess * write_scale(sae, x)
    if sae.normalize_activations == "layer_norm":
        guess = guess + x.float().mean(dim=-1, keepdim=True)
    return guess


def to_dense(values: torch.Tensor, indices: torch.Tensor, d_sae: int) -> torch.Tensor:
    """Dense activations float32 `[..., d_sae]` of a sparse code `[..., n]`."""
    dense = torch.zeros(*values.shape[:-1], d_sae, dtype=torch.float32, device=values.device)
    return dense.scatter_add_(-1, indices.long(), values.float())


def feature_activation(sae: Sae, x: torch.Tensor, feature_indices: torch.Tensor | list[int]) -> torch.Tensor:
    """Activation float32 `[..., m]` of m chosen features on x `[..., d_in]`, as the SAE has chosen among all.

    Raises SaeError when a feature is not in 0..d_sae - 1.
    """
    chosen = torch.as_tensor(feature_indices, dtype=torch.int32, device=sae.W_enc.device)
    _check_features(sae, chosen)
    values, indices = encode(sae, x)
    return torch.stack([(values * (indices == feature)).sum(dim=-1) for feature in chosen], dim=-1)


def decoder_direction(sae: Sae, feature: int) -> torch.Tensor:
    """float32 `[d_in]`: by how much the reconstruction moves when this feature's activation grows by one (times
    `write_scale`)."""
    _check_features(sae, torch.tensor([feature]))
    return sae.W_dec[feature].clone()


def _normalised(sae: Sae, x: torch.Tensor) -> torch.Tensor:
    if sae.normalize_activations == "layer_norm":
        return (x - x.mean(dim=-1, keepdim=True)) / (x.std(dim=-1, keepdim=True) + LAYER_NORM_EPS)
    if sae.normalize_activations == "constant_norm_rescale":
        norm = x.norm(dim=-1, keepdim=True)
        return x * (sae.d_in**0.5 / norm.clamp(min=torch.finfo(torch.float32).tiny))
    return x


def _code(sae: Sae, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The sparse code of normalised rows x `[row, d_in]`."""
    if sae.apply_b_dec_to_input:
        x = x - sae.b_dec
    if sae.activation == "gated":
        hidden = x @ sae.W_enc
        active = hidden + sae.b_enc > 0
        hidden = torch.where(active, hidden * sae.r_mag.exp() + sae.b_mag, 0.0)
    else:
        hidden = torch.addmm(sae.b_enc, x, sae.W_enc)
        if sae.activation == "jumprelu":
            hidden = torch.where(hidden > sae.threshold, hidden, 0.0)
    if sae.k is None:
        return _largest(hidden, max(1, int((hidden > 0).sum(dim=-1).max())))
    if sae.n_groups == 1:
        return _largest(hidden, sae.k)
    size = sae.d_sae // sae.n_groups
    values, indices = _largest(hidden.reshape(-1, size), sae.k // sae.n_groups)
    first = torch.arange(sae.n_groups, device=x.device, dtype=torch.int32).repeat(len(x))[:, None] * size
    indices = torch.where(values > 0, indices + first, 0)
    # Groups stand in rising order, so a stable sort leaves equal values by rising index.
    values, order = values.reshape(len(x), -1).sort(dim=-1, descending=True, stable=True)
    return values, indices.reshape(len(x), -1).gather(-1, order)


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
