"""Read scores with music21 (Cuthbert and Ariza 2010): their notes as played, bars and key.

music21 is not among the package's own dependencies: only training of the organism `wild` and benchmarks need it. Time
is in quarter notes from the score's start.

Degenerate input: a score that music21 cannot read, or one that changes its metre, is None.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple


class ScoreNote(NamedTuple):
    """A note: onset and duration in quarter notes, and its MIDI note number."""

    onset_q: float
    duration_q: float
    midi: int


class Score(NamedTuple):
    """A score of one metre.

    notes: of all parts, in order. full_bars_q: onsets of all full bars. bar_q: the length of a bar. dotted: whether
    beats are dotted. tonic: the pitch class of its key, 0 for C, or None if the score does not say. n_parts: parts.
    """

    notes: tuple[ScoreNote, ...]
    full_bars_q: tuple[float, ...]
    bar_q: float
    dotted: bool
    tonic: int | None
    n_parts: int


def collection(name: str) -> list[Path]:
    """The files of one of the collections that come with music21, in order of their names."""
    from music21 import corpus

    return sorted(path for path in map(Path, corpus.getPaths()) if path.parent.name == name)


def read_score(path: Path, text: str = "") -> Score | None:
    """Read a score, with its repeats as played; badly formed repeats are ignored.

    Parameters
    ----------
    path : Path
        Its file.
    text : str
        The score itself in ABC notation, for one of several in a file.

    Returns
    -------
    Score or None
    """
    from music21 import converter

    logging.getLogger("music21").setLevel(logging.ERROR)
    try:
        score = converter.parse(text, format="abc") if text else converter.parse(path)
    # A few scores of the collections are broken in various ways.
    except Exception:
        return None
    score = _as_played(score)
    bars = [bar for bar in score.parts[0].getElementsByClass("Measure") if bar.duration.quarterLength > 0]
    metres = {bar.barDuration.quarterLength for bar in bars}
    if len(metres) != 1:
        return None
    bar_q = float(metres.pop())
    notes = []
    for part in score.parts:
        for element in part.flatten().stripTies().notes:
            if element.duration.quarterLength > 0:
                onset_q, duration_q = float(element.offset), float(element.duration.quarterLength)
                notes += [ScoreNote(onset_q, duration_q, int(p.midi)) for p in element.pitches]
    first = score.parts[0].recurse()
    metre, key = first.getElementsByClass("TimeSignature").first(), first.getElementsByClass("Key").first()
    return Score(
        notes=tuple(sorted(notes)),
        full_bars_q=tuple(float(bar.offset) for bar in bars if bar.duration.quarterLength == bar_q),
        bar_q=bar_q,
        dotted=metre is not None and metre.denominator == 8 and metre.numerator % 3 == 0,
        tonic=None if key is None else int(key.tonic.pitchClass),
        n_parts=len(score.parts),
    )


def _as_played(score: Any) -> Any:
    """The score with its repeats written out. If they are badly formed, the score is unchanged."""
    from music21.exceptions21 import Music21Exception

    try:
        return score.expandRepeats()
    except Music21Exception:
        return score
