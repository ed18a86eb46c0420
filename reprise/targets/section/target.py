"""The target `section`: a section begins that differs from what came before."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reprise.targets.section.settings import SectionSettings, extent, known, problems
from reprise.targets.section.view import VIEW
from reprise.targets.target import ClipEvents, ScoreCurve, Target

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
    """Where sections begin: `reprise.targets.section.detection.find_sections`."""
    from reprise.targets.section.detection import find_sections

    return find_sections(audio, sample_rate_hz, settings, seed=seed)


def so_far(
    audio: "np.ndarray", sample_rate_hz: int, known: Mapping[str, Any], *, frame_rate_hz: float
) -> "tuple[NDArray[np.float32], list[str]]":
    """The highest contrast so far, and the seconds since then, from the audio before each position only."""
    from reprise.targets.section.detection import sections_so_far

    return sections_so_far(audio, sample_rate_hz, frame_rate_hz=frame_rate_hz, **known)


def scorer(
    audio: "np.ndarray", sample_rate_hz: int, settings: Mapping[str, Any], *, start_s: float, duration_s: float
) -> "Callable[[np.ndarray], ScoreCurve]":
    """How strongly a section begins at each time of a continuation, which includes what it continues."""
    from reprise.targets.section.detection import score_curve

    lengths = {name: settings[name] for name in ("shortest_s", "longest_s")}
    return lambda continuation: score_curve(continuation, sample_rate_hz, **lengths)


TARGET = Target(
    "section",
    settings=SectionSettings,
    extent=extent,
    find=find,
    known=known,
    so_far=so_far,
    scorer=scorer,
    problems=problems,
    view=VIEW,
)
