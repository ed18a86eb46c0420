"""The forward pass of a transformer: layer by layer, and as one whole pass over given tokens (teacher-forced).

Capture and generation (reprise/models/generation.py) use the same implementation of a layer, so their arithmetic is
the same. The weights may come from either library (`reprise/models/transformer.py`). Tests compare the results with
both libraries' own forward passes. In addition, cross-attention keys are computed only once, and every row can have
its own edit.

Conventions. Position p is a step of the delay pattern (`reprise/models/delay_pattern.py`): its output predicts
codebook k of frame p - delays[k]. `layer L` is the residual stream after layer L (0-based), before `out_norm`; layer
-1 is the input embedding including the position.

NaN or infinite activations or logits (for example after an overflow in float16) raise NotFiniteError, which names the
first layer that has them. A normal pass only checks its logits or its last activations. If these are not finite, the
pass is run again with a check of every layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from reprise.checkpoints.finite import NotFiniteError, all_finite, check_finite, layer_text, not_finite
from reprise.models.adapter import Model, TextConditions
from reprise.models.delay_pattern import delayed
from reprise.models.transformer import Layer, sinusoidal_position

# The first position of a pass: a number, or an int tensor without dimensions if a GPU records the pass.
Start = int | torch.Tensor
# edit(layer, start, x [row, position, d_model]) -> x; called at every layer of an edited pass.
EditFunction = Callable[[int, Start, torch.Tensor], torch.Tensor]
# watch(layer, x, how): called with the output of every layer, before and after an edit; how: text for a message.
Watch = Callable[[int, torch.Tensor, str], None]
# attend(layer, q, k, v): the self-attention of a layer, all `[row, head, position, d_head]`.
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class PromptKeys(NamedTuple):
    """The input of cross-attention.

    `keys`: (keys, values) of each layer, `[row, head, word, d_head]`. `mask`: bool `[row, 1, 1, word]` (True: a word).
    """

    keys: list[tuple[torch.Tensor, torch.Tensor]]
    mask: torch.Tensor


def _embed(model: Model, sequence: torch.Tensor, start: Start) -> torch.Tensor:
    transformer = model.transformer
    x = sum(embedding(sequence[:, k]) for k, embedding in enumerate(transformer.embeddings))
    positions = start + torch.arange(sequence.shape[-1], device=x.device)
    sin = sinusoidal_position(positions, model.d_model, max_period=transformer.max_period)
    return x + transformer.positional_scale * sin.to(x.dtype)


def _heads(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def prompt_keys(model: Model, text: TextConditions) -> PromptKeys:
    """Keys and values of every layer's cross-attention to encoded prompts."""
    out = []
    for layer in model.transformer.layers:
        attention = layer.cross_attention
        _, k, v = attention.in_proj_weight.chunk(3)
        bias = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        keys, values = (
            _heads(F.linear(text.embeddings, w, b), attention.n_heads) for w, b in ((k, bias[1]), (v, bias[2]))
        )
        out.append((keys, values))
    return PromptKeys(out, text.mask[:, None, None, :])


def _layer(
    layer: Layer,
    x: torch.Tensor,
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    cross: tuple[torch.Tensor, torch.Tensor],
    cross_mask: torch.Tensor,
) -> torch.Tensor:
    """One pre-norm layer on x `[row, position, d_model]`; `attend(q, k, v)` does the causal self-attention."""
    own, other = layer.self_attention, layer.cross_attention
    projected = F.linear(layer.norm1(x), own.in_proj_weight, own.in_proj_bias)
    q, k, v = (_heads(part, own.n_heads) for part in projected.chunk(3, dim=-1))
    x = x + own.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))
    d = x.shape[-1]
    q = F.linear(layer.norm_cross(x), other.in_proj_weight[:d], _first(other.in_proj_bias, d))
    found = F.scaled_dot_product_attention(_heads(q, other.n_heads), *cross, attn_mask=cross_mask)
    x = x + other.out_proj(found.transpose(1, 2).flatten(2))
    return x + layer.linear2(layer.activation(layer.linear1(layer.norm2(x))))


def _first(bias: torch.Tensor | None, n: int) -> torch.Tensor | None:
    return None if bias is None else bias[:n]


def ignore(layer: int, x: torch.Tensor, how: str = "") -> None:
    """A `Watch` that does nothing."""


def check_layer(layer: int, x: torch.Tensor, how: str = "") -> None:
    """Raise NotFiniteError unless the output of a layer is finite."""
    check_finite(x, layer_text(layer) + how)


