"""Which passage of a clip is the motif whose returns are searched for?

`opening`: the passage that the configuration gives, in seconds. `beats`: that passage with both ends moved to beats.
The beats are tracked only in the audio up to the passage's end, so what a predictor may know of the motif depends on
nothing later. `discovered`: the clip's own repeated passage, found without a given place.

Discovery. Every pair of windows of the motif's length is compared frame by frame, without warping, under all twelve
transpositions (a matrix profile of the chroma: Yeh et al. 2016; transposition as in Müller 2015, 4.2). The motif is
the first window of the best pair that lies far enough apart and contains enough pitch classes. The best of many pairs
is chosen, so it must beat the best pair of surrogates of the whole clip, chosen in the same way. The resulting p-value
is the smallest that its events can have. More motifs are added until one is no better than chance.

Conventions. Seconds from the clip's start; frames as in `reprise.audio.chroma`. Discovery sees the whole clip, so it
makes labels only. `repeats_so_far` is the causal counterpart, for the baseline.

Degenerate input: a clip too short for two windows and a gap, silence, and a drone give no motif.
"""

from collections.abc import Sequence
from typing import NamedTuple

import librosa
import numpy as np
import pandas as pd

from reprise.audio.chroma import (
    FRAME_RATE_HZ,
    SILENCE_DB,
    check_motif,
    clip_features,
    clip_spectra,
    compared_chroma,
    count_onsets,
    is_sounding,
)
from reprise.audio.descriptors import LONG_FRAME_S
from reprise.audio.io import check_audio
from reprise.targets.recurrence.detection import (
    DEFAULT_SETTINGS,
    EVENT_COLUMNS,
    EventSettings,
    find_events,
    surrogate_orders,
)
from reprise.targets.target import ClipEvents, empty_events

MAX_MOTIFS = 3
# If several windows repeat equally well, the earliest is the motif and the others are its returns.
TIE_SCORE = 0.02


class Passage(NamedTuple):
    """A motif's place in its clip, and the p-value of finding a motif there.

    p_value: 1 / (1 + surrogates) at best; 0 if the place was given instead of searched for.
    """

    start_s: float
    duration_s: float
    p_value: float = 0.0


def clip_events(
    audio: np.ndarray,
    sample_rate_hz: int,
    *,
    motif: str,
    start_s: float,
    duration_s: float,
    settings: EventSettings = DEFAULT_SETTINGS,
    seed: Sequence[int] = (0,),
    others: Sequence[np.ndarray] = (),
) -> ClipEvents:
    """All candidates for returns in one clip.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    motif : {"opening", "beats", "discovered"}
        How the motif is chosen.
    start_s, duration_s : float
        Start (of the first two kinds) and duration of the motif in seconds.
    settings, seed, others
        As in `reprise.targets.recurrence.detection.find_events`.

    Returns
    -------
    ClipEvents

    Raises
    ------
    ValueError
        For bad audio, and for a motif that does not fit into the clip.
    """
    if motif == "discovered":
        passages = discover(audio, sample_rate_hz, duration_s=duration_s, settings=settings, seed=[*seed, 1])
    elif motif == "beats":
        passages = [on_beats(audio, sample_rate_hz, start_s=start_s, duration_s=duration_s)]
    else:
        passages = [Passage(start_s, duration_s)]
    first_end_s = min((passage.start_s + passage.duration_s for passage in passages), default=np.nan)
    tables = [
        find_events(
            audio,
            sample_rate_hz,
            motif_start_s=passage.start_s,
            motif_duration_s=passage.duration_s,
            motif_p_value=passage.p_value,
            settings=settings,
            seed=seed,
            others=others,
        )
        for passage in passages
    ]
    found = [table for table in tables if len(table)]
    if found:
        return ClipEvents(pd.concat(found).sort_values("onset_s", kind="stable", ignore_index=True), first_end_s)
    if tables:
        return ClipEvents(tables[0], first_end_s, tables[0].attrs["no_events_because"])
    return ClipEvents(empty_events(EVENT_COLUMNS), first_end_s, "clip: no passage in it repeats")


