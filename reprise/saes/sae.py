"""Sparse autoencoders (SAEs): from activations to sparse latents and back.

Conventions. x `[..., d_in]` is the residual stream at the SAE's hook. `W_enc` is `[d_in, d_sae]`, `W_dec` is
`[d_sae, d_in]`. Encoding follows SAELens (https://github.com/decoderesearch/SAELens, `sae_lens/saes`): cast to
float32, normalise if the SAE requires it, subtract `b_dec` if `apply_b_dec_to_input`, multiply by `W_enc`, add
`b_enc`. Then

- `relu` keeps values above 0.
- `topk` keeps those of the k largest values that are above 0. So fewer than k features may be active (L0 <= k). With
  `n_groups` the features are divided, in order, into groups of equal size, and each group keeps k / n_groups.
  sparsify's `groupmax` keeps one feature per group. A DC-SAE has two groups.
- `jumprelu` keeps values above 0 and above the feature's `threshold` (a BatchTopK SAE is saved in this form).
- `gated` (Rajamanoharan et al. 2024, arXiv 2404.16014) is active where x W_enc + b_enc is above 0. The value is
  relu(x W_enc exp(`r_mag`) + `b_mag`).

Decoding: multiply by `W_dec`, add `b_dec`, reverse the normalisation. Normalisations: `layer_norm` subtracts the mean
over the width and divides by the standard deviation (n - 1) + 1e-5; `constant_norm_rescale` scales the norm to
sqrt(d_in). With a normalisation, one unit of feature j adds `write_scale(x) * W_dec[j]` to the stream, not `W_dec[j]`.

Sparse latents are `values` float32 `[..., n]` and `indices` int32 `[..., n]`. They are sorted by decreasing value, and
equal values by increasing index, also if they are tied for the k-th place. A slot with value 0 is unused and has index
0. So latents must be *added* into a dense row (as in `to_dense`), not assigned, and `indices` may be read only where
`values > 0`. n is k if there is one. Otherwise n is the largest number of active features in a row of that call, at
least 1.

Degenerate input: no rows give latents without rows. A row with NaN or infinity is an error. A row of zeros stays zero
under `constant_norm_rescale`.
"""

import hashlib
from typing import Any, NamedTuple

import torch

from reprise.saes.errors import SaeError

PRE_ACTIVATIONS_AT_ONCE = 2**24  # 64 MiB of float32: the most memory that encoding uses in addition to its result
NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
LAYER_NORM_EPS = 1e-5


class ActivationsError(SaeError):
    """Activations that no SAE can encode, because they are not finite."""


