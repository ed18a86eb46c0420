"""Causal acoustic descriptors: what a listener could know from the past few seconds.

They are the nuisance variables of every probe: a representation must predict more than they do.

Conventions. The row of position p is a function of the audio in `[p / frame_rate_hz - context_s, p / frame_rate_hz)`
and of nothing else, to the last bit. Analysis frames *end* at a position instead of being centred on it, nothing is
normalised over the clip, and running sums are computed separately in each window. "now" is the frame that ends at p;
"mean" and "std" are over the frames that lie wholly inside the last `context_s` seconds.

Units: chroma sums to 1 per frame, loudness in dB re full scale, centroid in Hz, MFCC 0-12 as in librosa (40 Slaney mel
bands in dB, orthonormal DCT-II), onset strength as mean rise in dB over mel bands, tempo in beats per minute.

Degenerate input: audio before the start of the clip counts as silence, so position 0 describes silence. Silence has
chroma 0, loudness `FLOOR_DB`, centroid 0 and tempo 0.

References: Ellis 2007 (chroma from STFT bins, as in librosa.filters.chroma; onset autocorrelation with a log-normal
prior at 120 beats per minute, J. New Music Research 36); Davis and Mermelstein 1980 (MFCC).
"""

from functools import lru_cache

import librosa.filters
import numpy as np
import scipy.fft
from numba import njit

from reprise.audio.io import check_audio

FLOOR_DB = -80.0
N_MFCC = 13
N_MELS = 40
# The shorter frame follows notes; the longer one separates semitones down to about 80 Hz.
SHORT_FRAME_S, LONG_FRAME_S = 0.128, 0.256
BLOCK_FRAMES = 32
PITCH_CLASSES = ("c", "cs", "d", "ds", "e", "f", "fs", "g", "gs", "a", "as", "b")
# Tempi are searched from 200 down to 40 beats per minute.
SHORTEST_BEAT_S, LONGEST_BEAT_S = 0.3, 1.5


def n_fft_for(duration_s: float, sample_rate_hz: int) -> int:
    """The power of two nearest to `duration_s` in samples."""
    return 2 ** round(np.log2(duration_s * sample_rate_hz))


