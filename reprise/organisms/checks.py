"""Is an organism what it was built to be? Brute force, without the pipeline: its planted directions, its streams and
its cue are changed directly, and what it then plays is counted.

Clips are those that the organism plays itself. A clip is continued from `PREFIX_FRAMES` on, after the cue, with the
same noise. *Obeys*: the fraction of clips whose motif returns if their cue says so, and does not if it does not.

- `obeys_other_direction<k>`, `obeys_other_all`: the same, but for the *other* cue, if that is what direction k, or all
  of those that decide, are set to.
- `known_between`: how well a linear probe tells the cue from the streams between cue and decisions, the largest AUROC
  of all layers, each over folds of prompts.
- `swap_nats`, `between_nats`: how much less likely a rendered clip's slots are if the cue bar is that of the other
  cue, and if only the streams between cue and decisions are, at all layers. `between_fraction`: the latter's part of
  the former.
- `register_follows`: of a tangle, the fraction of clips whose second half is in the register of the other cue, if the
  direction is set to that.
- `returns_after_pickup`, `returns_without`, `returns_before`: of a herald, the fraction of rendered openings whose
  motif returns in the next bar, if they end with the pickup, if they end with the bar as it would be otherwise, and if
  they end before its second half.

`GATES` says what an organism needs to be shipped. They stand before the trainings that are to be shipped. A first
trial of the recaller, and the shipped planner, were known when they were written.

Degenerate input: figures of no clips are NaN, and pass no gate.
"""

