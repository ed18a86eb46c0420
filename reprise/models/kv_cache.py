"""The key/value cache: what a step of a generation keeps for the steps after it.

A step looks back at every step before it. Their keys and values do not change any more, so each step computes those of
its own position, writes them into the cache and attends to all that is in it. The cache is allocated once, for all
steps (audiocraft concatenates it anew at each). That a generation so computes what one pass over the whole clip does
(reprise/models/forward.py) is tested, at every layer and position.

The keys and values of the prompt are those of `forward.prompt_keys`, computed once.
"""

import torch
from torch.nn import functional as F

from reprise.models.adapter import Model


class KeyValueCache:
    """Keys and values of every layer at every step so far, for the rows of one batch."""

    def __init__(self, model: Model, *, batch_size: int, n_steps: int) -> None:
        n_heads = model.transformer.layers[0].self_attention.n_heads
        # [layer, keys or values, row, head, step, d_head]
        self._kept = torch.zeros(
            (model.n_layers, 2, batch_size, n_heads, n_steps, model.d_model // n_heads),
            device=model.device,
            dtype=model.dtype,
        )

    def attend(self, layer: int, step: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Self-attention of one step: `q`, `k` and `v` `[row, head, 1, d_head]` are those of its position. Keeps its
        keys and values, and returns what it finds in those of all steps up to it."""
        keys, values = self._kept[layer]
        keys[:, :, step], values[:, :, step] = k[:, :, 0], v[:, :, 0]
        return F.scaled_dot_product_attention(q, keys[:, :, : step + 1], values[:, :, : step + 1])
