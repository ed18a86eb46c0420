"""Which attention heads decide an event at the moment it begins, whatever carries it there?

No candidate is needed. Each clip with an event has a donor: another clip of the same prompt without one. At the
*deciding* positions, from `LEAD_S` before the onset to it, a head's output is replaced by that in the donor at the
same time. The contrast is that of reprise/interventions/heads.py: how much likelier the model finds the clip's own
event than what the donor plays then, in nats per token. `attribution` and `effect` are those of heads.py too.

`attention`: where a head looks from the deciding positions, by second of the clip, mean over these positions. A head
that looks a cue up has its attention there.

A donor also differs in music that has nothing to do with the event. Over many clips this averages out, and the
strongest heads are patched in other prompts than those that chose them.

Degenerate input: without clips, arrays have no rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from reprise.interventions.heads import HeadClips, contrast_of, fall, with_effects
from reprise.interventions.likelihood import causal_attention, event_frames
from reprise.models.adapter import Model
from reprise.models.forward import Attend


class Deciding(NamedTuple):
    """`attribution` float32 `[clip, layer, head]`, `attention` float32 `[clip, layer, head, second]`, and `total`
    `[clip]`: by how much the contrast falls if all heads are replaced at once."""

    attribution: NDArray[np.float32]
    attention: NDArray[np.float32]
    total: NDArray[np.float32]


def attribute_deciding(model: Model, clips: HeadClips) -> Deciding:
    """Attribute the event to heads at the moment it begins, with one gradient for all clips given.

    Parameters
    ----------
    model : Model
        The model. Its weights get no gradient.
    clips : HeadClips
        The clips; `edited` are their donors.

    Returns
    -------
    Deciding
    """
    model.lm.requires_grad_(False)
    deciding, donated = _deciding(model, clips), _donated(model, clips)
    outputs: dict[int, torch.Tensor] = {}
    attention: list[NDArray[np.float32]] = []

    def attend(i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        attention.append(_attention(model, q.detach(), k.detach(), deciding))
        out = causal_attention(i, q, k, v)
        outputs[i] = out.requires_grad_() if out.is_leaf else out
        return out

    contrast = contrast_of(model, clips, attend=attend)
    gradients = torch.autograd.grad(contrast.sum(), list(outputs.values()))
    n = len(clips.onset)
    found = []
    for i, gradient in enumerate(gradients):
        where = deciding[:, None, : gradient.shape[2], None].repeat(2, 1, 1, 1)
        change = (donated[i][:, :, : gradient.shape[2]].repeat(2, 1, 1, 1) - outputs[i].detach()) * where
        found.append(fall(change, gradient, n))
    with torch.no_grad():
        total = contrast.detach() - contrast_of(model, clips, attend=_replaced(donated, deciding))
    return Deciding(np.stack(found, axis=1), np.stack(attention, axis=1), total.cpu().numpy())


@torch.no_grad()
def patched_deciding(model: Model, clips: HeadClips, heads: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """By how much the contrast falls if one head puts out what it does in the donor, at the deciding positions.

    Parameters
    ----------
    model, clips
        As in `attribute_deciding`.
    heads : sequence of (layer, head)
        The heads, replaced one at a time.

    Returns
    -------
    float32 array `[clip, head]`
    """
    deciding, donated = _deciding(model, clips), _donated(model, clips)
    own = contrast_of(model, clips)
    found = [own - contrast_of(model, clips, attend=_replaced(donated, deciding, only=head)) for head in heads]
    return torch.stack(found, dim=1).cpu().numpy() if found else np.zeros((len(clips.onset), 0), np.float32)


def deciding_table(
    found: Sequence[Deciding],
    heads: Sequence[tuple[int, int]],
    patched: Sequence[NDArray[np.float32]],
    prompt: NDArray,
    *,
    patched_in: NDArray[np.bool_],
    shape: tuple[int, int],
) -> pd.DataFrame:
    """What was found out about each head, one row per head.

    Parameters
    ----------
    found, heads, patched, prompt, patched_in, shape
        As in `reprise.interventions.heads.head_table`.

    Returns
    -------
    DataFrame
        layer, head; attribution, mean over clips; effect with its interval (`with_effects`), n_patched; looks_at_s,
        the second of the clip that has most of its attention, and attention, how much; n_clips, total. NaN where
        nothing was measured.
    """
    layer, head = (index.ravel() for index in np.indices(shape))
    table = pd.DataFrame({"layer": layer, "head": head}).assign(
        attribution=np.nan, looks_at_s=np.nan, attention=np.nan
    )
    total = np.concatenate([each.total for each in found]) if found else np.zeros(0)
    if found:
        table["attribution"] = np.concatenate([each.attribution for each in found]).mean(axis=0).ravel()
        attention = np.concatenate([each.attention for each in found]).mean(axis=0).reshape(len(table), -1)
        table["looks_at_s"] = attention.argmax(axis=1).astype(float)
        table["attention"] = attention.max(axis=1)
    table = with_effects(table, heads, patched, prompt[patched_in], n_heads=shape[1])
    return table.assign(n_clips=len(total), total=float(total.mean()) if len(total) else np.nan)


def _deciding(model: Model, clips: HeadClips) -> torch.Tensor:
    """The deciding positions, bool `[clip, position]`: position p chooses frame p."""
    onset = torch.from_numpy(clips.onset).to(clips.own.device)
    n = clips.own.shape[2] + 1
    first, _ = event_frames(onset, n, model.frame_rate_hz)
    at = torch.arange(n, device=onset.device)
    return (at >= first[:, None]) & (at <= onset[:, None])


@torch.no_grad()
def _donated(model: Model, clips: HeadClips) -> dict[int, torch.Tensor]:
    """The heads' outputs in the donors, by layer `[clip, head, position, d_head]`."""
    kept: dict[int, torch.Tensor] = {}

    def attend(i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = causal_attention(i, q, k, v)
        # The donors on their own tokens are the first half.
        kept[i] = out[: len(clips.onset)]
        return out

    contrast_of(model, clips._replace(own=clips.edited), attend=attend)
    return kept


def _replaced(donated: dict[int, torch.Tensor], deciding: torch.Tensor, only: tuple[int, int] | None = None) -> Attend:
    """Attention in which one head, or every one, puts out what it does in the donor at the deciding positions."""

    def attend(i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = causal_attention(i, q, k, v)
        if only is not None and only[0] != i:
            return out
        n = out.shape[2]
        where = deciding[:, None, :n, None].repeat(2, 1, 1, 1)
        if only is not None:
            where = where & (torch.arange(out.shape[1], device=out.device) == only[1])[None, :, None, None]
        return torch.where(where, donated[i][:, :, :n].repeat(2, 1, 1, 1), out)

    return attend


def _attention(model: Model, q: torch.Tensor, k: torch.Tensor, deciding: torch.Tensor) -> NDArray[np.float32]:
    """Attention of each head from the deciding positions, by second of the clip, `[clip, head, second]`."""
    n = q.shape[2]
    # Position p reads frame p - 1; position 0 reads none.
    seconds = torch.div(
        (torch.arange(n, device=q.device) - 1).clamp(min=0), model.frame_rate_hz, rounding_mode="floor"
    )
    n_seconds = int(-(-(deciding.shape[1] - 1) // model.frame_rate_hz))
    of_second = torch.nn.functional.one_hot(seconds.long(), n_seconds).float()
    found = np.zeros((len(deciding), q.shape[1], n_seconds), np.float32)
    for row, at in enumerate(deciding[:, :n]):
        positions = at.nonzero().ravel()
        scores = (q[row][:, positions] @ k[row].transpose(-1, -2)).float() / q.shape[-1] ** 0.5
        hidden = torch.arange(n, device=q.device) > positions[:, None]
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1).mean(dim=1)
        found[row] = (weights @ of_second).cpu().numpy()
    return found
