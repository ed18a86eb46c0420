"""Which passages of a clip or a piece come back? Found without a given place, length, key or tempo.

Every window of several lengths is described by its chroma in `N_SLOTS` equal parts, so windows of different lengths
can be compared: a window that is played faster is a shorter window. Two windows match as well as their descriptions
correlate at the best of twelve transpositions. Windows of neighbouring lengths are compared too, which allows a tempo
ratio of `LENGTH_RATIO`. The cost grows with the square of the number of windows, and longer windows are fewer.

The best of many pairs is chosen, so it must beat the best pair of surrogates, in which segments of half the shortest
length are shuffled. Best scores are standardised for each length by those of clip and surrogates, and the highest of
all lengths is compared with the highest of each surrogate (a max-T test: Westfall and Young 1993). So a repeated long
passage is found even in music that repeats all its short ones. A surrogate that is only reversed would repeat whatever
the clip repeats, so none is.

A passage that is found takes what matches it, and no later passage overlaps these places. First comes the passage with
the highest sum of its occurrences' scores, each less half of the best score in surrogates. This is lower for long
passages, so of two that come back equally well the longer one comes first (fitness: Müller, Jiang and Grosche 2013).

Conventions. Seconds from the start; frames as in `reprise.audio.chroma`. This reads the whole clip, including the
future, so it makes labels and never predictors.

Degenerate input: a clip too short for two windows and a gap gives no passage, and so does no surrogate. In silence
nothing matches. Frames that are all alike match in surrogates as well. But music around a held note may make a passage
of it, which is why `has_content` is asked.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reprise.audio.chroma import FRAME_RATE_HZ
from reprise.targets.surrogates import shuffled_segments

N_SLOTS = 16
LENGTH_RATIO = 2**0.25
# Windows begin at multiples of this fraction of their length.
HOP_FRACTION = 1 / 8
# Surrogates that hardly differ would make any score look exceptional.
LEAST_SPREAD = 0.01
# Occurrences may overlap by this fraction of a passage: windows are not placed to the frame.
SLACK = 0.25


class Occurrence(NamedTuple):
    """A passage that matches another: its place, the semitones it is higher (-5 to 6), and the score, -1 to 1."""

    start_s: float
    duration_s: float
    transposition: int
    score: float


class Repeated(NamedTuple):
    """A passage that comes back, the p-value of its best match, and where it comes back later, best first."""

    start_s: float
    duration_s: float
    p_value: float
    occurrences: tuple[Occurrence, ...]


class Windows(NamedTuple):
    """All windows of one length: `start_s` `[window]`, and `chroma` `[window, slot, 12]`, unit norm (0 if silent)."""

    duration_s: float
    start_s: NDArray[np.float64]
    chroma: NDArray[np.float32]


def discover(
    chroma: NDArray[np.float32],
    *,
    shortest_s: float,
    longest_s: float,
    min_gap_s: float,
    min_score: float,
    max_p_value: float,
    n_surrogates: int,
    seed: int | Sequence[int],
    has_content: Callable[[float, float], bool] = lambda start_s, duration_s: True,
) -> list[Repeated]:
    """Passages that come back, the most repeated first; none overlaps another or its occurrences.

    Parameters
    ----------
    chroma : float32 array `[frame, 12]`
        As in `reprise.audio.chroma.Features`.
    shortest_s, longest_s : float
        Limits of a passage's length in seconds.
    min_gap_s : float
        The least time between two occurrences, in seconds.
    min_score, max_p_value : float
        What the best match of a passage must reach.
    n_surrogates : int
        Surrogates of the clip; at least 1 / `max_p_value` - 1 are needed to find anything.
    seed : int or sequence of int
        Seed of the surrogates.
    has_content : callable
        Says of a start and a duration in seconds whether a passage there has enough content to be one.

    Returns
    -------
    list of Repeated
    """
    rng, segment = np.random.default_rng(seed), max(2, round(shortest_s * FRAME_RATE_HZ / 2))
    lengths = windows_of(chroma, shortest_s=shortest_s, longest_s=longest_s, min_gap_s=min_gap_s)
    if len(lengths) < 2 or n_surrogates == 0:
        return []

    def best_of_each(order: NDArray[np.intp]) -> list[NDArray[np.float32]]:
        ordered = windows_of(chroma[order], shortest_s=shortest_s, longest_s=longest_s, min_gap_s=min_gap_s)
        return _best_of_each(ordered, min_gap_s)

    by_chance = [best_of_each(shuffled_segments(len(chroma), segment, rng)) for _ in range(n_surrogates)]
    every = [_best_of_each(lengths, min_gap_s), *by_chance]
    # The clip counts in mean and spread as each surrogate does. So one that repeats nothing is the highest by chance.
    highest_of_length = np.array([[scores.max() for scores in best] for best in every])
    mean, spread = highest_of_length.mean(axis=0), np.maximum(highest_of_length.std(axis=0), LEAST_SPREAD)
    highest = ((highest_of_length[1:] - mean) / spread).max(axis=1)

    candidates: list[tuple[float, Repeated]] = []
    for k in range(len(lengths) - 1):
        # What one window alone would seldom reach by chance is another occurrence of a passage that is established.
        enough = max(float(np.quantile(np.concatenate([best[k] for best in by_chance]), 1 - max_p_value)), min_score)
        for start_s, matches in _matches(lengths, k + 1, min_gap_s, enough):
            z = (matches[0].score - mean[k]) / spread[k]
            p_value = float((1 + np.count_nonzero(highest >= z)) / (1 + n_surrogates))
            if p_value <= max_p_value:
                duration_s = lengths[k + 1].duration_s
                apart = _apart((Occurrence(start_s, duration_s, 0, 1.0), *matches))[1:]
                fitness = sum(match.score - mean[k] / 2 for match in apart)
                candidates.append((fitness, Repeated(start_s, duration_s, p_value, tuple(apart))))
    return _chosen(candidates, has_content)


def windows_of(chroma: NDArray[np.float32], *, shortest_s: float, longest_s: float, min_gap_s: float) -> list[Windows]:
    """Windows of every length from `shortest_s` to `longest_s`, each `LENGTH_RATIO` times the one before.

    The first are one length shorter, for passages of the shortest length that are played faster. Lengths of which two
    and the gap do not fit into the clip are left out.
    """
    clip_s = len(chroma) / FRAME_RATE_HZ
    found, duration_s = [], shortest_s / LENGTH_RATIO
    while duration_s <= longest_s * (1 + 1e-9) and 2 * duration_s + min_gap_s <= clip_s:
        hop_s = duration_s * HOP_FRACTION
        start_s = hop_s * np.arange(int((clip_s - duration_s) / hop_s + 1e-9) + 1, dtype=np.float64)
        found.append(Windows(duration_s, start_s, _described(chroma, start_s, duration_s)))
        duration_s *= LENGTH_RATIO
    return found


def _described(chroma: NDArray[np.float32], start_s: NDArray[np.float64], duration_s: float) -> NDArray[np.float32]:
    """`[window, slot, 12]`: mean chroma of parts twice as long as a slot, around each slot's centre."""
    integral = np.concatenate([np.zeros((1, 12)), np.cumsum(chroma, axis=0, dtype=np.float64)])
    slot_s = duration_s / N_SLOTS
    edges = (start_s[:, None] + slot_s * (np.arange(N_SLOTS + 2) - 0.5)) * FRAME_RATE_HZ
    edges = np.clip(edges, 0, len(chroma))
    whole = np.minimum(edges.astype(int), len(chroma) - 1)
    until = integral[whole] + (edges - whole)[..., None] * chroma[whole]
    slots = until[:, 2:] - until[:, :-2]
    norm = np.linalg.norm(slots, axis=(1, 2), keepdims=True)
    return (slots / np.maximum(norm, 1e-9)).astype(np.float32)


