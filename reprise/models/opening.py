"""What the first positions of clips compute without an edit, kept for all continuations that share them.

Many continuations of an ablation start from the same prefix. Up to the first layer and position that an edit changes,
they compute the same, so this is done once for each clip (`opening_of`) and copied (`generation.generate`).

Exactness. An opening is computed step by step, in batches of as many rows as those that use it. So what it keeps has
the same bits as if each row had computed it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from reprise.models.adapter import Model
from reprise.models.delay_pattern import step_input
from reprise.models.forward import layer_outputs, prompt_keys
from reprise.models.kv_cache import KeyValueCache
from reprise.models.prompts import encode_prompts


class Opening(NamedTuple):
    """The first positions of the rows of a batch. With guidance the conditional rows come first, then the others.

    kept: keys and values, `[layer, keys or values, row, head, position, d_head]`. streams: the outputs of some layers,
    by layer, `[row, position, d_model]`.
    """

    kept: torch.Tensor
    streams: Mapping[int, torch.Tensor]

    @property
    def n_positions(self) -> int:
        return self.kept.shape[-2]


@torch.no_grad()
def opening_of(
    model: Model, prompts: Sequence[str | None], tokens: torch.Tensor, *, layers: Sequence[int], guided: bool
) -> Opening:
    """Compute the opening of some clips.

    Parameters
    ----------
    model : Model
        The model.
    prompts : sequence of str or None, one per row
        Their prompts.
    tokens : int64 tensor `[row, codebook, frame]`
        Their prefixes. The opening has as many positions as they have frames.
    layers : sequence of int
        Layers whose outputs are kept.
    guided : bool
        Whether there is an unconditional row for each.

    Returns
    -------
    Opening
    """
    text = encode_prompts(model, [*prompts, *([None] * len(prompts) if guided else [])])
    prompt, n_frames = prompt_keys(model, text), tokens.shape[-1]
    cache = KeyValueCache(model, batch_size=len(text.mask), n_steps=n_frames)
    outputs: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for p in range(n_frames):
        current = step_input(tokens, p, model.codebook_size, model.delays)
        sequence = torch.cat([current, current]) if guided else current

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, p: int = p) -> torch.Tensor:
            return cache.attend(layer, p, q, k, v)

        for layer, x in layer_outputs(model, sequence, prompt, attend, start=p, n_layers=model.n_layers):
            if layer in outputs:
                outputs[layer].append(x)
    return Opening(cache.kept, {layer: torch.cat(parts, dim=1) for layer, parts in outputs.items()})


def rows_of(openings: Sequence[tuple[Opening, int]], *, guided: bool) -> Opening:
    """The opening of a batch whose rows are taken from other openings: each an opening and a row of it."""
    branches = range(1 + guided)

    def taken(tensor: torch.Tensor, row: int, branch: int, dim: int) -> torch.Tensor:
        return tensor.narrow(dim, row + branch * tensor.shape[dim] // len(branches), 1)

    kept = [taken(o.kept, row, branch, 2) for branch in branches for o, row in openings]
    streams = {
        layer: torch.cat([taken(o.streams[layer], row, branch, 0) for branch in branches for o, row in openings])
        for layer in openings[0][0].streams
    }
    return Opening(torch.cat(kept, dim=2), streams)
