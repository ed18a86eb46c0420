"""A description of timbre that does not depend on pitch or loudness.

A tone that is transposed moves along a logarithmic frequency axis, and its partials keep their distances. So the
magnitudes of the Fourier transform along that axis stay as they are. Ordinary MFCC do not have this property: a melody
alone changes them about as much as another instrument does.

Degenerate input: silence (below `SILENCE_DB`) is all zeros. Chords have other magnitudes than single notes, and noise
has its own.

Reference: Rafii 2022, The constant-Q harmonic coefficients, IEEE Signal Processing Magazine 39(3). Here the spectrum
is compressed by a power instead of a logarithm, so that the quietest bands do not count most.
"""

from functools import lru_cache

import numpy as np
import scipy.fft

LOWEST_HZ, HIGHEST_HZ, BANDS_PER_OCTAVE = 65.4, 7300.0, 24
N_COEFFICIENTS = 20
# Of power. A fourth root of power is a square root of amplitude.
COMPRESSION = 0.25
SILENCE_DB = -60.0


@lru_cache(maxsize=16)
def band_filters(sample_rate_hz: int, n_fft: int) -> np.ndarray:
    """Triangular filters on a logarithmic frequency axis, each summing to 1, float32 `[bin, band]`.

    They end at `HIGHEST_HZ`, or where the sample rate ends. Low bands are as wide as a bin of the spectrum.
    """
    highest_hz = min(HIGHEST_HZ, 0.47 * sample_rate_hz)
    n_bands = int(np.log2(highest_hz / LOWEST_HZ) * BANDS_PER_OCTAVE) + 1
    centres_hz = LOWEST_HZ * 2 ** (np.arange(n_bands) / BANDS_PER_OCTAVE)
    bin_hz = sample_rate_hz / n_fft
    widths_hz = np.maximum(centres_hz * (2 ** (1 / BANDS_PER_OCTAVE) - 1), bin_hz)
    bins_hz = np.arange(n_fft // 2 + 1)[:, None] * bin_hz
    filters = np.maximum(0, 1 - np.abs(bins_hz - centres_hz) / widths_hz)
    return (filters / filters.sum(axis=0)).astype(np.float32)


def harmonic_coefficients(power: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Timbre of each frame.

    Parameters
    ----------
    power : float array `[frame, bin]`
        Power spectra, of `reprise.audio.descriptors.power_spectra`.
    sample_rate_hz : int
        Samples per second.

    Returns
    -------
    float32 array `[frame, N_COEFFICIENTS]`
        0 to 1; zeros where the frame is silent.
    """
    bands = (power @ band_filters(sample_rate_hz, 2 * (power.shape[1] - 1))) ** COMPRESSION
    magnitudes = np.abs(scipy.fft.rfft(bands, n=2 * bands.shape[1], axis=1))[:, : N_COEFFICIENTS + 1]
    sounding = power.sum(axis=1, keepdims=True) > 10 ** (SILENCE_DB / 10)
    coefficients = magnitudes[:, 1:] / np.maximum(magnitudes[:, :1], 1e-20)
    return np.where(sounding, coefficients, 0.0).astype(np.float32)
