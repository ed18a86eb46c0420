"""Descriptors: causal to the last bit, within the declared window, and right on signals with a known answer."""

import numpy as np
import pytest

from reprise.audio.descriptors import FLOOR_DB, LONG_FRAME_S, N_MFCC, causal_descriptors
from reprise.audio.synth import Note, render
from reprise.organisms.score import clip_notes, draw_clip

RATE_HZ, FRAME_RATE_HZ, CONTEXT_S = 16_000, 25.0, 3.0


def describe(audio, rate_hz=RATE_HZ, frame_rate_hz=FRAME_RATE_HZ, context_s=CONTEXT_S):
    return causal_descriptors(audio, rate_hz, frame_rate_hz=frame_rate_hz, context_s=context_s)


@pytest.fixture(scope="module")
def music():
    clip = draw_clip(np.random.default_rng(3))
    return render(clip_notes(clip), timbre=clip.instrument, duration_s=10.0, sample_rate_hz=RATE_HZ)


def column(table, names, name):
    return table[:, names.index(name)]


@pytest.mark.parametrize(("rate_hz", "frame_rate_hz"), [(16_000, 25.0), (32_000, 50.0), (22_050, 30.0)])
@pytest.mark.parametrize("t_s", [0.0, 1.3, 4.0])
def test_nothing_after_t_changes_a_descriptor_at_t(music, rate_hz, frame_rate_hz, t_s):
    audio = np.resize(music, 6 * rate_hz)
    scrambled = audio.copy()
    cut = int(np.ceil(t_s * rate_hz))
    scrambled[cut:] = np.random.default_rng(0).normal(0, 0.3, len(audio) - cut)
    before, _ = describe(audio, rate_hz, frame_rate_hz)
    after, _ = describe(scrambled, rate_hz, frame_rate_hz)
    position = int(t_s * frame_rate_hz)
    np.testing.assert_array_equal(before[: position + 1], after[: position + 1])
    # And the very next position hears the difference: the test could fail.
    assert (before[position + 1] != after[position + 1]).any()


def test_nothing_before_the_declared_window_changes_a_descriptor(music):
    scrambled = music.copy()
    scrambled[: 4 * RATE_HZ] = np.random.default_rng(0).normal(0, 0.3, 4 * RATE_HZ)
    before, after = describe(music)[0], describe(scrambled)[0]
    clear = int((4 + CONTEXT_S) * FRAME_RATE_HZ)
    np.testing.assert_array_equal(before[clear:], after[clear:])
    assert (before[clear - 8] != after[clear - 8]).any()


def test_shape_names_and_finiteness(music):
    table, names = describe(music)
    assert table.shape == (251, 85) and table.dtype == np.float32 and np.isfinite(table).all()
    assert len(names) == len(set(names)) == 85
    assert sum(name.startswith("now_chroma_") for name in names) == 12
    assert sum(name.startswith("std_mfcc_") for name in names) == N_MFCC


def test_a_tone_is_what_it_is():
    t = np.arange(5 * RATE_HZ) / RATE_HZ
    table, names = describe((0.1 * np.sin(2 * np.pi * 440.0 * t)).astype(np.float32))
    last = dict(zip(names, table[-1], strict=True))
    assert last["now_chroma_a"] == max(last[n] for n in names if n.startswith("now_chroma_"))
    assert last["now_loudness_db"] == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.1)
    assert last["now_centroid_hz"] == pytest.approx(440, abs=2)
    assert last["mean_centroid_hz"] == pytest.approx(440, abs=2) and last["std_loudness_db"] < 0.1
    assert last["now_onset_db"] < 0.1 < column(table, names, "now_onset_db")[1]


@pytest.mark.parametrize("bpm", [75.0, 125.0])
def test_a_pulse_has_its_tempo(bpm):
    notes = [Note(k * 60 / bpm, 0.1, 60) for k in range(int(8 * bpm / 60))]
    audio = render(notes, timbre="pluck", duration_s=8.0, sample_rate_hz=RATE_HZ)
    table, names = describe(audio)
    assert column(table, names, "tempo_bpm")[-1] == pytest.approx(bpm, rel=0.05)


def test_past_mean_and_deviation_are_over_whole_frames_in_the_window(music):
    table, names = describe(music)
    now = column(table, names, "now_centroid_hz").astype(np.float64)
    n = int((CONTEXT_S - LONG_FRAME_S) * FRAME_RATE_HZ + 1e-6) + 1
    for position in (0, 10, 200):
        past = now[max(0, position - n + 1) : position + 1]
        assert column(table, names, "mean_centroid_hz")[position] == pytest.approx(past.mean(), rel=1e-5)
        assert column(table, names, "std_centroid_hz")[position] == pytest.approx(past.std(), rel=1e-4, abs=1e-2)


def test_silence_is_described_not_refused():
    table, names = describe(np.zeros(4 * RATE_HZ, dtype=np.float32))
    assert np.isfinite(table).all() and len(table) == 101
    assert (column(table, names, "now_loudness_db") == FLOOR_DB).all()
    assert not column(table, names, "tempo_bpm").any() and not column(table, names, "now_chroma_c").any()


def test_bad_audio_is_named():
    good = np.zeros(RATE_HZ, dtype=np.float32)
    with pytest.raises(ValueError, match=r"shape \(2, 16000\); valid: mono"):
        describe(np.stack([good, good]))
    with pytest.raises(ValueError, match="1 samples are NaN"):
        describe(np.concatenate([good, [np.nan]]))
    with pytest.raises(ValueError, match="dtype int16"):
        describe(good.astype(np.int16))
    with pytest.raises(ValueError, match="in kHz"):
        describe(good, rate_hz=16)
    with pytest.raises(ValueError, match=r"context_s: is 0\.1"):
        describe(good, context_s=0.1)
