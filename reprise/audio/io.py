"""Mono audio, as every stage reads it.

This module imports nothing heavy, because many stages read clips without computing anything from the sound.
"""

import math
from pathlib import Path

import numpy as np
import soundfile

# -60 dBFS: inaudible next to music, but still thirty steps of 16 bits.
SILENT_PEAK = 1e-3


def read_audio(folder: Path, clip_id: str, *, sample_rate_hz: int) -> np.ndarray:
    """A clip's audio.

    Parameters
    ----------
    folder : Path
        Where the audio files are.
    clip_id : str
        The name of the clip; its file is `<clip_id>.flac`.
    sample_rate_hz : int
        The expected sample rate.

    Returns
    -------
    float32 array `[sample]`

    Raises
    ------
    ValueError
        Names the fault: a file that cannot be read, another sample rate, more than one channel, or samples that are
        not finite.
    """
    try:
        audio, found_hz = soundfile.read(folder / f"{clip_id}.flac", dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(str(error)) from None
    if found_hz != sample_rate_hz:
        raise ValueError(f"sample rate: is {found_hz} Hz; valid: {sample_rate_hz} Hz")
    return check_audio(audio, found_hz)


def read_sounding(folder: Path, clip_id: str, *, sample_rate_hz: int) -> np.ndarray:
    """`read_audio` of a clip that is not silent.

    Raises ValueError for silence too: nothing can return in it, and it is no example of music without a return either.
    """
    audio = read_audio(folder, clip_id, sample_rate_hz=sample_rate_hz)
    if (peak := swing(audio)) < SILENT_PEAK:
        raise ValueError(f"silent: it peaks at {peak_dbfs(peak)}; valid: {peak_dbfs(SILENT_PEAK)} or more")
    return audio


def swing(audio: np.ndarray) -> float:
    """The largest deviation of audio `[sample]` from its mean, so that a constant offset does not count as sound.

    0 for empty audio.
    """
    return float(np.abs(audio - audio.mean(dtype=np.float64)).max()) if len(audio) else 0.0


def peak_dbfs(peak: float) -> str:
    """A peak as text, such as "-60 dBFS"."""
    return f"{20 * math.log10(peak):.0f} dBFS" if peak > 0 else "-inf dBFS"


def check_audio(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The audio as float32 `[sample]`.

    Raises ValueError that names the fault: not mono, not floating point, NaN or infinite, or a rate below 8 kHz.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise ValueError(f"audio: has shape {audio.shape}; valid: mono, one dimension (average the channels first)")
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(
            f"audio: has dtype {audio.dtype}; valid: floating point within -1..1 (integers are not scaled)"
        )
    if not np.isfinite(audio).all():
        raise ValueError(f"audio: {np.count_nonzero(~np.isfinite(audio))} samples are NaN or infinite; valid: none")
    if sample_rate_hz < 8000:
        raise ValueError(f"sample_rate_hz: is {sample_rate_hz}; valid: 8000 or more (is it in kHz?)")
    return audio.astype(np.float32, copy=False)
