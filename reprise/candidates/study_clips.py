"""The clips of a study as candidates see them: their classes, and the times at which a plan could be held."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprise.candidates.clips import classed_clips, plan_times, reference_before, reference_of_event
from reprise.identity import stable_fraction
from reprise.review.apply import read_events
from reprise.storage.artifacts import read_clips, read_meta, read_reference_ends_s


class StudyClips(NamedTuple):
    """All clips of a study, and their classes; arrays are `[clip]` unless said otherwise.

    clips: DataFrame of `read_clips`. window_s: when an event after the prefix is expected to begin. positions int
    `[position]`, could_plan bool `[clip, position]`: see `PlanTimes`. has_event, without_event, known: see
    `ClassedClips`. held_out: bool, of the confirmation prompts. onset_s: of a clip's event in the window; NaN where
    there is none. references: what the event of each clip with one refers to. own: what an event of each clip would
    refer to.
    """

    clips: pd.DataFrame
    window_s: tuple[float, float]
    positions: NDArray[np.int64]
    could_plan: NDArray[np.bool_]
    has_event: NDArray[np.bool_]
    without_event: NDArray[np.bool_]
    known: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    onset_s: NDArray[np.float64]
    references: pd.DataFrame
    own: pd.DataFrame

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Clips that candidates are fitted on: of screened prompts, and of a known class."""
        return self.known & ~self.held_out

    @property
    def can_fit(self) -> bool:
        """Whether there are such clips of both classes. What is tried must not depend on held-out clips."""
        return bool((self.fitted & self.has_event).any() and (self.fitted & ~self.has_event).any())


def read_study_clips(inputs: Any, settings: Mapping[str, Any]) -> StudyClips:
    """Read the clips and their events, and divide them.

    Parameters
    ----------
    inputs
        A job's inputs: `tokens`, `activations`, `clip_summaries` and `events` (lists of paths), and `reviews`.
    settings
        `confirm_fraction`, `prefix_s`, `return_window_s`, `context_s`, `earliest_s`, `reference_s`, `reviewed_only`.

    Returns
    -------
    StudyClips
    """
    clips, prefix_s = read_clips(inputs.tokens), settings["prefix_s"]
    start_s, stop_s = (prefix_s + s for s in settings["return_window_s"])
    events = read_events(inputs.events, inputs.reviews, reviewed_only=settings["reviewed_only"])
    window = {"start_s": start_s, "stop_s": stop_s}
    references = reference_of_event(events, clips["clip_id"], prefix_s=prefix_s, **window)
    positions, could_plan = plan_times(
        read_reference_ends_s(inputs.clip_summaries, clips["clip_id"], otherwise_s=settings["earliest_s"]),
        context_s=settings["context_s"],
        prefix_s=prefix_s,
        frame_rate_hz=1 / read_meta(inputs.activations)["seconds_per_position"],
        lookahead_positions=read_meta(inputs.tokens).get("encoder_lookahead_positions", 0),
    )
    classes = classed_clips(events, clips["clip_id"], references, could_plan, **window)
    inside = events[events["accepted"].astype(bool) & events["onset_s"].between(start_s, stop_s)]
    onset_s = clips["clip_id"].map(inside.groupby("clip_id")["onset_s"].min()).to_numpy(np.float64)
    # Clips without an event have no row that gives the reference. The clip summaries say where it ends.
    own_end_s = read_reference_ends_s(inputs.clip_summaries, clips["clip_id"], otherwise_s=np.nan)
    return StudyClips(
        clips,
        (start_s, stop_s),
        positions,
        could_plan,
        *classes,
        held_out=clips["prompt_id"].map(stable_fraction).to_numpy() < settings["confirm_fraction"],
        onset_s=np.where(classes.has_event, onset_s, np.nan),
        references=references,
        own=reference_before(clips["clip_id"], own_end_s, duration_s=settings["reference_s"], prefix_s=prefix_s),
    )
