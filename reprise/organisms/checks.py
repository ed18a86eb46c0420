"""Is an organism what it was built to be? Brute force, without the pipeline: its planted directions, its streams and
its cue are changed directly, and what it then plays is counted.

Clips are those that the organism plays itself. A clip is continued from `PREFIX_FRAMES` on, after the cue, with the
same noise. *Obeys*: the fraction of clips whose motif returns if their cue says so, and does not if it does not.

- `obeys_other_direction<k>`, `obeys_other_all`: the same, but for the *other* cue, if that is what direction k, or all
  of those that decide, are set to.
- `known_between`: how well a linear probe tells the cue from the streams between cue and decisions, the largest AUROC
  of all layers, each over folds of prompts.
- `swap_nats`, `between_nats`: how much less likely a rendered clip's slots are if the cue bar is that of the other
  cue, and if only the streams between cue and decisions are, at all layers.

Degenerate input: figures of no clips are NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reprise.models.adapter import Model
from reprise.models.codec import encode_audio
from reprise.models.forward import EditFunction, Start, teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.prompts import encode_prompts
from reprise.organisms import score
from reprise.organisms.codec import render_clip
from reprise.organisms.evaluate import N_FRAMES, cue_references, found_cues, found_returns, slot_nll
from reprise.organisms.planting import (
    FRAMES_A_BAR,
    PLAN_FROM_POSITION,
    PLAN_SCALE,
    PLANT_LAYER,
    Carriers,
    between,
    carriers,
)
from reprise.probing.scores import auroc

PREFIX_FRAMES = 60
N_FOLDS, PROBED_EVERY = 5, 10


def set_directions(found: Carriers, which: Sequence[int], value: np.ndarray) -> EditFunction:
    """An edit that sets some directions, where they are active, to what they are for a cue: value 0 or 1 `[clip]`."""

    def edit(layer: int, start: Start, x: torch.Tensor) -> torch.Tensor:
        if layer != PLANT_LAYER:
            return x
        at = torch.arange(int(start), int(start) + x.shape[1])
        for k in which:
            u, active = found.directions[k], found.active[k, at].float()
            wanted = PLAN_SCALE * torch.from_numpy(value).float()[:, None] * active
            move = (wanted - x @ u) * (at >= PLAN_FROM_POSITION)
            x = x + move[..., None] * u
        return x

    return edit


def obeys(model: Model, objective: str, prompts: Sequence[str], *, sampling: Sampling) -> dict[str, float]:
    """How often returns follow the cue, and the other cue if directions are set to it. One clip for each prompt."""
    found = carriers(objective, N_FRAMES + 8)
    keys = [(9_002, i) for i in range(len(prompts))]
    how: dict[str, Any] = {"n_frames": N_FRAMES, "sampling": sampling}
    tokens = generate(model, prompts, keys, **how)
    cue = found_cues(tokens.numpy(), cue_references(model, prompts))

    def follows(value: np.ndarray, which: Sequence[int]) -> float:
        edit = set_directions(found, which, value) if which else None
        n_prefix = [PREFIX_FRAMES] * len(prompts)
        made = generate(model, prompts, keys, **how, prefix=tokens, n_prefix_frames=n_prefix, edit=edit)
        return float(((found_returns(made.numpy()) >= 0) == (value == 1)).mean())

    n = len(found.used)
    used = [k for k in range(n) if found.used[k]]
    figures = {"obeys": follows(cue, []), "obeys_other": follows(1 - cue, [])}
    figures |= {f"obeys_other_direction{k}": follows(1 - cue, [k]) for k in range(n)}
    figures["obeys_other_all"] = follows(1 - cue, used)
    return figures | {"known_between": known_between(model, tokens, prompts, cue)}


def known_between(model: Model, tokens: torch.Tensor, prompts: Sequence[str], cue: np.ndarray) -> float:
    """The largest AUROC over layers of a linear probe for the cue, from the streams between cue and decisions."""
    text = encode_prompts(model, list(prompts))
    streams, _ = teacher_forced(model, tokens, text, layers=range(model.n_layers))
    at = torch.nonzero(between(N_FRAMES + 1)).ravel()[::PROBED_EVERY]
    groups = np.repeat(np.unique(np.asarray(prompts), return_inverse=True)[1], len(at))
    y = np.repeat(cue, len(at))
    found = []
    for x in streams.values():
        rows = x[:, at].flatten(0, 1).numpy()
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        score_ = cross_val_predict(probe, rows, y, groups=groups, cv=GroupKFold(N_FOLDS), method="decision_function")
        found.append(auroc(score_, y.astype(float)))
    return float(max(found))


def swapped(model: Model, clips: Sequence[score.Clip]) -> dict[str, float]:
    """What the other cue changes in rendered clips, if it is played, and if it only shapes the streams in between."""
    prompts: list[str] = [score.prompt_text(c.instrument, c.key, c.motif) for c in clips]
    own, other = (
        torch.from_numpy(np.stack([encode_audio(model, render_clip(c)) for c in of]).astype(np.int64))
        for of in (clips, [c._replace(cue=1 - c.cue) for c in clips])
    )
    both = own.clone()
    both[..., :FRAMES_A_BAR] = other[..., :FRAMES_A_BAR]
    nll = {"own": slot_nll(model, own, prompts), "swap": slot_nll(model, both, prompts)}

    def patched(start: int, stop: int) -> EditFunction:
        text = encode_prompts(model, list(prompts[start:stop]))
        streams, _ = teacher_forced(model, both[start:stop], text, layers=range(model.n_layers))
        where = between(N_FRAMES + 1)

        def edit(layer: int, _: Start, x: torch.Tensor) -> torch.Tensor:
            return torch.where(where[None, : x.shape[1], None], streams[layer], x)

        return edit

    nll["between"] = slot_nll(model, own, prompts, edit_of=patched)
    return {
        "swap_nats": float((nll["swap"] - nll["own"]).mean()),
        "swap_right_sign": float((nll["swap"] > nll["own"]).mean()),
        "between_nats": float((nll["between"] - nll["own"]).mean()),
    }