def similarity(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """(best correlation of every pair of windows, semitones by which the second is higher), both `[first, second]`."""
    shift = np.zeros((len(first), len(second)), np.int8)
    best = np.full(shift.shape, -1.0, np.float32)
    for semitones, score in enumerate(_at_each_transposition(first, second)):
        better = score > best
        best[better], shift[better] = score[better], semitones if semitones <= 6 else semitones - 12
    return best, shift


def _at_each_transposition(first: NDArray[np.float32], second: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    flat = second.reshape(len(second), -1).T
    for semitones in range(12):
        yield np.roll(first, semitones, axis=2).reshape(len(first), -1) @ flat


def _later(first: Windows, second: Windows, min_gap_s: float) -> NDArray[np.bool_]:
    """Whether the second begins `min_gap_s` or more after the first has ended, `[first, second]`."""
    return second.start_s[None] >= first.start_s[:, None] + first.duration_s + min_gap_s - 1e-9


def _of_about_the_length(lengths: Sequence[Windows], k: int) -> Sequence[Windows]:
    return lengths[max(0, k - 1) : k + 2]


def _best_of_each(lengths: Sequence[Windows], min_gap_s: float) -> list[NDArray[np.float32]]:
    """The score of the best later match of each window, `[window]`, for every length but the first."""
    found = []
    for k, first in enumerate(lengths[1:], start=1):
        best = np.full(len(first.start_s), -1, np.float32)
        for second in _of_about_the_length(lengths, k):
            scores = reduce(np.maximum, _at_each_transposition(first.chroma, second.chroma))
            scores[~_later(first, second, min_gap_s)] = -1
            np.maximum(best, scores.max(axis=1), out=best)
        found.append(best)
    return found


def _matches(
    lengths: Sequence[Windows], k: int, min_gap_s: float, enough: float
) -> Iterator[tuple[float, list[Occurrence]]]:
    """(start_s, later matches that score `enough`, best first) of each window of the length `k` that has any."""
    of_window: dict[int, list[Occurrence]] = {}
    for others in _of_about_the_length(lengths, k):
        scores, shift = similarity(lengths[k].chroma, others.chroma)
        later = _later(lengths[k], others, min_gap_s)
        for i, j in zip(*np.nonzero((scores >= enough) & later), strict=True):
            match = Occurrence(float(others.start_s[j]), others.duration_s, int(shift[i, j]), float(scores[i, j]))
            of_window.setdefault(int(i), []).append(match)
    for i, found in sorted(of_window.items()):
        yield float(lengths[k].start_s[i]), sorted(found, key=lambda o: (-o.score, o.start_s, o.duration_s))


def _apart(occurrences: Sequence[Occurrence]) -> list[Occurrence]:
    """Those that overlap none before them by more than `SLACK`."""
    kept: list[Occurrence] = []
    for one in occurrences:
        if all(_shared_s(one, other) <= SLACK * min(one.duration_s, other.duration_s) for other in kept):
            kept.append(one)
    return kept


def _chosen(
    candidates: Sequence[tuple[float, Repeated]], has_content: Callable[[float, float], bool]
) -> list[Repeated]:
    """The fittest passages with content; of a later one only what overlaps none that was chosen before."""
    chosen: list[Repeated] = []
    taken: list[Occurrence] = []
    for _, passage in sorted(candidates, key=lambda c: (-c[0], c[1].start_s, c[1].duration_s)):
        itself = Occurrence(passage.start_s, passage.duration_s, 0, 1.0)
        if any(_shared_s(itself, other) > SLACK * itself.duration_s for other in taken):
            continue
        free = [o for o in passage.occurrences if all(_shared_s(o, t) <= SLACK * o.duration_s for t in taken)]
        if free and has_content(passage.start_s, passage.duration_s):
            chosen.append(passage._replace(occurrences=tuple(free)))
            taken += [itself, *free]
    return chosen


def _shared_s(a: Occurrence, b: Occurrence) -> float:
    return min(a.start_s + a.duration_s, b.start_s + b.duration_s) - max(a.start_s, b.start_s)
