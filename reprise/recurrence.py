"""Where a motif returns in a clip's audio.

How. Chroma at 12.5 frames a second; every pair of (motif frame, clip frame) compared by the correlation of their
twelve pitch classes under all twelve transpositions; one pass of subsequence dynamic time warping that gives, for
*each* onset, the best path through the motif. Every path lies within tempo 0.8-1.25 by construction, since it is
built from the steps (1, 1), (4, 5) and (5, 4), and all motif frames weigh the same however it runs (path
normalisation): a score is a mean correlation, 1 for an identical passage, about 0 for an unrelated one. The same
pass runs on all surrogates at once. Compared with one pass per tempo over a few fixed tempi the path follows a tempo
that drifts, at three times the (small) cost.

An event must pass these tests, each a column of the table and each with its threshold in `EventSettings`:
score; p-value against surrogates of the clip itself, and against other clips where enough are given; gap, that is
audio before it that does not match; timbre, that is more than the two passages share when the order of their sounds
is ignored; and content in the motif itself, in pitch classes and onsets. A candidate that fails stays in the table,
with the failed tests as its `reason`; a motif that fails has no candidates.

Conventions. Times in seconds from the clip's start; an onset is where the motif's start falls. Candidates begin
after the motif has ended and do not overlap each other. `transposition`: semitones (0..11) by which the motif is
shifted up to match. `tempo_ratio`: motif duration / matched duration, above 1 for a faster return.

This looks at the whole clip, future included: it makes labels, never predictors.

Degenerate input: silence, a drone or a single note has too little content and gives no candidates, with the
reason in `table.attrs["no_events_because"]`. Audio that is not mono, not floating point or not finite, and a motif
that does not lie within the clip, raise ValueError. A return that the end of the clip cuts off is not found.

References: Müller 2015, Fundamentals of Music Processing, 7.2 (subsequence DTW, step conditions), 3.1 and 4.2 (chroma,
transposition-invariant similarity); Theiler et al. 1992 (surrogates); Phipson and Smyth 2010 (p = (1 + b) / (1 + n)).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numba import njit

from reprise.descriptors import (
    FLOOR_DB,
    LONG_FRAME_S,
    check_audio,
    chroma_bank,
    mel_bank,
    mel_db,
    mfcc,
    n_fft_for,
    power_spectra,
)

FRAME_RATE_HZ = 12.5
SLOWEST, FASTEST = 0.8, 1.25
# A frame this far below the loudest of its clip is silent: it has no pitch to compare.
SILENCE_DB = -50.0
MIN_MOTIF_S = 0.8
# What a step off the diagonal costs, in motif frames: without it an onset slips a frame for nothing.
WARP_COST = 0.5
_NEVER = np.float32(-1e4)

EVENT_COLUMNS = {
    "motif_start_s": float,
    "motif_duration_s": float,
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

    `min_score`: least match score, 0..1. `max_p_value` against `n_surrogates` (at least 1 / max_p_value - 1 are
    needed to pass), which are cut into segments of `surrogate_segment_share` of the motif. `min_gap_s`: seconds
    before the onset in which nothing scores above `gap_max_score`. `timbre_margin`: how far the score must exceed
    the timbre score. `min_entropy_bits`, `min_onsets`: least content of the motif. `candidate_score`: below it a
    peak is not even listed.
    """

    min_score: float = 0.75
    max_p_value: float = 0.05
    n_surrogates: int = 99
    surrogate_segment_share: float = 0.5
    min_gap_s: float = 2.0
    gap_max_score: float = 0.7
    timbre_margin: float = 0.1
    min_entropy_bits: float = 1.5
    min_onsets: int = 3
    candidate_score: float = 0.4


DEFAULT_SETTINGS = EventSettings()


class Spectra(NamedTuple):
    """Frames centred at `i / FRAME_RATE_HZ`: `chroma` `[frame, 12]`, `level` `[frame]` (sum of power) and the power
    spectrum `[frame, bin]`."""

    chroma: np.ndarray
    level: np.ndarray
    power: np.ndarray


class Features(NamedTuple):
    """Frames centred at `i / FRAME_RATE_HZ`: `chroma` `[frame, 12]`, zero mean and unit norm (all 0 where silent),
    `timbre` `[frame, 13]`, MFCC standardised over the clip, unit norm (all 0 where silent)."""

    chroma: np.ndarray
    timbre: np.ndarray


