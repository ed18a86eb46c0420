"""A subspace found by gradient through the frozen model: distributed alignment search.

Geiger et al. 2024, "Finding alignments between interpretable causal variables and distributed neural representations".
Orthonormal directions are turned until an interchange along them does to the model's expectations what another plan
would do:

- a clip with an event that takes the coordinates of a clip without one finds its own event less likely;
- one that takes those of another clip *with* an event finds it as likely as before;
- what comes before the event stays as likely as it was, so the edit does no other damage.

How likely the event is: mean log-likelihood of the clip's own tokens over the second around its onset
(`event_frames`). The map is linear only. Non-linear ones find something in every model, also in one with random
weights (arXiv 2507.08802).

The search starts from the difference of the class means, because from random directions it often finds nothing.

Such a subspace may act through pathways that the model itself does not use (arXiv 2311.17030). Whether the model uses
it is for edits of held-out clips to say, beside fits on exchanged labels.

A pass begins at the stream of the layer, as it was stored: what lies below an edit does not change.

Conventions. Clips are those of the screened prompts, in the order of their `FitData`. Every position up to the onset
is edited, and takes the coordinates of the same position of the source, a clip of another prompt.

Degenerate input: one class alone, equal class means, or a class in which a clip has no partner of another prompt raise
ValueError.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from reprise.candidates.featurizers.data import FitData, check_classes
from reprise.candidates.featurizers.directions import mean_difference
from reprise.candidates.featurizers.sizes import DAS_CLIPS_PER_STEP, DAS_STEPS
from reprise.interventions.likelihood import EVENT_S, LEAD_S, event_frames, log_likelihood
from reprise.interventions.subspace import Subspace, linear
from reprise.models.adapter import Model, TextConditions
from reprise.models.delay_pattern import n_positions
from reprise.models.forward import EditFunction, Start
from reprise.models.prompts import encode_prompts

LEARNING_RATE = 0.03
# Gradients of float16 would vanish without it. It changes no step, because Adam divides by their size.
GRADIENT_SCALE = 4096.0


class Interchanges(NamedTuple):
    """What the search needs beside the class of each clip.

    tokens: int64 `[clip, codebook, frame]`, on the model's device. text: the encoded prompts. stream: the residual
    stream of `layer` at all positions, float `[clip, position, d_model]`. onset: int `[clip]`, the first frame of each
    clip's event; where there is none, a frame at which one could begin. per_pass: clips whose gradient is computed at
    one time, two rows each; fewer need less memory.
    """

    model: Model
    layer: int
    tokens: torch.Tensor
    text: TextConditions
    stream: NDArray[np.floating]
    onset: NDArray[np.integer]
    per_pass: int = DAS_CLIPS_PER_STEP

    def some(self, clips: NDArray[np.bool_]) -> "Interchanges":
        """Those of some of the clips."""
        rows = np.flatnonzero(clips)
        return self._replace(
            tokens=self.tokens[rows], text=_text(self, rows), stream=self.stream[rows], onset=self.onset[rows]
        )


def interchanges_of(
    model: Model,
    layer: int,
    *,
    tokens: NDArray[np.integer],
    prompts: list[str | None],
    stream: NDArray[np.floating],
    onset_s: NDArray[np.floating],
    per_pass: int = DAS_CLIPS_PER_STEP,
) -> Interchanges:
    """Gather what the search needs.

    Parameters
    ----------
    model : Model
        The model.
    layer : int
        The layer.
    tokens : int array `[clip, codebook, frame]`
        The clips.
    prompts : list of str or None, one per clip
        Their prompts.
    stream : float array `[clip, position, d_model]`
        The residual stream of the layer.
    onset_s : float array `[clip]`
        When each clip's event begins, in seconds; NaN without one, which then takes the median of the others.
    per_pass : int
        Clips whose gradient is computed at one time.

    Returns
    -------
    Interchanges
    """
    onset_s = np.nan_to_num(onset_s, nan=float(np.nanmedian(onset_s)))
    return Interchanges(
        model=model,
        layer=layer,
        tokens=torch.from_numpy(tokens.astype(np.int64)).to(model.device),
        text=encode_prompts(model, prompts),
        stream=stream,
        onset=np.rint(onset_s * model.frame_rate_hz).astype(np.int64),
        per_pass=per_pass,
    )


def das(data: FitData, clips: Interchanges, *, rank: int, seed: int) -> Subspace:
    """Find the subspace.

    Parameters
    ----------
    data : FitData
        The clips and their classes.
    clips : Interchanges
        Their tokens and streams, in the same order.
    rank : int
        Its number of directions.
    seed : int
        Draws the clips and their partners, and all directions but the first to start from.

    Returns
    -------
    Subspace
        An orthogonal projection with its 0 at the mean of the clips.

    Raises
    ------
    ValueError
        See the head of this module.
    """
    check_classes(data.has_event, who="das")
    rng, model, at_once = np.random.default_rng(seed), clips.model, clips.per_pass
    model.lm.requires_grad_(False)
    with_event = np.flatnonzero(data.has_event)
    start = (rng.standard_normal((rank, data.x.shape[-1])) / np.sqrt(data.x.shape[-1])).astype(np.float32)
    start[0] = mean_difference(data).read[0]
    directions = torch.from_numpy(start).to(model.device).requires_grad_()
    optimiser = torch.optim.Adam([directions], lr=LEARNING_RATE)
    unedited: dict[int, torch.Tensor] = {}
    for step in range(DAS_STEPS):
        # Steps become smaller, because a few clips at a time give a noisy gradient.
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / DAS_STEPS)
        rows = rng.choice(with_event, size=min(DAS_CLIPS_PER_STEP, len(with_event)), replace=False)
        sources = _sources(rows, data, rng)
        directions.grad = torch.zeros_like(directions)
        for part in np.split(np.arange(len(rows)), range(at_once, len(rows), at_once)):
            loss = _loss_of(_orthonormal(directions), clips, rows[part], sources[:, part], unedited)
            loss = GRADIENT_SCALE * loss * len(part) / len(rows)
            directions.grad += torch.autograd.grad(loss, [directions])[0]
        optimiser.step()
    return linear("das", _orthonormal(directions).detach().cpu().double().numpy(), mean=data.mean)


@torch.no_grad()
def interchange_loss(read: NDArray[np.floating], data: FitData, clips: Interchanges, *, seed: int) -> float:
    """What the search makes small, for given directions and all clips with an event, which may be other clips.

    Parameters
    ----------
    read : array `[rank, d_model]`
        Orthonormal directions.
    data, clips
        As in `das`.
    seed : int
        Draws the partners.

    Returns
    -------
    float
        In nats per token; 0 if interchanges change nothing.
    """
    rng, directions = np.random.default_rng(seed), torch.as_tensor(read, device=clips.model.device)
    rows = np.flatnonzero(data.has_event)
    parts = [rows[i : i + DAS_CLIPS_PER_STEP] for i in range(0, len(rows), DAS_CLIPS_PER_STEP)]
    found = [float(_loss_of(directions, clips, part, _sources(part, data, rng), {})) for part in parts]
    return float(np.average(found, weights=[len(part) for part in parts]))


def _sources(rows: NDArray[np.integer], data: FitData, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a clip without an event, and another one with an event, for each row: int `[2, row]`."""
    classes = (~data.has_event, data.has_event)
    return np.array([[_partner(row, which, data.prompt, rng) for row in rows] for which in classes])


