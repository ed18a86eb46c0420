"""What the report and the review page share: sound and templates that make a page self-contained, and words.

Degenerate input: silence is encoded as it is; samples beyond -1..1 are clipped.
"""

import base64
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from scipy.signal import resample_poly

AUDIO_RATE_HZ = 16000

REASONS = {
    "score": "match too weak",
    "p_value": "chance could do it",
    "p_others": "other clips match as well",
    "gap": "no gap before",
    "timbre": "timbre only",
    "review": "rejected by a reviewer",
    "unreviewed": "reviewers have not decided",
}


class Heard(NamedTuple):
    """A clip to show and play: mono float `audio` `[sample]`, the `file` it came from, its `prompt` and `why` it was
    chosen."""

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
    """FLAC as the address of a player's sound."""
    return "data:audio/flac;base64," + base64.b64encode(flac).decode()


def page_template(name: str) -> Template:
    """A page's template, from beside this module; a name that it lacks is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
