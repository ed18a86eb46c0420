"""The plain method that labels are compared with: chroma, and a full DTW of the motif at every hop.

It is the simplest method, and published scaffolds label a recurrence in this way: compute the chroma of the motif,
slide a window of the motif's length over the clip, align both with dynamic time warping from corner to corner
(librosa.sequence.dtw), and take the lowest cost as the return. It has no transposition, no surrogates and no test of
content.

Cost: mean cosine distance along the best path, which is `D[-1, -1] / (n + m)`. Score: 1 - cost.
"""

import librosa
import numpy as np

from benchmarks.scores import peaks


def _whole_hops(frame_s: float, sample_rate_hz: int) -> int:
    return max(64, round(frame_s * sample_rate_hz / 64) * 64)


def plain_chroma(audio: np.ndarray, sample_rate_hz: int, *, frame_s: float) -> np.ndarray:
    """Constant-Q chroma `[12, frame]` of audio `[sample]`, one frame per `frame_s` seconds.

    The frame is rounded to a multiple of 64 samples.
    """
    hop = _whole_hops(frame_s, sample_rate_hz)
    # A cosine needs a vector that is not 0. Silence gets the same value in every pitch class.
    return librosa.feature.chroma_cqt(y=audio, sr=sample_rate_hz, hop_length=hop, tuning=0.0) + 1e-6


def plain_curve(
    audio: np.ndarray,
    sample_rate_hz: int,
    *,
    motif_start_s: float,
    motif_duration_s: float,
    frame_s: float,
    hop_s: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Score the motif at every hop after its end.

    Parameters
    ----------
    audio : float array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Its sample rate.
    motif_start_s, motif_duration_s : float
        Start and length of the motif in seconds.
    frame_s, hop_s : float
        Seconds per chroma frame, and between onsets.

    Returns
    -------
    onsets_s, scores : float arrays `[onset]`
    """
    chroma = plain_chroma(audio, sample_rate_hz, frame_s=frame_s)
    frame_s = _whole_hops(frame_s, sample_rate_hz) / sample_rate_hz
    first, length = round(motif_start_s / frame_s), round(motif_duration_s / frame_s)
    motif = chroma[:, first : first + length]
    step = max(1, round(hop_s / frame_s))
    starts = np.arange(first + length, chroma.shape[1] - length + 1, step)
    costs = [
        librosa.sequence.dtw(motif, chroma[:, s : s + length], metric="cosine", backtrack=False)[-1, -1] / (2 * length)
        for s in starts
    ]
    return starts * frame_s, 1 - np.array(costs, float)


def plain_curves(
    audio: np.ndarray,
    sample_rate_hz: int,
    *,
    motif_start_s: float,
    motif_duration_s: float,
    frame_s: float,
    hop_s: float,
) -> tuple[np.ndarray, np.ndarray]:
    """As `plain_curve`, for the motif shifted up by 0..11 semitones: onsets and scores `[transposition, onset]`.

    The first row equals the result of `plain_curve` up to rounding. All alignments are computed in parallel, cell by
    cell.
    """
    chroma = plain_chroma(audio, sample_rate_hz, frame_s=frame_s)
    frame_s = _whole_hops(frame_s, sample_rate_hz) / sample_rate_hz
    first, length = round(motif_start_s / frame_s), round(motif_duration_s / frame_s)
    unit = chroma / np.linalg.norm(chroma, axis=0)
    motif = unit[:, first : first + length]
    starts = np.arange(first + length, unit.shape[1] - length + 1, max(1, round(hop_s / frame_s)))
    distance = np.stack([1 - np.roll(motif, shift, axis=0).T @ unit for shift in range(12)])
    above: list[np.ndarray] = []
    for i in range(length):
        row: list[np.ndarray] = []
        for j in range(length):
            before = [*row[-1:], *above[j : j + 1], *(above[j - 1 : j] if j else [])]
            here = distance[:, i, starts + j]
            row.append(here + np.minimum.reduce(before) if before else here)
        above = row
    return starts * frame_s, 1 - above[-1] / (2 * length)


def plain_candidates(
    onsets_s: np.ndarray, scores: np.ndarray, *, motif_duration_s: float
) -> list[tuple[float, float]]:
    """(onset in seconds, score) of the best passages that do not overlap, as in the candidates of `find_events`.

    onsets_s, scores: `[onset]`, from `plain_curve`.
    """
    if len(onsets_s) < 2:
        return [(float(t), float(s)) for t, s in zip(onsets_s, scores, strict=True)]
    apart = max(1, int(np.ceil(motif_duration_s / (onsets_s[1] - onsets_s[0]))))
    return [(float(onsets_s[i]), float(scores[i])) for i in peaks(scores, -np.inf, apart)]
