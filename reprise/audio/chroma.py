"""Chroma and timbre of the frames of a clip, and how much musical content a passage has.

Frames are centred at `i / FRAME_RATE_HZ`, so they include a little of what follows. They serve labels, never
predictors (`reprise.audio.descriptors` is the causal counterpart).

Degenerate input: silence has no sounding frame, features 0 and content 0; a drone or a single note has an entropy of
about 0. Audio that is not mono, not floating point or not finite, and a passage that does not lie within the clip,
raise ValueError.

References: Müller 2015, Fundamentals of Music Processing, 3.1 (chroma).
"""

from typing import NamedTuple

import numpy as np

from reprise.audio.descriptors import (
    FLOOR_DB,
    LONG_FRAME_S,
    chroma_bank,
    mel_bank,
    mel_db,
    mfcc,
    n_fft_for,
    power_spectra,
)
from reprise.audio.io import check_audio

FRAME_RATE_HZ = 12.5
# A frame this far below the clip's peak is silent: it has no pitch to compare.
SILENCE_DB = -50.0
MIN_MOTIF_S = 0.8
# Chroma is power. Its root is an amplitude, so that notes that have begun to die away still count.
COMPRESSION = 0.5


class Spectra(NamedTuple):
    """Frames centred at `i / FRAME_RATE_HZ`: `chroma` `[frame, 12]`, `level` `[frame]` (sum of power) and the power
    spectrum `[frame, bin]`."""

    chroma: np.ndarray
    level: np.ndarray
    power: np.ndarray


class Features(NamedTuple):
    """Frames centred at `i / FRAME_RATE_HZ`: `chroma` `[frame, 12]`, zero mean and unit norm (all 0 where silent),
    `timbre` `[frame, 13]`, MFCC standardised over the clip, unit norm (all 0 where silent)."""

    chroma: np.ndarray
    timbre: np.ndarray


class MotifContent(NamedTuple):
    """How much content a motif has to be recognised by.

    entropy_bits: entropy of the strongest pitch class over sounding frames. n_onsets: number of note onsets.
    """

    entropy_bits: float
    n_onsets: int


def clip_features(audio: np.ndarray, sample_rate_hz: int) -> Features:
    """Chroma and timbre of a clip of checked audio."""
    return features_of(audio, sample_rate_hz, clip_spectra(audio, sample_rate_hz))


def clip_spectra(audio: np.ndarray, sample_rate_hz: int) -> Spectra:
    """Chroma, level and power spectrum of every frame, before any normalisation over the clip."""
    n_fft = n_fft_for(LONG_FRAME_S, sample_rate_hz)
    n_frames = int(len(audio) / sample_rate_hz * FRAME_RATE_HZ + 1e-6) + 1
    centres = np.round(np.arange(n_frames) * (sample_rate_hz / FRAME_RATE_HZ)).astype(np.int64)
    power = power_spectra(audio, centres + n_fft // 2, n_fft)
    return Spectra(power @ chroma_bank(sample_rate_hz, n_fft), power.sum(axis=1), power)


def features_of(audio: np.ndarray, sample_rate_hz: int, spectra: Spectra) -> Features:
    """As `clip_features`, from spectra that are already computed."""
    chroma, level, power = spectra
    sounding = is_sounding(level, audio_peak=float(np.abs(audio).max(initial=0)))[:, None]
    coefficients = mfcc(mel_db(power, sample_rate_hz))[:, 1:]
    if sounding.any():
        heard = coefficients[sounding[:, 0]]
        coefficients = (coefficients - heard.mean(axis=0)) / np.maximum(heard.std(axis=0), 1e-3)
    return Features(compared_chroma(chroma) * sounding, unit_rows(coefficients) * sounding)


def is_sounding(level: np.ndarray, *, audio_peak: float) -> np.ndarray:
    """Which frames, by their `level` `[frame]`, lie less than `SILENCE_DB` below a sine of amplitude `audio_peak`."""
    floor = max(audio_peak**2, 10 ** (FLOOR_DB / 10)) * 10 ** (SILENCE_DB / 10)
    return level > floor


def compared_chroma(chroma: np.ndarray) -> np.ndarray:
    """Chroma as it is compared, from that of `Spectra`: compressed, and rows of mean 0 and norm 1, so that their
    products are correlations. float32 `[frame, 12]`."""
    compressed = chroma**COMPRESSION
    return unit_rows(compressed - compressed.mean(axis=1, keepdims=True))


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows of norm 1, float32 (rows of zeros stay zeros)."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.maximum(norm, 1e-20)).astype(np.float32)


def motif_content(audio: np.ndarray, sample_rate_hz: int, *, start_s: float, duration_s: float) -> MotifContent:
    """Entropy and onset count of a passage.

    Entropy: of the histogram of the strongest pitch class in each sounding frame, so that a note's overtones add none.
    Onsets: peaks, at least 50 ms apart, of the rise of the mel spectrum within 30 ms. A peak must lie above the median
    rise by at least 15% of the passage's mean level.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    start_s, duration_s : float
        The passage, in seconds.

    Returns
    -------
    MotifContent

    Raises
    ------
    ValueError
        As `reprise.targets.recurrence.detection.find_events` does.
    """
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, start_s, duration_s)
    return passage_content(audio, sample_rate_hz, clip_spectra(audio, sample_rate_hz), start_s, duration_s)


