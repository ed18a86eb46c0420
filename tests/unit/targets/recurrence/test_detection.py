"""Recurrences of motifs in rendered music, where it is known what returns, when and how."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from reprise.audio.chroma import FRAME_RATE_HZ, clip_features, motif_content
from reprise.audio.synth import Note, render
from reprise.organisms.score import BAR_S, CLIP_S, FILLERS, INSTRUMENTS, MOTIFS, Clip, clip_notes, draw_clip
from reprise.targets.recurrence.detection import DEFAULT_SETTINGS, EVENT_COLUMNS, find_events
from reprise.targets.recurrence.matching import WARP_COST, Motif, curve_of, match_curve, motif_template
from reprise.targets.target import best_event

RATE_HZ = 16_000
FRAME_S = 1 / FRAME_RATE_HZ
CLIP = Clip("piano", "c", "ember", 0, 5, (0, 1, 2, 3, 0, 1, 2, 3))


def rendered(notes, instrument="piano", rate_hz=RATE_HZ, duration_s=CLIP_S):
    return render(notes, timbre=instrument, duration_s=duration_s, sample_rate_hz=rate_hz)


def audio_of(clip, rate_hz=RATE_HZ):
    return rendered(clip_notes(clip), clip.instrument, rate_hz)


def events_of(audio, rate_hz=RATE_HZ, start_s=2.0, duration_s=2.0, **kwargs):
    return find_events(audio, rate_hz, motif_start_s=start_s, motif_duration_s=duration_s, **kwargs)


def accepted_onsets(audio, rate_hz=RATE_HZ, **kwargs):
    events = events_of(audio, rate_hz, **kwargs)
    return events.loc[events["accepted"], "onset_s"].tolist()


def figure(notes_of, start_s, *, transpose=0, tempo=1.0):
    """One bar's notes placed at `start_s`."""
    out, step = [], 0
    for length, semitone in zip(*notes_of, strict=True):
        out.append(Note(start_s + step * 0.2 / tempo, (length - 0.2) * 0.2 / tempo, 60 + semitone + transpose))
        step += length
    return out


def with_altered_return(**changes):
    kept = [n for n in clip_notes(CLIP) if not 10 <= n.onset_s < 12.5]
    return rendered(kept + figure(MOTIFS[CLIP.motif], 10.0, **changes))


def noisy(audio, snr_db, seed):
    noise = np.random.default_rng(seed).normal(0, audio.std() * 10 ** (-snr_db / 20), len(audio))
    return (audio + noise).astype(np.float32)


def test_every_return_is_found_at_its_time_and_nothing_else():
    rng = np.random.default_rng(11)
    clips = [draw_clip(rng) for _ in range(40)]
    assert {c.return_bar for c in clips} == {-1, 5, 6} and {c.instrument for c in clips} == set(INSTRUMENTS)
    for i, clip in enumerate(clips):
        expected = [clip.return_bar * BAR_S] if clip.return_bar > 0 else []
        assert accepted_onsets(audio_of(clip), seed=i) == pytest.approx(expected, abs=FRAME_S / 2), clip


@pytest.mark.parametrize("snr_db", [10, 0])
def test_returns_survive_noise(snr_db):
    rng = np.random.default_rng(12)
    for i in range(8):
        clip = draw_clip(rng)
        expected = [clip.return_bar * BAR_S] if clip.return_bar > 0 else []
        found = accepted_onsets(noisy(audio_of(clip), snr_db, i), seed=i)
        assert found == pytest.approx(expected, abs=FRAME_S), clip


def test_an_exact_return_scores_one_at_any_sample_rate():
    for rate_hz in (16_000, 32_000):
        events = events_of(audio_of(CLIP, rate_hz), rate_hz)
        event = events[events["accepted"]].iloc[0]
        assert list(events.columns) == list(EVENT_COLUMNS)
        assert event["score"] == pytest.approx(1, abs=0.01) and event["transposition"] == 0
        assert event["tempo_ratio"] == 1 and event["duration_s"] == pytest.approx(2)
        assert event["p_value"] <= 0.05 and event["gap_s"] == pytest.approx(6) and event["reason"] == ""


