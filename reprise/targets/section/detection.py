"""Where a new section begins: what follows is unlike what came before.

Conventions. A clip is described by frames of `FRAME_S`. Frame j holds what is heard before `(j + 1) * FRAME_S`, and
nothing after it. Passages of `PASSAGE_FRAMES` begin at every frame. Seconds count from the clip's start.

The contrast at a time. On either side lie the same number of passages, up to `longest_s` of them. Each looks for its
nearest neighbour on its own side and on the other side, both at least `APART_FRAMES` away from itself. The contrast is
how much farther the other side is, on average. So a side may be homogeneous (one texture, one key), or it may repeat
its material: each of its passages then has a near neighbour on its own side. Music that goes on in the same way has
near neighbours on both sides, and the contrast is about 0. A single odd bar is shorter than a section and counts
little.

The distance joins chroma and timbre. Neither depends on loudness, so a fade alone is no section.

p-value: of the highest contrast in the clip, against the same clip with its segments in random order. Slow change and
noise have no higher contrast than that, or only a little.

Degenerate input: silence, and a clip too short for a section on both sides, have a contrast of 0 throughout.

References: Schilling 1986 and Henze 1988 (two-sample tests by nearest neighbours); Serrà et al. 2014, IEEE
Transactions on Multimedia 16(5) (passages instead of frames, and repetition as a sign of structure); Paulus, Müller
and Klapuri 2010 (sections by homogeneity, novelty and repetition).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from scipy.signal import find_peaks

from reprise.audio.descriptors import LONG_FRAME_S, chroma_bank, n_fft_for, power_spectra
from reprise.audio.io import check_audio
from reprise.audio.timbre import SILENCE_DB, harmonic_coefficients
from reprise.targets.surrogates import shuffled_segments
from reprise.targets.target import EVENT_COLUMNS, ClipEvents, ScoreCurve, empty_events

SPECTRA_A_FRAME, SPECTRUM_S = 3, 0.08
FRAME_S = SPECTRA_A_FRAME * SPECTRUM_S
# What a frame holds is centred this much earlier than its span, because its spectra look back.
EARLY_S = LONG_FRAME_S / 2 - SPECTRUM_S / 2
PASSAGE_FRAMES, APART_FRAMES = 3, 8
N_CHROMA = 12
# The units of chroma and timbre. Their frames differ by about as much in rendered music; timbre counts twice.
CHROMA_SCALE, TIMBRE_SCALE = 0.57, 0.315
# The contrast that scores 0.5. Fewer than one clip in twenty without a section reach it (`benchmarks/sections.py`; the
# threshold was set on other clips of the same kinds).
HALF_CONTRAST = 0.45
SECTION_COLUMNS = EVENT_COLUMNS | {"contrast": float, "chroma_contrast": float, "timbre_contrast": float}


def section_features(audio: np.ndarray, sample_rate_hz: int) -> NDArray[np.float32]:
    """Chroma and timbre of each frame, float32 `[frame, 32]`; zeros where it is silent. Each frame knows only the
    audio before its end."""
    n_fft = n_fft_for(LONG_FRAME_S, sample_rate_hz)
    n_frames = int(len(audio) / sample_rate_hz / FRAME_S + 1e-6)
    ends = np.arange(1, n_frames * SPECTRA_A_FRAME + 1) * (SPECTRUM_S * sample_rate_hz)
    power = power_spectra(audio, np.minimum(ends.astype(np.int64), len(audio)), n_fft)
    chroma = power @ chroma_bank(sample_rate_hz, n_fft)
    sounding = power.sum(axis=1, keepdims=True) > 10 ** (SILENCE_DB / 10)
    # Roots of shares: their distance is that of two distributions (Hellinger).
    shares = np.sqrt(np.where(sounding, chroma / np.maximum(chroma.sum(axis=1, keepdims=True), 1e-20), 0.0))
    rows = np.hstack([shares / CHROMA_SCALE, harmonic_coefficients(power, sample_rate_hz) / TIMBRE_SCALE])
    return rows.reshape(n_frames, SPECTRA_A_FRAME, -1).mean(axis=1).astype(np.float32)


def squared_distances(features: np.ndarray) -> NDArray[np.float32]:
    """Squared distances of all pairs of frames, float32 `[frame, frame]`."""
    squares = np.square(features).sum(axis=1)
    return np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0).astype(np.float32)


@njit(cache=True)
def passage_distances(squared: np.ndarray) -> np.ndarray:
    """Distances of all pairs of passages, from those of frames: `[passage, passage]`."""
    n = max(len(squared) - PASSAGE_FRAMES + 1, 0)
    distances = np.empty((n, n), dtype=np.float32)
    for i in range(n):
        for j in range(i, n):
            total = 0.0
            for k in range(PASSAGE_FRAMES):
                total += squared[i + k, j + k]
            distances[i, j] = distances[j, i] = np.sqrt(total / PASSAGE_FRAMES)
    return distances


@njit(cache=True)
def contrasts(distances: np.ndarray, shortest: int, longest: int) -> np.ndarray:
    """The contrast at each time between two frames, `[frame + 1]`; 0 where a side would be shorter than `shortest`.

    distances: of passages. shortest, longest: frames of a side.
    """
    n_frames = len(distances) + PASSAGE_FRAMES - 1
    found = np.zeros(n_frames + 1, dtype=np.float32)
    for at in range(shortest, n_frames - shortest + 1):
        found[at] = contrast_at(distances, at, min(longest, at, n_frames - at))
    return found


@njit(cache=True)
def contrast_at(distances: np.ndarray, at: int, side: int) -> float:
    """The contrast between the `side` frames before and after frame `at`."""
    n = side - PASSAGE_FRAMES + 1
    total, counted = 0.0, 0
    for own_start, other_start in ((at - side, at), (at, at - side)):
        for i in range(own_start, own_start + n):
            own = other = np.inf
            for j in range(own_start, own_start + n):
                if abs(i - j) >= APART_FRAMES and distances[i, j] < own:
                    own = distances[i, j]
            for j in range(other_start, other_start + n):
                if abs(i - j) >= APART_FRAMES and distances[i, j] < other:
                    other = distances[i, j]
            if own < np.inf and other < np.inf:
                total += other - own
                counted += 1
    return total / counted if counted else 0.0


def section_curve(features: np.ndarray, *, shortest_s: float, longest_s: float) -> NDArray[np.float32]:
    """The contrast at each time between two frames, float32 `[frame + 1]`."""
    distances = passage_distances(squared_distances(features))
    return contrasts(distances, _frames(shortest_s), _frames(longest_s))


def score_of(contrast: np.ndarray) -> np.ndarray:
    """A contrast as a score, 0..1: 0.5 at `HALF_CONTRAST`, and 0 where the other side is nearer."""
    positive = np.maximum(contrast, 0)
    return positive / (positive + HALF_CONTRAST)


def find_sections(
    audio: np.ndarray, sample_rate_hz: int, settings: Mapping[str, Any], *, seed: Sequence[int]
) -> ClipEvents:
    """Every time at which a section may begin, with its tests.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    settings : mapping
        Fields of `SectionSettings`.
    seed : sequence of int
        Identifies the clip.

    Returns
    -------
    ClipEvents
        Peaks of the contrast that are at least a shortest section apart, highest first chosen. Further columns:
        contrast, and the contrasts of chroma and of timbre alone.

    Raises
    ------
    ValueError
        For bad audio (see `check_audio`).
    """
    audio = check_audio(audio, sample_rate_hz)
    features = section_features(audio, sample_rate_hz)
    shortest, longest = _frames(settings["shortest_s"]), _frames(settings["longest_s"])
    squared = squared_distances(features)
    found = contrasts(passage_distances(squared), shortest, longest)
    score = score_of(found)
    peaks, _ = find_peaks(score, height=settings["candidate_score"], distance=shortest)
    if not len(peaks):
        why = "clip: what follows is never unlike what came before"
        return ClipEvents(empty_events(SECTION_COLUMNS), reference_end_s=0.0, no_events_because=why)
    p_value = p_values(squared, found[peaks], settings, np.random.default_rng(list(seed)))
    parts = {
        "chroma_contrast": features[:, :N_CHROMA],
        "timbre_contrast": features[:, N_CHROMA:],
    }
    strong, significant = score[peaks] >= settings["min_score"], p_value <= settings["max_p_value"]
    passed = {"score": strong, "p_value": significant}
    reason = [", ".join(name for name, ok in passed.items() if not ok[i]) for i in range(len(peaks))]
    clip_s = len(audio) / sample_rate_hz
    onset_s = np.clip(peaks * FRAME_S - EARLY_S, 0, clip_s)
    events = pd.DataFrame(
        {
            "reference_start_s": 0.0,
            "reference_duration_s": 0.0,
            "onset_s": onset_s,
            "duration_s": np.minimum(settings["shortest_s"], clip_s - onset_s),
            "score": score[peaks].astype(float),
            "p_value": p_value,
            "accepted": strong & significant,
            "reason": np.array(reason, dtype=object),
            "contrast": found[peaks].astype(float),
        }
    )
    for name, part in parts.items():
        alone = contrasts(passage_distances(squared_distances(part)), shortest, longest)
        events[name] = alone[peaks].astype(float)
    return ClipEvents(events, reference_end_s=0.0)


def p_values(
    squared: np.ndarray, observed: np.ndarray, settings: Mapping[str, Any], rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often the highest contrast of a shuffled clip reaches each observed one, `[candidate]`.

    squared: distances of frames, `squared_distances`. The segments, of `surrogate_segment_s`, are put in random order.
    """
    n, segment = len(squared), _frames(settings["surrogate_segment_s"])
    highest = np.empty(settings["n_surrogates"])
    for i in range(len(highest)):
        order = shuffled_segments(n, segment, rng)
        shuffled = passage_distances(np.ascontiguousarray(squared[np.ix_(order, order)]))
        highest[i] = contrasts(shuffled, _frames(settings["shortest_s"]), _frames(settings["longest_s"])).max()
    return (1 + (highest >= observed[:, None]).sum(axis=1)) / (1 + len(highest))


