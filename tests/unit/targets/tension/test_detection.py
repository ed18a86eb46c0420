"""The release of a tension, on chords whose answer is known and on degenerate audio."""

import numpy as np
import pytest

from benchmarks.releases import SAMPLE_RATE_HZ, SETTINGS, draw
from reprise.audio.synth import Note, render
from reprise.config.validation import ConfigError, validate
from reprise.targets.tension.detection import (
    FRAME_S,
    find_releases,
    functions,
    harmony_frames,
    release_scores,
    releases_so_far,
    score_curve,
    tensions,
)
from reprise.targets.tension.settings import TensionSettings, extent
from tests.places import ROOT

LENGTHS = {"build_s": 3.0, "rest_s": 2.0}
C, G = 0, 7
TRIAD, SEVENTH = (0, 4, 7), (0, 4, 7, 10)


def chords(*played: tuple[int, tuple[int, ...], float]) -> np.ndarray:
    """Chords one after the other, each with its root, its steps above it and its seconds."""
    notes, at_s = [], 0.0
    for root, steps, held_s in played:
        notes += [Note(at_s, held_s, 48 + root + step, 0.4) for step in steps]
        at_s += held_s
    return render(notes, timbre="organ", duration_s=at_s, sample_rate_hz=SAMPLE_RATE_HZ)


def test_a_key_knows_its_tonic_and_its_dominants() -> None:
    frames = harmony_frames(chords((C, TRIAD, 4.0), (G, SEVENTH, 4.0)), SAMPLE_RATE_HZ)
    in_c, in_g = tensions(frames)[[C, G]]
    assert in_c[4:14].max() < -0.8 and in_c[-12:].min() > 0.8
    # The tonic of C is no dominant of G, and a seventh chord is no tonic.
    assert abs(in_g[4:14]).max() < 0.2 and abs(in_g[-12:]).max() < 0.2
    # Major and minor have the same dominants: three on two notes, and a diminished seventh with three names.
    table = functions()
    assert (table == -1).sum(axis=1).tolist() == [1] * 24 and ((table == 1).sum(axis=1) == 3 + 4).all()
    assert ((table[:12] == 1) == (table[12:] == 1)).all()


def test_a_release_needs_the_tension_before_and_the_rest_after() -> None:
    tension = np.zeros((1, 40))
    tension[0, 8:20], tension[0, 20:] = 1.0, -1.0
    full = release_scores(tension, np.ones(1), build=12, rest=8)
    assert full.shape == (1, 41) and full.argmax() == 20 and full.max() == pytest.approx(1)
    for missing in (slice(8, 20), slice(20, 40)):
        without = tension.copy()
        without[0, missing] = 0.0
        assert (release_scores(without, np.ones(1), build=12, rest=8) == 0).all()
    # Another key counts less, and half of the tension gives the root of a half.
    assert release_scores(tension, np.full(1, 0.5), build=12, rest=8).max() == pytest.approx(0.5)
    tension[0, 8:14] = 0.0
    assert release_scores(tension, np.ones(1), build=12, rest=8)[0, 20] == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize(
    "last, is_found",
    [((C, TRIAD), True), ((G, SEVENTH), False), ((9, (0, 3, 7)), False), ((8, TRIAD), False)],
    ids=["tonic", "goes on", "relative minor", "flat sixth"],
)
def test_only_the_tonic_releases_its_dominant(last: tuple[int, tuple[int, ...]], is_found: bool) -> None:
    opening = [(C, TRIAD, 1.0), (5, TRIAD, 1.0)] * 3
    audio = chords(*opening, (C, TRIAD, 1.0), (G, SEVENTH, 4.0), (*last, 5.0))
    found = find_releases(audio, SAMPLE_RATE_HZ, SETTINGS, seed=[0]).events
    assert found["accepted"].any() == is_found
    if is_found:
        (event,) = found[found["accepted"]].to_dict("records")
        assert event["onset_s"] == pytest.approx(11.0, abs=0.3)
        assert (event["tonic"], event["is_major"]) == (C, True)