@pytest.mark.parametrize("semitones", [3, 7, -2])
def test_transposed_returns_are_found_with_their_interval(semitones):
    events = events_of(with_altered_return(transpose=semitones))
    event = events[events["accepted"]].iloc[0]
    assert event["onset_s"] == pytest.approx(10, abs=FRAME_S) and event["transposition"] == semitones % 12
    assert event["score"] > 0.95


@pytest.mark.parametrize("tempo", [0.88, 1.12])
def test_slower_and_faster_returns_are_found_with_their_tempo(tempo):
    events = events_of(with_altered_return(tempo=tempo))
    event = events[events["accepted"]].iloc[0]
    assert event["onset_s"] == pytest.approx(10, abs=1.5 * FRAME_S)
    # Coarse, and towards 1: a held last note can be matched short, and leaving the diagonal has its cost.
    assert event["tempo_ratio"] == pytest.approx(tempo, abs=0.1) and (event["tempo_ratio"] - 1) * (tempo - 1) > 0


def test_half_tempo_is_outside_the_bound():
    assert accepted_onsets(with_altered_return(tempo=0.5)) == []


def warp_by_hand(similarity):
    """Best path cost and end for each onset, by the definition: recursion over steps (1, 1), (4, 5), (5, 4)."""
    n_motif, n_clip = similarity.shape

    @cache
    def best(i, j):
        if i == n_motif:
            return (0.0, j) if j <= n_clip else (-np.inf, j)
        options = []
        for di, dj in ((1, 1), (4, 5), (5, 4)):
            if i + di > n_motif or j + dj > n_clip:
                continue
            if di == 1:
                cost = similarity[i, j]
            elif di == 4:
                cost = sum(similarity[i + k, j + k] for k in range(4)) - WARP_COST / n_motif
            else:
                cost = similarity[i, j] + sum(similarity[i + 1 + k, j + k] for k in range(4)) - WARP_COST / n_motif
            rest, end = best(i + di, j + dj)
            options.append((cost + rest, end))
        return max(options, default=(-np.inf, j))

    return [best(0, j) for j in range(n_clip)]


def test_match_curve_is_the_best_path_of_the_definition():
    rng = np.random.default_rng(5)

    def frames(n):
        x = rng.normal(size=(n, 12))
        x -= x.mean(axis=1, keepdims=True)
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    motif = Motif(frames(13), np.full(13, 1 / 13, dtype=np.float32), 13 * FRAME_S, 0.0, RATE_HZ)
    clip = np.concatenate(
        [frames(9), np.roll(motif.chroma[[0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]], 4, 1), frames(9)]
    )
    curve = curve_of(clip, motif, 0)
    by_hand = [warp_by_hand(np.roll(motif.chroma, s, axis=1) @ clip.T / 13) for s in range(12)]
    for j in range(len(curve.score)):
        scores = [by_hand[s][j][0] for s in range(12)]
        assert curve.score[j] == pytest.approx(max(0, *scores), abs=1e-5)
        if max(scores) > 0:
            assert curve.transposition[j] == int(np.argmax(scores))
            end = by_hand[curve.transposition[j]][j][1]
            assert curve.duration_s[j] == pytest.approx((end - j) * FRAME_S)
    assert curve.score.argmax() == 9 and curve.transposition[9] == 4


def test_repeated_fillers_and_another_tune_are_no_return():
    same_filler = CLIP._replace(return_bar=-1, fillers=(1,) * 8)
    assert accepted_onsets(audio_of(same_filler)) == []
    for name in MOTIFS:
        if name != CLIP.motif:
            kept = [n for n in clip_notes(CLIP) if not 10 <= n.onset_s < 12]
            assert accepted_onsets(rendered(kept + figure(MOTIFS[name], 10.0))) == [], name


