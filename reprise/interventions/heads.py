"""Which attention heads pass a candidate on to the event, and what these heads do.

The *contrast* of a clip: how much likelier the model finds the clip's own event than what it plays under the
candidate's edit, in nats per token of the second around the onset (`event_frames`). Both continuations follow the
clip's own tokens. No sampling is involved.

`attribution`: by how much the contrast would fall if a head put out what it does under the edit, and nothing else
changed. It is estimated for all heads at once, from one gradient (attribution patching: Nanda 2023; Syed et al. 2023,
arXiv 2310.10348): the change of the head's output times the gradient of the contrast. `effect`: the same, measured by
a pass in which the head is patched.

`direct`: the part of the attribution that reaches the head straight from the edited layer, along the residual stream.
A head with a direct part reads the candidate. The rest comes through other layers and heads.

`to_reference`: how much of the head's attention goes to the passage that the event repeats, while the model plays the
event. A head with a high value looks back and copies.

Conventions. Arrays are `[clip, layer, head]`. Heads of layers up to the edited one cannot depend on the edit, so their
attribution is 0.

Degenerate input: without clips, arrays have no rows. An edit that changes nothing has attribution 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch.nn import functional as F

from reprise.identity import stable_fraction
from reprise.interventions.likelihood import EVENT_S, causal_attention, event_frames, log_likelihood
from reprise.models.adapter import Model, TextConditions
from reprise.models.forward import Attend, EditFunction, Start
from reprise.statistics import effective_prompts, prompt_means


class HeadClips(NamedTuple):
    """Clips whose event the edit prevented.

    own, edited: tokens of the clip and of its continuation under the edit, int64 `[clip, codebook, frame]`. onset: the
    event's first frame, int `[clip]`. reference: first frame of the passage that it repeats and the frame after it,
    int `[clip, 2]`; both 0 where there is none. text: the encoded prompts.
    """

    own: torch.Tensor
    edited: torch.Tensor
    onset: NDArray[np.int64]
    reference: NDArray[np.int64]
    text: TextConditions


class Attribution(NamedTuple):
    """Arrays float32 `[clip, layer, head]`, and `total` `[clip]`: by how much the edit itself lowers the contrast."""

    attribution: NDArray[np.float32]
    direct: NDArray[np.float32]
    to_reference: NDArray[np.float32]
    total: NDArray[np.float32]


def attribute_heads(model: Model, clips: HeadClips, edit: EditFunction, *, layer: int) -> Attribution:
    """Attribute the candidate's effect on the contrast to heads, with one gradient for all clips given.

    Parameters
    ----------
    model : Model
        The model. Its weights get no gradient.
    clips : HeadClips
        The clips; all in one batch of twice as many rows.
    edit : EditFunction
        The candidate's edit at dose 1, for those rows: the clips' own tokens, then the alternatives.
    layer : int
        The edited layer.

    Returns
    -------
    Attribution
    """
    model.lm.requires_grad_(False)
    unedited, gradients, streams, to_reference, contrast = _unedited_pass(model, clips, layer)
    edited: dict[int, torch.Tensor] = {}
    edited_streams: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        watched = _then(edit, _keep_streams(edited_streams, layer))
        total = contrast - contrast_of(model, clips, edit=watched, attend=_keep_outputs(edited))
    n, n_heads = len(clips.onset), model.transformer.layers[0].self_attention.n_heads
    attribution, direct = np.zeros((2, n, model.n_layers, n_heads), np.float32)
    moved = edited_streams[layer] - streams[layer]
    for i in range(layer + 1, model.n_layers):
        read = _head_outputs(model, i, streams[i - 1] + moved)
        attribution[:, i] = fall(edited[i] - unedited[i], gradients[i], n)
        direct[:, i] = fall(read - unedited[i], gradients[i], n)
    return Attribution(attribution, direct, to_reference, total.cpu().numpy())


@torch.no_grad()
def patched_effects(
    model: Model, clips: HeadClips, edit: EditFunction, heads: Sequence[tuple[int, int]]
) -> NDArray[np.float32]:
    """By how much the contrast falls if one head puts out what it does under the edit.

    Parameters
    ----------
    model, clips, edit
        As in `attribute_heads`.
    heads : sequence of (layer, head)
        The heads, patched one at a time.

    Returns
    -------
    float32 array `[clip, head]`
    """
    edited: dict[int, torch.Tensor] = {}
    contrast_of(model, clips, edit=edit, attend=_keep_outputs(edited))
    unedited = contrast_of(model, clips)

    def patched(layer: int, head: int) -> torch.Tensor:
        def attend(i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            out = causal_attention(i, q, k, v)
            if i == layer:
                out[:, head] = edited[i][:, head]
            return out

        return unedited - contrast_of(model, clips, attend=attend)

    found = [patched(*head).cpu().numpy() for head in heads]
    return np.stack(found, axis=1) if found else np.zeros((len(clips.onset), 0), np.float32)


def choosing_half(prompt: NDArray) -> NDArray[np.bool_]:
    """Which clips choose the heads to patch: those of half of the prompts, by a hash of their names. `[clip]`.

    A single prompt is in no half: nothing can be chosen and measured in it.
    """
    in_order = sorted(set(prompt.tolist()), key=lambda each: stable_fraction(f"heads {each}"))
    return np.isin(prompt, in_order[: len(in_order) // 2])


def strongest(
    attribution: Sequence[NDArray[np.float32]], clips: NDArray[np.bool_], *, n: int
) -> list[tuple[int, int]]:
    """The heads with the greatest mean attribution, up to `n`, greatest first; [] without clips.

    Parameters
    ----------
    attribution : sequence of arrays `[clip, layer, head]`
        Of all clips, batch by batch.
    clips : bool array `[clip]`
        The clips that choose.
    n : int
        Maximum number of heads. Those with an attribution of 0 or less are left out.

    Returns
    -------
    list of (layer, head)
    """
    if not clips.any():
        return []
    mean = np.concatenate(list(attribution))[clips].mean(axis=0)
    order = np.argsort(-mean, axis=None, kind="stable")[:n]
    return [divmod(int(i), mean.shape[1]) for i in order if mean.flat[i] > 0]


def head_table(
    found: Sequence[Attribution],
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
    found : sequence of Attribution
        Of all clips, batch by batch.
    heads : sequence of (layer, head)
        The patched heads.
    patched : sequence of arrays `[clip, head]`
        Their effects, batch by batch.
    prompt : array `[clip]`
        The prompt of each clip.
    patched_in : bool array `[clip]`
        The clips in which heads were patched.
    shape : (int, int)
        Numbers of layers and of heads in a layer.

    Returns
    -------
    DataFrame
        layer, head; attribution, direct, to_reference (means over clips); effect, with a 95 % interval over prompts
        (effect_low, effect_high); n_clips, n_patched (numbers of clips); total, by how much the edit itself lowers the
        contrast, and total_patched, the same in the clips with patched heads. All are NaN where nothing was measured.
    """
    layer, head = (index.ravel() for index in np.indices(shape))
    table = pd.DataFrame({"layer": layer, "head": head})
    for name in ("attribution", "direct", "to_reference"):
        arrays = [getattr(each, name) for each in found]
        table[name] = np.concatenate(arrays).mean(axis=0).ravel() if arrays else np.nan
    total = np.concatenate([each.total for each in found]) if found else np.zeros(0)
    table = with_effects(table, heads, patched, prompt[patched_in], n_heads=shape[1])
    n_patched = int(table["n_patched"].iloc[0])
    measured = {"total": total, "total_patched": total[patched_in] if n_patched else total[:0]}
    means = {name: float(of.mean()) if len(of) else np.nan for name, of in measured.items()}
    return table.assign(n_clips=len(total), **means)