def power_spectra(audio: np.ndarray, ends: np.ndarray, n_fft: int) -> np.ndarray:
    """Hann-windowed power spectra of the `n_fft` samples before each index in `ends`.

    Parameters
    ----------
    audio : float32 array `[sample]`
        Zero outside.
    ends : int array `[frame]`
        Within 0..len(audio) + n_fft.
    n_fft : int
        Samples per frame.

    Returns
    -------
    float32 array `[frame, n_fft // 2 + 1]`
        Scaled so that a sine of amplitude 1 has a peak of 1.
    """
    window = np.hanning(n_fft + 1)[:-1]
    window = (window * 2 / window.sum()).astype(np.float32)
    padding = np.zeros(n_fft, dtype=np.float32)
    padded = np.concatenate([padding, audio, padding])
    power = np.empty((len(ends), n_fft // 2 + 1), dtype=np.float32)
    # A block of frames fits into the processor's cache, which makes this twice as fast.
    for first in range(0, len(ends), BLOCK_FRAMES):
        block = slice(first, first + BLOCK_FRAMES)
        spectrum = scipy.fft.rfft(_windowed(padded, ends[block], window), axis=1)
        _square(spectrum.view(np.float32), power[block])
    return power


@njit(cache=True)
def _windowed(padded: np.ndarray, starts: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The samples from each start on, multiplied by the window: `[start, sample]`.

    Compiled, because indexing in NumPy would copy twice.
    """
    frames = np.empty((len(starts), len(window)), dtype=np.float32)
    for i in range(len(starts)):
        frame = padded[starts[i] : starts[i] + len(window)]
        for j in range(len(window)):
            frames[i, j] = frame[j] * window[j]
    return frames


@njit(cache=True)
def _square(parts: np.ndarray, out: np.ndarray) -> None:
    """Squared absolute values `[frame, bin]`, written into `out`, of a spectrum with alternating real and imaginary
    parts."""
    for i in range(len(out)):
        row, into = parts[i], out[i]
        for j in range(len(into)):
            into[j] = row[2 * j] * row[2 * j] + row[2 * j + 1] * row[2 * j + 1]


@lru_cache(maxsize=16)
def chroma_bank(sample_rate_hz: int, n_fft: int) -> np.ndarray:
    """librosa's chroma filters at A = 440 Hz, float32 `[bin, 12]`."""
    return librosa.filters.chroma(sr=sample_rate_hz, n_fft=n_fft, tuning=0.0, dtype=np.float32).T.copy()


@lru_cache(maxsize=16)
def mel_bank(sample_rate_hz: int, n_fft: int) -> np.ndarray:
    """librosa's mel filters (Slaney), each summing to 1, float32 `[bin, N_MELS]`."""
    bank = librosa.filters.mel(sr=sample_rate_hz, n_fft=n_fft, n_mels=N_MELS, norm=None, dtype=np.float32).T
    return bank / np.maximum(bank.sum(axis=0), 1e-9)


def mel_db(power: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Mean power in each mel band in dB, floored at `FLOOR_DB`: `[frame, bin]` to `[frame, N_MELS]`."""
    bands = power @ mel_bank(sample_rate_hz, 2 * (power.shape[1] - 1))
    return _floored_db(bands)


def _floored_db(power: np.ndarray) -> np.ndarray:
    """Power in dB, at least `FLOOR_DB` to the last bit, because processors round logarithms differently."""
    return np.maximum(10 * np.log10(np.maximum(power, np.float32(10 ** (FLOOR_DB / 10)))), np.float32(FLOOR_DB))


def mfcc(bands_db: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstral coefficients 0-12 of mel bands in dB: `[frame, N_MELS]` to `[frame, N_MFCC]`."""
    return scipy.fft.dct(bands_db, type=2, norm="ortho", axis=1)[:, :N_MFCC]


def loudness_db(audio: np.ndarray, ends: np.ndarray, n_samples: int) -> np.ndarray:
    """RMS level of the `n_samples` before each end in dB re full scale, float32 `[frame]`, at least `FLOOR_DB`."""
    padded = np.concatenate([np.zeros(n_samples, dtype=np.float32), audio])
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_samples)[ends]
    mean_square = np.einsum("fs,fs->f", frames, frames) / n_samples
    return _floored_db(mean_square)


def causal_descriptors(
    audio: np.ndarray, sample_rate_hz: int, *, frame_rate_hz: float, context_s: float
) -> tuple[np.ndarray, list[str]]:
    """Descriptors at every position 0..T of a clip of T codec frames.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    frame_rate_hz : float
        Positions per second.
    context_s : float
        How many seconds back the descriptors may look.

    Returns
    -------
    table : float32 array `[T + 1, feature]`
        All values are finite.
    names : list of str
        28 frame features as `now_*`, `mean_*` and `std_*`, then `tempo_bpm`.

    Raises
    ------
    ValueError
        For bad audio (see `check_audio`) and for a context shorter than one analysis frame.
    """
    audio = check_audio(audio, sample_rate_hz)
    n_short, n_long = (n_fft_for(s, sample_rate_hz) for s in (SHORT_FRAME_S, LONG_FRAME_S))
    # How far back from its position a frame feature looks: one long frame, or a short frame and its predecessor.
    reach_s = max(n_long / sample_rate_hz, n_short / sample_rate_hz + 1 / frame_rate_hz)
    if context_s < reach_s:
        raise ValueError(f"context_s: is {context_s}; valid: at least one analysis frame, {reach_s:.3f} s")
    n_positions = round(len(audio) / sample_rate_hz * frame_rate_hz) + 1
    ends = np.floor(np.arange(n_positions) * (sample_rate_hz / frame_rate_hz) + 1e-6).astype(np.int64)
    ends = np.minimum(ends, len(audio))
    frame_features, names = _frame_features(audio, sample_rate_hz, ends, n_short, n_long)
    window = int((context_s - reach_s) * frame_rate_hz + 1e-6) + 1
    mean, std = _past_mean_std(frame_features, window)
    tempo = _past_tempo_bpm(frame_features[:, names.index("onset_db")], window, frame_rate_hz)
    table = np.column_stack([frame_features, mean, std, tempo]).astype(np.float32)
    return table, [f"{part}_{name}" for part in ("now", "mean", "std") for name in names] + ["tempo_bpm"]


def _frame_features(
    audio: np.ndarray, sample_rate_hz: int, ends: np.ndarray, n_short: int, n_long: int
) -> tuple[np.ndarray, list[str]]:
    long = power_spectra(audio, ends, n_long)
    chroma = long @ chroma_bank(sample_rate_hz, n_long)
    total = chroma.sum(axis=1, keepdims=True)
    chroma = np.where(total > 10 ** (FLOOR_DB / 10), chroma / np.maximum(total, 1e-30), 0.0)
    short = power_spectra(audio, ends, n_short)
    energy = short.sum(axis=1)
    frequency_hz = np.arange(short.shape[1], dtype=np.float32) * (sample_rate_hz / n_short)
    centroid = np.where(energy > 10 ** (FLOOR_DB / 10), short @ frequency_hz / np.maximum(energy, 1e-30), 0.0)
    bands = mel_db(short, sample_rate_hz)
    onset = np.maximum(np.diff(bands, axis=0, prepend=np.float32(FLOOR_DB)), 0).mean(axis=1)
    columns = [chroma, loudness_db(audio, ends, n_short), centroid, mfcc(bands), onset]
    names = [f"chroma_{p}" for p in PITCH_CLASSES] + ["loudness_db", "centroid_hz"]
    return np.column_stack(columns), names + [f"mfcc_{i}" for i in range(N_MFCC)] + ["onset_db"]


def _past_mean_std(x: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of rows p - window + 1 .. p (as many as there are), each `[position, feature]`.

    Summed slice by slice. A difference of cumulative sums would carry rounding errors from before the window.
    """
    x = x.astype(np.float64)
    total, squares = np.zeros_like(x), np.zeros_like(x)
    for lag in range(min(window, len(x))):
        total[lag:] += x[: len(x) - lag]
        squares[lag:] += x[: len(x) - lag] ** 2
    count = np.minimum(np.arange(1, len(x) + 1), window)[:, None]
    mean = total / count
    variance = squares / count - mean**2
    # Below this fraction of the mean square a variance is only rounding error, and its root would not be small.
    return mean, np.sqrt(np.where(variance > 1e-12 * squares / count, variance, 0.0))


def _past_tempo_bpm(onset: np.ndarray, window: int, frame_rate_hz: float) -> np.ndarray:
    """Beats per minute at each position, from the autocorrelation of the last `window` onset strengths.

    0 where there is no pulse, and everywhere if the window is too short to hold a beat twice.
    """
    longest = min(int(LONGEST_BEAT_S * frame_rate_hz), window // 2)
    lags = np.arange(max(1, round(SHORTEST_BEAT_S * frame_rate_hz)), longest + 1)
    if not len(lags):
        return np.zeros(len(onset))
    past = np.lib.stride_tricks.sliding_window_view(np.concatenate([np.zeros(window - 1), onset]), window)
    past = past - past.mean(axis=1, keepdims=True)
    n_fft = scipy.fft.next_fast_len(window + longest, real=True)
    spectrum = scipy.fft.rfft(past, n_fft, axis=1)
    autocorrelation = scipy.fft.irfft(np.abs(spectrum) ** 2, n_fft, axis=1)[:, lags]
    bpm = 60 * frame_rate_hz / lags
    weighted = autocorrelation * np.exp(-0.5 * np.log2(bpm / 120) ** 2)
    best = weighted.argmax(axis=1)
    pulse = weighted[np.arange(len(onset)), best] > 1e-9
    return np.where(pulse, bpm[best], 0.0)
