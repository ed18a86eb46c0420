"""Which chord sounds, and in which key a passage is, from chroma.

Chords are major, minor, dominant seventh, diminished and diminished seventh triads and tetrads on each of the twelve
pitch classes, so that `CHORDS` has 60. Keys are the twelve major ones and then the twelve minor ones, by their tonic.

Degenerate input: frames without sound have no chord (a row of zeros), and silence has no key (zeros).

References: Fujishima 1999 (chords by templates of chroma); Gómez 2006, Tonal description of music audio signals
(templates with overtones); Krumhansl 1990 and Temperley 2001, The cognition of basic musical structures (keys by
profiles, and the profiles themselves).
"""

from functools import lru_cache

import numpy as np

N_KEYS = 24
QUALITIES: dict[str, tuple[int, ...]] = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "seventh": (0, 4, 7, 10),
    "diminished": (0, 3, 6),
    "diminished_seventh": (0, 3, 6, 9),
}
# (root, quality), in the order of the columns of `chord_shares`.
CHORDS = tuple((root, quality) for quality in QUALITIES for root in range(12))
# Of each overtone, against the one before. Pitch classes of the first six partials, above the note.
OVERTONE_DECAY = 0.45
PARTIALS = (0, 0, 7, 0, 4, 7)
# Chroma is power. Its root is an amplitude, so that the loudest note does not decide alone.
COMPRESSION = 0.5
# How clearly the best chord wins.
SHARPNESS = 40.0
MAJOR_PROFILE = (5, 2, 3.5, 2, 4.5, 4, 2, 4.5, 2, 3.5, 1.5, 4)
MINOR_PROFILE = (5, 2, 3.5, 4.5, 2, 4, 2, 4.5, 3.5, 2, 1.5, 4)


def chord_shares(chroma: np.ndarray) -> np.ndarray:
    """How much of each frame belongs to each chord: float `[frame, chord]`, rows sum to 1 (0 where nothing sounds).

    chroma: `[frame, 12]`, 0 or more, on any scale.
    """
    sounding = chroma.sum(axis=1, keepdims=True) > 0
    likeness = SHARPNESS * _unit(chroma**COMPRESSION) @ _templates().T
    shares = np.exp(likeness - likeness.max(axis=1, keepdims=True, initial=0.0))
    return np.where(sounding, shares / shares.sum(axis=1, keepdims=True), 0.0)


def key_fits(chroma: np.ndarray) -> np.ndarray:
    """How well each key fits all frames together: correlations of their mean with the keys' profiles, `[key]`."""
    mean = _unit(chroma**COMPRESSION).mean(axis=0) if len(chroma) else np.zeros(12)
    return _standardised(_profiles()) @ _standardised(mean[None])[0] / 12


@lru_cache(maxsize=1)
def _templates() -> np.ndarray:
    """Compressed chroma of each chord, unit rows `[chord, 12]`."""
    templates = np.zeros((len(CHORDS), 12))
    for row, (root, quality) in zip(templates, CHORDS, strict=True):
        for step in QUALITIES[quality]:
            for i, above in enumerate(PARTIALS):
                row[(root + step + above) % 12] += OVERTONE_DECAY**i
    return _unit(templates**COMPRESSION)


@lru_cache(maxsize=1)
def _profiles() -> np.ndarray:
    """The profile of each key, `[key, 12]`."""
    return np.array([np.roll(profile, tonic) for profile in (MAJOR_PROFILE, MINOR_PROFILE) for tonic in range(12)])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _standardised(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-12)
