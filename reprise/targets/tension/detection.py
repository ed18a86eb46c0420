"""Where a tension is released: the dominant of a key sounds for a while, and then its tonic does.

Conventions. A clip is described by frames of `FRAME_S`. Frame j holds the mean chroma of the `SMOOTHED` frames up to
`(j + 1) * FRAME_S`, and nothing after it. Each of these frames counts the same, whatever its loudness. Seconds count
from the clip's start.

Each key has a tension of its own, from -1 to 1: how much of a frame is a dominant chord of this key (its major
dominant, with or without the seventh, or the diminished chords on its leading tone), minus how much is its tonic. The
score of a release at a time is `sqrt(tension before * rest after)`, of the means over `build_s` before and `rest_s`
after. So both are needed: a build-up that goes on or ends elsewhere scores 0, and so does a tonic after anything else.
The score is that of the best key. Keys that fit the whole clip worse than another one lose by `KEY_WEIGHT`, since the
dominant alone could be a tonic as well.

p-value: of the highest score in the clip, against the same clip with its segments in random order.

The loudness is not heard. `loudness_fall_db`, from the seconds before to those after, says what a listener to loudness
alone would know.

Degenerate input: silence, noise, a drone and a clip too short for tension and rest have a score of about 0 throughout.

References: Riemann 1893 (tonic and dominant as functions of chords); Lerdahl and Krumhansl 2007 (tonal tension against
a tonic). The spiral array (Chew 2000; Herremans and Chew 2016) hears how far what sounds is from the key. That
also falls where a tension is not released (`benchmarks/releases.py`).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import find_peaks

from reprise.audio.descriptors import FLOOR_DB, LONG_FRAME_S, chroma_bank, n_fft_for, power_spectra
from reprise.audio.harmony import CHORDS, N_KEYS, chord_shares, key_fits
from reprise.audio.io import check_audio
from reprise.audio.timbre import SILENCE_DB
from reprise.targets.surrogates import shuffled_segments
from reprise.targets.target import EVENT_COLUMNS, ClipEvents, ScoreCurve, empty_events

SPECTRA_A_FRAME, SPECTRUM_S = 3, 0.08
FRAME_S = SPECTRA_A_FRAME * SPECTRUM_S
SMOOTHED = 3
# What a frame holds is centred this much before its end, because it and its spectra look back.
EARLY_S = LONG_FRAME_S / 2 - SPECTRUM_S / 2 + FRAME_S * (SMOOTHED - 1) / 2
KEY_WEIGHT = 2.0
# Semitones above the tonic, and quality.
DOMINANTS = {(7, "major"), (7, "seventh"), (11, "diminished")}
TENSION_COLUMNS = EVENT_COLUMNS | {"tonic": int, "is_major": bool, "loudness_fall_db": float}


def harmony_frames(audio: np.ndarray, sample_rate_hz: int) -> NDArray[np.float64]:
    """Chroma of each frame, from the audio before its end only: `[frame, 12]`, zeros where it is silent."""
    n_fft = n_fft_for(LONG_FRAME_S, sample_rate_hz)
    n_frames = int(len(audio) / sample_rate_hz / FRAME_S + 1e-6)
    ends = np.arange(1, n_frames * SPECTRA_A_FRAME + 1) * (SPECTRUM_S * sample_rate_hz)
    power = power_spectra(audio, np.minimum(ends.astype(np.int64), len(audio)), n_fft)
    chroma = (power @ chroma_bank(sample_rate_hz, n_fft)).astype(float)
    # An absolute level: one relative to the clip's peak would know the future.
    chroma *= power.sum(axis=1, keepdims=True) > 10 ** (SILENCE_DB / 10)
    equal = chroma / np.maximum(np.linalg.norm(chroma, axis=1, keepdims=True), 1e-20)
    padded = np.vstack([np.zeros((SMOOTHED - 1, 12)), equal.reshape(n_frames, SPECTRA_A_FRAME, 12).mean(axis=1)])
    return np.asarray(sum(padded[i : i + n_frames] for i in range(SMOOTHED)))


@lru_cache(maxsize=1)
def functions() -> NDArray[np.float64]:
    """What each chord is to each key: 1 for its dominants, -1 for its tonic, 0 for all others; `[key, chord]`."""
    table = np.zeros((N_KEYS, len(CHORDS)))
    for key in range(N_KEYS):
        tonic = (0, "major" if key < 12 else "minor")
        for i, (root, quality) in enumerate(CHORDS):
            chord = ((root - key) % 12, quality)
            # A diminished seventh has the same notes on each of them.
            diminished = quality == "diminished_seventh" and chord[0] % 3 == 2
            table[key, i] = -1 if chord == tonic else 1 if chord in DOMINANTS or diminished else 0
    return table


def tensions(frames: np.ndarray) -> NDArray[np.float64]:
    """The tension of each frame in each key, -1 to 1, `[key, frame]`. frames: `harmony_frames`."""
    return functions() @ chord_shares(frames).T


def key_weights(fits: np.ndarray) -> NDArray[np.float64]:
    """What a release in each key counts, `[key]`: 1 for the key that fits best. fits: of `key_fits`."""
    return np.exp(KEY_WEIGHT * (fits - fits.max()))


def release_scores(tension: np.ndarray, weights: np.ndarray, *, build: int, rest: int) -> NDArray[np.float64]:
    """The score of a release at each time between two frames in each key, `[key, frame + 1]`, 0 to 1.

    tension: `tensions`. weights: `key_weights`. build, rest: frames before and after.
    """
    n_frames = tension.shape[1]
    scores = np.zeros((len(tension), n_frames + 1))
    at = np.arange(build, n_frames - rest + 1)
    sums = np.hstack([np.zeros((len(tension), 1)), tension.cumsum(axis=1)])
    before = np.maximum(sums[:, at] - sums[:, at - build], 0) / build
    after = np.maximum(sums[:, at] - sums[:, at + rest], 0) / rest
    scores[:, at] = np.sqrt(before * after) * weights[:, None]
    return scores


def find_releases(
    audio: np.ndarray, sample_rate_hz: int, settings: Mapping[str, Any], *, seed: Sequence[int]
) -> ClipEvents:
    """Every time at which a tension may be released, with its tests.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    settings : mapping
        Fields of `TensionSettings`.
    seed : sequence of int
        Identifies the clip.

    Returns
    -------
    ClipEvents
        Peaks of the score that are at least the shortest rest apart, highest first chosen. Further columns: tonic (a
        pitch class, 0 is C), is_major, and loudness_fall_db.

    Raises
    ------
    ValueError
        For bad audio (see `check_audio`).
    """
    audio = check_audio(audio, sample_rate_hz)
    frames = harmony_frames(audio, sample_rate_hz)
    tension, weights = tensions(frames), key_weights(key_fits(frames))
    build, rest = _frames(settings["build_s"]), _frames(settings["rest_s"])
    by_key = release_scores(tension, weights, build=build, rest=rest)
    score = by_key.max(axis=0)
    peaks, _ = find_peaks(score, height=settings["candidate_score"], distance=rest)
    if not len(peaks):
        why = "clip: no dominant is followed by a rest on its tonic"
        return ClipEvents(empty_events(TENSION_COLUMNS), reference_end_s=0.0, no_events_because=why)
    p_value = p_values(tension, weights, score[peaks], settings, np.random.default_rng(list(seed)))
    strong, significant = score[peaks] >= settings["min_score"], p_value <= settings["max_p_value"]
    passed = {"score": strong, "p_value": significant}
    reason = [", ".join(name for name, ok in passed.items() if not ok[i]) for i in range(len(peaks))]
    clip_s = len(audio) / sample_rate_hz
    onset_s = np.clip(peaks * FRAME_S - EARLY_S, 0, clip_s)
    key = by_key[:, peaks].argmax(axis=0)
    falls_db = [
        loudness_fall_db(audio, sample_rate_hz, at_s, settings["build_s"], settings["rest_s"]) for at_s in onset_s
    ]
    events = pd.DataFrame(
        {
            "reference_start_s": 0.0,
            "reference_duration_s": 0.0,
            "onset_s": onset_s,
            "duration_s": np.minimum(settings["rest_s"], clip_s - onset_s),
            "score": score[peaks],
            "p_value": p_value,
            "accepted": strong & significant,
            "reason": np.array(reason, dtype=object),
            "tonic": key % 12,
            "is_major": key < 12,
            "loudness_fall_db": falls_db,
        }
    )
    return ClipEvents(events, reference_end_s=0.0)


def p_values(
    tension: np.ndarray,
    weights: np.ndarray,
    observed: np.ndarray,
    settings: Mapping[str, Any],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """How often the highest score of a shuffled clip reaches each observed one, `[candidate]`.

    The segments, of `surrogate_segment_s`, are put in random order. The keys fit as well as before.
    """
    segment, highest = _frames(settings["surrogate_segment_s"]), np.empty(settings["n_surrogates"])
    build, rest = _frames(settings["build_s"]), _frames(settings["rest_s"])
    for i in range(len(highest)):
        shuffled = tension[:, shuffled_segments(tension.shape[1], segment, rng)]
        highest[i] = release_scores(shuffled, weights, build=build, rest=rest).max()
    return (1 + (highest >= observed[:, None] - 1e-12).sum(axis=1)) / (1 + len(highest))


def loudness_fall_db(audio: np.ndarray, sample_rate_hz: int, at_s: float, before_s: float, after_s: float) -> float:
    """How much softer the seconds after a time are than those before it, in dB of mean power."""
    at, before, after = (round(seconds * sample_rate_hz) for seconds in (at_s, before_s, after_s))
    level_db = [
        10 * np.log10(max(float(np.square(part).mean()) if len(part) else 0.0, 10 ** (FLOOR_DB / 10)))
        for part in (audio[max(at - before, 0) : at], audio[at : at + after])
    ]
    return float(level_db[0] - level_db[1])


def releases_so_far(
    audio: np.ndarray, sample_rate_hz: int, *, frame_rate_hz: float, build_s: float, rest_s: float
) -> tuple[NDArray[np.float32], list[str]]:
    """Releases so far, as the baseline may know them: at each position, from the audio before it only.

    Returns
    -------
    table : float32 array `[position, 3]`
        For positions 0..T.
    names : list of str
        `release_so_far`, the highest score of what is heard by this position; `release_since_s`, the seconds since
        then (0: none); and `tension`, the mean over the last `build_s` in the key that fits best so far.

    Raises
    ------
    ValueError
        For bad audio (see `check_audio`).
    """
    audio = check_audio(audio, sample_rate_hz)
    frames = harmony_frames(audio, sample_rate_hz)
    tension, build, rest = tensions(frames), _frames(build_s), _frames(rest_s)
    known = np.zeros((len(frames) + 1, 3))
    for heard in range(1, len(frames) + 1):
        fits = key_fits(frames[:heard])
        score = release_scores(tension[:, :heard], key_weights(fits), build=build, rest=rest).max(axis=0)
        where = int(score.argmax())
        now = tension[fits.argmax(), max(heard - build, 0) : heard].mean() if fits.any() else 0.0
        known[heard] = score[where], where * FRAME_S, now
    times_s = np.arange(round(len(audio) / sample_rate_hz * frame_rate_hz) + 1) / frame_rate_hz
    heard_by = np.minimum((times_s / FRAME_S + 1e-6).astype(np.int64), len(frames))
    score, at_s, now = known[heard_by].T
    table = np.column_stack([score, np.where(score > 0, times_s - at_s, 0.0), now]).astype(np.float32)
    return table, ["release_so_far", "release_since_s", "tension"]


def score_curve(audio: np.ndarray, sample_rate_hz: int, *, build_s: float, rest_s: float) -> ScoreCurve:
    """How strongly a tension is released at each time of a clip."""
    frames = harmony_frames(audio, sample_rate_hz)
    scores = release_scores(
        tensions(frames), key_weights(key_fits(frames)), build=_frames(build_s), rest=_frames(rest_s)
    ).max(axis=0)
    time_s = np.maximum(np.arange(len(scores)) * FRAME_S - EARLY_S, 0.0)
    return ScoreCurve(time_s, scores, np.full(len(scores), rest_s))


def _frames(seconds: float) -> int:
    return round(seconds / FRAME_S)