def with_effects(
    table: pd.DataFrame,
    heads: Sequence[tuple[int, int]],
    patched: Sequence[NDArray[np.float32]],
    prompt: NDArray,
    *,
    n_heads: int,
) -> pd.DataFrame:
    """A table of all heads, with the effects of those that were patched.

    Parameters
    ----------
    table : DataFrame
        One row per head, layer by layer.
    heads, patched
        As in `head_table`.
    prompt : array `[clip]`
        The prompts of the clips in which heads were patched.
    n_heads : int
        Number of heads in a layer.

    Returns
    -------
    DataFrame
        With effect, and its 95 % interval over prompts (effect_low, effect_high), NaN where nothing was measured; and
        n_patched, the number of clips.
    """
    effects = np.concatenate(patched) if patched and heads else np.zeros((0, len(heads)))
    table[["effect", "effect_low", "effect_high"]] = np.nan
    for column, (layer, head) in enumerate(heads if len(effects) else []):
        values = effects[:, column].astype(np.float64)
        row = layer * n_heads + head
        table.loc[row, ["effect", "effect_low", "effect_high"]] = mean_and_interval(values, prompt)
    return table.assign(n_patched=len(effects))


def mean_and_interval(values: NDArray[np.float64], prompt: NDArray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean over clips, and Student's interval over the means of prompts; the interval is NaN for a single prompt."""
    means, counts = prompt_means(values, prompt)
    n, mean = effective_prompts(counts), float(values.mean())
    if n < 1.5:
        return mean, np.nan, np.nan
    variance = np.sum(counts**2 * (means - mean) ** 2) / np.sum(counts**2) * n / (n - 1)
    half = float(stdtrit(n - 1, (1 + level) / 2) * np.sqrt(variance / n))
    return mean, mean - half, mean + half


def _unedited_pass(
    model: Model, clips: HeadClips, layer: int
) -> tuple[
    dict[int, torch.Tensor], dict[int, torch.Tensor], dict[int, torch.Tensor], NDArray[np.float32], torch.Tensor
]:
    """Heads' outputs and their gradients after `layer`, streams from it on, attention to the reference, contrast."""
    outputs: dict[int, torch.Tensor] = {}
    streams: dict[int, torch.Tensor] = {}
    n_heads = model.transformer.layers[0].self_attention.n_heads
    to_reference = np.zeros((len(clips.onset), model.n_layers, n_heads), np.float32)

    def attend(i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        to_reference[:, i] = _attention_to_reference(model, clips, q.detach(), k.detach())
        out = causal_attention(i, q, k, v)
        if i > layer:
            # The first of them is where the gradient ends.
            outputs[i] = out.requires_grad_() if out.is_leaf else out
        return out

    contrast = contrast_of(model, clips, edit=_keep_streams(streams, layer), attend=attend)
    # After the last layer there is no head.
    found = torch.autograd.grad(contrast.sum(), list(outputs.values())) if outputs else ()
    gradients = dict(zip(outputs, found, strict=True))
    return {i: out.detach() for i, out in outputs.items()}, gradients, streams, to_reference, contrast.detach()


def contrast_of(
    model: Model, clips: HeadClips, *, edit: EditFunction | None = None, attend: Attend = causal_attention
) -> torch.Tensor:
    """The contrast of each clip, `[clip]`."""
    onset = torch.from_numpy(clips.onset).to(clips.own.device)
    first, event = event_frames(onset, clips.own.shape[2], model.frame_rate_hz)
    # No later frame is needed.
    stop = int(event.any(dim=0).nonzero().max()) + 1
    own, edited = (tokens[..., :stop] for tokens in (clips.own, clips.edited))
    other = torch.where((torch.arange(stop, device=onset.device) >= first[:, None])[:, None], edited, own)
    text = TextConditions(clips.text.embeddings.repeat(2, 1, 1), clips.text.mask.repeat(2, 1))
    found = log_likelihood(model, torch.cat([own, other]), text, edit=edit, attend=attend)
    inside = event[:, :stop].repeat(2, 1)
    of_own, of_other = ((found * inside).sum(dim=1) / inside.sum(dim=1)).chunk(2)
    return of_own - of_other


def _attention_to_reference(model: Model, clips: HeadClips, q: torch.Tensor, k: torch.Tensor) -> NDArray[np.float32]:
    """Mean attention of each head to the reference while the event is chosen, `[clip, head]`."""
    found = np.zeros((len(clips.onset), q.shape[1]), np.float32)
    for row, (onset, (start, stop)) in enumerate(zip(clips.onset, clips.reference, strict=True)):
        # Position p chooses frame p and reads frame p - 1.
        query = q[row, :, onset : onset + round(EVENT_S * model.frame_rate_hz)]
        at = torch.arange(query.shape[1], device=q.device) + onset
        hidden = torch.arange(k.shape[2], device=q.device) > at[:, None]
        scores = (query @ k[row].transpose(-1, -2)).float() / q.shape[-1] ** 0.5
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        found[row] = weights[..., start + 1 : stop + 1].sum(dim=-1).mean(dim=-1).cpu().numpy()
    return found


def _head_outputs(model: Model, layer: int, x: torch.Tensor) -> torch.Tensor:
    """The heads' outputs of a layer whose input is x `[row, position, d_model]`: `[row, head, position, d_head]`."""
    own = model.transformer.layers[layer]
    with torch.no_grad():
        weights, bias = own.self_attention.in_proj_weight, own.self_attention.in_proj_bias
        projected = F.linear(own.norm1(x), weights, bias).chunk(3, dim=-1)
        q, k, v = (p.unflatten(-1, (own.self_attention.n_heads, -1)).transpose(1, 2) for p in projected)
        return causal_attention(layer, q, k, v)


def fall(change: torch.Tensor, gradient: torch.Tensor, n_clips: int) -> NDArray[np.float32]:
    """The first-order fall of the contrast, `[clip, head]`, from `[row, head, position, d_head]` of both halves."""
    of_row = -(change.float() * gradient.float()).sum(dim=(2, 3))
    return (of_row[:n_clips] + of_row[n_clips:]).cpu().numpy()


def _keep_outputs(kept: dict[int, torch.Tensor]) -> Attend:
    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        kept[layer] = causal_attention(layer, q, k, v)
        return kept[layer]

    return attend


def _keep_streams(kept: dict[int, torch.Tensor], layer: int) -> EditFunction:
    def keep(i: int, _start: Start, x: torch.Tensor) -> torch.Tensor:
        if i >= layer:
            kept[i] = x.detach()
        return x

    return keep


def _then(first: EditFunction, second: EditFunction) -> EditFunction:
    return lambda layer, start, x: second(layer, start, first(layer, start, x))
