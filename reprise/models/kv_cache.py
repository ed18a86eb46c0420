"""The KV cache: keys and values that one step of a generation stores for later steps.

Each step attends to all steps before it. Their keys and values do not change any more. So a step computes only those
of its own position, writes them into the cache and attends to the whole cache. The cache is allocated once, for all
steps (audiocraft concatenates it again at each step). A test checks, at every layer and position, that a generation
computes the same as one pass over the whole clip (reprise/models/forward.py).

On a GPU attention has a fixed form, the same at every step: it reads a fixed part of the cache, with a mask for the
steps that come later. So the operations of a step can be recorded (reprise/models/steps.py). The part grows by
`GROWS_BY` steps.

The keys and values of the prompt are not stored here. `forward.prompt_keys` computes them once.
"""

import torch
from torch.nn import functional as F

from reprise.models.adapter import Model

GROWS_BY = 256


class KeyValueCache:
    """Keys and values of all layers and all steps so far, for one batch of `batch_size` rows."""

    def __init__(self, model: Model, *, batch_size: int, n_steps: int, fixed_form: bool | None = None) -> None:
        """`fixed_form`: of attention; by default on a GPU."""
        self._fixed_form = model.device.type == "cuda" if fixed_form is None else fixed_form
        n_heads = model.transformer.layers[0].self_attention.n_heads
        # [layer, keys or values, row, head, step, d_head]
        self._kept = torch.zeros(
            (model.n_layers, 2, batch_size, n_heads, n_steps, model.d_model // n_heads),
            device=model.device,
            dtype=model.dtype,
        )

    @property
    def kept(self) -> torch.Tensor:
        """Keys and values, `[layer, keys or values, row, head, step, d_head]`; 0 at steps that were not run."""
        return self._kept

    def begin_with(self, kept: torch.Tensor) -> None:
        """Take the keys and values of the first steps from another cache, in the form of `kept`."""
        self._kept[..., : kept.shape[-2], :] = kept

    def read_at(self, step: int) -> int:
        """How many steps of the cache the fixed form reads at a step."""
        return min(self._kept.shape[-2], (step // GROWS_BY + 1) * GROWS_BY)

    def attend(self, layer: int, step: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Self-attention of one step to itself and all earlier steps. Stores the keys and values of this step.

        Parameters
        ----------
        q, k, v
            Queries, keys and values at the position of this step, each `[row, head, 1, d_head]`, as is the output.
        """
        if self._fixed_form:
            at = torch.full((), step, dtype=torch.int64, device=q.device)
            return self.attend_masked(layer, at, self.read_at(step), q, k, v)
        keys, values = self._kept[layer]
        keys[:, :, step], values[:, :, step] = k[:, :, 0], v[:, :, 0]
        return F.scaled_dot_product_attention(q, keys[:, :, : step + 1], values[:, :, : step + 1])

    def attend_masked(
        self, layer: int, step: torch.Tensor, n_read: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        """`attend` in its fixed form, with the step on the device: int64 without dimensions. It reads the first
        `n_read` steps of the cache."""
        keys, values = self._kept[layer]
        at = step.reshape(1)
        keys.index_copy_(2, at, k)
        values.index_copy_(2, at, v)
        seen = torch.arange(n_read, device=q.device) <= step
        return F.scaled_dot_product_attention(q, keys[:, :, :n_read], values[:, :, :n_read], attn_mask=seen[None])
