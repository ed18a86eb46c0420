"""Passages that come back are found: at several lengths, tempos and keys, among others, and by few surrogates."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from reprise.audio.chroma import FRAME_RATE_HZ, clip_features
from reprise.audio.synth import Note, render
from reprise.targets.recurrence.discovery import Repeated, discover, similarity, windows_of

RATE_HZ = 16_000
BAR_S = 2.0
TOLD = {
    "shortest_s": 2.0,
    "longest_s": 4.0,
    "min_gap_s": 2.0,
    "min_score": 0.75,
    "max_p_value": 0.05,
    "n_surrogates": 19,
    "seed": 0,
}
Tune = list[tuple[float, float, int]]


def tune(seed: int) -> Tune:
    """Eight notes of a bar: onset and duration in bars, and pitch, from a scale."""
    rng = np.random.default_rng([9, seed])
    pitches = rng.choice([0, 2, 4, 5, 7, 9, 11, 12, 14, 16], size=8)
    cuts = np.sort(rng.choice(np.arange(1, 16), size=7, replace=False)) / 16
    edges = [0.0, *cuts, 1.0]
    return [(edges[i], 0.9 * (edges[i + 1] - edges[i]), 60 + int(pitches[i])) for i in range(8)]


def piece(bars: Sequence[tuple[int, float, int]]) -> NDArray[np.float32]:
    """Chroma of bars after one another: (seed of the tune, tempo, semitones higher)."""
    notes, now_s = [], 0.0
    for seed, tempo, semitones in bars:
        length_s = BAR_S / tempo
        notes += [Note(now_s + at * length_s, d * length_s, pitch + semitones) for at, d, pitch in tune(seed)]
        now_s += length_s
    return clip_features(render(notes, timbre="piano", duration_s=now_s, sample_rate_hz=RATE_HZ), RATE_HZ).chroma


def plain(seeds: Sequence[int]) -> NDArray[np.float32]:
    return piece([(seed, 1.0, 0) for seed in seeds])


def places(found: Sequence[Repeated]) -> list[tuple[float, list[float]]]:
    return sorted((p.start_s, sorted(o.start_s for o in p.occurrences)) for p in found)


def test_exact_repetitions_are_found_with_19_surrogates() -> None:
    n_found = 0
    for seeds in (range(10 * i, 10 * i + 8) for i in range(20)):
        # At the level of 0.05 none of 19 surrogates may be as good, so a few are missed.
        for passage in discover(plain([*seeds[:5], seeds[1], *seeds[5:]]), **TOLD):
            again = passage.occurrences[0]
            assert passage.p_value == 1 / 20
            n_found += abs(passage.start_s - 2) < 0.5 and abs(again.start_s - 10) < 0.5 and again.transposition == 0
    assert 18 <= n_found <= 20


@pytest.mark.parametrize(("tempo", "semitones", "least"), [(1.19, 0, 4), (0.84, 0, 4), (1.1, 5, 5), (0.9, -4, 5)])
def test_repetitions_at_another_tempo_and_in_another_key_are_found(tempo: float, semitones: int, least: int) -> None:
    n_found = 0
    for seed in range(0, 300, 50):
        bars = [(seed + i, 1.0, 0) for i in range(8)]
        found = discover(piece([*bars[:5], (seed + 1, tempo, semitones), *bars[5:]]), **TOLD | {"n_surrogates": 39})
        for passage in found:
            again = passage.occurrences[0]
            if abs(passage.start_s - 2) < 0.6 and abs(again.start_s - 10) < 0.6 and again.transposition == semitones:
                assert again.duration_s / passage.duration_s == pytest.approx(1 / tempo, rel=0.2)
                n_found += 1
    assert least <= n_found <= 6


def test_any_number_of_passages_is_found() -> None:
    motifs = [0, 1, 2, 3, 4]
    bars = [0, 20, 1, 21, 2, 22, 3, 23, 4, 24, *motifs[::-1], 25]
    found = places(discover(plain(bars), **TOLD))
    assert [start_s for start_s, _ in found] == [pytest.approx(BAR_S * bars.index(m), abs=0.3) for m in motifs]
    assert [again for _, again in found] == [[pytest.approx(BAR_S * bars.index(m, 10), abs=0.3)] for m in motifs]


def test_a_long_passage_is_found_whole_even_if_all_its_bars_are_repeats() -> None:
    """Surrogates of such music repeat single bars too, but never four in a row."""
    a, b = [0, 1, 2, 3], [4, 5, 6, 7]
    first, *_ = discover(plain([*a, *a, *b, *b, *a]), **TOLD | {"longest_s": 8.0, "min_gap_s": 0.0})
    assert first.start_s < 1 and first.duration_s > 4
    assert sorted(o.start_s for o in first.occurrences) == [
        pytest.approx(at_s + first.start_s, abs=0.6) for at_s in (8, 32)
    ]


def test_nothing_is_found_where_nothing_comes_back() -> None:
    n_found = sum(len(discover(plain(range(100 * i, 100 * i + 9)), **TOLD)) for i in range(1, 13))
    assert n_found <= 2


def like_its_surrogates(seed: int) -> NDArray[np.float32]:
    """Segments of random sounds, as long as those that are shuffled."""
    rng = np.random.default_rng([4, seed])
    sounds = rng.normal(size=(8, 12, 12))
    chroma = np.concatenate([sounds[k] for k in rng.integers(8, size=12)]).astype(np.float32)
    return chroma / np.linalg.norm(chroma, axis=1, keepdims=True)


NULL = TOLD | {"min_gap_s": 0.0, "min_score": -1.0, "longest_s": 3.0}


@pytest.mark.parametrize(("n_surrogates", "level", "n_clips"), [(3, 0.25, 160), (19, 0.05, 80)])
def test_a_clip_like_its_surrogates_repeats_as_often_as_the_level_says(
    n_surrogates: int, level: float, n_clips: int
) -> None:
    told = NULL | {"n_surrogates": n_surrogates, "max_p_value": level}
    n_found = sum(bool(discover(like_its_surrogates(i), **told | {"seed": i})) for i in range(n_clips))
    assert binom.ppf(0.005, n_clips, level) <= n_found <= binom.ppf(0.995, n_clips, level)


def test_a_single_surrogate_has_no_spread_and_still_decides_by_its_score() -> None:
    told = NULL | {"n_surrogates": 1, "max_p_value": 0.5}
    found = [discover(like_its_surrogates(i), **told | {"seed": i}) for i in range(24)]
    # Either is the higher one in about half of the clips.
    assert 4 <= sum(map(bool, found)) <= 20 and {p.p_value for passages in found for p in passages} == {0.5}
    assert all(discover(like_its_surrogates(i), **told | {"n_surrogates": 0}) == [] for i in range(3))


def test_windows_of_a_drone_all_match_and_so_do_its_surrogates() -> None:
    held = np.tile(np.eye(12, dtype=np.float32)[0] - 1 / 12, (round(16 * FRAME_RATE_HZ), 1))
    assert discover(held, **TOLD) == []
    assert discover(np.zeros_like(held), **TOLD) == []
    assert discover(held[: round(5 * FRAME_RATE_HZ)], **TOLD) == []


def test_a_passage_without_content_is_passed_over() -> None:
    chroma = plain([0, 1, 2, 3, 4, 1, 5, 6])
    asked: list[float] = []

    def never(start_s: float, duration_s: float) -> bool:
        asked.append(start_s)
        return False

    assert discover(chroma, **TOLD, has_content=never) == [] and asked


def test_windows_and_similarity_are_those_of_their_definition() -> None:
    chroma = plain([0, 1, 2, 3])
    windows = windows_of(chroma, shortest_s=2.0, longest_s=3.0, min_gap_s=1.0)
    assert [w.duration_s for w in windows] == pytest.approx([2.0 * 2 ** (k / 4) for k in (-1, 0, 1, 2)])
    assert np.allclose(np.linalg.norm(windows[0].chroma, axis=(1, 2)), 1, atol=1e-5)
    higher = np.roll(windows[0].chroma, 3, axis=2)
    scores, shift = similarity(windows[0].chroma, higher)
    assert np.allclose(np.diag(scores), 1, atol=1e-5) and (np.diag(shift) == 3).all()
    by_hand = max((np.roll(windows[0].chroma[2], k, axis=1) * higher[9]).sum() for k in range(12))
    assert scores[2, 9] == pytest.approx(by_hand, abs=1e-5)