def _loss_of(
    read: torch.Tensor,
    clips: Interchanges,
    rows: NDArray[np.integer],
    sources: NDArray[np.int64],
    unedited: dict[int, torch.Tensor],
) -> torch.Tensor:
    """The loss of some clips with an event. sources: from `_sources`. `unedited` keeps their unedited likelihood."""
    if missing := [row for row in rows.tolist() if row not in unedited]:
        with torch.no_grad():
            unedited |= dict(zip(missing, _likelihood(clips, np.array(missing), None), strict=True))
    twice = np.concatenate([rows, rows])
    change = _likelihood(clips, twice, _interchange(read, clips, twice, sources.ravel()))
    change = change - torch.stack([unedited[row] for row in twice.tolist()])
    onset = torch.from_numpy(clips.onset[twice]).to(change.device)
    return _loss(change, onset, frame_rate_hz=clips.model.frame_rate_hz)


def _loss(change: torch.Tensor, onset: torch.Tensor, *, frame_rate_hz: float) -> torch.Tensor:
    """What the search makes small, from the change of log-likelihood `[row, frame]`.

    The first half of the rows took the coordinates of clips without an event, the second half those of clips with one.
    """
    first, event = event_frames(onset, change.shape[1], frame_rate_hz)
    before = torch.arange(change.shape[1], device=change.device) < first[:, None]
    of_event = (change * event).sum(dim=1) / event.sum(dim=1)
    of_before = (change.abs() * before).sum(dim=1) / before.sum(dim=1).clamp(min=1)
    other, same = of_event.chunk(2)
    return other.mean() + same.abs().mean() + of_before.mean()


