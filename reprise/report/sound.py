"""Embed sounds in a page, as FLAC, as many as there is room for.

Degenerate input: silence is encoded as it is; samples beyond -1..1 are clipped.
"""

import base64
import io
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import soundfile
from scipy.signal import resample_poly

AUDIO_RATE_HZ = 16000


class ExampleClip(NamedTuple):
    """A clip to show and play.

    audio: mono float `[sample]`. file: the file it came from. why: why it was chosen.
    """

    clip_id: str
    audio: np.ndarray
    sample_rate_hz: int
    file: str
    prompt: str = ""
    why: str = ""


def encode_flac(audio: np.ndarray, sample_rate_hz: int) -> bytes:
    """Mono audio as 16-bit FLAC at `AUDIO_RATE_HZ`, or at its own rate if that is lower."""
    if sample_rate_hz > AUDIO_RATE_HZ:
        common = math.gcd(sample_rate_hz, AUDIO_RATE_HZ)
        audio = resample_poly(audio, AUDIO_RATE_HZ // common, sample_rate_hz // common)
        sample_rate_hz = AUDIO_RATE_HZ
    file = io.BytesIO()
    soundfile.write(file, np.clip(audio, -1, 1), sample_rate_hz, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def flac_uri(flac: bytes) -> str:
    """FLAC as a data URI for an audio player."""
    return "data:audio/flac;base64," + base64.b64encode(flac).decode()


def embed(sounds: Iterable[tuple[np.ndarray, int]], n_bytes: int) -> list[str]:
    """Data URIs of (audio, sample_rate_hz) in order; "" for each that does not fit into `n_bytes` of FLAC."""
    uris = []
    for audio, sample_rate_hz in sounds:
        flac = encode_flac(audio, sample_rate_hz)
        fits = len(flac) <= n_bytes
        n_bytes -= len(flac) if fits else 0
        uris.append(flac_uri(flac) if fits else "")
    return uris