def test_a_loop_fails_by_its_gap():
    loop = [n for bar in range(8) for n in figure(MOTIFS["ember"], bar * BAR_S)]
    events = events_of(rendered(loop))
    assert not events["accepted"].any() and (events["score"] > 0.95).all()
    assert events["reason"].str.contains("gap").all() and (events["gap_s"] < 2).all()


def test_a_second_return_needs_its_own_gap():
    fillers = [n for bar in (2, 3, 4, 7) for n in figure(FILLERS[bar % 4], bar * BAR_S)]
    returns = [n for bar in (1, 5, 6) for n in figure(MOTIFS["ember"], bar * BAR_S)]
    events = events_of(rendered(fillers + returns))
    strong = events[events["score"] > 0.9]
    assert strong["onset_s"].tolist() == pytest.approx([10, 12], abs=FRAME_S)
    assert strong["accepted"].tolist() == [True, False] and strong["reason"].iloc[1] == "gap"


def test_texture_fails_by_timbre_though_it_scores():
    # A chord struck again and again with a melody too soft to matter: matches itself in any order.
    def chords(start_s, stop_s, pitches):
        return [Note(t, 0.35, p, 0.8) for t in np.arange(start_s, stop_s - 0.01, 0.4) for p in pitches]

    motif = chords(2, 4, (60, 64, 67))
    rest = [n for bar in (2, 3, 4, 6, 7) for n in figure(FILLERS[bar % 4], bar * BAR_S)]
    audio = rendered(motif + rest + chords(10, 12, (60, 64, 67)))
    events = events_of(audio, settings=DEFAULT_SETTINGS._replace(min_entropy_bits=0.0))
    texture = events[(events["onset_s"] - 10).abs() < 0.5].iloc[0]
    assert texture["score"] > 0.9 and texture["timbre_score"] > 0.85
    assert not texture["accepted"] and "timbre" in texture["reason"]


def test_p_value_counts_surrogates():
    events = events_of(audio_of(CLIP))
    assert events["p_value"].between(0.01, 1).all()
    few = events_of(audio_of(CLIP), settings=DEFAULT_SETTINGS._replace(n_surrogates=9))
    best = few.loc[few["score"].idxmax()]
    assert best["p_value"] >= 0.1 and "p_value" in best["reason"] and not best["accepted"]


def test_unrelated_tunes_have_uniform_p_values():
    """Without a return, a p-value at most x in about a share x of clips (here: not twice that at x = 0.2)."""
    small, n = 0, 0
    for i in range(60):
        rng = np.random.default_rng([21, i])
        notes, t_s = [], 0.0
        while t_s < 12:
            length_s = float(rng.choice([0.25, 0.25, 0.5]))
            notes.append(Note(t_s, 0.9 * length_s, 60 + int(rng.choice([0, 2, 4, 5, 7, 9, 11, 12, 14, 16]))))
            t_s += length_s
        events = events_of(rendered(notes, duration_s=12.0), seed=i)
        if len(events):
            n += 1
            small += events["p_value"].min() <= 0.2
    assert n >= 40 and small / n < 0.4


@pytest.mark.parametrize("notes", [[Note(0, 16, 60)], [Note(0, 16, 48), Note(0, 16, 60), Note(0, 16, 67)]])
def test_a_drone_has_too_little_to_recognise(notes):
    events = events_of(rendered(notes, "organ"))
    assert events.empty and "entropy" in events.attrs["no_events_because"]


def test_silence_and_a_motif_at_the_end_say_why_there_is_nothing():
    silent = events_of(np.zeros(16 * RATE_HZ, dtype=np.float32))
    assert silent.empty and "entropy is 0.00 bits" in silent.attrs["no_events_because"]
    assert silent.dtypes.to_dict() == pd.DataFrame(columns=list(EVENT_COLUMNS)).astype(EVENT_COLUMNS).dtypes.to_dict()
    late = events_of(audio_of(CLIP), start_s=13.0)
    assert late.empty and "before the motif could return" in late.attrs["no_events_because"]


