"""Which passage is the motif: told, snapped to beats, or found; and what a baseline may know of repetitions."""

from collections.abc import Sequence

import numpy as np
import pytest

from reprise.audio.chroma import clip_features
from reprise.audio.synth import Note, render
from reprise.organisms.score import BAR_S, FILLERS, MOTIFS, Clip, clip_notes
from reprise.targets.recurrence.detection import DEFAULT_SETTINGS
from reprise.targets.recurrence.motifs import (
    _pair_scores,
    clip_events,
    discover,
    on_beats,
    repeats_so_far,
)

RATE_HZ = 16_000
Figure = tuple[Sequence[int], Sequence[int]]
UNIQUE = [MOTIFS["delta"], FILLERS[0], MOTIFS["grove"], FILLERS[1], FILLERS[2], MOTIFS["heath"], FILLERS[3]]


def bars(figures: Sequence[Figure], transpose: Sequence[int] | None = None, timbre: str = "piano") -> np.ndarray:
    """A clip of one figure a bar of two seconds."""
    notes = []
    for i, (lengths, semitones) in enumerate(figures):
        starts = np.cumsum([0, *lengths[:-1]])
        shift = transpose[i] if transpose else 0
        notes += [
            Note(i * BAR_S + 0.2 * start, 0.2 * (length - 0.2), 60 + shift + semitone)
            for start, length, semitone in zip(starts, lengths, semitones, strict=True)
        ]
    return render(notes, timbre=timbre, duration_s=BAR_S * len(figures), sample_rate_hz=RATE_HZ)


def found(audio: np.ndarray) -> list[float]:
    return [p.start_s for p in discover(audio, RATE_HZ, duration_s=2.0, settings=DEFAULT_SETTINGS, seed=1)]


def test_a_passage_that_comes_back_is_discovered_wherever_it_is() -> None:
    for first, second in ((1, 4), (2, 6), (0, 5)):
        figures = list(UNIQUE)
        figures[second] = figures[first]
        assert found(bars(figures)) == [pytest.approx(BAR_S * first, abs=0.1)]


def test_a_transposed_repetition_is_discovered_and_its_return_is_an_event() -> None:
    figures = [*UNIQUE[:5], UNIQUE[1], UNIQUE[6]]
    audio = bars(figures, [0, 0, 0, 0, 0, 5, 0])
    assert found(audio) == [pytest.approx(BAR_S, abs=0.1)]
    clip = clip_events(audio, RATE_HZ, motif="discovered", start_s=0, duration_s=2.0)
    accepted = clip.events[clip.events["accepted"]]
    assert accepted["onset_s"].tolist() == [pytest.approx(10, abs=0.1)] and clip.no_events_because == ""
    assert (
        accepted["transposition"].tolist() == [5]
        and accepted["reference_start_s"].iloc[0] + 2.0 == clip.reference_end_s
    )


def test_nothing_is_discovered_where_nothing_comes_back() -> None:
    assert found(bars(UNIQUE)) == []
    clip = clip_events(bars(UNIQUE), RATE_HZ, motif="discovered", start_s=0, duration_s=2.0)
    assert (
        np.isnan(clip.reference_end_s)
        and clip.events.empty
        and clip.no_events_because == "clip: no passage in it repeats"
    )


@pytest.mark.parametrize("what", ["silence", "drone", "immediate repetition", "short"])
def test_what_is_no_motif_is_not_discovered(what: str) -> None:
    drone = [((10,), (0,))] * 7
    again = [UNIQUE[0], UNIQUE[1], UNIQUE[1], UNIQUE[2], UNIQUE[3], UNIQUE[4], UNIQUE[5]]
    audio = {
        "silence": np.zeros(14 * RATE_HZ, np.float32),
        "drone": bars(drone),
        "immediate repetition": bars(again),
        "short": bars([UNIQUE[0], UNIQUE[0]]),
    }[what]
    assert found(audio) == []


def test_two_motifs_of_one_clip_are_both_discovered() -> None:
    a, b, c = MOTIFS["amber"], MOTIFS["coral"], FILLERS[1]
    starts = sorted(found(bars([a, b, FILLERS[0], a, c, b, FILLERS[3]])))
    assert starts == pytest.approx([0, BAR_S], abs=0.1)


def test_the_p_value_of_a_searched_motif_counts_for_its_returns() -> None:
    audio = bars([*UNIQUE[:5], UNIQUE[1], UNIQUE[6]])
    clip = clip_events(audio, RATE_HZ, motif="discovered", start_s=0, duration_s=2.0)
    (motif,) = discover(audio, RATE_HZ, duration_s=2.0, settings=DEFAULT_SETTINGS, seed=[0, 1])
    assert motif.p_value > 0 and (clip.events["p_value"] >= motif.p_value).all()


def test_pair_scores_are_the_mean_correlations_of_their_definition() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 12))
    chroma = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    for width in (1, 6, 7, 13):
        scores = _pair_scores(chroma, width, 15)
        assert scores.shape == (41 - width, 41 - width)
        for i, j in ((0, 15), (3, 20), (2, 40 - width)):
            by_hand = max(
                np.mean([np.roll(chroma[i + u], k) @ chroma[j + u] for u in range(width)]) for k in range(12)
            )
            assert scores[i, j] == pytest.approx(by_hand, abs=1e-5)
        assert (scores[np.tri(len(scores), k=14, dtype=bool)] == -1).all()