class Motif(NamedTuple):
    """A motif to look for: `chroma` `[frame, 12]` and `weight` `[frame]` (1 sounding, 0 silent; sums to 1);
    `offset_s` from its first frame's time to its start, within half a frame."""

    chroma: np.ndarray
    weight: np.ndarray
    duration_s: float
    offset_s: float
    sample_rate_hz: int


class MatchCurve(NamedTuple):
    """Best match of a motif at every onset, arrays `[onset]`: `time_s`, `score` 0..1, `transposition` 0..11 and
    `duration_s` of the matched passage. Onsets too near the end to hold the motif are not listed."""

    time_s: np.ndarray
    score: np.ndarray
    transposition: np.ndarray
    duration_s: np.ndarray


class Match(NamedTuple):
    """One match: as a row of the events table. A score of 0 with NaN elsewhere: there was no room for any."""

    score: float
    onset_s: float
    duration_s: float
    transposition: int
    tempo_ratio: float


class MotifContent(NamedTuple):
    """How much there is to recognise: entropy of the strongest pitch class over sounding frames, and note onsets."""

    entropy_bits: float
    n_onsets: int


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
    """Candidates for a return of the motif in one clip, tested.

    `audio` mono floating point `[sample]`; `seed` identity integers of the clip, for its surrogates; `motif_p_value`
    the least p-value, where the motif itself was searched for; `others` chroma of other clips (`clip_features`), in
    which the motif should not be found as well. Returns one row a candidate in order of onset, columns
    `EVENT_COLUMNS`; with no row, `attrs["no_events_because"]` says why.

    gap_s counts back from the onset to the end of the last passage that scored above `gap_max_score`, at most to
    the end of the motif or of the previous accepted event; gap_score is the highest score since that end. Passages
    that would overlap more than half of the candidate are part of it and do not count.

    Raises ValueError for bad audio, or a motif outside the clip or shorter than `MIN_MOTIF_S`.
    """
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, motif_start_s, motif_duration_s)
    spectra = _raw_chroma(audio, sample_rate_hz)
    content = _content(audio, sample_rate_hz, spectra, motif_start_s, motif_duration_s)
    if content.entropy_bits < settings.min_entropy_bits:
        return _no_events(
            f"motif: pitch-class entropy is {content.entropy_bits:.2f} bits, below {settings.min_entropy_bits:g}"
        )
    if content.n_onsets < settings.min_onsets:
        return _no_events(f"motif: has {content.n_onsets} note onsets, below {settings.min_onsets}")
    features = _features(audio, sample_rate_hz, spectra)
    motif = _cut_motif(features, sample_rate_hz, motif_start_s, motif_duration_s)
    motif_end_s = motif_start_s + motif_duration_s
    first = _first_frame_after(motif_end_s, motif.offset_s)
    searched = features.chroma[first:]
    if len(searched) < _shortest(len(motif.weight)):
        return _no_events("clip: ends before the motif could return once")
    curve = _curve(searched, motif, first)
    peaks = _peaks(curve, settings.candidate_score)
    if not peaks:
        return _no_events(f"clip: no passage scores {settings.candidate_score:g} or more")
    chance = _surrogate_maxima(searched, motif, settings, seed)
    elsewhere = np.array([_curve(chroma, motif, 0).score.max(initial=0) for chroma in others])
    # With fewer clips than this no match could beat them at the stated p.
    enough_others = len(elsewhere) >= 1 / settings.max_p_value - 1

    rows, previous_end_s = [], motif_end_s
    for peak in peaks:
        match = _match_at(curve, peak, motif)
        gap_s, gap_score = _gap(curve, match, previous_end_s, settings.gap_max_score)
        p_value = max(motif_p_value, _p_value(match.score, chance))
        p_others = _p_value(match.score, elsewhere) if enough_others else np.nan
        timbre = _timbre_score(features, motif_start_s, motif_duration_s, match)
        failed = [
            name
            for name, passed in (
                ("score", match.score >= settings.min_score),
                ("p_value", p_value <= settings.max_p_value),
                ("p_others", not p_others > settings.max_p_value),
                ("gap", gap_s >= settings.min_gap_s),
                ("timbre", match.score >= timbre + settings.timbre_margin),
            )
            if not passed
        ]
        if not failed:
            previous_end_s = match.onset_s + match.duration_s
        rows.append(
            {
                "motif_start_s": motif_start_s,
                "motif_duration_s": motif_duration_s,
                "motif_entropy_bits": content.entropy_bits,
                "motif_onsets": content.n_onsets,
                **match._asdict(),
                "p_value": p_value,
                "p_others": p_others,
                "timbre_score": timbre,
                "gap_s": gap_s,
                "gap_score": gap_score,
                "accepted": not failed,
                "reason": ", ".join(failed),
            }
        )
    return pd.DataFrame(rows)[list(EVENT_COLUMNS)].astype(EVENT_COLUMNS)