def test_content_counts_the_notes_of_a_motif():
    for name, (lengths, _) in MOTIFS.items():
        clip = CLIP._replace(motif=name)
        for audio in (audio_of(clip), noisy(audio_of(clip), 10, 1)):
            content = motif_content(audio, RATE_HZ, start_s=2.0, duration_s=2.0)
            assert abs(content.n_onsets - len(lengths)) <= 1 and content.entropy_bits >= 1.5, name


def test_a_motif_is_measured_in_other_audio():
    motif = motif_template(audio_of(CLIP), RATE_HZ, start_s=2.0, duration_s=2.0)
    other = CLIP._replace(return_bar=6, fillers=(3, 2, 1, 0, 3, 2, 1, 0))
    curve, without = match_curve(audio_of(other), motif), match_curve(audio_of(other._replace(return_bar=-1)), motif)
    score, onset_s, _ = best_event(curve, start_s=11.0, stop_s=13.0)
    assert score > 0.95 and onset_s == pytest.approx(12, abs=FRAME_S)
    assert best_event(without, start_s=11.0, stop_s=13.0)[0] < 0.7
    assert curve.time_s[(curve.time_s < 9) & (curve.score >= 0.8)] == pytest.approx(2, abs=0.4)
    assert curve.time_s[curve.score >= 0.8].max() == pytest.approx(12, abs=0.4)
    nowhere, no_onset_s, _ = best_event(curve, start_s=15.5, stop_s=16.0)
    assert nowhere == 0 and np.isnan(no_onset_s)


def test_a_long_motif_that_slows_down_is_found():
    rng = np.random.default_rng(8)

    def melody(duration_s):
        notes, t_s = [], 0.0
        while t_s < duration_s - 0.2:
            length_s = float(rng.choice([0.25, 0.5, 0.75]))
            notes.append(Note(t_s, 0.9 * length_s, 60 + int(rng.choice([0, 2, 4, 5, 7, 9, 11, 12, 14]))))
            t_s += length_s
        return notes

    motif, middle, end = melody(6), melody(8), melody(5)
    slower = [n._replace(onset_s=14 + n.onset_s * (1 + n.onset_s / 50)) for n in motif]
    notes = motif + [n._replace(onset_s=n.onset_s + 6) for n in middle] + slower
    notes += [n._replace(onset_s=n.onset_s + 21) for n in end]
    audio = rendered(notes, duration_s=26.0)
    assert accepted_onsets(audio, start_s=0.0, duration_s=6.0) == pytest.approx([14], abs=0.2)


def test_same_input_same_table_and_the_seed_moves_surrogates_alone():
    audio = audio_of(CLIP._replace(return_bar=-1))
    first, again, other = (events_of(audio, seed=s) for s in ([1, 2], [1, 2], [1, 3]))
    pd.testing.assert_frame_equal(first, again)
    assert not first["p_value"].equals(other["p_value"])
    pd.testing.assert_frame_equal(first.drop(columns=["p_value", "reason"]), other.drop(columns=["p_value", "reason"]))


def test_loudness_does_not_matter():
    audio = audio_of(CLIP)
    quiet, loud = clip_features(audio * np.float32(0.01), RATE_HZ), clip_features(audio, RATE_HZ)
    np.testing.assert_allclose(quiet.chroma, loud.chroma, atol=1e-4)
    assert accepted_onsets(audio * np.float32(0.01)) == accepted_onsets(audio) != []


def test_bad_input_is_named():
    audio = audio_of(CLIP)
    with pytest.raises(ValueError, match="valid: mono"):
        events_of(np.stack([audio, audio]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        events_of(np.where(np.arange(len(audio)) == 5, np.nan, audio))
    with pytest.raises(ValueError, match="dtype int16"):
        events_of((audio * 30_000).astype(np.int16))
    with pytest.raises(ValueError, match=r"spans 2-4 s; valid: within the clip, 0-3 s"):
        events_of(audio[: 3 * RATE_HZ])
    with pytest.raises(ValueError, match=r"motif_duration_s: is 0\.5"):
        events_of(audio, duration_s=0.5)
