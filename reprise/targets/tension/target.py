"""The target `tension`: a tension that was built up is released."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reprise.targets.surrogates import threshold_problems
from reprise.targets.target import ClipEvents, ScoreCurve, Target
from reprise.targets.tension.settings import TensionSettings, extent, known
from reprise.targets.tension.view import VIEW

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
    """Where tensions are released: `reprise.targets.tension.detection.find_releases`."""
    from reprise.targets.tension.detection import find_releases

    return find_releases(audio, sample_rate_hz, settings, seed=seed)


def so_far(
    audio: "np.ndarray", sample_rate_hz: int, known: Mapping[str, Any], *, frame_rate_hz: float
) -> "tuple[NDArray[np.float32], list[str]]":
    """The clearest release so far, the seconds since then and the tension now, from earlier audio only."""
    from reprise.targets.tension.detection import releases_so_far

    return releases_so_far(audio, sample_rate_hz, frame_rate_hz=frame_rate_hz, **known)


def scorer(
    audio: "np.ndarray", sample_rate_hz: int, settings: Mapping[str, Any], *, start_s: float, duration_s: float
) -> "Callable[[np.ndarray], ScoreCurve]":
    """How strongly a tension is released at each time of a continuation, which includes what it continues."""
    from reprise.targets.tension.detection import score_curve

    lengths = {name: settings[name] for name in ("build_s", "rest_s")}
    return lambda continuation: score_curve(continuation, sample_rate_hz, **lengths)


TARGET = Target(
    "tension",
    settings=TensionSettings,
    extent=extent,
    find=find,
    known=known,
    so_far=so_far,
    scorer=scorer,
    problems=threshold_problems,
    view=VIEW,
)