def passage_content(
    audio: np.ndarray, sample_rate_hz: int, spectra: Spectra, start_s: float, duration_s: float
) -> MotifContent:
    """As `motif_content`, from spectra that are already computed, for a passage known to lie within the clip."""
    peak = float(np.abs(audio).max())
    if peak < 10 ** (FLOOR_DB / 20):
        return MotifContent(0.0, 0)
    first = round(start_s * FRAME_RATE_HZ)
    inside = slice(first, first + round(duration_s * FRAME_RATE_HZ))
    strongest = spectra.chroma[inside][is_sounding(spectra.level[inside], audio_peak=peak)].argmax(axis=1)
    share = np.bincount(strongest, minlength=12) / max(len(strongest), 1)
    entropy = float(-np.sum(share[share > 0] * np.log2(share[share > 0])))
    passage = audio[round(start_s * sample_rate_hz) : round((start_s + duration_s) * sample_rate_hz)]
    return MotifContent(abs(entropy), count_onsets(passage, sample_rate_hz))


def count_onsets(passage: np.ndarray, sample_rate_hz: int) -> int:
    """Note onsets in a passage, float32 `[sample]`; see `motif_content`."""
    n_fft = n_fft_for(0.064, sample_rate_hz)
    ends = np.arange(0, len(passage) + 1, round(0.01 * sample_rate_hz))
    power = power_spectra(passage, ends, n_fft)
    amplitude = np.sqrt(power @ mel_bank(sample_rate_hz, n_fft))
    rise = np.maximum(amplitude[3:] - amplitude[:-3], 0).sum(axis=1) / max(amplitude.sum(axis=1).mean(), 1e-9)
    # Noise rises evenly at all times, so it raises the median but not the peaks above it.
    threshold = np.median(rise) + 0.15
    neighbours = np.lib.stride_tricks.sliding_window_view(np.pad(rise, 5), 11)
    # `argmax` gives the first of equal values, so a plateau counts once.
    return int(((neighbours.argmax(axis=1) == 5) & (rise >= threshold)).sum())


def check_motif(audio: np.ndarray, sample_rate_hz: int, start_s: float, duration_s: float) -> None:
    """Raise ValueError if the motif is too short or does not lie within the clip."""
    clip_s = len(audio) / sample_rate_hz
    if duration_s < MIN_MOTIF_S:
        raise ValueError(f"motif_duration_s: is {duration_s}; valid: {MIN_MOTIF_S} or more (is it in seconds?)")
    if start_s < 0 or start_s + duration_s > clip_s + 1e-6:
        raise ValueError(
            f"motif_start_s, motif_duration_s: the motif spans {start_s:g}-{start_s + duration_s:g} s; "
            f"valid: within the clip, 0-{clip_s:g} s"
        )
