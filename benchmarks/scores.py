"""Returns that are known from the notes of scores: tunes, performances of them, and where the opening comes back.

Truth. A score becomes a roll: the pitch classes that sound in each step of 1/12 quarter note. The *agreement* of a
passage with the motif is the Dice coefficient of their sounding (step, pitch class) pairs, at the best of twelve
transpositions (0..1; 1: the same notes).

- Agreement of `EXACT` or more: a return. But if the gap since the last passage with `NEAR` or more is too short, it is
  a repeat, not a return after other music, and is ignored, found or not.
- Between `NEAR` and `EXACT`: a variant. The notes alone do not show whether it counts, so it is ignored too.
- Below `NEAR`: no return.

Degenerate input: `pieces` leaves out scores that cannot be read, that change their metre, or that have fewer than ten
full bars, and chorales that do not have four parts.

Tunes come with music21 (Cuthbert and Ariza 2010): fiddle tunes (Ryan's Mammoth Collection, 1883), German and other
folk songs (Essen collection, Schaffrath 1995) and Bach's chorales in four parts. Repeats are played as written.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reprise.audio.scores import ScoreNote, collection, read_score
from reprise.audio.synth import TIMBRES, Note
from reprise.identity import seed_from

STEPS_PER_QUARTER = 12
EXACT, NEAR = 0.95, 0.6
# Passages are compared at every sixteenth note.
STRIDE = STEPS_PER_QUARTER // 4
CORPORA = ("fiddle", "folk", "chorale")
MOTIF_BARS = (2, 3, 4)
MOTIF_S = 5.0


class Piece(NamedTuple):
    """A score: its notes, the onset of its first full bar and its bar length in quarter notes, and whether beats are
    dotted."""

    name: str
    corpus: str
    notes: tuple[ScoreNote, ...]
    downbeat_q: float
    bar_q: float
    dotted: bool


class Truth(NamedTuple):
    """Onsets in quarter notes, `[onset]` each.

    returns: after other music. transpositions: of each return, in semitones up. too_soon: exact repeats without a gap.
    variants: similar passages.
    """

    returns: np.ndarray
    transpositions: np.ndarray
    too_soon: np.ndarray
    variants: np.ndarray


def roll(notes: tuple[ScoreNote, ...], *, stop_q: float) -> np.ndarray:
    """The pitch classes that sound, up to `stop_q` quarter notes: float32 `[step, 12]` of 0 and 1."""
    sounding = np.zeros((round(stop_q * STEPS_PER_QUARTER), 12), np.float32)
    for note in notes:
        first = round(note.onset_q * STEPS_PER_QUARTER)
        last = max(first + 1, round((note.onset_q + note.duration_q) * STEPS_PER_QUARTER))
        sounding[max(first, 0) : max(last, 0), note.midi % 12] = 1
    return sounding


def agreement(sounding: np.ndarray, motif: np.ndarray, *, stride: int = STRIDE) -> tuple[np.ndarray, np.ndarray]:
    """Dice coefficient of the motif with each passage of a roll, at the best of twelve transpositions.

    Parameters
    ----------
    sounding : float32 array `[step, 12]`
        The roll.
    motif : float32 array `[step, 12]`
        The motif's roll.
    stride : int
        Passages begin at every `stride`-th step.

    Returns
    -------
    agreement : float array `[onset]`
        0..1.
    transposition : int array `[onset]`
        In semitones up, 0..11.
    """
    if len(sounding) < len(motif):
        return np.zeros(0), np.zeros(0, int)
    windows = np.lib.stride_tricks.sliding_window_view(sounding, len(motif), axis=0)[::stride]
    flat = windows.transpose(0, 2, 1).reshape(len(windows), -1)
    shifted = np.stack([np.roll(motif, shift, axis=1).ravel() for shift in range(12)])
    shares = 2 * (flat @ shifted.T) / np.maximum(flat.sum(axis=1) + motif.sum(), 1)[:, None]
    return shares.max(axis=1), shares.argmax(axis=1)


def find_truth(notes: tuple[ScoreNote, ...], *, start_q: float, length_q: float, stop_q: float, gap_q: float) -> Truth:
    """Where the motif `[start_q, start_q + length_q)` comes back before `stop_q` (see the head of this module).

    gap_q: the least gap before a return. All times are in quarter notes.
    """
    sounding = roll(notes, stop_q=stop_q)
    first, length = round(start_q * STEPS_PER_QUARTER), round(length_q * STEPS_PER_QUARTER)
    share, shift = agreement(sounding[first + length :], sounding[first : first + length])
    onset_q = start_q + length_q + np.arange(len(share)) * (STRIDE / STEPS_PER_QUARTER)
    exact = peaks(share, EXACT, length // STRIDE)
    like = np.flatnonzero(share >= NEAR)
    returns: list[int] = []
    too_soon: list[int] = []
    for peak in exact:
        # A passage that overlaps the return by more than half is the return itself, a little early.
        before = like[onset_q[like] + length_q / 2 <= onset_q[peak]]
        last_end_q = max([start_q + length_q, *(onset_q[before] + length_q)])
        (returns if onset_q[peak] - last_end_q >= gap_q else too_soon).append(peak)
    # A passage that overlaps an exact return by more than half is that return, and not a variant.
    variants = [i for i in like if all(abs(onset_q[i] - onset_q[e]) >= length_q / 2 for e in exact)]
    return Truth(onset_q[returns], shift[returns], onset_q[too_soon], onset_q[variants])


def peaks(values: np.ndarray, least: float, apart: int) -> list[int]:
    """Indices of the highest values, in order. Values are at least `least`, and at least `apart` indices apart."""
    free, peaks = values >= least, []
    while free.any():
        peak = int(np.where(free, values, -np.inf).argmax())
        peaks.append(peak)
        free[max(0, peak - apart + 1) : peak + apart] = False
    return sorted(peaks)


class Performance(NamedTuple):
    """A piece as played: `notes` in seconds, `timbre`, and the map from quarter notes to seconds as two arrays."""

    notes: tuple[Note, ...]
    timbre: str
    at_q: np.ndarray
    at_s: np.ndarray

    def seconds(self, quarters: np.ndarray | float) -> np.ndarray:
        """Seconds at these quarter notes."""
        return np.interp(quarters, self.at_q, self.at_s)

    def quarters(self, seconds: np.ndarray | float) -> np.ndarray:
        """Quarter notes at these seconds."""
        return np.interp(seconds, self.at_s, self.at_q)


def perform(piece: Piece, *, change_q: float | None = None) -> Performance:
    """Play a piece with human variation, which depends on its name only.

    Tempo: 92-116 dotted or 96-124 plain quarter notes per minute. It varies by up to 4% over half a minute. Every note
    is shifted in time (standard deviation 10 ms), has its own loudness, and is held for 85-98% of its length.

    With `change_q`, the music from that quarter note on is in another key and at 0.87-1.15 times the tempo.
    """
    rng = np.random.default_rng(seed_from("performance", piece.corpus, piece.name))
    quarter_s = 60 / rng.uniform(92, 116) / 1.5 if piece.dotted else 60 / rng.uniform(96, 124)
    timbre = str(rng.choice(sorted(TIMBRES)))
    end_q = max(n.onset_q + n.duration_q for n in piece.notes) + 1
    at_q = np.arange(0, end_q + 0.25, 0.25)
    sway = 1 + 0.04 * np.sin(2 * np.pi * at_q * quarter_s / rng.uniform(20, 40) + rng.uniform(0, 2 * np.pi))
    shift, tempo = int(rng.choice([s for s in range(-5, 7) if s])), float(rng.uniform(0.87, 1.15))
    change_q = np.inf if change_q is None else change_q - 1e-6
    sway = np.where(at_q >= change_q, sway / tempo, sway)
    at_s = np.concatenate([[0], np.cumsum(0.25 * quarter_s * sway[:-1])])
    notes = []
    for note in sorted(piece.notes):
        onset_s, end_s = np.interp((note.onset_q, note.onset_q + note.duration_q), at_q, at_s)
        late_s, loud, held = rng.normal(0, 0.01), rng.uniform(0.6, 1.0), rng.uniform(0.85, 0.98)
        pitch = note.midi + (shift if note.onset_q >= change_q else 0)
        notes.append(Note(max(0.0, onset_s + late_s), (end_s - onset_s) * held, pitch, round(loud, 2)))
    return Performance(tuple(notes), timbre, at_q, at_s)


def motif_length_q(piece: Piece, quarter_s: float) -> float:
    """Length of the opening phrase in quarter notes: two to four bars, whichever is nearest to `MOTIF_S` seconds.

    quarter_s: seconds per quarter note.
    """
    return piece.bar_q * min(MOTIF_BARS, key=lambda bars: abs(bars * piece.bar_q * quarter_s - MOTIF_S))


def pieces(corpus: str, n: int, *, seed: int = 0) -> Iterator[Piece]:
    """Yield the first `n` usable pieces of a corpus, in an order drawn from `seed`.

    corpus: one of `CORPORA`; any other raises ValueError. A usable piece has at least ten full bars and one metre.
    """
    if corpus not in CORPORA:
        raise ValueError(f"corpus: {corpus!r} is unknown; valid: {', '.join(CORPORA)}")
    sources = _sources(corpus)
    order = np.random.default_rng(seed_from("pieces", corpus, seed)).permutation(len(sources))
    found = 0
    for i in order:
        if found == n:
            return
        piece = _read(corpus, *sources[i])
        if piece is not None:
            found += 1
            yield piece


def _sources(corpus: str) -> list[tuple[str, Path, str]]:
    """(name, file, ABC text or "") of every score."""
    paths = collection({"fiddle": "ryansMammoth", "folk": "essenFolksong", "chorale": "bach"}[corpus])
    if corpus != "folk":
        return [(path.stem, path, "") for path in paths]
    sources = []
    for path in paths:
        if path.stem.startswith(("test", "variant")):
            continue
        for number, text in enumerate(re.split(r"\n(?=X:)", path.read_text(encoding="utf-8", errors="replace"))):
            if text.startswith("X:"):
                sources.append((f"{path.stem}/{number}", path, text))
    return sources


def _read(corpus: str, name: str, path: Path, text: str) -> Piece | None:
    """One score as a piece. None if music21 cannot read it, or if it is not usable for `pieces`."""
    score = read_score(path, text)
    if score is None or len(score.full_bars_q) < 10 or (corpus == "chorale" and score.n_parts != 4):
        return None
    return Piece(name, corpus, score.notes, score.full_bars_q[0], score.bar_q, score.dotted)
