"""Where a motif returns in a clip's audio: candidates from `reprise.targets.recurrence.matching`, and the tests that
make one an event.

The reference of an event is the motif: its columns are `reference_start_s` and `reference_duration_s`.

An event must pass these tests. Each is a column of the table and has its threshold in `EventSettings`: score; p-value
against surrogates of the clip itself, and against other clips if enough are given; gap, that is audio before it that
does not match; timbre, that is a match better than what the two passages share if the order of their sounds is
ignored; and enough content in the motif itself, in pitch classes and onsets. A candidate that fails stays in the
table, with the failed tests as its `reason`. A motif that fails has no candidates.

Conventions as in `reprise.targets.recurrence.matching`. Candidates begin after the motif has ended and do not overlap
each other.

This module reads the whole clip, including the future, so it makes labels and never predictors (except
`causal_match`).

Degenerate input: silence, a drone or a single note has too little content and gives no candidates, with the reason in
`table.attrs["no_events_because"]`. Audio that is not mono, not floating point or not finite, and a motif that does not
lie within the clip, raise ValueError. A return that the end of the clip cuts off is not found.

References: Theiler et al. 1992 (surrogates); Phipson and Smyth 2010 (p = (1 + b) / (1 + n)).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reprise.audio.chroma import (
    FRAME_RATE_HZ,
    Features,
    MotifContent,
    check_motif,
    clip_spectra,
    compared_chroma,
    features_of,
    is_sounding,
    passage_content,
)
from reprise.audio.descriptors import LONG_FRAME_S
from reprise.audio.io import check_audio
from reprise.targets.recurrence.matching import (
    SLOWEST,
    Match,
    MatchCurve,
    Motif,
    curve_of,
    cut_motif,
    first_frame_after,
    match_at,
    shortest_match,
    similarity_of,
    warp_best,
    warp_cost_of,
)
from reprise.targets.target import empty_events

EVENT_COLUMNS = {
    "reference_start_s": float,
    "reference_duration_s": float,
    "motif_entropy_bits": float,
    "motif_onsets": np.int64,
    "onset_s": float,
    "duration_s": float,
    "transposition": np.int64,
    "tempo_ratio": float,
    "score": float,
    "p_value": float,
    "p_others": float,
    "timbre_score": float,
    "gap_s": float,
    "gap_score": float,
    "accepted": bool,
    "reason": object,
}


class EventSettings(NamedTuple):
    """Thresholds of an event.

    min_score: minimum match score, 0..1. max_p_value: against `n_surrogates` (at least 1 / max_p_value - 1 are needed
    to pass), which are cut into segments of `surrogate_segment_fraction` of the motif. min_gap_s: seconds before the
    onset in which nothing scores above `gap_max_score`. timbre_margin: how far the score must exceed the timbre score.
    min_entropy_bits, min_onsets: minimum content of the motif. candidate_score: a peak below it is not listed.
    """

    min_score: float = 0.75
    max_p_value: float = 0.05
    n_surrogates: int = 99
    surrogate_segment_fraction: float = 0.5
    min_gap_s: float = 2.0
    gap_max_score: float = 0.7
    timbre_margin: float = 0.1
    min_entropy_bits: float = 0.5
    min_onsets: int = 3
    candidate_score: float = 0.4


DEFAULT_SETTINGS = EventSettings()


def find_events(
    audio: np.ndarray,
    sample_rate_hz: int,
    *,
    motif_start_s: float,
    motif_duration_s: float,
    settings: EventSettings = DEFAULT_SETTINGS,
    seed: int | Sequence[int] = 0,
    motif_p_value: float = 0.0,
    others: Sequence[np.ndarray] = (),
) -> pd.DataFrame:
    """Candidates for a return of the motif in one clip, with their tests.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    motif_start_s, motif_duration_s : float
        The motif, in seconds.
    settings : EventSettings
        Thresholds.
    seed : int or sequence of int
        Integers that identify the clip, for its surrogates.
    motif_p_value : float
        Smallest possible p-value, if the motif itself was searched for.
    others : sequence of arrays `[frame, 12]`
        Chroma of other clips (`reprise.audio.chroma.clip_features`), in which the motif should not be found.

    Returns
    -------
    DataFrame
        One row per candidate in order of onset, with the columns `EVENT_COLUMNS`. If there is no row,
        `attrs["no_events_because"]` says why. gap_s counts back from the onset to the end of the last passage that
        scored above `gap_max_score`, at most to the end of the motif or of the previous accepted event. gap_score is
        the highest score since that end. Passages that would overlap more than half of the candidate are part of it
        and do not count.

    Raises
    ------
    ValueError
        For bad audio, or a motif outside the clip or shorter than `MIN_MOTIF_S`.
    """
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, motif_start_s, motif_duration_s)
    spectra = clip_spectra(audio, sample_rate_hz)
    content = passage_content(audio, sample_rate_hz, spectra, motif_start_s, motif_duration_s)
    if too_poor := _too_little_content(content, settings):
        return _no_events(too_poor)
    features = features_of(audio, sample_rate_hz, spectra)
    motif = cut_motif(features, sample_rate_hz, motif_start_s, motif_duration_s)
    motif_end_s = motif_start_s + motif_duration_s
    first = first_frame_after(motif_end_s, motif.offset_s)
    searched = features.chroma[first:]
    if len(searched) < shortest_match(len(motif.weight)):
        return _no_events("clip: ends before the motif could return once")
    curve = curve_of(searched, motif, first)
    peaks = _peaks(curve, settings.candidate_score)
    if not peaks:
        return _no_events(f"clip: no passage scores {settings.candidate_score:g} or more")
    chance = _surrogate_maxima(searched, motif, settings, seed)
    elsewhere = np.array([curve_of(chroma, motif, 0).score.max(initial=0) for chroma in others])
    # With fewer clips than this, no match could reach the required p-value.
    enough_others = len(elsewhere) >= 1 / settings.max_p_value - 1
    about_motif = {
        "reference_start_s": motif_start_s,
        "reference_duration_s": motif_duration_s,
        "motif_entropy_bits": content.entropy_bits,
        "motif_onsets": content.n_onsets,
    }
    rows, previous_end_s = [], motif_end_s
    for peak in peaks:
        match = match_at(curve, peak, motif)
        tested: dict[str, Any] = {
            "p_value": max(motif_p_value, _p_value(match.score, chance)),
            "p_others": _p_value(match.score, elsewhere) if enough_others else np.nan,
            "timbre_score": _timbre_score(features, motif_start_s, motif_duration_s, match),
        }
        tested["gap_s"], tested["gap_score"] = _gap(curve, match, previous_end_s, settings.gap_max_score)
        failed = _failed_tests(match.score, tested, settings)
        if not failed:
            previous_end_s = match.onset_s + match.duration_s
        outcome = {"accepted": not failed, "reason": ", ".join(failed)}
        rows.append({**about_motif, **match._asdict(), **tested, **outcome})
    return pd.DataFrame({name: np.array([row[name] for row in rows], dtype) for name, dtype in EVENT_COLUMNS.items()})


def _too_little_content(content: MotifContent, settings: EventSettings) -> str:
    """Why the motif has too little content, "" if it has enough."""
    if content.entropy_bits < settings.min_entropy_bits:
        return f"motif: pitch-class entropy is {content.entropy_bits:.2f} bits, below {settings.min_entropy_bits:g}"
    if content.n_onsets < settings.min_onsets:
        return f"motif: has {content.n_onsets} note onsets, below {settings.min_onsets}"
    return ""


def _failed_tests(score: float, tested: Mapping[str, Any], settings: EventSettings) -> list[str]:
    """Names of the tests that a candidate fails; `tested` holds its columns of the events table."""
    passed = {
        "score": score >= settings.min_score,
        "p_value": tested["p_value"] <= settings.max_p_value,
        # NaN, where there are too few other clips, is no failure.
        "p_others": not tested["p_others"] > settings.max_p_value,
        "gap": tested["gap_s"] >= settings.min_gap_s,
        "timbre": score >= tested["timbre_score"] + settings.timbre_margin,
    }
    return [name for name, ok in passed.items() if not ok]


def causal_match(
    audio: np.ndarray,
    sample_rate_hz: int,
    *,
    frame_rate_hz: float,
    motif_start_s: float,
    motif_duration_s: float,
) -> tuple[np.ndarray, list[str]]:
    """Recurrences so far, as the baseline may know them: at each position, from the audio before it only.

    Unlike an event, this match is not tested, because every test except the score reads the whole clip.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    frame_rate_hz : float
        Positions per second.
    motif_start_s, motif_duration_s : float
        The motif, in seconds.

    Returns
    -------
    table : float32 array `[position, 2]`
        For positions 0..T.
    names : list of str
        `match_so_far`, the best match of the motif after its end that is complete by this position (0: none), and
        `match_since_s`, seconds since that match.

    Raises
    ------
    ValueError
        As `find_events` does.
    """
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, motif_start_s, motif_duration_s)
    motif_end_s = motif_start_s + motif_duration_s
    peak = float(np.abs(audio[: round(motif_end_s * sample_rate_hz)]).max(initial=0))
    chroma, level, _ = clip_spectra(audio, sample_rate_hz)
    chroma = compared_chroma(chroma) * is_sounding(level, audio_peak=peak)[:, None]
    motif = cut_motif(Features(chroma, chroma), sample_rate_hz, motif_start_s, motif_duration_s)
    first = first_frame_after(motif_end_s, motif.offset_s)
    curve = curve_of(chroma[first:], motif, first)
    # The slowest path may end this late, and its last frame reads half a window and one frame ahead.
    known_s = curve.time_s + motif_duration_s / SLOWEST + LONG_FRAME_S / 2 + 1 / FRAME_RATE_HZ
    best = np.maximum.accumulate(curve.score)
    at_best = np.maximum.accumulate(np.where(curve.score >= best, np.arange(len(best)), 0))
    times_s = np.arange(round(len(audio) / sample_rate_hz * frame_rate_hz) + 1) / frame_rate_hz
    n_known = np.searchsorted(known_s, times_s, side="right")
    table = np.zeros((len(times_s), 2), np.float32)
    some = n_known > 0
    last = n_known[some] - 1
    table[some, 0] = best[last]
    table[some, 1] = times_s[some] - known_s[at_best[last]]
    return table, ["match_so_far", "match_since_s"]


def _peaks(curve: MatchCurve, candidate_score: float) -> list[int]:
    """Onset indices of the best non-overlapping passages, chosen best first and returned in order of time."""
    free = curve.score >= candidate_score
    peaks = []
    while free.any():
        peak = int(np.where(free, curve.score, -1.0).argmax())
        peaks.append(peak)
        start_s, stop_s = curve.time_s[peak], curve.time_s[peak] + curve.duration_s[peak]
        free &= (curve.time_s + curve.duration_s <= start_s + 1e-9) | (curve.time_s >= stop_s - 1e-9)
    return sorted(peaks)


def surrogate_orders(
    n_frames: int, segment_frames: float, settings: EventSettings, rng: np.random.Generator
) -> np.ndarray:
    """Frame orders that keep a clip's sounds and destroy its melody, int `[n_surrogates, n_frames]`.

    A surrogate is the audio cut into segments (at a random offset) and put in random order: same sounds, same pitch
    classes, no melody longer than a segment. Every second one is also reversed in time; the first one is only
    reversed. With segments of half a motif the p-values of unrelated tunes are about uniform. With a quarter they are
    half of what they should be, because shuffling then breaks what all tunes share. Segments are at most a tenth of
    the audio, because few segments often end up in their original order.
    """
    length = max(2, round(min(segment_frames, n_frames / 10)))
    orders = np.empty((settings.n_surrogates, n_frames), dtype=np.intp)
    for k in range(settings.n_surrogates):
        order = np.arange(n_frames) if k % 2 else np.arange(n_frames)[::-1]
        if k > 0:
            segments = np.split(order, np.arange(rng.integers(1, length + 1), n_frames, length))
            order = np.concatenate([segments[j] for j in rng.permutation(len(segments))])
        orders[k] = order
    return orders


def _surrogate_maxima(
    chroma: np.ndarray, motif: Motif, settings: EventSettings, seed: int | Sequence[int]
) -> np.ndarray:
    """The highest score anywhere in each surrogate of the searched audio, float `[n_surrogates]`."""
    if settings.n_surrogates == 0:
        return np.zeros(0)
    segment = settings.surrogate_segment_fraction * len(motif.weight)
    orders = surrogate_orders(len(chroma), segment, settings, np.random.default_rng(seed))
    return warp_best(similarity_of(motif, chroma), orders, warp_cost_of(motif)).astype(np.float64)


def _p_value(score: float, chance: np.ndarray) -> float:
    """Fraction of chance matches at least as good (Phipson and Smyth: the match itself counts as one of them)."""
    return float((1 + np.count_nonzero(chance >= score)) / (1 + len(chance)))


def _gap(curve: MatchCurve, match: Match, previous_end_s: float, gap_max_score: float) -> tuple[float, float]:
    """(gap_s, gap_score) of a candidate; see `find_events`."""
    latest_s = match.onset_s - 0.5 * match.duration_s
    before = (curve.time_s >= previous_end_s - 1e-9) & (curve.time_s <= latest_s)
    matching = before & (curve.score > gap_max_score)
    last_end_s = max([previous_end_s, *(curve.time_s + curve.duration_s)[matching]])
    return max(0.0, match.onset_s - last_end_s), float(curve.score[before].max(initial=0.0))


def _timbre_score(features: Features, start_s: float, duration_s: float, match: Match) -> float:
    """What two passages share if the order of their sounds is ignored, 0..1.

    It is the mean correlation over all pairs of a frame of the motif and a frame of the match. It is taken of their
    MFCC, standardised over the clip (about 0 in a clip of one instrument, because its timbre does not distinguish
    passages), and of their chroma at the match's transposition; the greater one counts. A held chord or a texture
    matches as well in any order; a melody does not.
    """
    shares = []
    for frames, shift in ((features.timbre, 0), (features.chroma, match.transposition)):
        means = [_mean_frame(frames, s, d) for s, d in ((start_s, duration_s), (match.onset_s, match.duration_s))]
        shares.append(float(np.roll(means[0], shift) @ means[1]))
    return min(max(0.0, *shares), 1.0)


def _mean_frame(frames: np.ndarray, start_s: float, duration_s: float) -> np.ndarray:
    """Mean of the frames that sound within a passage (silent ones are all 0)."""
    passage = frames[round(start_s * FRAME_RATE_HZ) : round((start_s + duration_s) * FRAME_RATE_HZ)]
    return passage.sum(axis=0) / max(np.count_nonzero(np.abs(passage).sum(axis=1)), 1)


def _no_events(reason: str) -> pd.DataFrame:
    table = empty_events(EVENT_COLUMNS)
    table.attrs["no_events_because"] = reason
    return table
