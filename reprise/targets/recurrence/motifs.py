"""Which passage of a clip is the motif whose returns are searched for?

`opening`: the passage that the configuration gives, in seconds. `beats`: that passage with its ends moved to beats.
The beats are tracked only in the audio up to the passage's end, so what a predictor may know of the motif depends on
nothing later. `discovered`: whatever passages the clip itself repeats.

Discovery is in `reprise.targets.recurrence.discovery`. A passage is as long as the configuration says, or up to
`LONGEST` (2) times that. The p-value of finding it is the smallest that its events can have.

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
    clip_spectra,
    compared_chroma,
    features_of,
    passage_content,
)
from reprise.audio.descriptors import LONG_FRAME_S
from reprise.audio.io import check_audio
from reprise.targets.recurrence.detection import (
    DEFAULT_SETTINGS,
    EVENT_COLUMNS,
    EventSettings,
    find_events,
)
from reprise.targets.recurrence.discovery import Repeated
from reprise.targets.recurrence.discovery import discover as repeated_passages
from reprise.targets.recurrence.settings import LONGEST
from reprise.targets.target import ClipEvents, empty_events

# A note begins at a beat if it does so within this time. Of the last beats before an end that is moved, at least this
# fraction has one: the tracker may have taken another level or phase for the beat.
NOTE_S = 0.05
LAST_BEATS, CONFIRMED_FRACTION = 6, 0.7


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
        found = discover(audio, sample_rate_hz, duration_s=duration_s, settings=settings, seed=[*seed, 1])
        passages = [Passage(motif.start_s, motif.duration_s, motif.p_value) for motif in found]
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
    with_events = [table for table in tables if len(table)]
    if with_events:
        return ClipEvents(pd.concat(with_events).sort_values("onset_s", kind="stable", ignore_index=True), first_end_s)
    if tables:
        return ClipEvents(tables[0], first_end_s, tables[0].attrs["no_events_because"])
    return ClipEvents(empty_events(EVENT_COLUMNS), first_end_s, "clip: no passage in it repeats")


def on_beats(audio: np.ndarray, sample_rate_hz: int, *, start_s: float, duration_s: float) -> Passage:
    """The passage with its ends at beats, as far as notes confirm these; the other ends stay.

    The start moves to the nearest beat if a note begins within `NOTE_S` of it, and then to that note. Nothing after
    the end may be heard. So the end moves to the nearest beat, which may be the one that is due next, only if notes
    begin at most of the last beats before it. An end moves by at most half a beat, and never beyond the passage's own
    end.

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
    sr, hop = sample_rate_hz, 256
    rise = librosa.onset.onset_strength(y=audio[: round(end_s * sr)], sr=sr, hop_length=hop)
    _, beats_s = librosa.beat.beat_track(onset_envelope=rise, sr=sr, hop_length=hop, units="time", trim=False)
    notes_s = librosa.onset.onset_detect(onset_envelope=rise, sr=sr, hop_length=hop, units="time")
    if len(beats_s) < 2 or len(notes_s) == 0:
        return Passage(start_s, duration_s)
    reach_s = float(np.median(np.diff(beats_s))) / 2
    nearest_note_s = notes_s[np.abs(notes_s - beats_s[:, None]).argmin(axis=1)]
    confirmed = np.abs(nearest_note_s - beats_s) <= NOTE_S

    first_s, last_s = start_s, end_s
    nearest = np.abs(beats_s - start_s).argmin()
    if confirmed[nearest] and abs(beats_s[nearest] - start_s) <= reach_s:
        first_s = float(nearest_note_s[nearest])
    # The tracker finds no beat at the very end, so the beat that is due there is added.
    due_s = np.append(beats_s, beats_s[-1] + 2 * reach_s)
    due_s = due_s[due_s <= end_s + 1e-9]
    nearest = np.abs(due_s - end_s).argmin()
    due_or_confirmed = nearest == len(beats_s) or confirmed[nearest]
    steady = confirmed[-LAST_BEATS:].mean() >= CONFIRMED_FRACTION
    if steady and due_or_confirmed and abs(due_s[nearest] - end_s) <= reach_s:
        last_s = float(due_s[nearest])
    return Passage(first_s, last_s - first_s) if last_s - first_s >= duration_s / 2 else Passage(start_s, duration_s)


def discover(
    audio: np.ndarray,
    sample_rate_hz: int,
    *,
    duration_s: float,
    settings: EventSettings,
    seed: int | Sequence[int],
) -> list[Repeated]:
    """Passages with content that repeat in the clip: `reprise.targets.recurrence.discovery.discover`.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    duration_s : float
        The shortest length of a passage in seconds.
    settings : EventSettings
        What a motif and its match must reach. Two passages are at least `settings.min_gap_s` apart.
    seed : int or sequence of int
        Seed of the surrogates.

    Returns
    -------
    list of Repeated

    Raises
    ------
    ValueError
        For bad audio.
    """
    audio = check_audio(audio, sample_rate_hz)
    spectra = clip_spectra(audio, sample_rate_hz)

    def has_content(start_s: float, duration_s: float) -> bool:
        content = passage_content(audio, sample_rate_hz, spectra, start_s, duration_s)
        return content.entropy_bits >= settings.min_entropy_bits and content.n_onsets >= settings.min_onsets

    return repeated_passages(
        features_of(audio, sample_rate_hz, spectra).chroma,
        shortest_s=duration_s,
        longest_s=LONGEST * duration_s,
        min_gap_s=settings.min_gap_s,
        min_score=settings.min_score,
        max_p_value=settings.max_p_value,
        n_surrogates=settings.n_surrogates,
        seed=seed,
        has_content=has_content,
    )


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
