"""A small additive synthesiser that turns notes into audio, without further packages.

Reprise needs audio whose recurrences are known exactly, to train the model organisms and to test the recurrence
detector. The synthesiser is deterministic to the last bit for the same notes. It has no reverb and no tail beyond
`RELEASE_S` after a note's end, so two renderings of the same notes at the same place in a codec frame have the same
samples.

Degenerate input: no notes gives silence; a note that extends past the end of the clip is cut there.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

RELEASE_S = 0.03


class Note(NamedTuple):
    """One note: `onset_s` and `duration_s` in seconds, `midi` note number, `velocity` in 0..1."""

    onset_s: float
    duration_s: float
    midi: float
    velocity: float = 0.8


class Timbre(NamedTuple):
    """The sound of an instrument.

    partials: (frequency ratio, amplitude, decay rate in 1/s) of each. attack_s: length of the linear fade-in.
    """

    partials: tuple[tuple[float, float, float], ...]
    attack_s: float


TIMBRES: dict[str, Timbre] = {
    "piano": Timbre(tuple((n, n**-1.3, 1.2 + 0.9 * n) for n in range(1, 9)), 0.004),
    "vibraphone": Timbre(((1.0, 1.0, 1.5), (4.0, 0.35, 4.0), (10.0, 0.08, 12.0)), 0.002),
    "organ": Timbre(((0.5, 0.25, 0.0), (1, 1, 0), (2, 0.6, 0), (3, 0.3, 0), (4, 0.35, 0), (8, 0.1, 0)), 0.012),
    "clarinet": Timbre(tuple((n, n**-1.1, 0.2) for n in (1, 3, 5, 7, 9)), 0.02),
    "strings": Timbre(tuple((n, n**-1.0, 0.1) for n in range(1, 13)), 0.06),
    "pluck": Timbre(tuple((n, n**-0.9, 2.0 + 1.8 * n) for n in range(1, 11)), 0.001),
}


@lru_cache(maxsize=4096)
def _note_wave(timbre: str, midi: float, n_samples: int, velocity: float, sample_rate_hz: int) -> np.ndarray:
    spec = TIMBRES[timbre]
    t = np.arange(n_samples + int(RELEASE_S * sample_rate_hz)) / sample_rate_hz
    frequency_hz = 440.0 * 2.0 ** ((midi - 69) / 12)
    wave = np.zeros_like(t)
    for ratio, amplitude, decay in spec.partials:
        if ratio * frequency_hz < 0.45 * sample_rate_hz:
            wave += amplitude * np.exp(-decay * t) * np.sin(2 * np.pi * ratio * frequency_hz * t)
    wave *= np.minimum(t / spec.attack_s, 1.0)
    release = t - n_samples / sample_rate_hz
    wave *= np.clip(1.0 - release / RELEASE_S, 0.0, 1.0)
    loudness = np.sqrt(sum(a * a for _, a, _ in spec.partials))
    return (velocity * 0.25 / loudness * wave).astype(np.float32)


def render(notes: Iterable[Note], *, timbre: str, duration_s: float, sample_rate_hz: int) -> np.ndarray:
    """Render notes to mono audio.

    Parameters
    ----------
    notes : iterable of Note
        The notes.
    timbre : str
        One of `TIMBRES`.
    duration_s : float
        Length of the clip in seconds.
    sample_rate_hz : int
        Samples per second.

    Returns
    -------
    float32 array `[round(duration_s * sample_rate_hz)]`
        Within about ±1 for up to four voices.

    Raises
    ------
    KeyError
        If `timbre` is unknown; the message lists the valid ones.
    """
    if timbre not in TIMBRES:
        raise KeyError(f"timbre: {timbre!r} is unknown; valid: {', '.join(TIMBRES)}")
    audio = np.zeros(round(duration_s * sample_rate_hz), dtype=np.float32)
    for note in notes:
        start = round(note.onset_s * sample_rate_hz)
        wave = _note_wave(
            timbre, float(note.midi), round(note.duration_s * sample_rate_hz), float(note.velocity), sample_rate_hz
        )
        stop = min(start + len(wave), len(audio))
        if start < stop:
            audio[start:stop] += wave[: stop - start]
    return audio
