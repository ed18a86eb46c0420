"""Chords and keys of chroma whose answer is known."""

import numpy as np
import pytest

from reprise.audio.harmony import CHORDS, QUALITIES, chord_shares, key_fits


def chroma_of(*pitches: int) -> np.ndarray:
    """Notes with two overtones each: an octave, and a twelfth."""
    chroma = np.zeros(12)
    for pitch in pitches:
        chroma[pitch % 12] += 1.3
        chroma[(pitch + 7) % 12] += 0.1
    return chroma[None]


@pytest.mark.parametrize("quality", [name for name in QUALITIES if name != "diminished_seventh"])
def test_a_chord_is_named_on_every_root_and_at_every_loudness(quality: str) -> None:
    for root in range(12):
        chroma = chroma_of(*(root + step for step in QUALITIES[quality]))
        shares = chord_shares(np.vstack([chroma, 1e-6 * chroma]))
        assert CHORDS[shares[0].argmax()] == (root, quality) and shares[0].max() > 0.5
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        np.testing.assert_allclose(shares[0], shares[1])


def test_a_diminished_seventh_has_four_names() -> None:
    shares = chord_shares(chroma_of(11, 14, 17, 20))[0]
    names = sorted(CHORDS[i][0] for i in np.argsort(shares)[-4:])
    assert names == [2, 5, 8, 11] and np.sort(shares)[-4:] == pytest.approx(0.25, abs=0.02)


def test_a_scale_has_its_key() -> None:
    major, minor = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)
    for tonic in range(12):
        for i, scale in enumerate((major, minor)):
            weights = np.vstack([chroma_of(tonic + step) for step in (*scale, 0, 0, 7, scale[2])])
            assert key_fits(weights).argmax() == 12 * i + tonic


def test_nothing_has_no_chord_and_no_key() -> None:
    assert (chord_shares(np.zeros((3, 12))) == 0).all() and chord_shares(np.zeros((0, 12))).shape == (0, 60)
    assert (key_fits(np.zeros((3, 12))) == 0).all() and (key_fits(np.zeros((0, 12))) == 0).all()