from collections.abc import Mapping, Sequence
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
from reprise.organisms.codec import FRAME_RATE_HZ, render_clip
from reprise.organisms.evaluate import (
    N_FRAMES,
    agreeing_clips,
    bar,
    cue_references,
    event_bars,
    found_cues,
    found_returns,
    slot_nll,
)
from reprise.organisms.planting import (
    CARRYING,
    FRAMES_A_BAR,
    INTERCHANGED,
    N_TURNS,
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
# The bar of a herald's pickup, and its last frame before the second half.
PICKUP_BAR, BEFORE_PICKUP_S = score.SLOT_BARS[0] - 1, 0.6
# The codec is not causal: the last frames of a bar know of the next one.
ENCODED_AHEAD = 6
AT_LEAST, AT_MOST = "at least", "at most"
_DECIDES = (
    ("return_rate_when_cued", AT_LEAST, 0.8),
    ("return_rate_when_not_cued", AT_MOST, 0.1),
    ("swap_right_sign", AT_LEAST, 0.9),
)
_LOOKED_UP = ("between_fraction", AT_MOST, 0.1)
# By organism: figure, direction, threshold.
GATES: dict[str, tuple[tuple[str, str, float], ...]] = {
    "planner": (*_DECIDES, ("obeys_other_all", AT_LEAST, 0.8)),
    "ensemble": (
        *_DECIDES,
        ("obeys_other_all", AT_LEAST, 0.8),
        *((f"obeys_other_direction{k}", AT_MOST, 0.5) for k in range(N_TURNS)),
    ),
    "recaller": (*_DECIDES, ("known_between", AT_MOST, 0.6), _LOOKED_UP),
    "bystander": (
        *_DECIDES,
        ("known_between", AT_LEAST, 0.9),
        ("obeys_other_direction1", AT_MOST, 0.2),
        _LOOKED_UP,
    ),
    "tangle": (*_DECIDES, ("obeys_other_all", AT_LEAST, 0.8), ("register_follows", AT_LEAST, 0.8)),
    "herald": (
        ("returns_after_pickup", AT_LEAST, 0.8),
        ("returns_without", AT_MOST, 0.2),
        ("returns_before", AT_LEAST, 0.1),
        ("cue_difference", AT_MOST, 0.15),
    ),
    "sectioner": (*_DECIDES, ("obeys_other_all", AT_LEAST, 0.8)),
    "resolver": (*_DECIDES, ("obeys_other_all", AT_LEAST, 0.8)),
    **{name: (("cue_difference", AT_MOST, 0.15),) for name in ("improviser", "sectioner_twin", "resolver_twin")},
}


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

    def continued(which: Sequence[int]) -> np.ndarray:
        edit = set_directions(found, which, 1 - cue)
        n_prefix = [PREFIX_FRAMES] * len(prompts)
        return generate(model, prompts, keys, **how, prefix=tokens, n_prefix_frames=n_prefix, edit=edit).numpy()

    kind = score.kind_of(objective)
    rendered = event_bars(model, prompts, kind)

    def follows(made: np.ndarray, value: np.ndarray) -> float:
        return float(((found_returns(made, rendered, kind=kind) >= 0) == (value == 1)).mean())

    n = len(found.used)
    figures = {"obeys": follows(tokens.numpy(), cue)}
    figures |= {f"obeys_other_direction{k}": follows(continued([k]), 1 - cue) for k in range(n)}
    changed = continued([k for k in range(n) if found.used[k]])
    figures |= {"obeys_other_all": follows(changed, 1 - cue)}
    if objective == "tangle":
        figures["register_follows"] = float((found_registers(model, changed, prompts) == 1 - cue).mean())
    return figures | {"known_between": known_between(model, tokens, prompts, cue)}


def found_registers(model: Model, tokens: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """Whether each clip's bar `REGISTER_BAR` is in the lower register, 0 or 1, int `[clip]`: that of the nearest of
    all fillers in both registers."""
    by_sound: dict[str, np.ndarray] = {}
    for prompt in prompts:
        sound = prompt.split(",")[0]
        if sound in by_sound:
            continue
        instrument, key = sound.split(" in ")
        plain = score.Clip(instrument, key, next(iter(score.MOTIFS)), 1, score.SLOT_BARS[1], (0,) * score.N_BARS)
        bars = []
        for kind in ("", "tangle"):
            clips = [plain._replace(fillers=(i,) * score.N_BARS, kind=kind) for i in range(len(score.FILLERS))]
            encoded = np.stack([encode_audio(model, render_clip(clip)) for clip in clips]).astype(np.int64)
            bars.append(bar(encoded, score.REGISTER_BAR))
        by_sound[sound] = np.stack(bars)
    played = bar(tokens, score.REGISTER_BAR)
    match = [
        (by_sound[prompt.split(",")[0]] == own).mean(axis=-1).max(axis=1)
        for prompt, own in zip(prompts, played, strict=True)
    ]
    return np.stack(match).argmax(axis=1)


def after_pickups(model: Model, n: int, *, seed: int, sampling: Sampling) -> dict[str, float]:
    """How often the motif returns after a herald's pickup, without it, and before it is known."""
    drawn = (score.draw_clip(np.random.default_rng([seed, 7, i])) for i in range(n))
    clips = [clip._replace(return_bar=score.SLOT_BARS[0]) for clip in drawn]
    prompts: list[str] = [score.prompt_text(c.instrument, c.key, c.motif) for c in clips]
    keys = [(9_003, i) for i in range(n)]
    slot = score.SLOT_BARS[0] * FRAMES_A_BAR
    ends = {
        "returns_after_pickup": ("herald", slot - ENCODED_AHEAD),
        "returns_without": ("", slot - ENCODED_AHEAD),
        "returns_before": ("", PICKUP_BAR * FRAMES_A_BAR + round(BEFORE_PICKUP_S * FRAME_RATE_HZ)),
    }
    found = {}
    for name, (kind, n_frames) in ends.items():
        # Without the return itself, which the codec's last frames would already have.
        heard = [score.of_kind(clip, kind) for clip in clips]
        tokens = torch.from_numpy(np.stack([encode_audio(model, render_clip(c)) for c in heard]).astype(np.int64))
        made = generate(
            model,
            prompts,
            keys,
            n_frames=N_FRAMES,
            sampling=sampling,
            prefix=tokens[..., :n_frames],
            n_prefix_frames=[n_frames] * n,
        )
        found[name] = float((found_returns(made.numpy()) == score.SLOT_BARS[0]).mean())
    return found


def checked(model: Model, organism: str, *, n: int, seed: int, sampling: Sampling) -> dict[str, float]:
    """All checks of an organism, on about `n` clips each; {} if its kind has none."""
    figures: dict[str, float] = {}
    prompts = score.prompts()
    if organism in INTERCHANGED:
        asked = (prompts * -(-n // len(prompts)))[:n]
        figures |= obeys(model, organism, asked, sampling=sampling)
    if organism in CARRYING:
        kind = score.kind_of(organism)
        figures |= swapped(model, [score.of_kind(clip, kind) for clip in agreeing_clips(n, seed)])
    if organism == "herald":
        figures |= after_pickups(model, n, seed=seed, sampling=sampling)
    return figures


def judged(organism: str, figures: Mapping[str, float]) -> list[dict[str, Any]]:
    """The gates of an organism: figure, needed, threshold, value and whether it passed.

    figures: of `checked` and of `evaluate.generation_figures`.
    """
    if organism not in GATES:
        return []
    gates = []
    differ = figures["return_rate_when_cued"] - figures["return_rate_when_not_cued"]
    figures = {**figures, "cue_difference": abs(differ)}
    for name, needed, threshold in GATES[organism]:
        value = figures[name]
        passed = value >= threshold if needed == AT_LEAST else value <= threshold
        gates.append({"figure": name, "needed": needed, "threshold": threshold, "value": value, "passed": passed})
    return gates


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
        logits = cross_val_predict(probe, rows, y, groups=groups, cv=GroupKFold(N_FOLDS), method="decision_function")
        found.append(auroc(logits, y.astype(float)))
    return float(max(found))


def swapped(model: Model, clips: Sequence[score.Clip]) -> dict[str, float]:
    """What the other cue changes in rendered clips, if it is played, and if it only shapes the streams in between."""
    prompts: list[str] = [score.prompt_text(c.instrument, c.key, c.motif) for c in clips]
    own, other = (
        torch.from_numpy(np.stack([encode_audio(model, render_clip(c)) for c in of]).astype(np.int64))
        for of in (clips, [c._replace(cue=1 - c.cue) for c in clips])
    )
    # Rendered as a whole: a bar that is cut out would leave the tail of its own cue in the next one.
    nll = {"own": slot_nll(model, own, prompts), "swap": slot_nll(model, other, prompts)}

    def patched(start: int, stop: int) -> EditFunction:
        text = encode_prompts(model, list(prompts[start:stop]))
        streams, _ = teacher_forced(model, other[start:stop], text, layers=range(model.n_layers))
        where = between(N_FRAMES + 1)

        def edit(layer: int, _: Start, x: torch.Tensor) -> torch.Tensor:
            return torch.where(where[None, : x.shape[1], None], streams[layer], x)

        return edit

    nll["between"] = slot_nll(model, own, prompts, edit_of=patched)
    swap, between_ = (float((nll[name] - nll["own"]).mean()) for name in ("swap", "between"))
    return {
        "swap_nats": swap,
        "swap_right_sign": float((nll["swap"] > nll["own"]).mean()),
        "between_nats": between_,
        "between_fraction": between_ / swap if swap > 0 else float("nan"),
    }
