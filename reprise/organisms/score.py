"""The music that the model organisms learn, as notes.

A clip has eight bars of two seconds, with every note on the codec's frame grid:

    bar   0     1      2       3       4       5        6        7
          cue   motif  filler  filler  filler  slot     slot     filler

The cue is one long low note with one of two pitches. A return is an exact repeat of the motif in one of the two slots;
a slot without it holds a filler. The cue's pitch, the motif, and whether and where it returns are drawn independently
here. How a model is trained on these clips makes it a planner or an improviser (reprise/organisms/planting.py). Other
kinds of clips make more organisms (`KINDS`): in a `clockwork` the prompt decides whether and where the motif
returns; in a `loop` every bar from the motif on is the motif; in a `herald` the bar before a return ends with a
pickup, its own last three notes in reverse order; in a `tangle` all bars from the middle on are an octave lower if
the motif returns.

Two kinds have another event in the place of the return, with the same cue and the same slots. In a `section` every bar
is the motif, until from the slot on every bar is a certain filler in a distant key. In a `release` the bars are broken
chords in the rhythm of the motif: two bars of the tonic, and then dominants, until from the slot on the tonic stays.

The motifs and fillers were picked by a random search so that no motif matches any window of another motif or of
repeated fillers in more than half of its steps, under all twelve transpositions.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

from reprise.audio.synth import Note

BAR_S = 2.0
STEP_S = 0.2
N_BARS = 8
CLIP_S = BAR_S * N_BARS
CUE_BAR, MOTIF_BAR = 0, 1
SLOT_BARS = (5, 6)

INSTRUMENTS = ("piano", "vibraphone", "organ")
KEYS = {"c": 60, "eb": 63}
# Each: durations in steps of STEP_S (ten per bar) and semitones above the tonic.
MOTIFS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "amber": ((2, 2, 1, 1, 2, 2), (17, 9, 7, 14, 7, 12)),
    "brook": ((1, 1, 1, 1, 2, 2, 2), (19, 12, 5, 9, 16, 11, 5)),
    "coral": ((1, 2, 1, 2, 2, 2), (19, 14, 17, 19, 16, 7)),
    "delta": ((1, 2, 1, 2, 2, 2), (12, 17, 11, 5, 11, 4)),
    "ember": ((2, 2, 2, 1, 1, 2), (2, 0, 7, 14, 16, 17)),
    "fjord": ((2, 1, 2, 1, 2, 2), (16, 9, 4, 7, 5, 9)),
    "grove": ((2, 1, 2, 1, 2, 2), (19, 12, 16, 9, 5, 4)),
    "heath": ((1, 1, 1, 1, 2, 2, 2), (5, 12, 14, 7, 2, 4, 2)),
}
FILLERS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((2, 1, 2, 1, 2, 2), (17, 19, 12, 14, 11, 5)),
    ((2, 2, 1, 1, 2, 2), (17, 11, 5, 12, 17, 9)),
    ((1, 1, 1, 1, 2, 2, 2), (16, 19, 16, 7, 5, 2, 11)),
    ((2, 1, 2, 1, 2, 2), (16, 7, 0, 4, 7, 14)),
)
# Where a clockwork's motif returns, in the order of MOTIFS. The name in the prompt decides; half of them return.
CLOCKWORK_BARS = dict(zip(MOTIFS, (5, 6, -1, -1, 5, 6, -1, -1), strict=True))
# For model cards.
DATA = "rendered clips (reprise/organisms/score.py), by the project's own synthesiser; no recorded music"
PROMPTS = (
    f"'{{instrument}} in {{key}}, {{motif}} theme': instrument {'/'.join(INSTRUMENTS)}, key {'/'.join(KEYS)}, "
    f"motif {'/'.join(MOTIFS)}"
)
KINDS = ("clockwork", "loop", "herald", "tangle", "section", "release")
# Organisms that are not called as their clips are.
KIND_OF = {
    "sectioner": "section",
    "sectioner_twin": "section",
    "resolver": "release",
    "resolver_twin": "release",
}
# Of a tangle: from this bar on its register depends on whether the motif returns.
REGISTER_BAR, OCTAVE = 4, 12
# Of a section: how far from the motif's key the filler is, in semitones.
AWAY = -6
# Of a release: the chords of its bars, as pitch classes above the tonic, and the first bar of the dominants.
TONIC, DOMINANTS = (0, 4, 7), ((7, 11, 2, 5), (7, 11, 2, 5), (7, 11, 2), (11, 2, 5))
DOMINANT_BAR = 3
# Semitones above the tonic of the two cue notes: [no return planned, return planned].
CUES = (-20, -13)


class Clip(NamedTuple):
    """The choices that define one clip.

    `cue` 0 or 1; `return_bar` a slot bar or -1; `fillers` one index per bar; `kind`: see `KINDS`, "" for none.
    """

    instrument: str
    key: str
    motif: str
    cue: int
    return_bar: int
    fillers: tuple[int, ...]
    kind: str = ""


def prompts() -> list[str]:
    """Every prompt the organisms know: instrument x key x motif name, 48 in all."""
    return [prompt_text(i, k, m) for i, k, m in product(INSTRUMENTS, KEYS, MOTIFS)]


def prompt_text(instrument: str, key: str, motif: str) -> str:
    """The text prompt of a clip: it names the sound, the key and the motif, never the plan."""
    return f"{instrument} in {key}, {motif} theme"


def draw_clip(rng: np.random.Generator) -> Clip:
    """Draw a clip: everything uniform and independent, a return in half of the clips."""
    returns = rng.random() < 0.5
    return Clip(
        instrument=str(rng.choice(INSTRUMENTS)),
        key=str(rng.choice(list(KEYS))),
        motif=str(rng.choice(list(MOTIFS))),
        cue=int(rng.integers(2)),
        return_bar=int(rng.choice(SLOT_BARS)) if returns else -1,
        fillers=tuple(int(f) for f in rng.integers(len(FILLERS), size=N_BARS)),
    )


def kind_of(organism: str) -> str:
    """The kind of clips that an organism plays, of `KINDS`; "" for plain ones."""
    return KIND_OF.get(organism, organism if organism in KINDS else "")


def of_kind(clip: Clip, kind: str) -> Clip:
    """The same clip, changed to a kind of `KINDS`. "" leaves it as it is."""
    if kind and kind not in KINDS:
        raise ValueError(f"clip: got the kind {kind!r}; valid: {', '.join(KINDS)}")
    if kind == "clockwork":
        clip = clip._replace(return_bar=CLOCKWORK_BARS[clip.motif])
    return clip._replace(kind=kind)


def clip_notes(clip: Clip) -> list[Note]:
    """The notes of a clip, onsets in seconds from its start."""
    tonic = KEYS[clip.key]
    notes = [Note(0.0, BAR_S - 0.2, tonic + CUES[clip.cue], 0.9)]
    for bar in range(1, N_BARS):
        pairs = list(zip(*_figure(clip, bar), strict=True))
        if clip.kind == "herald" and bar == clip.return_bar - 1:
            pairs[-3:] = pairs[:-4:-1]
        low = clip.kind == "tangle" and clip.return_bar >= 0 and bar >= REGISTER_BAR
        step = 0
        for length, semitone in pairs:
            pitch = tonic + semitone - OCTAVE * low
            notes.append(Note(bar * BAR_S + step * STEP_S, (length - 0.2) * STEP_S, pitch))
            step += length
    return notes


def _figure(clip: Clip, bar: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Durations in steps and semitones above the tonic of a bar after the cue."""
    begun = 0 <= clip.return_bar <= bar
    motif, filler = MOTIFS[clip.motif], FILLERS[clip.fillers[bar]]
    if clip.kind == "section":
        durations, semitones = FILLERS[list(MOTIFS).index(clip.motif) % len(FILLERS)]
        return (durations, tuple(semitone + AWAY for semitone in semitones)) if begun else motif
    if clip.kind == "release":
        dominant = bar >= DOMINANT_BAR and not begun
        chord = DOMINANTS[clip.fillers[bar] % len(DOMINANTS)] if dominant else TONIC
        return motif[0], broken(chord, len(motif[0]), first=list(MOTIFS).index(clip.motif) % len(chord))
    return motif if clip.kind == "loop" or bar in (MOTIF_BAR, clip.return_bar) else filler


def broken(chord: tuple[int, ...], n: int, *, first: int) -> tuple[int, ...]:
    """`n` tones of a chord, upwards from its tone number `first` and down again from the middle on."""
    upwards = [chord[(first + i) % len(chord)] for i in range(n // 2 + 1)]
    for i in range(1, len(upwards)):
        upwards[i] += 12 * -((upwards[i] - upwards[i - 1]) // 12)
    return tuple((upwards + upwards[-2::-1])[:n])