def clicks(beat_s: float, duration_s: float) -> np.ndarray:
    notes = [Note(t, 0.1, 60 + 7 * (i % 2)) for i, t in enumerate(np.arange(0, duration_s - 0.1, beat_s))]
    return render(notes, timbre="piano", duration_s=duration_s, sample_rate_hz=RATE_HZ)


def test_ends_are_snapped_to_beats() -> None:
    passage = on_beats(clicks(0.5, 12.0), RATE_HZ, start_s=2.13, duration_s=4.05)
    assert passage.start_s == pytest.approx(2.0, abs=0.06)
    assert passage.start_s + passage.duration_s == pytest.approx(6.0, abs=0.06)


def test_an_end_stays_where_no_note_confirms_its_beat() -> None:
    # The beat at 2 s is a rest.
    times_s = [t for t in np.arange(0, 12, 0.5) if t != 2.0]
    audio = render([Note(t, 0.1, 67) for t in times_s], timbre="piano", duration_s=12.0, sample_rate_hz=RATE_HZ)
    passage = on_beats(audio, RATE_HZ, start_s=2.13, duration_s=4.05)
    assert passage.start_s == 2.13 and passage.start_s + passage.duration_s == pytest.approx(6.0, abs=0.06)
    # There is no beat, although the tracker always finds one.
    rng, n_moved = np.random.default_rng(5), 0
    for _ in range(12):
        notes = [Note(t, 0.1, 67) for t in np.cumsum(rng.uniform(0.13, 0.9, size=24))]
        audio = render(notes, timbre="piano", duration_s=14.0, sample_rate_hz=RATE_HZ)
        passage = on_beats(audio, RATE_HZ, start_s=2.13, duration_s=4.05)
        n_moved += abs(passage.start_s + passage.duration_s - 6.18) > 0.04
        assert passage.start_s == 2.13 or min(abs(note.onset_s - passage.start_s) for note in notes) < 0.05
    assert n_moved <= 3


def test_snapping_hears_nothing_after_the_motif() -> None:
    audio = clicks(0.5, 12.0)
    changed = audio.copy()
    changed[round(6.2 * RATE_HZ) :] = np.random.default_rng(0).normal(0, 0.1, len(audio) - round(6.2 * RATE_HZ))
    told = {"start_s": 2.13, "duration_s": 4.05}
    assert on_beats(audio, RATE_HZ, **told) == on_beats(changed, RATE_HZ, **told)
    assert on_beats(np.zeros_like(audio), RATE_HZ, **told)[:2] == (2.13, 4.05)


def test_repeats_so_far_know_a_repetition_when_it_has_been_heard_out_and_not_before() -> None:
    audio = bars([UNIQUE[0], UNIQUE[1], UNIQUE[2], UNIQUE[3], UNIQUE[1], UNIQUE[5], UNIQUE[6]])
    told = {"frame_rate_hz": 25.0, "duration_s": 2.0, "min_gap_s": 2.0}
    table, names = repeats_so_far(audio, RATE_HZ, **told)
    assert names == ["match_so_far", "match_since_s"] and table.shape == (14 * 25 + 1, 2)
    known = int(np.argmax(table[:, 0] > 0.9))
    assert 10.0 <= known / 25 <= 10.5
    best = int(table[:, 0].argmax())
    assert known <= best <= known + 12 and table[best + 25, 1] - table[best, 1] == pytest.approx(1.0)
    for t in (60, 200, 251, 300):
        changed = audio.copy()
        changed[t * RATE_HZ // 25 :] = np.random.default_rng(t).normal(0, 0.3, len(audio) - t * RATE_HZ // 25)
        assert np.array_equal(repeats_so_far(changed, RATE_HZ, **told)[0][: t + 1], table[: t + 1])


def test_a_motif_that_other_clips_have_too_is_rejected() -> None:
    clip = Clip("piano", "c", "ember", 0, 5, (0, 1, 2, 3, 0, 1, 2, 3))
    audio = render(clip_notes(clip), timbre="piano", duration_s=16, sample_rate_hz=RATE_HZ)
    strange = [clip_features(bars(UNIQUE[i:] + UNIQUE[:i]), RATE_HZ).chroma for i in range(7)] * 3
    told = {"motif": "opening", "start_s": 2.0, "duration_s": 2.0}
    alone = clip_events(audio, RATE_HZ, **told, others=strange[:3]).events
    assert alone["p_others"].isna().all() and alone["accepted"].sum() == 1
    among = clip_events(audio, RATE_HZ, **told, others=strange).events
    assert among.loc[among["accepted"], "p_others"].tolist() == [pytest.approx(1 / 22)]
    same = [clip_features(audio, RATE_HZ).chroma]
    shared = clip_events(audio, RATE_HZ, **told, others=strange + same * 2).events
    assert not shared["accepted"].any() and shared["reason"].str.contains("p_others").any()
