"""Labels: does an event begin within a horizon after a time?

Conventions. A horizon is `(a, b)` in seconds. At time t of a clip, `y` is 1 if an accepted event begins in (t + a, t +
b] and its reference had ended by t, else 0. (A reference is the earlier passage that an event refers to, such as the
motif that returns. Where a target has none, it ends at 0.) Times lie on the grid k * step_s, from 0 to the clip's end.
The position of a time is the last one that knows nothing after it. For tokens of a recording, that is the encoder's
look-ahead before t (below 0 at the very start, where no time is usable). `reason` says whether a time may be used. It
is "" for a usable time, and otherwise the first of these that holds:

- `unusable`: the clip could not be read, so nothing is known about its events.
- `before_reference_end`: t < reference_end_s, no event could begin yet (y is 0 there).
- `recorded`: t < played_from_s, the clip is still a recording that the model continues later.
- `before_context`: t < reference_end_s + context_s, the reference is still inside the acoustic window, so it is known
  simply because it is still audible. In a clip with several references, this also applies to that of the event in the
  horizon. Without a reference, the baseline's window is not full yet.
- `sounding`: an accepted event sounds at t, onset <= t < onset + duration.
- `censored`: the clip ends before t + b. A missing event then proves nothing. An event that *was* seen is left out
  too, because keeping only the positives would bias the sample. The column `censored` marks all such times, whatever
  their `reason`.
- `unreviewed`: the answer depends on an unknown event, one that the tests accepted where only reviewed events count.
  Either it begins in (t + a, t + b] and no accepted event does, or it sounds at t. Its y is 0.

Degenerate input: no events gives y = 0 throughout; a horizon longer than the clip gives censored times only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

# Onsets and grid times are decimal fractions. Compared within this tolerance, (t + a, t + b] keeps its ends.
_TOLERANCE_S = 1e-6


class LabelGrid(NamedTuple):
    """Labels on the grid: `y` int8 and `usable` bool `[clip, time]`, `positions` int and `times_s` `[time]`."""

    y: NDArray[np.int8]
    usable: NDArray[np.bool_]
    positions: NDArray[np.int64]
    times_s: NDArray[np.float64]


def horizon_labels(
    events: pd.DataFrame,
    clips: pd.DataFrame,
    horizon: tuple[float, float],
    *,
    context_s: float,
    step_s: float,
    frame_rate_hz: float,
    played_from_s: float = 0.0,
    lookahead_positions: int = 0,
) -> pd.DataFrame:
    """Labels of one horizon for all clips.

    Parameters
    ----------
    events : DataFrame
        Columns clip_id, onset_s, duration_s, accepted; unknown, if there are unreviewed events (see
        reprise/review/apply.py); and reference_end_s, if events have their own reference.
    clips : DataFrame
        Columns clip_id (unique), prompt_id, duration_s and reference_end_s (of the first reference; NaN: the clip
        is unusable).
    horizon : (float, float)
        (a, b) in seconds.
    context_s : float
        The acoustic window of the baseline in seconds.
    step_s : float
        Step of the grid in seconds.
    frame_rate_hz : float
        Positions per second.
    played_from_s : float
        From when on the model plays, if a clip begins with a recording.
    lookahead_positions : int
        How many positions ahead the tokens before a position can know.

    Returns
    -------
    DataFrame
        One row per (clip, time) in the order of `clips`: clip_id, prompt_id, time_s, position (int), y (int8),
        censored (bool), reason.

    Raises
    ------
    ValueError
        For an impossible horizon or step, a clip_id listed twice, an event of an unknown clip, or a usable time that
        has no position without look-ahead.
    """
    _check_grid(clips, horizon, step_s)
    counted, row = _events_that_count(events, clips)
    clip_s = clips["duration_s"].to_numpy(dtype=np.float64)[:, None]
    time_s = _grid_s(clip_s.max(initial=0), step_s)
    found = _events_at(counted, row, len(clips), time_s, horizon, context_s)

    reference_end_s = clips["reference_end_s"].to_numpy(dtype=np.float64)[:, None]
    # Comparisons with NaN are False, so in an unusable clip the reference has never ended.
    ended = time_s >= reference_end_s - _TOLERANCE_S
    y = found.begin & ended
    censored = time_s + horizon[1] > clip_s + _TOLERANCE_S
    reason = _first_reason(
        y.shape,
        {
            "unusable": np.isnan(reference_end_s),
            "before_reference_end": ~ended,
            "recorded": time_s < played_from_s - _TOLERANCE_S,
            "before_context": (time_s < reference_end_s + context_s - _TOLERANCE_S) | found.still_audible,
            "sounding": found.sound,
            "censored": censored,
            "unreviewed": found.sound_unknown | (found.begin_unknown & ~found.begin),
        },
    )
    clip, step = np.nonzero(time_s <= clip_s + _TOLERANCE_S)
    position = np.floor(time_s * frame_rate_hz + _TOLERANCE_S).astype(np.int64) - lookahead_positions
    if ((position < 0) & (reason == "")).any():
        seconds = f"{lookahead_positions / frame_rate_hz:g} s"
        raise ValueError(
            f"lookahead_positions: is {lookahead_positions}, {seconds}; valid: less than the first usable time"
        )
    return pd.DataFrame(
        {
            "clip_id": clips["clip_id"].to_numpy()[clip],
            "prompt_id": clips["prompt_id"].to_numpy()[clip],
            "time_s": time_s[step],
            "position": position[step],
            "y": y[clip, step].astype(np.int8),
            "censored": censored[clip, step],
            "reason": reason[clip, step].astype(object),
        }
    )


def _first_reason(shape: tuple[int, ...], holds: Mapping[str, np.ndarray]) -> np.ndarray:
    """The first reason that holds, in order, "" for none: text of the given shape, to which all are broadcast."""
    return np.select([np.broadcast_to(where, shape) for where in holds.values()], list(holds), default="")


def _grid_s(duration_s: float, step_s: float) -> NDArray[np.floating]:
    """The times k * step_s from 0 to a clip's end. They are multiplied and not added up, so they do not drift."""
    return np.arange(int(np.floor(duration_s / step_s + _TOLERANCE_S)) + 1) * step_s