@njit(cache=True)
def contrasts_so_far(distances: np.ndarray, shortest: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """For each number of frames heard so far, the highest contrast in them and where it is: both `[frame + 1]`."""
    n_frames = len(distances) + PASSAGE_FRAMES - 1
    highest, where = np.zeros(n_frames + 1, dtype=np.float32), np.zeros(n_frames + 1, dtype=np.int64)
    for heard in range(2 * shortest, n_frames + 1):
        for at in range(shortest, heard - shortest + 1):
            contrast = contrast_at(distances, at, min(longest, at, heard - at))
            if contrast > highest[heard]:
                highest[heard], where[heard] = contrast, at
    return highest, where


def sections_so_far(
    audio: np.ndarray, sample_rate_hz: int, *, frame_rate_hz: float, shortest_s: float, longest_s: float
) -> tuple[NDArray[np.float32], list[str]]:
    """Sections so far, as the baseline may know them: at each position, from the audio before it only.

    Returns
    -------
    table : float32 array `[position, 2]`
        For positions 0..T.
    names : list of str
        `section_so_far`, the highest score of what is heard by this position, and `section_since_s`, the seconds since
        then (0: none).

    Raises
    ------
    ValueError
        For bad audio (see `check_audio`).
    """
    audio = check_audio(audio, sample_rate_hz)
    distances = passage_distances(squared_distances(section_features(audio, sample_rate_hz)))
    highest, where = contrasts_so_far(distances, _frames(shortest_s), _frames(longest_s))
    times_s = np.arange(round(len(audio) / sample_rate_hz * frame_rate_hz) + 1) / frame_rate_hz
    heard = np.minimum((times_s / FRAME_S + 1e-6).astype(np.int64), len(highest) - 1)
    since_s = np.where(highest[heard] > 0, times_s - where[heard] * FRAME_S, 0.0)
    table = np.column_stack([score_of(highest[heard]), since_s]).astype(np.float32)
    return table, ["section_so_far", "section_since_s"]


def score_curve(audio: np.ndarray, sample_rate_hz: int, *, shortest_s: float, longest_s: float) -> ScoreCurve:
    """How strongly a section begins at each time of a clip."""
    curve = section_curve(section_features(audio, sample_rate_hz), shortest_s=shortest_s, longest_s=longest_s)
    time_s = np.maximum(np.arange(len(curve)) * FRAME_S - EARLY_S, 0.0)
    return ScoreCurve(time_s, score_of(curve), np.full(len(curve), shortest_s))


def _frames(seconds: float) -> int:
    return round(seconds / FRAME_S)
