"""Which clips an ablation continues, what their events refer to, and which clips donate to them.

Whether a clip has an event is a property of its continuation after the prefix, and no horizon is read. Clips are taken
in the order of a hash of their names; this includes the donors of resampling and the clips of sufficiency.

Degenerate input: without an accepted event after the prefix there are no clips; a clip that has no donor is not
continued.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprise.identity import stable_fraction


class PlanTimes(NamedTuple):
    """Where the model could hold a plan: `positions` int `[position]`, and `could_plan` bool `[clip, position]`."""

    positions: NDArray[np.int64]
    could_plan: NDArray[np.bool_]


class ClassedClips(NamedTuple):
    """Clips by what follows the prefix, all bool `[clip]`.

    has_event: an accepted event begins in the return window, and refers to something in the prefix. without_event: it
    is known that none begins there. known: the clip is in one of the two classes, and the model could hold a plan
    somewhere.
    """

    has_event: NDArray[np.bool_]
    without_event: NDArray[np.bool_]
    known: NDArray[np.bool_]


def plan_times(
    reference_end_s: NDArray[np.floating],
    *,
    context_s: float,
    prefix_s: float,
    frame_rate_hz: float,
    lookahead_positions: int,
) -> PlanTimes:
    """Positions after the reference (and the context in which the baseline hears it) and before the event.

    Parameters
    ----------
    reference_end_s : float array `[clip]`
        When the reference of each clip has ended, in seconds; NaN for an unusable clip.
    context_s, prefix_s : float
        The acoustic window of the baseline, and the length of the prefix, in seconds.
    frame_rate_hz : float
        Positions per second.
    lookahead_positions : int
        How many positions ahead the tokens of a recording know.

    Returns
    -------
    PlanTimes
    """
    first = np.rint((reference_end_s + context_s) * frame_rate_hz) - lookahead_positions
    stop = round(prefix_s * frame_rate_hz) - lookahead_positions
    positions = np.arange(int(min(np.nanmin(first, initial=stop), stop)), stop)
    return PlanTimes(positions, positions >= first[:, None])


def classed_clips(
    events: pd.DataFrame,
    clip_ids: pd.Series,
    references: pd.DataFrame,
    could_plan: NDArray[np.bool_],
    *,
    start_s: float,
    stop_s: float,
) -> ClassedClips:
    """Divide clips by whether an event follows.

    Parameters
    ----------
    events : DataFrame
        Columns clip_id, onset_s, accepted and unknown.
    clip_ids : Series
        The clips.
    references : DataFrame
        `reference_of_event`: the clips with an event that refers to something in the prefix.
    could_plan : bool array `[clip, position]`
        See `plan_times`.
    start_s, stop_s : float
        The return window in seconds.

    Returns
    -------
    ClassedClips
        A clip with an unknown event is in neither class. So is one whose event refers to something after the prefix.
    """
    has_event = clip_ids.isin(references["clip_id"]).to_numpy()
    unknown, any_event = (
        with_event(events, clip_ids, start_s=start_s, stop_s=stop_s, which=which) for which in ("unknown", "accepted")
    )
    known = (has_event | ~(unknown | any_event)) & could_plan.any(axis=1)
    return ClassedClips(has_event, known & ~has_event, known)


def with_event(
    events: pd.DataFrame, clip_ids: pd.Series, *, start_s: float, stop_s: float, which: str = "accepted"
) -> np.ndarray:
    """Which clips have an accepted event with its onset in a window.

    Parameters
    ----------
    events : DataFrame
        Columns clip_id, onset_s and `which`.
    clip_ids : Series
        The clips.
    start_s, stop_s : float
        The window `[start_s, stop_s]` in seconds.
    which : str
        A bool column of `events` that marks the events that count.

    Returns
    -------
    bool array `[clip]`
    """
    inside = events[which].astype(bool) & events["onset_s"].between(start_s, stop_s)
    return clip_ids.isin(events.loc[inside, "clip_id"]).to_numpy()


def reference_of_event(
    events: pd.DataFrame, clip_ids: pd.Series, *, start_s: float, stop_s: float, prefix_s: float
) -> pd.DataFrame:
    """What each clip's first accepted event with its onset in a window refers to, where that lies in the prefix.

    Parameters
    ----------
    events : DataFrame
        Columns clip_id, onset_s, reference_start_s, reference_duration_s and accepted.
    clip_ids : Series
        The clips.
    start_s, stop_s : float
        The window `[start_s, stop_s]` in seconds.
    prefix_s : float
        Length of the prefix in seconds.

    Returns
    -------
    DataFrame
        Columns clip_id, reference_start_s, reference_duration_s, in the order of `clip_ids`. Clips without such an
        event are left out.
    """
    ends_s = events["reference_start_s"] + events["reference_duration_s"]
    inside = events["accepted"].astype(bool) & events["onset_s"].between(start_s, stop_s) & (ends_s <= prefix_s)
    first = events[inside].sort_values("onset_s", kind="stable").drop_duplicates("clip_id").set_index("clip_id")
    kept = clip_ids[clip_ids.isin(first.index)]
    return first.loc[kept, ["reference_start_s", "reference_duration_s"]].reset_index()


def clips_to_continue(clips: pd.DataFrame, wanted: np.ndarray, confirmation_clips: np.ndarray, n: int) -> pd.DataFrame:
    """Up to `n` of the wanted clips of held-out prompts, in the order of a hash of their names.

    Parameters
    ----------
    clips : DataFrame
        Has the column clip_id.
    wanted, confirmation_clips : bool arrays `[clip]`
        Which clips are wanted, and which are of held-out prompts.
    n : int
        Maximum number of clips.

    Returns
    -------
    DataFrame
        The chosen rows of `clips`, sorted by clip_id.
    """
    chosen = clips[wanted & confirmation_clips]
    order = chosen["clip_id"].map(lambda c: stable_fraction(f"ablation {c}")).argsort(kind="stable")
    return chosen.iloc[order].head(n).sort_values("clip_id", ignore_index=True)


def reference_before(clip_ids: pd.Series, ends_s: np.ndarray, *, duration_s: float, prefix_s: float) -> pd.DataFrame:
    """What an event of each clip would refer to, such as its motif, whether there is an event or not.

    Parameters
    ----------
    clip_ids : Series
        The clips.
    ends_s : float array `[clip]`
        When it has ended in each clip, in seconds; NaN if unknown.
    duration_s, prefix_s : float
        Its duration (0 for a target without references), and length of the prefix, in seconds.

    Returns
    -------
    DataFrame
        Columns clip_id, reference_start_s, reference_duration_s. Clips in which it is unknown or ends after `prefix_s`
        are left out. If a motif's ends were moved to beats, its true start may differ from this one by up to half a
        beat.
    """
    start_s = np.maximum(ends_s - duration_s, 0.0)
    table = pd.DataFrame({"clip_id": clip_ids, "reference_start_s": start_s, "reference_duration_s": ends_s - start_s})
    return table[ends_s <= prefix_s].reset_index(drop=True)


def donors(
    continued: pd.DataFrame, clips: pd.DataFrame, eligible: np.ndarray, *, same_prompt: bool = False
) -> list[str | None]:
    """For each continued clip, the clip that gives it its activations: an eligible one of another prompt, or None.

    Of all eligible clips, the one with the smallest hash of both names is taken. The result therefore does not depend
    on the order or presence of other clips, unless a new one has a smaller hash.

    Parameters
    ----------
    continued, clips : DataFrame
        Both have clip_id and prompt_id.
    eligible : bool array, one per row of `clips`
        Which clips may be donors.
    same_prompt : bool
        Take one of the same prompt instead.

    Returns
    -------
    list of str or None
    """
    chosen: list[str | None] = []
    for clip in continued.itertuples():
        of_prompt = (clips["prompt_id"] == clip.prompt_id) == same_prompt
        others = clips.loc[eligible & of_prompt & (clips["clip_id"] != clip.clip_id), "clip_id"]
        chosen.append(min(others, key=lambda other: stable_fraction(f"donor {clip.clip_id} {other}"), default=None))
    return chosen
