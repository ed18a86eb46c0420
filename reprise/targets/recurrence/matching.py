"""How well a motif matches a clip at every onset.

Every pair of (motif frame, clip frame) is compared by the correlation of their twelve pitch classes under all twelve
transpositions. One pass of subsequence dynamic time warping then gives, for *each* onset, the best path through the
motif. Paths are built from the steps (1, 1), (4, 5) and (5, 4), so every path lies within tempo 0.8-1.25. All motif
frames have the same weight on every path (path normalisation), so a score is a mean correlation: 1 for an identical
passage, about 0 for an unrelated one. One pass per tempo over a few fixed tempi would be three times as fast,
but could not follow a tempo that drifts.

Conventions. Times are in seconds from the clip's start. An onset is where the motif's start falls. `transposition`:
semitones (0..11) by which the motif is shifted up to match. `tempo_ratio`: motif duration / matched duration, above 1
for a faster return.

Degenerate input: a silent motif scores 0 everywhere; a clip without room for the motif has no onsets. A return that
the end of the clip cuts off is not found.

References: Müller 2015, Fundamentals of Music Processing, 7.2 (subsequence DTW, step conditions) and 4.2
(transposition-invariant similarity).
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from reprise.audio.chroma import FRAME_RATE_HZ, Features, check_motif, clip_features
from reprise.audio.io import check_audio

SLOWEST, FASTEST = 0.8, 1.25
# Cost of a step off the diagonal, in motif frames. Without it an onset can shift by a frame at no cost.
WARP_COST = 0.5
_NEVER = np.float32(-1e4)


class Motif(NamedTuple):
    """A motif to look for: `chroma` `[frame, 12]` and `weight` `[frame]` (1 sounding, 0 silent; sums to 1);
    `offset_s` from its first frame's time to its start, within half a frame."""

    chroma: np.ndarray
    weight: np.ndarray
    duration_s: float
    offset_s: float
    sample_rate_hz: int


class MatchCurve(NamedTuple):
    """Best match of a motif at every onset, arrays `[onset]`: `time_s`, `score` 0..1, `transposition` 0..11 and
    `duration_s` of the matched passage. Onsets too near the end to hold the motif are not listed."""

    time_s: np.ndarray
    score: np.ndarray
    transposition: np.ndarray
    duration_s: np.ndarray


class Match(NamedTuple):
    """One match, as in a row of the events table. Without room for a match, the score is 0 and the rest NaN."""

    score: float
    onset_s: float
    duration_s: float
    transposition: int
    tempo_ratio: float


def motif_template(audio: np.ndarray, sample_rate_hz: int, *, start_s: float, duration_s: float) -> Motif:
    """Cut the motif out of one clip, to search for it in others.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    start_s, duration_s : float
        The motif, in seconds.

    Returns
    -------
    Motif

    Raises
    ------
    ValueError
        As `reprise.targets.recurrence.detection.find_events` does.
    """
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, start_s, duration_s)
    return cut_motif(clip_features(audio, sample_rate_hz), sample_rate_hz, start_s, duration_s)


def match_curve(audio: np.ndarray, motif: Motif) -> MatchCurve:
    """The best match of `motif` at every onset in `audio` (at the motif's sample rate), over all transpositions."""
    features = clip_features(check_audio(audio, motif.sample_rate_hz), motif.sample_rate_hz)
    return curve_of(features.chroma, motif, 0)


def cut_motif(features: Features, sample_rate_hz: int, start_s: float, duration_s: float) -> Motif:
    """The motif that begins at `start_s` in a clip's features."""
    first = round(start_s * FRAME_RATE_HZ)
    chroma = features.chroma[first : first + round(duration_s * FRAME_RATE_HZ)]
    sounding = (np.abs(chroma).sum(axis=1) > 0).astype(np.float32)
    weight = sounding / max(sounding.sum(), 1)
    return Motif(chroma, weight, duration_s, start_s - first / FRAME_RATE_HZ, sample_rate_hz)


def curve_of(chroma: np.ndarray, motif: Motif, first: int) -> MatchCurve:
    """The match curve of clip frames that begin at frame number `first`."""
    n_onsets = max(0, len(chroma) - shortest_match(len(motif.weight)) + 1)
    if n_onsets == 0:
        return MatchCurve(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0))
    similarity, warp_cost = similarity_of(motif, chroma), warp_cost_of(motif)
    sums, ends = map(np.stack, zip(*(_warp(similarity[:, shift], warp_cost) for shift in range(12)), strict=True))
    transposition = sums.argmax(axis=0)[:n_onsets]
    onset = np.arange(n_onsets)
    # Rounding must not lift the score of identical rows above 1.
    score = np.clip(sums[transposition, onset], 0.0, 1.0).astype(np.float64)
    frames = ends[transposition, onset] - onset
    time_s = (first + onset) / FRAME_RATE_HZ + motif.offset_s
    duration_s = frames * (motif.duration_s / len(motif.weight))
    return MatchCurve(time_s, score, transposition, duration_s)


def match_at(curve: MatchCurve, peak: int, motif: Motif) -> Match:
    """The match that begins at onset number `peak` of the curve."""
    duration_s = float(curve.duration_s[peak])
    return Match(
        score=float(curve.score[peak]),
        onset_s=float(curve.time_s[peak]),
        duration_s=duration_s,
        transposition=int(curve.transposition[peak]),
        tempo_ratio=motif.duration_s / duration_s,
    )