def _likelihood(clips: Interchanges, rows: NDArray[np.integer], edit: EditFunction | None) -> torch.Tensor:
    """Log-likelihood of some clips' own tokens, up to the end of the latest event, `[row, frame]`."""
    rate = clips.model.frame_rate_hz
    stop = int(clips.onset.max()) - round(LEAD_S * rate) + round(EVENT_S * rate)
    tokens = clips.tokens[rows, :, :stop]
    stream = np.asarray(clips.stream[rows, : n_positions(tokens.shape[2])], np.float32)
    x = torch.as_tensor(stream, device=tokens.device).to(clips.text.embeddings.dtype)
    x = x if edit is None else edit(clips.layer, 0, x)
    return log_likelihood(clips.model, tokens, _text(clips, rows), after=(clips.layer, x))


def _interchange(
    read: torch.Tensor, clips: Interchanges, rows: NDArray[np.integer], sources: NDArray[np.int64]
) -> EditFunction:
    """An edit that sets the coordinates along `read` `[rank, d_model]` to those of the sources, up to the onset."""
    stop = int(clips.onset[rows].max()) + 1
    source = torch.as_tensor(np.asarray(clips.stream[sources, :stop], np.float32), device=read.device)
    target = source @ read.T
    onset = torch.from_numpy(clips.onset[rows]).to(read.device)
    inside = (torch.arange(stop, device=read.device) <= onset[:, None])[..., None]

    def edit(_layer: int, _start: Start, x: torch.Tensor) -> torch.Tensor:
        edited = x[:, :stop].float()
        moved = edited - (edited @ read.T - target) @ read
        return torch.cat([torch.where(inside, moved, edited).to(x.dtype), x[:, stop:]], dim=1)

    return edit


def _orthonormal(rows: torch.Tensor) -> torch.Tensor:
    """The rows, made orthonormal in their order, with the same signs."""
    q, r = torch.linalg.qr(rows.T)
    return (q * torch.sign(torch.diagonal(r))).T


def _partner(row: int, eligible: NDArray[np.bool_], prompt: NDArray, rng: np.random.Generator) -> int:
    found = np.flatnonzero(eligible & (prompt != prompt[row]))
    if not len(found):
        raise ValueError("das: a clip has no partner of another prompt; valid: two prompts or more in each class")
    return int(rng.choice(found))


def _text(clips: Interchanges, rows: NDArray[np.integer]) -> TextConditions:
    return TextConditions(clips.text.embeddings[rows], clips.text.mask[rows])