def layer_outputs(
    model: Model,
    sequence: torch.Tensor,
    prompt: PromptKeys,
    attend: Attend,
    *,
    start: Start = 0,
    n_layers: int,
    edit: EditFunction | None = None,
    watch: Watch = ignore,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Run the first `n_layers` layers and yield the output of each.

    Parameters
    ----------
    sequence
        Tokens on the delay pattern, `[row, codebook, position]`. The first is at position `start`.
    prompt
        From `prompt_keys`.
    attend
        Does the self-attention of each layer.
    edit
        Applied to the output of each layer. The next layer gets the edited output.
    watch
        Called with each output, before and after the edit.

    Yields
    ------
    layer : int
        -1 first, for the input embedding.
    x : torch.Tensor
        The output, as edited, `[row, position, d_model]`.
    """
    x = _embed(model, sequence, start)
    watch(-1, x, "")
    yield -1, x
    yield from layers_after(model, -1, x, prompt, attend, start=start, n_layers=n_layers, edit=edit, watch=watch)


def layers_after(
    model: Model,
    below: int,
    x: torch.Tensor,
    prompt: PromptKeys,
    attend: Attend,
    *,
    start: Start,
    n_layers: int,
    edit: EditFunction | None = None,
    watch: Watch = ignore,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Run the layers from `below` + 1 to `n_layers` - 1 and yield the output of each, as `layer_outputs` does.

    x: the output of layer `below`, as edited, `[row, position, d_model]`. The other parameters are those of
    `layer_outputs`.
    """
    for i in range(below + 1, n_layers):
        x = _layer(model.transformer.layers[i], x, partial(attend, i), prompt.keys[i], prompt.mask)
        watch(i, x, "")
        if edit is not None:
            x = edit(i, start, x)
            watch(i, x, ", as edited,")
        yield i, x


def logits_of(model: Model, x: torch.Tensor) -> torch.Tensor:
    """Logits `[row, codebook, position, codebook_size]` from the last layer's output x `[row, position, d_model]`."""
    x = model.transformer.out_norm(x)
    return torch.stack([head(x) for head in model.transformer.heads], dim=1)


@torch.no_grad()
def teacher_forced(
    model: Model,
    tokens: torch.Tensor,
    text: TextConditions,
    *,
    layers: Sequence[int] = (),
    edit: EditFunction | None = None,
    with_logits: bool = False,
) -> tuple[dict[int, torch.Tensor], torch.Tensor | None]:
    """One full pass over given tokens. It is causal: position p does not depend on later positions.

    Parameters
    ----------
    tokens
        Int64 `[row, codebook, frame]`.
    layers
        Layers to return (-1: input embedding).
    edit
        Applied to the output of each layer.
    with_logits
        Also compute the logits.

    Returns
    -------
    captured : dict
        Residual stream by layer, `[row, frame + 1, d_model]`.
    logits : torch.Tensor or None
        `[row, codebook, frame + 1, codebook_size]`. Position p predicts codebook k of frame p - delays[k].

    Raises
    ------
    NotFiniteError
        If activations or logits are NaN or infinite.
    """
    prompt = prompt_keys(model, text)
    last = model.n_layers if with_logits else max(layers, default=-1) + 1

    def attend(_layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def run(watch: Watch) -> tuple[dict[int, torch.Tensor], torch.Tensor | None]:
        sequence = delayed(tokens, model.codebook_size, model.delays)
        captured = {}
        for i, x in layer_outputs(model, sequence, prompt, attend, n_layers=last, edit=edit, watch=watch):
            if i in layers:
                captured[i] = x
        return captured, logits_of(model, x) if with_logits else None

    with suppress(NotFiniteError):
        captured, logits = run(ignore)
        if all(map(all_finite, [logits] if logits is not None else [captured[i] for i in captured if i == last - 1])):
            return captured, logits
        del captured, logits
    run(check_layer)
    raise not_finite("the logits", model.dtype)


@torch.no_grad()
def normed(model: Model, layer: int, x: np.ndarray) -> np.ndarray:
    """The residual stream x `[..., d_model]` after `layer`, normalised as the model does it next.

    This is the first norm of the next layer, or `out_norm` after the last layer. Returns float32 of the same shape.
    """
    layers = model.transformer.layers
    norm = layers[layer + 1].norm1 if layer + 1 < len(layers) else model.transformer.out_norm
    return norm(torch.from_numpy(x).to(model.device, model.dtype)).float().cpu().numpy()
