"""The music that the organism `wild` learns: excerpts of fiddle tunes, as printed in 1883.

The tunes are those of Ryan's Mammoth Collection (Boston, 1883, in the public domain), as music21 has them in ABC
notation. A tune has strains of eight bars. Most are played twice, and then the first bars of the strain return after
about eight seconds. An excerpt begins with any strain, so whether its first bars come back depends on the place in the
tune, which nothing says. Nothing is planted.

A bar has 24 frames of the codec in every metre, so that most notes begin on its frame grid. The others, such as the
short ones of a dotted rhythm, begin at the nearest frame. A tune is transposed into each of four keys by six semitones
or less, and put an octave lower if it is then too high.

Left out: tunes of another metre than 2/4, 4/4, 2/2 or 6/8, tunes that are no whole number of strains, and rare dances.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reprise.audio.scores import Score, collection, read_score
from reprise.audio.synth import Note
from reprise.organisms import score
from reprise.organisms.codec import FRAME_RATE_HZ

COLLECTION = "ryansMammoth"
DANCES = ("reel", "hornpipe", "jig", "strathspey")
KEYS = {"c": 0, "d": 2, "g": 7, "a": 9}
BAR_FRAMES, STRAIN_BARS, CLIP_BARS = 24, 8, 16
# The opening that may return, and how much a note is shorter than written, so that repeated notes are heard as two.
OPENING_S, GAP_S = 2 * BAR_FRAMES / FRAME_RATE_HZ, 0.04
# For model cards.
DATA = "excerpts of fiddle tunes of 1883 (reprise/organisms/tunes.py), by the project's own synthesiser"
PROMPTS = (
    f"'{{instrument}} {{dance}} in {{key}}': instrument {'/'.join(score.INSTRUMENTS)}, dance {'/'.join(DANCES)}, "
    f"key {'/'.join(KEYS)}"
)
# Every tenth tune is held out of the training.
HELD_OUT_EVERY = 10
# A tune may be this much shorter or longer than a whole number of strains, because of its upbeat.
UPBEAT_BARS = 0.5
HIGHEST_MIDI = 86


class Tune(NamedTuple):
    """A tune: notes with frames as their unit of time, `[note]` of (onset, duration, MIDI number), and its number of
    bars. tonic: the pitch class of its key."""

    name: str
    dance: str
    tonic: int
    n_bars: int
    notes: tuple[tuple[int, int, int], ...]


class Excerpt(NamedTuple):
    """What defines a clip: the number of its tune, the strain that it begins with, instrument and key."""

    tune: int
    strain: int
    instrument: str
    key: str


def read_tunes() -> list[Tune]:
    """All usable tunes of the collection, in order of their names. It takes minutes, and needs music21."""
    found = (tune_of(path, read_score(path)) for path in collection(COLLECTION))
    return [tune for tune in found if tune is not None]


def tune_of(path: Path, read: Score | None) -> Tune | None:
    """A score as a tune; None if it is left out. The dance is the last word of the file's name."""
    dance = next((each for each in DANCES if path.stem.lower().endswith(each)), None)
    if read is None or dance is None or read.tonic is None or not read.notes:
        return None
    if read.bar_q not in ((3.0,) if read.dotted else (2.0, 4.0)):
        return None
    frames = BAR_FRAMES / read.bar_q
    last = max(note.onset_q + note.duration_q for note in read.notes)
    n_bars = STRAIN_BARS * round(last / read.bar_q / STRAIN_BARS)
    if n_bars < CLIP_BARS or abs(last / read.bar_q - n_bars) > UPBEAT_BARS:
        return None
    notes = []
    for onset_q, duration_q, midi in read.notes:
        onset = round(onset_q * frames)
        notes.append((onset, max(round((onset_q + duration_q) * frames) - onset, 1), midi))
    return Tune(path.stem, dance, read.tonic, n_bars, tuple(notes))


def excerpts(tunes: Iterable[Tune], *, held_out: bool) -> Iterator[Excerpt]:
    """All excerpts of the tunes that are held out, or of the others, in a fixed order."""
    for i, tune in enumerate(tunes):
        if (i % HELD_OUT_EVERY == 0) != held_out:
            continue
        for strain in range((tune.n_bars - CLIP_BARS) // STRAIN_BARS + 1):
            for instrument in score.INSTRUMENTS:
                yield from (Excerpt(i, strain, instrument, key) for key in KEYS)


def draw_excerpts(tunes: Iterable[Tune], n: int, seed: int, *, held_out: bool = False) -> list[Excerpt]:
    """`n` excerpts, or all if there are fewer, drawn without replacement."""
    every = list(excerpts(tunes, held_out=held_out))
    order = np.random.default_rng([seed, 8, held_out]).permutation(len(every))[:n]
    return [every[i] for i in order]


def prompts() -> list[str]:
    """Every prompt that it knows: instrument x dance x key, 48 in all."""
    return [f"{i} {dance} in {key}" for i in score.INSTRUMENTS for dance in DANCES for key in KEYS]


def prompt_of(excerpt: Excerpt, tune: Tune) -> str:
    """The text prompt of an excerpt."""
    return f"{excerpt.instrument} {tune.dance} in {excerpt.key}"


def excerpt_notes(excerpt: Excerpt, tune: Tune) -> list[Note]:
    """The notes of an excerpt, onsets in seconds from its start."""
    shift = (KEYS[excerpt.key] - tune.tonic + 6) % 12 - 6
    highest = max(midi for _, _, midi in tune.notes) + shift
    shift -= 12 * (highest > HIGHEST_MIDI)
    first = excerpt.strain * STRAIN_BARS * BAR_FRAMES
    notes = []
    for onset, duration, midi in tune.notes:
        onset_s = (onset - first) / FRAME_RATE_HZ
        duration_s = duration / FRAME_RATE_HZ
        if 0 <= onset_s < score.CLIP_S:
            notes.append(Note(onset_s, duration_s - min(GAP_S, duration_s / 2), midi + shift))
    return notes
