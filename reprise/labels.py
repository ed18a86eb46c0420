"""Labels: does a recurrence begin within a horizon after a time?

Conventions. A horizon `(a, b)` in seconds. At time t of a clip, `y` is 1 if an accepted event begins in (t + a, t + b]
and the motif had ended by t, else 0. Times lie on the grid k * step_s, from 0 to the clip's end; a time's position is
the last one that has heard nothing after it. Which times may be used is said by `reason`, the first of these that
holds, "" for a usable time:

- `before_motif_end`: t < motif_end_s, there is nothing yet that could return (y is 0 there).
- `before_context`: t < motif_end_s + context_s, the motif is still inside the acoustic window, so that knowing of it
  is only hearing it.
- `sounding`: an accepted event sounds at t, onset <= t < onset + duration.
- `censored`: the clip ends before t + b. Then a missing return says nothing, and a return that *was* seen is left out
  too: keeping the positives alone would bias the sample. The column `censored` says so at every time, whatever its
  `reason`.

Degenerate input: no events gives y = 0 throughout; a horizon longer than the clip gives censored times only.
"""

import numpy as np
import pandas as pd

# Onsets and grid times are decimal fractions: they are compared to within this, so that (t + a, t + b] keeps its ends.
_TOLERANCE_S = 1e-6


def horizon_labels(
    events: pd.DataFrame,
    clips: pd.DataFrame,
    horizon: tuple[float, float],
    *,
    motif_end_s: float,
    context_s: float,
    step_s: float,
    frame_rate_hz: float,
) -> pd.DataFrame:
    """Labels of one horizon for all clips.

    `events` with columns clip_id, onset_s, duration_s, accepted; `clips` with clip_id (unique), prompt_id, duration_s.
    `context_s` is the acoustic window of the baseline, `step_s` the grid. Returns one row a (clip, time) in the order
    of `clips`: clip_id, prompt_id, time_s, position (int), y (int8), censored (bool), reason.

    Raises ValueError for an impossible horizon or step, a clip_id listed twice, or an event of an unknown clip.
    """
    a_s, b_s = horizon
    if not 0 <= a_s < b_s < np.inf:
        raise ValueError(
            f"horizon: [{a_s:g}, {b_s:g}] is impossible; valid: [from, to] in seconds with 0 <= from < to"
        )
    if not step_s > 0:
        raise ValueError(f"step_s: is {step_s}; valid: above 0")
    if clips["clip_id"].duplicated().any():
        twice = clips.loc[clips["clip_id"].duplicated(), "clip_id"].iloc[0]
        raise ValueError(f"clips: clip {twice!r} is listed twice; valid: one row a clip")
    accepted = events[events["accepted"].astype(bool)]
    row = pd.Index(clips["clip_id"]).get_indexer(accepted["clip_id"])
    if (row < 0).any():
        unknown = accepted["clip_id"].iloc[int((row < 0).argmax())]
        raise ValueError(f"events: clip {unknown!r} is not among the {len(clips)} clips of the table")

    clip_s = clips["duration_s"].to_numpy(dtype=np.float64)[:, None]
    # Divided and counted, not added up: k * step_s is the grid, without drift.
    n_times = int(np.floor(clip_s.max(initial=0) / step_s + _TOLERANCE_S)) + 1
    time_s = np.arange(n_times) * step_s
    onset_s, duration_s = (accepted[c].to_numpy(dtype=np.float64)[:, None] for c in ("onset_s", "duration_s"))
    ahead_s = onset_s - time_s
    begins = (ahead_s > a_s + _TOLERANCE_S) & (ahead_s <= b_s + _TOLERANCE_S)
    sounds = (ahead_s <= _TOLERANCE_S) & (ahead_s + duration_s > _TOLERANCE_S)

    heard = time_s >= motif_end_s - _TOLERANCE_S
    y = _any_by_clip(begins, row, len(clips)) & heard
    censored = time_s + b_s > clip_s + _TOLERANCE_S
    reason = np.select(
        [
            np.broadcast_to(~heard, y.shape),
            np.broadcast_to(time_s < motif_end_s + context_s - _TOLERANCE_S, y.shape),
            _any_by_clip(sounds, row, len(clips)),
            censored,
        ],
        ["before_motif_end", "before_context", "sounding", "censored"],
        default="",
    )
    clip, step = np.nonzero(time_s <= clip_s + _TOLERANCE_S)
    return pd.DataFrame(
        {
            "clip_id": clips["clip_id"].to_numpy()[clip],
            "prompt_id": clips["prompt_id"].to_numpy()[clip],
            "time_s": time_s[step],
            "position": np.floor(time_s[step] * frame_rate_hz + _TOLERANCE_S).astype(np.int64),
            "y": y[clip, step].astype(np.int8),
            "censored": censored[clip, step],
            "reason": reason[clip, step].astype(object),
        }
    )


def _any_by_clip(of_event: np.ndarray, row: np.ndarray, n_clips: int) -> np.ndarray:
    """bool `[event, time]` to bool `[clip, time]`: whether it holds for any event of the clip."""
    out = np.zeros((n_clips, of_event.shape[1]), dtype=bool)
    np.logical_or.at(out, row, of_event)
    return out
