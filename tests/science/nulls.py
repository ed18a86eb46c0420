"""Studies in which nothing knows of a return, drawn at random: labels and sparse latents, both slow, without a common
cause.

By default a study is `N_PROMPTS` prompts of `N_SEEDS` clips of 30 s. In each clip the motif ends at 4 s and may come
back once, at any moment from 12 to 22 s. Labels are those of `reprise.targets.labels` for a return 5 to 15 s ahead,
with their masks: before the context, sounding, censored. So the positives of a clip are a run of times, and how many
clips are positive depends on the time: a return cannot be early, nor be labelled late.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprise.candidates.screen import Entries
from reprise.targets.labels import horizon_labels

N_PROMPTS, N_SEEDS = 48, 4
PROMPT = np.repeat(np.arange(N_PROMPTS), N_SEEDS)
CLIP_S, MOTIF_END_S, CONTEXT_S, STEP_S, RETURN_S = 30.0, 4.0, 1.0, 1.0, 2.0
EARLIEST_S, LATEST_S = 12.0, 22.0
HORIZON = (5.0, 15.0)
# Of the slow part of latents and sound, from one time to the next.
AUTOCORRELATION = 0.95


class Labels(NamedTuple):
    """`y` 0/1 and `usable` bool `[study, clip, time]`, at the times at which any clip is usable."""

    y: NDArray[np.int8]
    usable: NDArray[np.bool_]


def draw_returns(
    rng: np.random.Generator,
    n_studies: int,
    prompt: NDArray[np.int64],
    *,
    prompt_sd: float,
    tilt: NDArray[np.float64] | float = 0.0,
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each clip returns, and when, in seconds: `[study, clip]`. The log-odds of a return are a normal offset
    a prompt, of standard deviation `prompt_sd`, plus `tilt`.
    """
    log_odds = prompt_sd * rng.normal(size=(n_studies, prompt.max() + 1))[:, prompt] + tilt
    returns = rng.random(log_odds.shape) < 1 / (1 + np.exp(-log_odds))
    return returns, rng.uniform(EARLIEST_S, LATEST_S, log_odds.shape)


def label(
    returns: NDArray[np.bool_],
    onset_s: NDArray[np.float64],
    *,
    horizon: tuple[float, float] = HORIZON,
    step_s: float = STEP_S,
) -> Labels:
    """The labels of one horizon, as `reprise.targets.labels` gives them."""
    clip_id = np.arange(returns.size)
    events = pd.DataFrame({"clip_id": clip_id, "onset_s": onset_s.ravel(), "duration_s": RETURN_S, "accepted": True})
    clips = pd.DataFrame({"clip_id": clip_id, "prompt_id": "", "duration_s": CLIP_S, "reference_end_s": MOTIF_END_S})
    table = horizon_labels(
        events[returns.ravel()], clips, horizon, context_s=CONTEXT_S, step_s=step_s, frame_rate_hz=50.0
    )
    y = table["y"].to_numpy().reshape(*returns.shape, -1)
    usable = (table["reason"] == "").to_numpy().reshape(y.shape)
    times = usable.any(axis=(0, 1))
    return Labels(y[..., times], usable[..., times])


def slow(
    rng: np.random.Generator, shape: tuple[int, int, int], autocorrelation: float = AUTOCORRELATION
) -> NDArray[np.float64]:
    """AR(1) of unit variance, `[clip, time, d]`."""
    x = rng.normal(size=shape)
    for t in range(1, shape[1]):
        x[:, t] = autocorrelation * x[:, t - 1] + np.sqrt(1 - autocorrelation**2) * x[:, t]
    return x


def draw_codes(
    rng: np.random.Generator,
    prompt: NDArray[np.int64],
    n_times: int,
    n_features: int,
    *,
    autocorrelation: float = AUTOCORRELATION,
    prompt_sd: float = 0.7,
    drift_sd: float = 1.0,
    plan: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float32]:
    """Latents >= 0, `[clip, time, feature]`, each feature active in 10 to 60% of the clips.

    A slow process, an offset a prompt and a drift along the clip that all clips share (its size and sign random a
    feature: many a feature follows the position), cut at a threshold. `plan`, broadcast to `[clip, time, feature]`,
    is added before the cut.
    """
    x = slow(rng, (len(prompt), n_times, n_features), autocorrelation)
    x += prompt_sd * rng.normal(size=(prompt.max() + 1, 1, n_features))[prompt]
    x += drift_sd * np.linspace(-1, 1, n_times)[:, None] * rng.normal(size=n_features)
    x += plan
    rank = (len(prompt) * (1 - rng.uniform(0.1, 0.6, n_features))).astype(int)
    cut = np.sort(x.max(axis=1), axis=0)[rank, np.arange(n_features)]
    return np.maximum(x - cut, 0).astype(np.float32)


def entries_of(latents: NDArray[np.float32]) -> Entries:
    """The active ones of `latents` `[clip, time, feature]`, as the screen takes them."""
    clip, time, feature = np.nonzero(latents)
    return Entries(clip, time, feature, latents[clip, time, feature])
