"""The weights of a MusicGen transformer, in one form for all libraries.

`reprise/models/forward.py` runs it. The tensors share memory with the library's own modules, so no weight is stored
twice. If a library has separate projections to queries, keys and values, they are joined.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

Map = Callable[[torch.Tensor], torch.Tensor]


class Attention(NamedTuple):
    """Weights of one attention.

    `in_proj_weight` `[3 d_model, d_model]` projects to queries, keys and values, in this order. `in_proj_bias`:
    `[3 d_model]` or None. `out_proj` maps `[..., d_model]` to the same shape.
    """

    in_proj_weight: torch.Tensor
    in_proj_bias: torch.Tensor | None
    out_proj: torch.nn.Linear
    n_heads: int


class Layer(NamedTuple):
    """One pre-norm layer: self-attention, attention to the prompt, and the MLP `linear2(activation(linear1(x)))`."""

    norm1: torch.nn.LayerNorm
    self_attention: Attention
    norm_cross: torch.nn.LayerNorm
    cross_attention: Attention
    norm2: torch.nn.LayerNorm
    linear1: torch.nn.Linear
    activation: Map
    linear2: torch.nn.Linear


class Transformer(NamedTuple):
    """Weights of a transformer.

    `embeddings`, `heads`: one per codebook, `[codebook_size + 1, d_model]` (the last row is for the special token) and
    `[codebook_size, d_model]`. `positional_scale` multiplies the sinusoidal position, whose longest period is
    `max_period` positions.
    """

    embeddings: Sequence[torch.nn.Embedding]
    layers: Sequence[Layer]
    out_norm: torch.nn.LayerNorm
    heads: Sequence[torch.nn.Linear]
    positional_scale: float
    max_period: float


def sinusoidal_position(position: torch.Tensor, d_model: int, *, max_period: float) -> torch.Tensor:
    """Sinusoidal embedding float32 `[position, d_model]` of positions int `[position]`: cosines, then sines, as in
    MusicGen (after Vaswani et al. 2017, arXiv 1706.03762).

    It is computed in float32 for every dtype of the model, as in training. audiocraft would compute it in the model's
    dtype. In float16, phases of late positions are then wrong by half a radian.
    """
    half = d_model // 2
    period = torch.full([], max_period, device=position.device) ** (
        torch.arange(half, device=position.device, dtype=torch.float32) / (half - 1)
    )
    phase = position[:, None].float() / period
    return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)


def learnt_tensors(transformer: Transformer) -> Iterator[tuple[str, torch.Tensor]]:
    """All trained tensors, each once and in a fixed order: (kind, tensor). The kind is matrix, bias or norm."""

    def of_module(module: Any, kind: str) -> Iterator[tuple[str, torch.Tensor]]:
        yield kind, module.weight
        if getattr(module, "bias", None) is not None:
            yield "bias", module.bias

    for module in (*transformer.embeddings, *transformer.heads):
        yield from of_module(module, "matrix")
    for layer in transformer.layers:
        for attention in (layer.self_attention, layer.cross_attention):
            yield "matrix", attention.in_proj_weight
            if attention.in_proj_bias is not None:
                yield "bias", attention.in_proj_bias
            yield from of_module(attention.out_proj, "matrix")
        for module in (layer.linear1, layer.linear2):
            yield from of_module(module, "matrix")
        for module in (layer.norm1, layer.norm_cross, layer.norm2):
            yield from of_module(module, "norm")
    yield from of_module(transformer.out_norm, "norm")