def test_loudness_is_not_heard() -> None:
    scene = draw("cadence", 0)
    t = np.arange(len(scene.audio)) / SAMPLE_RATE_HZ
    for gain in (0.1 * np.ones(len(t)), 10 ** (-t / 20), np.where(t < scene.onset_s, 1.0, 0.2)):
        plain, changed = (
            score_curve(audio.astype(np.float32), SAMPLE_RATE_HZ, **LENGTHS).score.max()
            for audio in (scene.audio, scene.audio * gain)
        )
        assert changed == pytest.approx(plain, abs=0.03)
    softer = find_releases(
        (scene.audio * np.where(t < scene.onset_s, 1.0, 0.1)).astype(np.float32), SAMPLE_RATE_HZ, SETTINGS, seed=[0]
    ).events
    best = softer.loc[softer["score"].idxmax()]
    assert best["loudness_fall_db"] == pytest.approx(20, abs=5)


def test_what_is_known_so_far_is_nothing_of_the_future() -> None:
    audio = draw("cadence", 1).audio
    known, names = releases_so_far(audio, SAMPLE_RATE_HZ, frame_rate_hz=50.0, **LENGTHS)
    assert names == ["release_so_far", "release_since_s", "tension"]
    assert known.shape == (round(len(audio) / SAMPLE_RATE_HZ * 50) + 1, 3) and known[-1, 0] > 0.4
    for position in (300, 611, 900):
        start = round(position / 50 * SAMPLE_RATE_HZ)
        other = audio.copy()
        other[start:] = np.random.default_rng(1).normal(size=len(audio) - start)
        changed, _ = releases_so_far(other, SAMPLE_RATE_HZ, frame_rate_hz=50.0, **LENGTHS)
        assert (changed[: position + 1] == known[: position + 1]).all()
        assert (changed != known).any()


def test_what_is_known_so_far_at_the_end_is_the_curve_of_the_clip() -> None:
    scene = draw("cadence", 2)
    known, _ = releases_so_far(scene.audio, SAMPLE_RATE_HZ, frame_rate_hz=50.0, **LENGTHS)
    curve = score_curve(scene.audio, SAMPLE_RATE_HZ, **LENGTHS)
    assert known[-1, 0] == pytest.approx(curve.score.max())
    assert 20 - known[-1, 1] == pytest.approx(curve.time_s[curve.score.argmax()], abs=3 * FRAME_S)


def test_a_continuation_is_scored_as_its_events_are() -> None:
    scene = draw("cadence", 3)
    events = find_releases(scene.audio, SAMPLE_RATE_HZ, SETTINGS, seed=[0]).events
    curve = score_curve(scene.audio, SAMPLE_RATE_HZ, **LENGTHS)
    best = events.loc[events["score"].idxmax()]
    assert best["accepted"] and best["score"] == pytest.approx(curve.score.max())
    assert best["onset_s"] == pytest.approx(curve.time_s[curve.score.argmax()])
    assert abs(best["onset_s"] - scene.onset_s) <= 0.5


@pytest.mark.parametrize("seconds", [0.5, 4.0, 20.0])
def test_silence_and_short_clips_have_no_release(seconds: float) -> None:
    silence = np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)
    found = find_releases(silence, SAMPLE_RATE_HZ, SETTINGS, seed=[0])
    assert not len(found.events) and found.reference_end_s == 0 and "tonic" in found.no_events_because
    known, _ = releases_so_far(silence, SAMPLE_RATE_HZ, frame_rate_hz=50.0, **LENGTHS)
    assert (known == 0).all() and (score_curve(silence, SAMPLE_RATE_HZ, **LENGTHS).score == 0).all()


def test_settings_that_nothing_can_pass_are_named() -> None:
    study = {"model": {"name": "resources/planner"}, "prompts": "config/prompts.tsv", "target": "tension"}
    for changed, said in (
        ({"n_surrogates": 9}, "events.n_surrogates: got 9, too few"),
        ({"candidate_score": 0.9}, "events.candidate_score: got 0.9; valid: at most"),
        ({"build_s": 0.2}, "events.build_s"),
    ):
        with pytest.raises(ConfigError, match=said):
            validate({"studies": {"s": study | {"events": changed}}}, base_dir=ROOT, check_files=False)
    assert extent(TensionSettings().model_dump())[:3] == (3.0, 0.0, 2.0)