def first_frame_after(time_s: float, offset_s: float) -> int:
    """The first frame whose onset (its time plus the motif's offset) is less than half a frame before `time_s`."""
    return max(0, int(np.ceil((time_s - offset_s) * FRAME_RATE_HZ - 0.5 + 1e-6)))


def shortest_match(n_motif_frames: int) -> int:
    """How many clip frames the fastest match needs."""
    return int(np.ceil(SLOWEST * n_motif_frames))


def warp_cost_of(motif: Motif) -> np.float32:
    """The cost of a step off the diagonal, in units of a score."""
    return np.float32(WARP_COST / len(motif.weight))


def similarity_of(motif: Motif, chroma: np.ndarray) -> np.ndarray:
    """Weighted correlation of every motif frame, shifted up by 0..11 semitones, with every clip frame.

    float32 `[motif frame, transposition, clip frame]`.
    """
    shifted = np.stack([np.roll(motif.chroma, shift, axis=1) for shift in range(12)], axis=1)
    return (shifted * motif.weight[:, None, None]) @ chroma.T


@njit(cache=True)
def _warp(similarity: np.ndarray, warp_cost: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Best sum of similarities of a path through the whole motif, for every onset.

    `similarity` float32 `[motif frame, clip frame]`. Returns the sums float32 `[onset]` (hugely negative where no path
    fits) and the end frame (exclusive) of each best path, int32.

    The recursion runs backwards over motif frames. A step (4, 5) passes over one clip frame unmatched; a step (5, 4)
    matches one clip frame to two motif frames; both cost `warp_cost`.
    """
    n_motif, n_frames = similarity.shape
    # The five extra columns lie beyond the clip's end.
    best = np.full((n_motif + 1, n_frames + 5), _NEVER, dtype=np.float32)
    end = np.zeros((n_motif + 1, n_frames + 5), dtype=np.int32)
    best[n_motif, : n_frames + 1] = 0
    end[n_motif] = np.arange(n_frames + 5)
    # The sum of four steps along the diagonal from each place, minus the cost of leaving the diagonal.
    four = np.full((n_motif + 1, n_frames), _NEVER, dtype=np.float32)
    for i in range(n_motif - 1, -1, -1):
        for j in range(n_frames):
            total, until = similarity[i, j] + best[i + 1, j + 1], end[i + 1, j + 1]
            if i + 5 <= n_motif:
                option = similarity[i, j] + four[i + 1, j] + best[i + 5, j + 4]
                if option > total:
                    total, until = option, end[i + 5, j + 4]
            if i + 4 <= n_motif:
                if j + 4 <= n_frames:
                    pairs = similarity[i, j] + similarity[i + 1, j + 1]
                    four[i, j] = pairs + (similarity[i + 2, j + 2] + similarity[i + 3, j + 3]) - warp_cost
                option = four[i, j] + best[i + 4, j + 5]
                if option > total:
                    total, until = option, end[i + 4, j + 5]
            best[i, j], end[i, j] = total, until
    return best[0, :n_frames], end[0, :n_frames]


@njit(cache=True)
def warp_best(similarity: np.ndarray, orders: np.ndarray, warp_cost: np.float32) -> np.ndarray:
    """The greatest sum that `_warp` gives with the clip frames in each of `orders`.

    similarity: float32 `[motif frame, transposition, clip frame]`. orders: int `[surrogate, frame]`. Returns float32
    `[surrogate]`. Ends are not computed, so the loops over clip frames have no branch and the compiler can vectorise
    them.
    """
    n_motif, n_shifts, n_frames = similarity.shape
    found = np.full(len(orders), _NEVER, dtype=np.float32)
    best = np.empty((n_motif + 1, n_frames + 5), dtype=np.float32)
    rows = np.empty((n_motif, n_frames), dtype=np.float32)
    four = np.empty((2, n_frames), dtype=np.float32)
    for k in range(len(orders)):
        for shift in range(n_shifts):
            for i in range(n_motif):
                for j in range(n_frames):
                    rows[i, j] = similarity[i, shift, orders[k, j]]
            best[:] = _NEVER
            best[n_motif, : n_frames + 1] = 0
            four[:] = _NEVER
            for i in range(n_motif - 1, -1, -1):
                row, here, ahead = rows[i], best[i], best[i + 1]
                for j in range(n_frames):
                    here[j] = row[j] + ahead[j + 1]
                if i + 5 <= n_motif:
                    ahead, diagonal = best[i + 5], four[(i + 1) % 2]
                    for j in range(n_frames):
                        here[j] = max(here[j], row[j] + diagonal[j] + ahead[j + 4])
                if i + 4 <= n_motif:
                    ahead, diagonal = best[i + 4], four[i % 2]
                    second, third, fourth = rows[i + 1], rows[i + 2], rows[i + 3]
                    for j in range(n_frames - 3):
                        diagonal[j] = row[j] + second[j + 1] + (third[j + 2] + fourth[j + 3]) - warp_cost
                    for j in range(n_frames):
                        here[j] = max(here[j], diagonal[j] + ahead[j + 5])
            found[k] = max(found[k], best[0, :n_frames].max())
    return found
