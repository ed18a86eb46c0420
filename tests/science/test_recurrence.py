"""Planted returns are found and decoys are not, at the shipped settings: the targets of a recurrence label.

What is drawn, and what counts: `benchmarks/planted.py`. The same measurement at more clips: `benchmarks/labels.json`.
"""

from functools import cache

import numpy as np
import pytest

from benchmarks.plain import plain_curve, plain_curves
from benchmarks.planted import (
    CLIP_S,
    DECOYS,
    MOST_IN_COMMON,
    RETURNS,
    SAMPLE_RATE_HZ,
    SETTINGS,
    SHIPPED,
    SNRS_DB,
    Found,
    draw,
    false_events,
    look,
    recall,
)
from benchmarks.scores import ScoreNote, agreement, find_truth, roll
from reprise.targets.recurrence.detection import DEFAULT_SETTINGS

N_RETURNS, N_DECOYS = 40, 60


@cache
def found(kind: str, snr_db: int | None) -> list[Found]:
    return [look(draw(kind, seed, snr_db=snr_db)) for seed in range(N_RETURNS)]


@cache
def found_in_decoys(kind: str) -> list[Found]:
    return [look(draw(kind, seed, snr_db=SNRS_DB[seed % len(SNRS_DB)])) for seed in range(N_DECOYS)]


def test_the_shipped_settings_are_measured():
    assert SETTINGS == DEFAULT_SETTINGS
    assert (SHIPPED.motif_start_s, SHIPPED.motif_duration_s) == (2.0, 2.0)


@pytest.mark.parametrize("snr_db", SNRS_DB)
@pytest.mark.parametrize("kind", ["exact", "transposed"])
def test_exact_and_transposed_returns_are_found(kind, snr_db):
    """Recall at least 0.9 and a median onset error of at most 0.25 s."""
    measured = recall(found(kind, snr_db))
    print(kind, snr_db, measured)
    assert measured["value"] >= 0.9, measured
    assert measured["median_onset_error_s"] <= 0.25, measured


@pytest.mark.parametrize("kind", ["tempo", "tempo_transposed"])
def test_returns_at_another_tempo_are_found(kind):
    measured = recall(found(kind, 10))
    print(kind, 10, measured)
    assert measured["value"] >= 0.9, measured
    assert measured["median_onset_error_s"] <= 0.25, measured


def test_what_surrounds_a_return_is_not_taken_for_one():
    measured = false_events([Found(f.scene, np.nan, f.n_false) for kind in RETURNS for f in found(kind, 10)])
    print("beside a return", measured)
    assert measured["value"] <= 0.05, measured


@pytest.mark.parametrize("kind", DECOYS)
def test_decoys_have_no_return(kind):
    """At most 5% of the decoys of each kind give a false event."""
    measured = false_events(found_in_decoys(kind))
    print(kind, measured)
    assert measured["value"] <= 0.05, measured


def test_scenes_are_what_they_say():
    """The motif's notes come back as drawn, and nothing else agrees with it in half of its notes."""
    scene = draw("transposed", 3)
    motif = [n for n in scene.notes if 2.0 - 1e-9 <= n.onset_s < 4.0 - 1e-9]
    again = [n for n in scene.notes if scene.onset_s - 1e-9 <= n.onset_s < scene.onset_s + 2.0 - 1e-9]
    assert [n.onset_s - 2.0 for n in motif] == pytest.approx([n.onset_s - scene.onset_s for n in again])
    assert len({a.midi - b.midi for a, b in zip(again, motif, strict=True)} - {0}) == 1
    assert scene.onset_s >= 7.0 and max(n.onset_s + n.duration_s for n in scene.notes) <= CLIP_S
    np.testing.assert_array_equal(scene.audio(), draw("transposed", 3).audio())
    noisy = draw("transposed", 3, snr_db=10).audio() - scene.audio()
    assert scene.audio().std() / noisy.std() == pytest.approx(10**0.5, rel=1e-3)
    tune = draw("tune", 3)
    steps = tuple(ScoreNote(n.onset_s / 1.5, (n.duration_s + 0.02) / 1.5, int(n.midi)) for n in tune.notes)
    sounding = roll(steps, stop_q=CLIP_S / 1.5)
    assert agreement(sounding[32:], sounding[16:32], stride=1)[0].max() < MOST_IN_COMMON
    with pytest.raises(KeyError):
        draw("polka", 0)


def test_the_truth_of_a_score():
    """A return after other music, a transposed one, a repeat on the heels of its like, and a variant."""
    tune = (0, 2, 4, 5, 7, 4, 2, 0)
    other = (11, 6, 10, 1, 3, 8, 9, 10)
    altered = (0, 2, 4, 5, 7, 4, 9, 11)
    bars = [tune, other, tune, tune, other, tuple(p + 3 for p in tune), other, altered]
    notes = tuple(ScoreNote(4 * i + j / 2, 0.5, 60 + p) for i, bar in enumerate(bars) for j, p in enumerate(bar))
    truth = find_truth(notes, start_q=0, length_q=4, stop_q=32, gap_q=3)
    assert truth.returns.tolist() == [8, 20] and truth.transpositions.tolist() == [0, 3]
    assert truth.too_soon.tolist() == [12] and 28 in truth.variants.tolist()


def test_the_plain_method_is_librosas():
    """All alignments at once are those that librosa.sequence.dtw gives one by one."""
    audio = draw("exact", 1).audio()
    how = {"motif_start_s": 2.0, "motif_duration_s": 2.0, "frame_s": 0.128, "hop_s": 0.5}
    onsets_s, scores = plain_curve(audio, SAMPLE_RATE_HZ, **how)
    at_once_s, in_keys = plain_curves(audio, SAMPLE_RATE_HZ, **how)
    np.testing.assert_array_equal(onsets_s, at_once_s)
    np.testing.assert_allclose(in_keys[0], scores, atol=1e-5)
