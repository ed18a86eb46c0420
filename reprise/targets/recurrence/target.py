"""The target `recurrence`: a motif returns."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reprise.targets.recurrence.settings import RecurrenceSettings, extent, known
from reprise.targets.recurrence.view import VIEW
from reprise.targets.surrogates import threshold_problems
from reprise.targets.target import ClipEvents, ScoreCurve, Target, UnusableClipError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def find(
    audio: "np.ndarray",
    sample_rate_hz: int,
    settings: Mapping[str, Any],
    *,
    seed: Sequence[int],
    others: Sequence["np.ndarray"] = (),
) -> ClipEvents:
    """The clip's motifs and their returns: `reprise.targets.recurrence.motifs.clip_events`."""
    from reprise.audio.chroma import check_motif
    from reprise.targets.recurrence.detection import EventSettings
    from reprise.targets.recurrence.motifs import clip_events

    if settings["motif"] != "discovered":
        try:
            check_motif(audio, sample_rate_hz, settings["motif_start_s"], settings["motif_duration_s"])
        except ValueError as error:
            raise UnusableClipError(str(error)) from error
    return clip_events(
        audio,
        sample_rate_hz,
        motif=settings["motif"],
        start_s=settings["motif_start_s"],
        duration_s=settings["motif_duration_s"],
        settings=EventSettings(**{name: settings[name] for name in EventSettings._fields}),
        seed=seed,
        others=others,
    )


def features(audio: "np.ndarray", sample_rate_hz: int) -> "NDArray[np.float32]":
    """Chroma of a clip, float32 `[frame, 12]`, in which another clip's motif is searched for."""
    from reprise.audio.chroma import clip_features

    return clip_features(audio, sample_rate_hz).chroma


def so_far(
    audio: "np.ndarray", sample_rate_hz: int, known: Mapping[str, Any], *, frame_rate_hz: float
) -> "tuple[NDArray[np.float32], list[str]]":
    """The best match so far, and the seconds since then, from the audio before each position only."""
    from reprise.targets.recurrence.detection import causal_match
    from reprise.targets.recurrence.motifs import Passage, on_beats, repeats_so_far

    if known["kind"] == "discovered":
        lengths = {key: known[key] for key in ("duration_s", "min_gap_s")}
        return repeats_so_far(audio, sample_rate_hz, frame_rate_hz=frame_rate_hz, **lengths)
    passage = Passage(known["start_s"], known["duration_s"])
    if known["kind"] == "beats":
        passage = on_beats(audio, sample_rate_hz, start_s=passage.start_s, duration_s=passage.duration_s)
    return causal_match(
        audio,
        sample_rate_hz,
        frame_rate_hz=frame_rate_hz,
        motif_start_s=passage.start_s,
        motif_duration_s=passage.duration_s,
    )


def scorer(
    audio: "np.ndarray", sample_rate_hz: int, settings: Mapping[str, Any], *, start_s: float, duration_s: float
) -> "Callable[[np.ndarray], ScoreCurve]":
    """How well a continuation matches the motif, at each onset after it.

    The motif is taken from the untouched clip, because all conditions start from the same prefix.
    """
    from reprise.targets.recurrence.matching import match_curve, motif_template

    motif = motif_template(audio, sample_rate_hz, start_s=start_s, duration_s=duration_s)

    def score(continuation: "np.ndarray") -> ScoreCurve:
        curve = match_curve(continuation, motif)
        return ScoreCurve(curve.time_s, curve.score, curve.duration_s)

    return score


TARGET = Target(
    "recurrence",
    settings=RecurrenceSettings,
    extent=extent,
    find=find,
    known=known,
    so_far=so_far,
    scorer=scorer,
    problems=threshold_problems,
    features=features,
    view=VIEW,
)