def motif_template(audio: np.ndarray, sample_rate_hz: int, *, start_s: float, duration_s: float) -> Motif:
    """The motif of one clip, to be looked for in others. Raises ValueError as `find_events` does."""
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, start_s, duration_s)
    return _cut_motif(clip_features(audio, sample_rate_hz), sample_rate_hz, start_s, duration_s)


def match_curve(audio: np.ndarray, motif: Motif) -> MatchCurve:
    """The best match of `motif` at every onset in `audio` (at the motif's sample rate), over all transpositions."""
    features = clip_features(check_audio(audio, motif.sample_rate_hz), motif.sample_rate_hz)
    return _curve(features.chroma, motif, 0)


def best_match(audio: np.ndarray, motif: Motif, *, start_s: float, stop_s: float) -> Match:
    """The best match of `motif` with its onset in `[start_s, stop_s]`: how strongly it returns there."""
    curve = match_curve(audio, motif)
    inside = np.flatnonzero((curve.time_s >= start_s - 1e-9) & (curve.time_s <= stop_s + 1e-9))
    if not len(inside):
        return Match(0.0, np.nan, np.nan, -1, np.nan)
    return _match_at(curve, int(inside[curve.score[inside].argmax()]), motif)


def causal_match(
    audio: np.ndarray,
    sample_rate_hz: int,
    *,
    frame_rate_hz: float,
    motif_start_s: float,
    motif_duration_s: float,
) -> tuple[np.ndarray, list[str]]:
    """Recurrences so far, as the baseline may know them: at each position, from audio before it alone.

    Returns float32 `[position, 2]` for positions 0..T at `frame_rate_hz`, and the names: `match_so_far`, the best
    match of the motif after its end that has been heard out (0: none), and `match_since_s`, seconds since that.
    Unlike an event it is tested against nothing, since every test but the score looks at the whole clip.
    """
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, motif_start_s, motif_duration_s)
    motif_end_s = motif_start_s + motif_duration_s
    peak = float(np.abs(audio[: round(motif_end_s * sample_rate_hz)]).max(initial=0))
    chroma, level, _ = _raw_chroma(audio, sample_rate_hz)
    chroma = _unit(chroma - chroma.mean(axis=1, keepdims=True)) * _sounding(level, audio_peak=peak)[:, None]
    motif = _cut_motif(Features(chroma, chroma), sample_rate_hz, motif_start_s, motif_duration_s)
    first = _first_frame_after(motif_end_s, motif.offset_s)
    curve = _curve(chroma[first:], motif, first)
    # The slowest path may end this late, and its last frame looks half a window and a frame ahead.
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


def motif_content(audio: np.ndarray, sample_rate_hz: int, *, start_s: float, duration_s: float) -> MotifContent:
    """Entropy and onset count of the passage. Raises ValueError as `find_events` does.

    Entropy: of the histogram of each sounding frame's strongest pitch class, so that a note's overtones add none.
    Onsets: peaks, at least 50 ms apart, of the rise of the mel spectrum within 30 ms, of at least 15% of the passage's
    mean level above the median rise.
    """
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, start_s, duration_s)
    return _content(audio, sample_rate_hz, _raw_chroma(audio, sample_rate_hz), start_s, duration_s)


def _content(
    audio: np.ndarray, sample_rate_hz: int, spectra: Spectra, start_s: float, duration_s: float
) -> MotifContent:
    peak = float(np.abs(audio).max())
    if peak < 10 ** (FLOOR_DB / 20):
        return MotifContent(0.0, 0)
    first = round(start_s * FRAME_RATE_HZ)
    inside = slice(first, first + round(duration_s * FRAME_RATE_HZ))
    strongest = spectra.chroma[inside][_sounding(spectra.level[inside], audio_peak=peak)].argmax(axis=1)
    share = np.bincount(strongest, minlength=12) / max(len(strongest), 1)
    entropy = float(-np.sum(share[share > 0] * np.log2(share[share > 0])))
    passage = audio[round(start_s * sample_rate_hz) : round((start_s + duration_s) * sample_rate_hz)]
    return MotifContent(abs(entropy), _count_onsets(passage, sample_rate_hz))


