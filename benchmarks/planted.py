"""Random clips with a known return, and random clips without one; and the events found in them.

A clip has the default length of 16 s: one bar of a random tune, a motif of 2 s from second 2 (`motif_start_s` and
`motif_duration_s` of `RecurrenceSettings`), then random tunes in the same scale on the same instrument. Every tune is
a new draw (scale, rhythm, leaps). A tune may be a return by chance. So it is drawn again if any passage shares half of
its notes with the motif, at any of twelve transpositions (`benchmarks.scores.agreement`).

`RETURNS`: the motif comes back once, 3 to 9 s after its end and not on a particular beat: unchanged; in another key;
at another tempo (0.8-1.25 times); or in both another tempo and key. `SNRS_DB`: noise over the whole clip, alternately
white and pink (which masks the lower notes).

`DECOYS`, without a return:
- `drone`: one or three held notes alone; or a tune and then held notes; or held notes under tunes in the whole clip.
- `loop`: one bar of 1 to 2.5 s, an arpeggio or a tune, is repeated without a gap. The motif comes back immediately
  and all the time, so by the rule of the gap this is not a return.
- `chords`: the motif is a melody over two chords. The same chords come back under another melody, after other chords
  under other melodies. A chord note has a quarter to a half of the melody's loudness.
- `tune`: the same instrument continues with other tunes.
- `stretched`: the motif comes back at 0.5-0.65 or 1.55-2 times its tempo, outside the allowed range.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from benchmarks.scores import STEPS_PER_QUARTER, ScoreNote, agreement, roll
from reprise.audio.synth import TIMBRES, Note, render
from reprise.identity import seed_from
from reprise.targets.recurrence.detection import EventSettings, find_events
from reprise.targets.recurrence.settings import RecurrenceSettings

SAMPLE_RATE_HZ = 16_000
CLIP_S = 16.0
SHIPPED = RecurrenceSettings()
START_S, BAR_S = SHIPPED.motif_start_s, SHIPPED.motif_duration_s
SETTINGS = EventSettings(**{name: getattr(SHIPPED, name) for name in EventSettings._fields})
STEP_S = BAR_S / 16
RETURNS = ("exact", "transposed", "tempo", "tempo_transposed")
SNRS_DB = (None, 20, 10)
DECOYS = ("drone", "loop", "chords", "tune", "stretched")
# A tune shares less than this fraction of its notes with the motif.
MOST_IN_COMMON = 0.5
# An event finds a return if it is within this many seconds of its onset.
TOLERANCE_S = 0.5
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 7, 9))


class Scene(NamedTuple):
    """One clip: `notes` in seconds; `onset_s` of the return, NaN without one; `snr_db`, None without noise."""

    kind: str
    notes: tuple[Note, ...]
    timbre: str
    onset_s: float
    tempo: float
    snr_db: int | None
    seed: int

    def audio(self) -> np.ndarray:
        """Mono float32 `[sample]` at `SAMPLE_RATE_HZ`."""
        clean = render(self.notes, timbre=self.timbre, duration_s=CLIP_S, sample_rate_hz=SAMPLE_RATE_HZ)
        if self.snr_db is None:
            return clean
        noise = np.random.default_rng([self.seed, 1]).normal(size=len(clean))
        if self.seed % 2:
            spectrum = np.fft.rfft(noise)
            noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(noise))
        noise *= clean.std() * 10 ** (-self.snr_db / 20) / noise.std()
        return (clean + noise).astype(np.float32)


class Found(NamedTuple):
    """The events that `find_events` accepts in a scene.

    error_s: onset error in seconds of the best event at the return, NaN without one. n_false: number of other events.
    """

    scene: Scene
    error_s: float
    n_false: int

    @property
    def hit(self) -> bool:
        return not np.isnan(self.error_s)


def draw(kind: str, seed: int, *, snr_db: int | None = None) -> Scene:
    """Draw a scene. kind: one of `RETURNS` or `DECOYS`; any other raises KeyError. snr_db: None for no noise."""
    rng = np.random.default_rng(seed_from("planted", kind, seed))
    timbre = str(rng.choice(sorted(TIMBRES)))
    if kind in RETURNS:
        notes, onset_s, tempo = _with_return(rng, kind)
    else:
        notes, onset_s, tempo = _DECOY_NOTES[kind](rng), np.nan, np.nan
        timbre = str(rng.choice(["organ", "strings", "clarinet"])) if kind == "drone" else timbre
    return Scene(kind, tuple(sorted(notes)), timbre, onset_s, tempo, snr_db, seed)


def look(scene: Scene, settings: EventSettings = SETTINGS) -> Found:
    """Label a scene at the shipped settings."""
    events = find_events(
        scene.audio(),
        SAMPLE_RATE_HZ,
        motif_start_s=START_S,
        motif_duration_s=BAR_S,
        settings=settings,
        seed=[scene.seed, 2],
    )
    onsets_s = events.loc[events["accepted"], "onset_s"].to_numpy(float)
    errors_s = np.abs(onsets_s - scene.onset_s)
    near = errors_s <= TOLERANCE_S
    return Found(scene, float(errors_s[near].min()) if near.any() else np.nan, int((~near).sum()))


def share(n_true: int, n: int) -> dict[str, Any]:
    """A fraction with its 95% Wilson interval."""
    interval = binomtest(n_true, n).proportion_ci(0.95, method="wilson")
    return {
        "value": round(n_true / n, 4),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
        "n": n,
    }


def recall(found: list[Found]) -> dict[str, Any]:
    """Fraction of returns found, and the median and 95th percentile of their onset errors in seconds."""
    errors_s = [f.error_s for f in found if f.hit]
    return share(len(errors_s), len(found)) | {
        "median_onset_error_s": round(float(np.median(errors_s)), 4) if errors_s else None,
        "p95_onset_error_s": round(float(np.quantile(errors_s, 0.95)), 4) if errors_s else None,
        "clips_with_a_false_event": share(sum(f.n_false > 0 for f in found), len(found)),
    }


def false_events(found: list[Found]) -> dict[str, Any]:
    """Fraction of decoy clips with any event."""
    return share(sum(f.n_false > 0 for f in found), len(found))


def measure(n: int) -> dict[str, Any]:
    """Section `planted` of `benchmarks/labels.json`, with `n` clips per kind and noise level."""
    returns = {
        kind: {
            "clean" if snr_db is None else f"{snr_db} dB": recall(
                [look(draw(kind, seed, snr_db=snr_db)) for seed in range(n)]
            )
            for snr_db in SNRS_DB
        }
        for kind in RETURNS
    }
    decoys = {
        kind: [look(draw(kind, seed, snr_db=SNRS_DB[seed % len(SNRS_DB)])) for seed in range(n)] for kind in DECOYS
    }
    return {
        "n_per_cell": n,
        "settings": SETTINGS._asdict(),
        "returns": returns,
        "decoys": {kind: false_events(found) for kind, found in decoys.items()},
        "all_decoys": false_events([f for found in decoys.values() for f in found]),
    }


def _scale(rng: np.random.Generator) -> tuple[int, ...]:
    """The pitches of a scale from 55 to 81."""
    tonic, steps = int(rng.integers(12)), SCALES[rng.integers(len(SCALES))]
    return tuple(p for p in range(55, 82) if (p - tonic) % 12 in steps)


def _bar(rng: np.random.Generator, scale: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """A bar of a tune as (step, length in steps of `STEP_S`, pitch) of each note.

    It has at least five notes and four pitch classes. No note is longer than a quarter of the bar.
    """
    while True:
        lengths: list[int] = []
        while sum(lengths) < 16:
            lengths.append(min(int(rng.choice([1, 2, 2, 2, 3, 4])), 16 - sum(lengths)))
        index, pitches = int(rng.integers(len(scale))), []
        for _ in lengths:
            pitches.append(scale[index])
            leap = int(rng.choice([1, 1, 2, 2, 3, 4, 5])) * int(rng.choice([-1, 1]))
            index = index + leap if 0 <= index + leap < len(scale) else index - leap
        if len(lengths) >= 5 and len({p % 12 for p in pitches}) >= 4:
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            return [(int(s), n, p) for s, n, p in zip(starts, lengths, pitches, strict=True)]


def _place(
    bar: list[tuple[int, int, int]],
    start_s: float,
    *,
    stop_s: float = CLIP_S,
    transpose: int = 0,
    tempo: float = 1.0,
    velocity: float = 0.8,
) -> list[Note]:
    """The notes of a bar from `start_s`, cut off at `stop_s`."""
    notes = []
    for step, length, pitch in bar:
        onset_s = start_s + step * STEP_S / tempo
        held_s = min((length - 0.2) * STEP_S / tempo, stop_s - onset_s)
        if held_s > 0.02:
            notes.append(Note(onset_s, held_s, pitch + transpose, velocity))
    return notes


def _bars_roll(bars: list[list[tuple[int, int, int]]]) -> np.ndarray:
    """Consecutive bars as a roll, with one step per `STEP_S`."""
    notes = tuple(
        ScoreNote((16 * i + step) / STEPS_PER_QUARTER, length / STEPS_PER_QUARTER, pitch)
        for i, bar in enumerate(bars)
        for step, length, pitch in bar
    )
    return roll(notes, stop_q=16 * len(bars) / STEPS_PER_QUARTER)


def _others(rng: np.random.Generator, scale: tuple[int, ...], motif: list[tuple[int, int, int]], n: int) -> list[list]:
    """`n` consecutive bars. No passage in them shares `MOST_IN_COMMON` of its notes with the motif."""
    bars: list[list] = []
    known, n_tries = _bars_roll([motif]), 0
    while len(bars) < n:
        tried = _bar(rng, scale)
        n_tries += 1
        if n_tries % 20 == 0:
            # The end of the last bar may be so similar to the motif's beginning that no bar can follow.
            bars = bars[:-1]
        if agreement(_bars_roll([*bars[-1:], tried]), known, stride=1)[0].max() < MOST_IN_COMMON:
            bars.append(tried)
    return bars


def _stretch(bars: list[list], start_s: float, stop_s: float) -> list[Note]:
    """The notes of consecutive bars from `start_s`, cut off at `stop_s`."""
    return [
        n
        for i, bar in enumerate(bars)
        if start_s + i * BAR_S < stop_s
        for n in _place(bar, start_s + i * BAR_S, stop_s=stop_s)
    ]


def _with(
    rng: np.random.Generator, *, transpose: int, tempo: float, latest_s: float = 13.0
) -> tuple[list[Note], float]:
    """The notes of a clip whose motif comes back once, transposed and at another tempo; and its onset in seconds."""
    scale = _scale(rng)
    motif = _bar(rng, scale)
    before, between, after = (_others(rng, scale, motif, n) for n in (1, 5, 5))
    onset_s = float(rng.uniform(START_S + BAR_S + 3, latest_s))
    end_s = onset_s + BAR_S / tempo
    notes = _stretch(before, START_S - BAR_S, START_S) + _place(motif, START_S)
    notes += _stretch(between, START_S + BAR_S, onset_s)
    notes += _place(motif, onset_s, transpose=transpose, tempo=tempo)
    return notes + _stretch(after, end_s, CLIP_S), onset_s


def _with_return(rng: np.random.Generator, kind: str) -> tuple[list[Note], float, float]:
    shift = int(rng.choice([s for s in range(-6, 7) if s])) if "transposed" in kind else 0
    tempo = float(np.exp(rng.uniform(np.log(0.8), np.log(1.25)))) if "tempo" in kind else 1.0
    notes, onset_s = _with(rng, transpose=shift, tempo=tempo)
    return notes, onset_s, tempo


def _held(rng: np.random.Generator, start_s: float, stop_s: float, velocity: float) -> list[Note]:
    root = int(rng.integers(40, 60))
    chord = (0,) if rng.random() < 0.5 else (0, 7, int(rng.choice([12, 15, 16])))
    return [Note(start_s, stop_s - start_s, root + p, velocity) for p in chord]


def _drone(rng: np.random.Generator) -> list[Note]:
    scale = _scale(rng)
    motif = _bar(rng, scale)
    variety = rng.integers(3)
    if variety == 0:
        return _held(rng, 0.0, CLIP_S, 0.8)
    if variety == 1:
        before = _stretch(_others(rng, scale, motif, 1), 0.0, START_S)
        return before + _place(motif, START_S) + _held(rng, START_S + BAR_S, CLIP_S, 0.8)
    return _tune(rng) + _held(rng, 0.0, CLIP_S, float(rng.uniform(0.3, 0.8)))


def _loop(rng: np.random.Generator) -> list[Note]:
    scale, bar_s = _scale(rng), float(rng.uniform(1.0, 2.5))
    if rng.random() < 0.5:
        first = int(rng.integers(len(scale) - 7))
        chord = [scale[first + i] for i in (0, 2, 4, 7)]
        bar = [(2 * i, 2, int(p)) for i, p in enumerate(rng.choice(chord, 8))]
    else:
        bar = _bar(rng, scale)
    tempo = BAR_S / bar_s
    return [n for t in np.arange(0, CLIP_S, bar_s) for n in _place(bar, float(t), tempo=tempo)]


def _chords(rng: np.random.Generator) -> list[Note]:
    scale = _scale(rng)
    motif = _bar(rng, scale)
    tunes = [*_others(rng, scale, motif, 1), motif, *_others(rng, scale, motif, 6)]
    soft = 0.8 * float(rng.uniform(0.25, 0.5))

    def triad(degree: int) -> list[int]:
        return [scale[degree + i] - 12 for i in (0, 2, 4)]

    # Two chords per bar, half a bar each. Those of the motif's bar come back in bar 4, 5 or 6, counted from 0.
    degrees = rng.permutation(7)
    again = int(rng.integers(4, 7))
    notes = _stretch(tunes, START_S - BAR_S, CLIP_S)
    for i in range(8):
        pair = degrees[:2] if i in (1, again) else rng.choice(degrees[2:], 2, replace=False)
        for half, degree in enumerate(pair):
            onset_s = START_S + (i - 1 + half / 2) * BAR_S
            notes += [Note(onset_s, 0.45 * BAR_S, p, soft) for p in triad(int(degree))]
    return notes


def _tune(rng: np.random.Generator) -> list[Note]:
    scale = _scale(rng)
    motif = _bar(rng, scale)
    bars = [*_others(rng, scale, motif, 1), motif, *_others(rng, scale, motif, 6)]
    return _stretch(bars, START_S - BAR_S, CLIP_S)


def _stretched(rng: np.random.Generator) -> list[Note]:
    tempo = float(rng.uniform(0.5, 0.65) if rng.random() < 0.5 else rng.uniform(1.55, 2.0))
    return _with(rng, transpose=0, tempo=tempo, latest_s=11.0)[0]


_DECOY_NOTES: dict[str, Callable[[np.random.Generator], list[Note]]] = {
    "drone": _drone,
    "loop": _loop,
    "chords": _chords,
    "tune": _tune,
    "stretched": _stretched,
}
