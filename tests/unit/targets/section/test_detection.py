"""The contrast of a section, on frames whose answer is known and on degenerate audio."""

import numpy as np
import pytest

from benchmarks.sections import SAMPLE_RATE_HZ, SETTINGS, draw
from reprise.audio.descriptors import power_spectra
from reprise.audio.synth import Note, render
from reprise.audio.timbre import harmonic_coefficients
from reprise.targets.section.detection import (
    FRAME_S,
    contrasts,
    find_sections,
    passage_distances,
    score_curve,
    score_of,
    section_features,
    sections_so_far,
    squared_distances,
)
from reprise.targets.section.settings import SectionSettings, extent, problems

LENGTHS = {"shortest_s": 4.0, "longest_s": 16.0}


def contrast_of(frames: np.ndarray) -> np.ndarray:
    return contrasts(passage_distances(squared_distances(frames.astype(np.float32))), 17, 67)


def test_two_textures_differ_most_where_one_becomes_the_other() -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(scale=0.1, size=(100, 3))
    frames[60:, 0] += 1
    found = contrast_of(frames)
    assert abs(int(found.argmax()) - 60) <= 1 and 0.7 < found.max() < 1
    # No section would be long enough there.
    assert (found[:17] == 0).all() and (found[-17:] == 0).all()


def test_material_that_repeats_is_near_to_itself() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 12, 3))
    found = contrast_of(np.vstack([first] * 4 + [second] * 4))
    assert abs(int(found.argmax()) - 48) <= 1
    # The same bars, but each comes once on either side.
    assert contrast_of(np.vstack([first, second] * 4)).max() < 0.2 * found.max()
    assert contrast_of(rng.normal(size=(96, 3))).max() < 0.2 * found.max()


def test_a_change_that_does_not_last_is_none() -> None:
    frames = np.random.default_rng(0).normal(scale=0.1, size=(100, 3))
    lasting = frames.copy()
    lasting[50:, 0] += 1
    frames[50:56, 0] += 1
    assert contrast_of(frames).max() < 0.3 * contrast_of(lasting).max()


def test_timbre_is_that_of_the_instrument_and_not_of_the_note_or_its_loudness() -> None:
    def timbre(instrument: str, midi: int, velocity: float = 0.8) -> np.ndarray:
        note = Note(0.0, 2.0, midi, velocity)
        audio = render([note], timbre=instrument, duration_s=2.0, sample_rate_hz=SAMPLE_RATE_HZ)
        return harmonic_coefficients(power_spectra(audio, np.array([SAMPLE_RATE_HZ]), 4096), SAMPLE_RATE_HZ)[0]

    other_note = np.linalg.norm(timbre("strings", 72) - timbre("strings", 65))
    other_instrument = np.linalg.norm(timbre("strings", 65) - timbre("clarinet", 65))
    assert other_note < other_instrument / 3
    np.testing.assert_allclose(timbre("organ", 60, 0.1), timbre("organ", 60), atol=1e-3)
    assert (harmonic_coefficients(np.zeros((1, 2049), np.float32), SAMPLE_RATE_HZ) == 0).all()


def test_what_is_known_so_far_is_nothing_of_the_future() -> None:
    audio = draw("timbre", 0).audio
    known, names = sections_so_far(audio, SAMPLE_RATE_HZ, frame_rate_hz=50.0, **LENGTHS)
    assert names == ["section_so_far", "section_since_s"]
    assert known.shape == (round(len(audio) / SAMPLE_RATE_HZ * 50) + 1, 2) and known[-1, 0] > 0.5
    for position in (300, 611, 900):
        other = audio.copy()
        other[round(position / 50 * SAMPLE_RATE_HZ) :] = np.random.default_rng(1).normal(
            size=len(audio) - round(position / 50 * SAMPLE_RATE_HZ)
        )
        changed, _ = sections_so_far(other, SAMPLE_RATE_HZ, frame_rate_hz=50.0, **LENGTHS)
        assert (changed[: position + 1] == known[: position + 1]).all()
        assert (changed != known).any()


def test_what_is_known_so_far_at_the_end_is_the_curve_of_the_clip() -> None:
    scene = draw("material", 1)
    known, _ = sections_so_far(scene.audio, SAMPLE_RATE_HZ, frame_rate_hz=50.0, **LENGTHS)
    curve = score_curve(scene.audio, SAMPLE_RATE_HZ, **LENGTHS)
    assert known[-1, 0] == curve.score.max()
    assert 24 - known[-1, 1] == pytest.approx(curve.time_s[curve.score.argmax()], abs=FRAME_S)


def test_a_continuation_is_scored_as_its_events_are() -> None:
    scene = draw("material", 2)
    events = find_sections(scene.audio, SAMPLE_RATE_HZ, SETTINGS, seed=[0]).events
    curve = score_curve(scene.audio, SAMPLE_RATE_HZ, **LENGTHS)
    best = events.loc[events["score"].idxmax()]
    assert best["accepted"] and best["score"] == pytest.approx(curve.score.max())
    assert best["onset_s"] == pytest.approx(curve.time_s[curve.score.argmax()])
    assert abs(best["onset_s"] - scene.onset_s) <= 0.5
    assert best["chroma_contrast"] > best["timbre_contrast"]


@pytest.mark.parametrize("seconds", [0.5, 7.0, 24.0])
def test_silence_and_short_clips_have_no_section(seconds: float) -> None:
    silence = np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)
    found = find_sections(silence, SAMPLE_RATE_HZ, SETTINGS, seed=[0])
    assert not len(found.events) and found.reference_end_s == 0 and "unlike" in found.no_events_because
    known, _ = sections_so_far(silence, SAMPLE_RATE_HZ, frame_rate_hz=50.0, **LENGTHS)
    assert (known == 0).all() and np.isfinite(section_features(silence, SAMPLE_RATE_HZ)).all()


def test_a_score_is_between_nothing_and_one() -> None:
    score = score_of(np.array([-1.0, 0.0, 0.45, 100.0]))
    assert (score[:2] == 0).all() and score[2] == pytest.approx(0.5) and 0.99 < score[3] < 1


def test_settings_that_nothing_can_pass_are_named() -> None:
    shipped = SectionSettings().model_dump()
    assert not list(problems(shipped))
    for changed, field in (
        ({"n_surrogates": 9}, "n_surrogates"),
        ({"candidate_score": 0.9}, "candidate_score"),
        ({"longest_s": 3.5}, "longest_s"),
    ):
        (problem,) = problems(shipped | changed)
        assert problem.field == field and "valid: at " in problem.text
    assert extent(shipped).heard_for_s == np.inf and extent(shipped).earliest_s == 4.0