def clip_features(audio: np.ndarray, sample_rate_hz: int) -> Features:
    """Chroma and timbre of a clip, checked audio in."""
    return _features(audio, sample_rate_hz, _raw_chroma(audio, sample_rate_hz))


def _features(audio: np.ndarray, sample_rate_hz: int, spectra: Spectra) -> Features:
    chroma, level, power = spectra
    sounding = _sounding(level, audio_peak=float(np.abs(audio).max(initial=0)))[:, None]
    coefficients = mfcc(mel_db(power, sample_rate_hz))[:, 1:]
    if sounding.any():
        heard = coefficients[sounding[:, 0]]
        coefficients = (coefficients - heard.mean(axis=0)) / np.maximum(heard.std(axis=0), 1e-3)
    return Features(_unit(chroma - chroma.mean(axis=1, keepdims=True)) * sounding, _unit(coefficients) * sounding)


def _raw_chroma(audio: np.ndarray, sample_rate_hz: int) -> Spectra:
    """What every frame sounds like, before anything is compared over the clip."""
    n_fft = n_fft_for(LONG_FRAME_S, sample_rate_hz)
    n_frames = int(len(audio) / sample_rate_hz * FRAME_RATE_HZ + 1e-6) + 1
    centres = np.round(np.arange(n_frames) * (sample_rate_hz / FRAME_RATE_HZ)).astype(np.int64)
    power = power_spectra(audio, centres + n_fft // 2, n_fft)
    return Spectra(power @ chroma_bank(sample_rate_hz, n_fft), power.sum(axis=1), power)


def _sounding(level: np.ndarray, *, audio_peak: float) -> np.ndarray:
    floor = max(audio_peak**2, 10 ** (FLOOR_DB / 10)) * 10 ** (SILENCE_DB / 10)
    return level > floor


def _unit(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.maximum(norm, 1e-20)).astype(np.float32)


def _count_onsets(passage: np.ndarray, sample_rate_hz: int) -> int:
    n_fft = n_fft_for(0.064, sample_rate_hz)
    ends = np.arange(0, len(passage) + 1, round(0.01 * sample_rate_hz))
    power = power_spectra(passage, ends, n_fft)
    amplitude = np.sqrt(power @ mel_bank(sample_rate_hz, n_fft))
    rise = np.maximum(amplitude[3:] - amplitude[:-3], 0).sum(axis=1) / max(amplitude.sum(axis=1).mean(), 1e-9)
    # Noise rises all the time and evenly, so it lifts the median, not the peaks.
    threshold = np.median(rise) + 0.15
    neighbours = np.lib.stride_tricks.sliding_window_view(np.pad(rise, 5), 11)
    # `argmax == 5`: the first of equal values, so that a plateau counts once.
    return int(((neighbours.argmax(axis=1) == 5) & (rise >= threshold)).sum())


def check_motif(audio: np.ndarray, sample_rate_hz: int, start_s: float, duration_s: float) -> None:
    """Raise ValueError for a motif that is too short or does not lie within the clip."""
    clip_s = len(audio) / sample_rate_hz
    if duration_s < MIN_MOTIF_S:
        raise ValueError(f"motif_duration_s: is {duration_s}; valid: {MIN_MOTIF_S} or more (is it in seconds?)")
    if start_s < 0 or start_s + duration_s > clip_s + 1e-6:
        raise ValueError(
            f"motif_start_s, motif_duration_s: the motif spans {start_s:g}-{start_s + duration_s:g} s; "
            f"valid: within the clip, 0-{clip_s:g} s"
        )


def _cut_motif(features: Features, sample_rate_hz: int, start_s: float, duration_s: float) -> Motif:
    first = round(start_s * FRAME_RATE_HZ)
    chroma = features.chroma[first : first + round(duration_s * FRAME_RATE_HZ)]
    sounding = (np.abs(chroma).sum(axis=1) > 0).astype(np.float32)
    weight = sounding / max(sounding.sum(), 1)
    return Motif(chroma, weight, duration_s, start_s - first / FRAME_RATE_HZ, sample_rate_hz)


def _first_frame_after(time_s: float, offset_s: float) -> int:
    """The first frame whose onset (its time plus the motif's offset) is not half a frame or more before `time_s`."""
    return max(0, int(np.ceil((time_s - offset_s) * FRAME_RATE_HZ - 0.5 + 1e-6)))


def _shortest(n_motif_frames: int) -> int:
    return int(np.ceil(SLOWEST * n_motif_frames))


def _warp_cost(motif: Motif) -> np.float32:
    return np.float32(WARP_COST / len(motif.weight))


def _similarity(motif: Motif, chroma: np.ndarray) -> np.ndarray:
    """Weighted correlation of every motif frame, shifted up by 0..11 semitones, with every clip frame:
    float32 `[motif frame, transposition, clip frame]`."""
    shifted = np.stack([np.roll(motif.chroma, shift, axis=1) for shift in range(12)], axis=1)
    return (shifted * motif.weight[:, None, None]) @ chroma.T


@njit(cache=True)
def _warp(similarity: np.ndarray, warp_cost: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Best sum of similarities of a path through the whole motif, for every onset.

    `similarity` float32 `[motif frame, clip frame]`. Returns the sums float32 `[onset]` (hugely negative where no path
    fits) and the end frame (exclusive) of each best path, int32.

    The recursion runs backwards over motif frames. A step (4, 5) passes over one clip frame unmatched; a step (5, 4)
    matches one clip frame to two motif frames; both cost `warp_cost`.
    """
    n_motif, n_frames = similarity.shape
    # Five more columns than onsets: what lies beyond the clip's end.
    best = np.full((n_motif + 1, n_frames + 5), _NEVER, dtype=np.float32)
    end = np.zeros((n_motif + 1, n_frames + 5), dtype=np.int32)
    best[n_motif, : n_frames + 1] = 0
    end[n_motif] = np.arange(n_frames + 5)
    # The sum of four steps along the diagonal that begin at each place, less the cost of leaving it.
    four = np.full((n_motif + 1, n_frames), _NEVER, dtype=np.float32)
    for i in range(n_motif - 1, -1, -1):
        for j in range(n_frames):
            total, until = similarity[i, j] + best[i + 1, j + 1], end[i + 1, j + 1]
            if i + 5 <= n_motif:
                option = similarity[i, j] + four[i + 1, j] + best[i + 5, j + 4]
                if option > total:
                    total, until = option, end[i + 5, j + 4]
            if i + 4 <= n_motif:
                if j + 4 <= n_frames:
                    pairs = similarity[i, j] + similarity[i + 1, j + 1]
                    four[i, j] = pairs + (similarity[i + 2, j + 2] + similarity[i + 3, j + 3]) - warp_cost
                option = four[i, j] + best[i + 4, j + 5]
                if option > total:
                    total, until = option, end[i + 4, j + 5]
            best[i, j], end[i, j] = total, until
    return best[0, :n_frames], end[0, :n_frames]


@njit(cache=True)
def _warp_best(similarity: np.ndarray, orders: np.ndarray, warp_cost: np.float32) -> np.ndarray:
    """The greatest sum that `_warp` gives with the clip frames in each of `orders` `[surrogate, frame]`, float32
    `[surrogate]`; `similarity` `[motif frame, transposition, clip frame]`. Without ends the loops over clip frames
    hold no branch, and the compiler makes them wide."""
    n_motif, n_shifts, n_frames = similarity.shape
    found = np.full(len(orders), _NEVER, dtype=np.float32)
    best = np.empty((n_motif + 1, n_frames + 5), dtype=np.float32)
    rows = np.empty((n_motif, n_frames), dtype=np.float32)
    four = np.empty((2, n_frames), dtype=np.float32)
    for k in range(len(orders)):
        for shift in range(n_shifts):
            for i in range(n_motif):
                for j in range(n_frames):
                    rows[i, j] = similarity[i, shift, orders[k, j]]
            best[:] = _NEVER
            best[n_motif, : n_frames + 1] = 0
            four[:] = _NEVER
            for i in range(n_motif - 1, -1, -1):
                row, here, ahead = rows[i], best[i], best[i + 1]
                for j in range(n_frames):
                    here[j] = row[j] + ahead[j + 1]
                if i + 5 <= n_motif:
                    ahead, diagonal = best[i + 5], four[(i + 1) % 2]
                    for j in range(n_frames):
                        here[j] = max(here[j], row[j] + diagonal[j] + ahead[j + 4])
                if i + 4 <= n_motif:
                    ahead, diagonal = best[i + 4], four[i % 2]
                    second, third, fourth = rows[i + 1], rows[i + 2], rows[i + 3]
                    for j in range(n_frames - 3):
                        diagonal[j] = row[j] + second[j + 1] + (third[j + 2] + fourth[j + 3]) - warp_cost
                    for j in range(n_frames):
                        here[j] = max(here[j], diagonal[j] + ahead[j + 5])
            found[k] = max(found[k], best[0, :n_frames].max())
    return found


def _curve(chroma: np.ndarray, motif: Motif, first: int) -> MatchCurve:
    """The match curve of clip frames that begin at frame number `first`."""
    n_onsets = max(0, len(chroma) - _shortest(len(motif.weight)) + 1)
    if n_onsets == 0:
        return MatchCurve(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0))
    similarity, warp_cost = _similarity(motif, chroma), _warp_cost(motif)
    sums, ends = map(np.stack, zip(*(_warp(similarity[:, shift], warp_cost) for shift in range(12)), strict=True))
    transposition = sums.argmax(axis=0)[:n_onsets]
    onset = np.arange(n_onsets)
    # Rows that are rounding away from identical must not exceed 1.
    score = np.clip(sums[transposition, onset], 0.0, 1.0).astype(np.float64)
    frames = ends[transposition, onset] - onset
    time_s = (first + onset) / FRAME_RATE_HZ + motif.offset_s
    duration_s = frames * (motif.duration_s / len(motif.weight))
    return MatchCurve(time_s, score, transposition, duration_s)


def _peaks(curve: MatchCurve, candidate_score: float) -> list[int]:
    """Onset indices of the best non-overlapping passages, best first chosen, returned in order of time."""
    free = curve.score >= candidate_score
    peaks = []
    while free.any():
        peak = int(np.where(free, curve.score, -1.0).argmax())
        peaks.append(peak)
        start_s, stop_s = curve.time_s[peak], curve.time_s[peak] + curve.duration_s[peak]
        free &= (curve.time_s + curve.duration_s <= start_s + 1e-9) | (curve.time_s >= stop_s - 1e-9)
    return sorted(peaks)


def _match_at(curve: MatchCurve, peak: int, motif: Motif) -> Match:
    duration_s = float(curve.duration_s[peak])
    return Match(
        score=float(curve.score[peak]),
        onset_s=float(curve.time_s[peak]),
        duration_s=duration_s,
        transposition=int(curve.transposition[peak]),
        tempo_ratio=motif.duration_s / duration_s,
    )


def surrogate_orders(
    n_frames: int, segment_frames: float, settings: EventSettings, rng: np.random.Generator
) -> np.ndarray:
    """Frame orders that keep a clip's sounds and destroy its melody, int `[n_surrogates, n_frames]`.

    A surrogate is the audio cut into segments (at a random offset) and put in random order: same sounds, same
    pitch classes, no melody longer than a segment. Every second one is reversed in time first; the first one is
    reversed only. With segments of half a motif the p-values of unrelated tunes are about uniform; with a quarter
    they are twice too small, since shuffling then breaks what all tunes share. A tenth of the audio is the
    most, since few segments often fall back into order.
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
    segment = settings.surrogate_segment_share * len(motif.weight)
    orders = surrogate_orders(len(chroma), segment, settings, np.random.default_rng(seed))
    return _warp_best(_similarity(motif, chroma), orders, _warp_cost(motif)).astype(np.float64)


def _p_value(score: float, chance: np.ndarray) -> float:
    """Share of chance matches as good (Phipson and Smyth: the match itself counts as one of them)."""
    return float((1 + np.count_nonzero(chance >= score)) / (1 + len(chance)))


def _gap(curve: MatchCurve, match: Match, previous_end_s: float, gap_max_score: float) -> tuple[float, float]:
    """(gap_s, gap_score) of a candidate; see `find_events`."""
    latest_s = match.onset_s - 0.5 * match.duration_s
    before = (curve.time_s >= previous_end_s - 1e-9) & (curve.time_s <= latest_s)
    matching = before & (curve.score > gap_max_score)
    last_end_s = max([previous_end_s, *(curve.time_s + curve.duration_s)[matching]])
    return max(0.0, match.onset_s - last_end_s), float(curve.score[before].max(initial=0.0))


def _timbre_score(features: Features, start_s: float, duration_s: float, match: Match) -> float:
    """What two passages share when the order of their sounds is ignored, 0..1.

    The mean correlation over all pairs of a frame of the motif and a frame of the match: of their MFCC, standardised
    over the clip (a clip of one instrument gives about 0, since its timbre tells no passage from another); or of
    their chroma at the match's transposition, whichever is greater. A held chord or a texture matches as
    well in any order, a melody does not.
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


def empty_events() -> pd.DataFrame:
    """An events table without rows."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in EVENT_COLUMNS.items()})


def _no_events(reason: str) -> pd.DataFrame:
    table = empty_events()
    table.attrs["no_events_because"] = reason
    return table