def on_beats(audio: np.ndarray, sample_rate_hz: int, *, start_s: float, duration_s: float) -> Passage:
    """The passage with each end moved to the nearest beat known by its end; unchanged if no beat is near enough.

    An end moves by at most half a beat, and never beyond the passage's own end.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    start_s, duration_s : float
        The passage, in seconds.

    Returns
    -------
    Passage

    Raises
    ------
    ValueError
        For bad audio, and for a passage that does not lie within the clip.
    """
    audio = check_audio(audio, sample_rate_hz)
    check_motif(audio, sample_rate_hz, start_s, duration_s)
    end_s = start_s + duration_s
    heard = audio[: round(end_s * sample_rate_hz)]
    _, beats_s = librosa.beat.beat_track(y=heard, sr=sample_rate_hz, hop_length=256, units="time", trim=False)
    if len(beats_s) < 2:
        return Passage(start_s, duration_s)
    reach_s = float(np.median(np.diff(beats_s))) / 2
    # The tracker finds no beat at the very end, so the beat that is due there is added.
    beats_s = np.append(beats_s, beats_s[-1] + 2 * reach_s)
    beats_s = beats_s[beats_s <= end_s + 1e-9]

    def snapped(time_s: float) -> float:
        nearest = float(beats_s[np.abs(beats_s - time_s).argmin()])
        return nearest if abs(nearest - time_s) <= reach_s else time_s

    first_s, last_s = snapped(start_s), snapped(end_s)
    return Passage(first_s, last_s - first_s) if last_s - first_s >= duration_s / 2 else Passage(start_s, duration_s)


def discover(
    audio: np.ndarray,
    sample_rate_hz: int,
    *,
    duration_s: float,
    settings: EventSettings,
    seed: int | Sequence[int],
    max_motifs: int = MAX_MOTIFS,
) -> list[Passage]:
    """Passages that repeat in the clip, best first; none overlaps another or its repetition.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    duration_s : float
        Length of a passage in seconds.
    settings : EventSettings
        Two windows are a pair if at least `settings.min_gap_s` lie between them.
    seed : int or sequence of int
        Seed of the surrogates.
    max_motifs : int
        Maximum number of passages.

    Returns
    -------
    list of Passage

    Raises
    ------
    ValueError
        For bad audio.
    """
    audio = check_audio(audio, sample_rate_hz)
    chroma = clip_features(audio, sample_rate_hz).chroma
    width, apart = round(duration_s * FRAME_RATE_HZ), round((duration_s + settings.min_gap_s) * FRAME_RATE_HZ)
    if len(chroma) < apart + width:
        return []
    rich = window_entropy_bits(audio, sample_rate_hz, width) >= settings.min_entropy_bits
    pairs = np.where(rich[:, None], _pair_scores(chroma, width, apart), -1.0)
    rng = np.random.default_rng(seed)
    chance = np.array(
        [
            _pair_scores(chroma[order], width, apart).max()
            for order in surrogate_orders(len(chroma), width * settings.surrogate_segment_fraction, settings, rng)
        ]
    )
    found: list[Passage] = []
    while len(found) < max_motifs:
        first, second, score = _best_pair(pairs)
        p_value = float((1 + np.count_nonzero(chance >= score)) / (1 + len(chance)))
        if score < settings.min_score or p_value > settings.max_p_value:
            break
        start_s = first / FRAME_RATE_HZ
        passage = audio[round(start_s * sample_rate_hz) : round((start_s + duration_s) * sample_rate_hz)]
        if count_onsets(passage, sample_rate_hz) >= settings.min_onsets:
            found.append(Passage(start_s, duration_s, p_value))
            taken = [first, second]
        else:
            taken = [first]
        for at in taken:
            near = slice(max(0, at - width + 1), at + width)
            pairs[near], pairs[:, near] = -1.0, -1.0
    return found


