"""What a target is: the kind of event that a study asks about, such as the return of a motif.

A target finds its events in the audio of a clip, says what a listener may know of them so far, and scores a
continuation. All that follows is the same for every target: horizons, labels, probes, candidates, edits and verdict.

Conventions. Seconds count from the clip's start; audio is mono, floating point `[sample]`. Many events refer to an
earlier passage of their clip, as a return refers to its motif. This passage is the event's reference. A target without
references puts 0 for their start and duration. Settings are the study's fields `events` as plain builtins.

Nothing heavy is imported here or when a target is imported: the Snakefile asks for them at every parse. So the
functions of a target import what they need when they are called.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reprise.config.fields import Settings
from reprise.targets.view import PLAIN_VIEW, TargetView

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

# Columns that the events of every target have. A target may add others, such as the results of its tests.
EVENT_COLUMNS: dict[str, type] = {
    "reference_start_s": float,
    "reference_duration_s": float,
    "onset_s": float,
    "duration_s": float,
    "score": float,
    "p_value": float,
    "accepted": bool,
    "reason": object,
}


class UnusableClipError(ValueError):
    """Nothing can be known about the events of a clip. It is left out, with this message as the reason."""


class SettingsProblem(NamedTuple):
    """A problem between fields of `events`: the field to name, the message, and the fields that it depends on."""

    field: str
    text: str
    uses: tuple[str, ...]


class Extent(NamedTuple):
    """How much time a target needs, in seconds, as far as its settings say.

    earliest_s: before this time no event can begin, since no reference has ended. reference_s, event_s: how long a
    reference (0: there is none) and an event last. name: what happens at earliest_s, and fields: the settings that it
    depends on, for messages. changes_all_that_follows: whether the music after an event is other music than without
    it, up to the clip's end, as after the start of a section. Damage is then measured before the event only.
    """

    earliest_s: float
    reference_s: float
    event_s: float
    name: str = "start"
    fields: tuple[str, ...] = ()
    changes_all_that_follows: bool = False

    @property
    def heard_for_s(self) -> float:
        """How long after its onset an event can be heard: infinitely if it changes all that follows."""
        return math.inf if self.changes_all_that_follows else self.event_s


class ClipEvents(NamedTuple):
    """The candidates in one clip: those that passed the tests (`accepted`) and those that did not (with the `reason`).

    events: one row per candidate in order of onset, with at least the columns `EVENT_COLUMNS`. reference_end_s: when
    the first reference has ended; NaN if the clip has none, and 0 for a target without references. no_events_because:
    why there is no row; "" if there is any.
    """

    events: "pd.DataFrame"
    reference_end_s: float
    no_events_because: str = ""


class ScoreCurve(NamedTuple):
    """How strongly an event begins at each time: `time_s`, `score` (0..1), and `duration_s`, which is how long the
    event would be. All are float `[time]`."""

    time_s: "NDArray[np.floating]"
    score: "NDArray[np.floating]"
    duration_s: "NDArray[np.floating]"


class Target(NamedTuple):
    """One kind of event.

    Attributes
    ----------
    name
        Its name in the configuration.
    settings
        The fields of `events`, with units and defaults. `min_score` must be one of them: the least score of an event.
    extent(settings)
        `Extent`.
    find(audio, sample_rate_hz, settings, *, seed, others)
        `ClipEvents` of one clip. It may read the whole clip, because it makes labels only. `seed` is a sequence of
        ints that identifies the clip. `others` are the `features` of the other clips of the batch in which the event
        should not be found, if the settings have a field `others` (see `events.others` of recurrence). Raises
        UnusableClipError if nothing can be known; any other error stops the run.
    known(settings)
        The settings that `so_far` reads. When others change, the descriptors stay as they are.
    so_far(audio, sample_rate_hz, known, *, frame_rate_hz)
        Events as the baseline may know them: float32 `[position, d]` for positions 0..T, each row from the audio
        before its position only; and the `d` names of the columns.
    scorer(audio, sample_rate_hz, settings, *, start_s, duration_s)
        A function from the audio of a continuation to its `ScoreCurve`. `audio` is the untouched clip, and the event's
        reference lies at start_s (both 0 without one).
    problems(settings)
        Problems between fields, as `SettingsProblem`s.
    features(audio, sample_rate_hz)
        What `find` needs of other clips; None if it needs nothing.
    view
        Its words and tests in the report and on the review page.
    version
        Of a target from another package: any text. Another one makes the events stale, and what follows from them.
        Built-in code is followed itself.
    """

    name: str
    settings: type[Settings]
    extent: Callable[[Mapping[str, Any]], Extent]
    find: Callable[..., ClipEvents]
    known: Callable[[Mapping[str, Any]], dict[str, Any]]
    so_far: "Callable[..., tuple[NDArray[np.float32], list[str]]]"
    scorer: "Callable[..., Callable[[NDArray[np.floating]], ScoreCurve]]"
    problems: Callable[[Mapping[str, Any]], Iterable[SettingsProblem]] = lambda settings: ()
    features: Callable[..., Any] | None = None
    view: TargetView = PLAIN_VIEW
    version: str = ""


def check_events(found: ClipEvents, *, duration_s: float) -> ClipEvents:
    """The same events, if every stage can use them.

    Raises ValueError for a missing column, a time outside the clip, an impossible score, or an order other than that
    of the onsets; and if it does not say why there are none.
    """
    events = found.events
    if missing := [name for name in EVENT_COLUMNS if name not in events]:
        valid = ", ".join(EVENT_COLUMNS)
        raise ValueError(f"events: the columns {', '.join(missing)} are missing; valid: all of {valid}")
    if not len(events) and not found.no_events_because:
        raise ValueError("events: there are none, and no_events_because is empty; valid: the reason in words")
    for name, low, high in (
        ("onset_s", 0.0, duration_s),
        ("duration_s", 0.0, duration_s),
        ("reference_start_s", 0.0, duration_s),
        ("reference_duration_s", 0.0, duration_s),
        ("score", 0.0, 1.0),
        ("p_value", 0.0, 1.0),
    ):
        # Scores are sums of float32. NaN fails too, but for the p-value of a target that tests none.
        outside = ~events[name].between(low - 1e-6, high + 1e-6)
        if name == "p_value":
            outside &= events[name].notna()
        if outside.any():
            raise ValueError(f"events: {name} is {events[name][outside].iloc[0]}; valid: {low:g} to {high:g}")
    if not events["onset_s"].is_monotonic_increasing:
        raise ValueError("events: the onsets are not in order; valid: one row per candidate, sorted by onset_s")
    return found


def empty_events(columns: Mapping[str, type] = EVENT_COLUMNS) -> "pd.DataFrame":
    """An events table without rows."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})


def best_event(curve: ScoreCurve, *, start_s: float, stop_s: float) -> tuple[float, float, float]:
    """(score, onset_s, duration_s) of the highest score with its onset in `[start_s, stop_s]`; (0, NaN, NaN) if no
    onset lies there."""
    import numpy as np

    inside = np.flatnonzero((curve.time_s >= start_s - 1e-9) & (curve.time_s <= stop_s + 1e-9))
    if not len(inside):
        return 0.0, np.nan, np.nan
    best = inside[curve.score[inside].argmax()]
    return float(curve.score[best]), float(curve.time_s[best]), float(curve.duration_s[best])


def concat_events(tables: "Iterable[pd.DataFrame]") -> "pd.DataFrame":
    """The rows of several events tables as one, in order.

    A clip that was left out has a table with the shared columns only. So tables without rows say nothing, unless no
    table has any.
    """
    import pandas as pd

    listed = list(tables)
    found = [table for table in listed if len(table)]
    return pd.concat(found or [max(listed, key=lambda table: table.shape[1])], ignore_index=True)


def compared_with(settings: Mapping[str, Any]) -> Sequence[str]:
    """The kinds of other clips that a study's events must beat; none for a target that has no field `others`."""
    return settings.get("others", ())