def _check_grid(clips: pd.DataFrame, horizon: tuple[float, float], step_s: float) -> None:
    a_s, b_s = horizon
    if not 0 <= a_s < b_s < np.inf:
        raise ValueError(
            f"horizon: [{a_s:g}, {b_s:g}] is impossible; valid: [from, to] in seconds with 0 <= from < to"
        )
    if not step_s > 0:
        raise ValueError(f"step_s: is {step_s}; valid: above 0")
    if clips["clip_id"].duplicated().any():
        twice = clips.loc[clips["clip_id"].duplicated(), "clip_id"].iloc[0]
        raise ValueError(f"clips: clip {twice!r} is listed twice; valid: one row per clip")


def _events_that_count(events: pd.DataFrame, clips: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """Accepted and unknown events (column unknown is bool), and for each the row of its clip in `clips`."""
    unknown = events["unknown"].astype(bool) if "unknown" in events else pd.Series(False, index=events.index)
    matters = events["accepted"].astype(bool) | unknown
    counted = events[matters].assign(unknown=unknown[matters])
    row = pd.Index(clips["clip_id"]).get_indexer(counted["clip_id"])
    if (row < 0).any():
        stray = counted["clip_id"].iloc[int((row < 0).argmax())]
        raise ValueError(f"events: clip {stray!r} is not among the {len(clips)} clips of the table")
    return counted, row


class _EventsAt(NamedTuple):
    """What events do at each time, bool `[clip, time]`.

    begin, sound: an accepted event begins in the horizon, or sounds. begin_unknown, sound_unknown: an unknown event
    does. still_audible: the reference of an event that begins in the horizon is still inside the acoustic window.
    """

    begin: NDArray[np.bool_]
    begin_unknown: NDArray[np.bool_]
    sound: NDArray[np.bool_]
    sound_unknown: NDArray[np.bool_]
    still_audible: NDArray[np.bool_]


def _events_at(
    counted: pd.DataFrame,
    row: NDArray[np.intp],
    n_clips: int,
    time_s: NDArray[np.floating],
    horizon: tuple[float, float],
    context_s: float,
) -> _EventsAt:
    a_s, b_s = horizon
    unknown = counted["unknown"].to_numpy(dtype=bool)[:, None]
    onset_s, duration_s = (counted[c].to_numpy(dtype=np.float64)[:, None] for c in ("onset_s", "duration_s"))
    ahead_s = onset_s - time_s
    own_end_s = (
        counted["reference_end_s"].to_numpy(dtype=np.float64)[:, None] if "reference_end_s" in counted else -np.inf
    )
    begins = (ahead_s > a_s + _TOLERANCE_S) & (ahead_s <= b_s + _TOLERANCE_S) & (time_s >= own_end_s - _TOLERANCE_S)
    still_audible = begins & (time_s < own_end_s + context_s - _TOLERANCE_S)
    sounds = (ahead_s <= _TOLERANCE_S) & (ahead_s + duration_s > _TOLERANCE_S)
    by_event = (begins & ~unknown, begins & unknown, sounds & ~unknown, sounds & unknown, still_audible)
    return _EventsAt(*(_any_by_clip(of_event, row, n_clips) for of_event in by_event))


def _any_by_clip(of_event: np.ndarray, row: np.ndarray, n_clips: int) -> np.ndarray:
    """bool `[event, time]` to bool `[clip, time]`: whether it holds for any event of the clip."""
    out = np.zeros((n_clips, of_event.shape[1]), dtype=bool)
    np.logical_or.at(out, row, of_event)
    return out


def label_grid(labels: pd.DataFrame, clip_ids: Sequence[str]) -> LabelGrid:
    """Put a labels table on the grid clip x time. The times are those at which any clip is usable.

    labels: clip_id, position, time_s, y, reason ("" = usable). Rows of clips that are not in `clip_ids` are left out.
    Raises ValueError if a (clip, position) occurs twice.
    """
    labels = labels[labels["clip_id"].isin(clip_ids)]
    twice = labels.duplicated(["clip_id", "position"])
    if twice.any():
        row = labels[twice].iloc[0]
        raise ValueError(f"labels: clip {row['clip_id']!r}, position {row['position']} occurs twice; valid: one row")
    rows = labels[labels["reason"] == ""]
    times = rows.drop_duplicates("position").sort_values("position")
    clip = pd.Index(clip_ids).get_indexer(rows["clip_id"])
    time = pd.Index(times["position"]).get_indexer(rows["position"])
    y = np.zeros((len(clip_ids), len(times)), np.int8)
    usable = np.zeros(y.shape, bool)
    y[clip, time] = rows["y"]
    usable[clip, time] = True
    return LabelGrid(y, usable, times["position"].to_numpy(np.int64), times["time_s"].to_numpy(np.float64))


def without_local(labels: pd.DataFrame, local: pd.DataFrame) -> pd.DataFrame:
    """Labels of a longer horizon, without the usable times at which an event begins within the local horizon.

    These times get the reason `local_return`. Both tables list the same clips and times in the same order; otherwise
    ValueError is raised.
    """
    if not (labels[["clip_id", "position"]].to_numpy() == local[["clip_id", "position"]].to_numpy()).all():
        raise ValueError("labels: the tables of the two horizons list different clips or times; valid: the same ones")
    begins = (labels["reason"] == "") & (local["y"].to_numpy() == 1)
    return labels.assign(reason=labels["reason"].mask(begins, "local_return"))


def unusable_because(certificate: Mapping[str, Any], times_s: ArrayLike) -> str:
    """Why latents at `times_s` `[time]` are no evidence, in words; "" if the SAE reconstructs well enough at all of
    them.

    This is decided by its `certificate` (reprise/saes/certificate.py). Otherwise the result at a horizon would depend
    on latents that tell little about the activations.
    """
    times_s = np.asarray(times_s)
    failing = [
        f"{b['start_s']:g}-{b['stop_s']:g} s"
        for b in certificate["bins"]
        if not b["passed"] and ((times_s >= b["start_s"]) & (times_s < b["stop_s"])).any()
    ]
    return f"the SAE does not reconstruct well enough at {', '.join(failing)}, which this needs" if failing else ""