def repeats_so_far(
    audio: np.ndarray, sample_rate_hz: int, *, frame_rate_hz: float, duration_s: float, min_gap_s: float
) -> tuple[np.ndarray, list[str]]:
    """Recurrences so far if no motif is given, from the audio before each position only.

    This is the causal form of the matrix profile; nothing is standardised over the clip.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    frame_rate_hz : float
        Positions per second.
    duration_s, min_gap_s : float
        Length of a passage, and the least gap between two of them, in seconds.

    Returns
    -------
    table : float32 array `[position, 2]`
        For positions 0..T.
    names : list of str
        `match_so_far`, the best match between any two past passages, and `match_since_s`, seconds since the end of the
        second one.
    """
    audio = check_audio(audio, sample_rate_hz)
    raw, level, _ = clip_spectra(audio, sample_rate_hz)
    sounding = level > np.maximum(np.maximum.accumulate(level), 1e-10) * 10 ** (SILENCE_DB / 10)
    chroma = compared_chroma(raw) * sounding[:, None]
    width, apart = round(duration_s * FRAME_RATE_HZ), round((duration_s + min_gap_s) * FRAME_RATE_HZ)
    n_positions = round(len(audio) / sample_rate_hz * frame_rate_hz) + 1
    table, names = np.zeros((n_positions, 2), np.float32), ["match_so_far", "match_since_s"]
    if len(chroma) < apart + width:
        return table, names
    of_second = np.clip(_pair_scores(chroma, width, apart).max(axis=0), 0.0, 1.0)
    known_s = (np.arange(len(of_second)) + width) / FRAME_RATE_HZ + LONG_FRAME_S / 2
    best = np.maximum.accumulate(of_second)
    at_best = np.maximum.accumulate(np.where(of_second >= best, np.arange(len(best)), 0))
    times_s = np.arange(n_positions) / frame_rate_hz
    n_known = np.searchsorted(known_s, times_s, side="right")
    some = n_known > 0
    last = n_known[some] - 1
    table[some, 0] = best[last]
    table[some, 1] = np.where(best[last] > 0, times_s[some] - known_s[at_best[last]], 0)
    return table, names


def window_entropy_bits(audio: np.ndarray, sample_rate_hz: int, width: int) -> np.ndarray:
    """Entropy in bits of the strongest pitch class over the sounding frames of every window of `width` frames.

    float `[window]`: `reprise.audio.chroma.motif_content` at all places at once.
    """
    raw, level, _ = clip_spectra(audio, sample_rate_hz)
    sounding = is_sounding(level, audio_peak=float(np.abs(audio).max(initial=0)))
    one_hot = np.eye(12)[raw.argmax(axis=1)] * sounding[:, None]
    counts = np.lib.stride_tricks.sliding_window_view(one_hot, width, axis=0).sum(axis=-1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)


def _pair_scores(chroma: np.ndarray, width: int, apart: int) -> np.ndarray:
    """Mean correlation of every pair of windows at the best transposition.

    chroma: `[frame, 12]` as in `Features`. Returns float32 `[first, second]`, -1 where the second begins less than
    `apart` frames after the first.
    """
    n_windows = len(chroma) - width + 1
    best = np.full((n_windows, n_windows), -1.0, dtype=np.float32)
    for shift in range(12):
        # The sum along a diagonal of length `width`, by doubling: width = sum of powers of two.
        doubled = np.roll(chroma, shift, axis=1) @ chroma.T
        total, done, power = np.zeros((len(chroma), len(chroma)), dtype=np.float32), 0, 1
        while True:
            if width & power:
                size = len(chroma) - done - power + 1
                total = total[:size, :size] + doubled[done : done + size, done : done + size]
                done += power
            power *= 2
            if power > width:
                break
            half = power // 2
            doubled = doubled[:-half, :-half] + doubled[half:, half:]
        np.maximum(best, total / width, out=best)
    best[np.tri(n_windows, k=apart - 1, dtype=bool)] = -1.0
    return best


def _best_pair(pairs: np.ndarray) -> tuple[int, int, float]:
    """(first, second, score): the earliest first window within `TIE_SCORE` of the best, and its best second."""
    of_first = pairs.max(axis=1)
    first = int(np.flatnonzero(of_first >= of_first.max() - TIE_SCORE)[0])
    # Neighbouring windows match almost equally well: from the earliest, climb to the local maximum.
    while first + 1 < len(of_first) and of_first[first + 1] > of_first[first]:
        first += 1
    second = int(pairs[first].argmax())
    return first, second, float(pairs[first, second])