class Sae(NamedTuple):
    """A loaded SAE. Weights are float32, rounded to the declared dtype. The file's scalings are folded in.

    Attributes
    ----------
    W_enc, b_enc, W_dec, b_dec
        `[d_in, d_sae]`, `[d_sae]`, `[d_sae, d_in]`, `[d_in]`. For `gated`, `b_enc` is the gate's bias.
    activation
        `relu`, `topk`, `jumprelu` or `gated`.
    k, n_groups
        Largest number of active features (None unless the activation is `topk`), and number of groups (1: no groups).
    threshold, r_mag, b_mag
        `[d_sae]`: `threshold` for `jumprelu`, `r_mag` and `b_mag` for `gated`, else None.
    apply_b_dec_to_input, normalize_activations
        Whether `b_dec` is subtracted before encoding, and one of `NORMALISATIONS`.
    hook_layer
        The layer after which the hook is, 0-based; None if not declared.
    d_in, d_sae
        Width of the activations, and number of features.
    declared
        What the file declares: `architecture`, `d_in`, `d_sae`, `k`, `hook_layer`, `hook_name`, `model_name`,
        `model_digest`, `context_size`. None for what it does not declare.
    digest
        SHA-256 (first 16 hex digits) of weights and computation. It does not depend on the file format.
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
    """Make an `Sae` from its weights.

    Parameters
    ----------
    W_enc, b_enc, W_dec, b_dec, threshold, r_mag, b_mag : tensors
        Weights with the shapes of `Sae`, any float dtype. They are kept as float32.
    activation : str, optional
        By default `topk` if there is a k, else `relu`.
    k, n_groups, apply_b_dec_to_input, normalize_activations
        As in `Sae`.
    declared : dict
        As in `Sae`. Sizes and k are filled in if missing; other missing values become None.
    device : str
        Where the weights are kept.

    Returns
    -------
    Sae
    """
    d_in, d_sae = W_enc.shape
    activation = activation or ("topk" if k else "relu")
    weights: dict[str, torch.Tensor | None] = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
    weights |= {"threshold": threshold, "r_mag": r_mag, "b_mag": b_mag}
    kept = {n: None if w is None else w.detach().float().contiguous() for n, w in weights.items()}
    maths = f"{k} {apply_b_dec_to_input}"
    # Only settings other than the first version's are added, so that older digests stay the same.
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
    """The factor on a decoder row when it is added to the stream x `[..., d_in]`: float32 `[..., 1]`."""
    if sae.normalize_activations == "layer_norm":
        return x.float().std(dim=-1, keepdim=True)
    if sae.normalize_activations == "constant_norm_rescale":
        return x.float().norm(dim=-1, keepdim=True) / sae.d_in**0.5
    return torch.ones(*x.shape[:-1], 1, device=x.device)


@torch.no_grad()
def encode(sae: Sae, x: torch.Tensor, *, check: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse latents of x `[..., d_in]` (any float dtype): `values` float32 and `indices` int32, both `[..., n]`.

    Rows are encoded in pieces, so that memory does not grow with their number, except for the result. Raises SaeError
    if x has another width, and ActivationsError if it is not finite, unless `check` is false: to check waits for the
    device.
    """
    if x.shape[-1] != sae.d_in:
        raise SaeError(f"activations have width {x.shape[-1]}; this SAE's d_in is {sae.d_in}")
    rows = x.reshape(-1, sae.d_in)
    pieces = []
    for piece in rows.split(max(1, PRE_ACTIVATIONS_AT_ONCE // sae.d_sae)):
        piece = piece.to(sae.W_enc.device, torch.float32)
        if check and not torch.isfinite(piece.sum()):
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
    """Reconstruct activations from their sparse latents.

    Parameters
    ----------
    sae : Sae
        The SAE.
    values, indices : tensors `[..., n]`
        Sparse latents of x.
    x : tensor `[..., d_in]`
        The original activations. Only the mean and scale that the normalisation removed are used. Without a
        normalisation x has no effect.

    Returns
    -------
    float32 tensor `[..., d_in]`
    """
    weights, features = values.reshape(-1, values.shape[-1]).float(), indices.reshape(-1, indices.shape[-1]).long()
    total = torch.nn.functional.embedding_bag(features, sae.W_dec, per_sample_weights=weights, mode="sum")
    guess = (total + sae.b_dec).reshape(*values.shape[:-1], sae.d_in)
    if sae.normalize_activations != "none":
        guess = guess * write_scale(sae, x)
    if sae.normalize_activations == "layer_norm":
        guess = guess + x.float().mean(dim=-1, keepdim=True)
    return guess


def to_dense(values: torch.Tensor, indices: torch.Tensor, d_sae: int) -> torch.Tensor:
    """Sparse latents in dense form.

    Parameters
    ----------
    values, indices : tensors `[..., n]`
        Sparse latents.
    d_sae : int
        Number of features.

    Returns
    -------
    float32 tensor `[..., d_sae]`
    """
    dense = torch.zeros(*values.shape[:-1], d_sae, dtype=torch.float32, device=values.device)
    return dense.scatter_add_(-1, indices.long(), values.float())


def feature_activation(sae: Sae, x: torch.Tensor, feature_indices: torch.Tensor | list[int]) -> torch.Tensor:
    """The activations of some features. They are encoded together with all others, so a feature may be 0 for top-k.

    Parameters
    ----------
    sae : Sae
        The SAE.
    x : tensor `[..., d_in]`
        Activations, any float dtype.
    feature_indices : tensor or list of int
        The m features.

    Returns
    -------
    float32 tensor `[..., m]`

    Raises
    ------
    SaeError
        If a feature is not in 0..d_sae - 1, or as in `encode`.
    """
    chosen = torch.as_tensor(feature_indices, dtype=torch.int32, device=sae.W_enc.device)
    _check_features(sae, chosen)
    values, indices = encode(sae, x)
    return torch.stack([(values * (indices == feature)).sum(dim=-1) for feature in chosen], dim=-1)


def decoder_direction(sae: Sae, feature: int) -> torch.Tensor:
    """How much the reconstruction changes per unit of this feature, before `write_scale`: float32 `[d_in]`.

    Raises SaeError if the feature is not in 0..d_sae - 1.
    """
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
    """Sparse latents of normalised rows x `[row, d_in]`."""
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
    # Groups are in increasing order, so a stable sort keeps equal values by increasing index.
    values, order = values.reshape(len(x), -1).sort(dim=-1, descending=True, stable=True)
    return values, indices.reshape(len(x), -1).gather(-1, order)


def _largest(hidden: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row after ReLU, by decreasing value, then by increasing index; unused slots (0, 0)."""
    # torch.topk breaks ties in no fixed order. One value more than k shows a tie between the k-th and the next.
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
