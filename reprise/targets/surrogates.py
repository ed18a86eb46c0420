"""Surrogates of a clip whose frames are shuffled, and settings that no event could pass.

A surrogate keeps short segments as they are and puts them in random order. So it has the clip's sounds, but not what
takes longer than a segment.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reprise.draws import fewest_draws
from reprise.targets.target import SettingsProblem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def shuffled_segments(n_frames: int, segment: int, rng: "np.random.Generator") -> "NDArray[np.intp]":
    """The frames 0 to `n_frames` in segments of `segment` frames, and these in random order."""
    import numpy as np

    starts = rng.permutation(np.arange(0, n_frames, segment))
    return np.concatenate([np.arange(start, min(start + segment, n_frames)) for start in starts])


def threshold_problems(settings: Mapping[str, Any]) -> Iterator[SettingsProblem]:
    """Too few surrogates for the p-value that is asked for, and a list that would leave out events."""
    n, max_p, score, listed = (
        settings[name] for name in ("n_surrogates", "max_p_value", "min_score", "candidate_score")
    )
    if n < (fewest := fewest_draws(max_p)):
        text = f"got {n}, too few for any p-value to reach events.max_p_value {max_p:g}; valid: at least {fewest}"
        yield SettingsProblem("n_surrogates", text, ("n_surrogates", "max_p_value"))
    if listed > score:
        text = f"got {listed:g}; valid: at most events.min_score, {score:g}"
        yield SettingsProblem("candidate_score", text, ("candidate_score", "min_score"))
