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
KINDS = ("clockwork", "loop", "herald", "tangle")
# Of a tangle: from this bar on its register depends on whether the motif returns.
REGISTER_BAR, OCTAVE = 4, 12
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
        is_motif = clip.kind == "loop" or bar in (MOTIF_BAR, clip.return_bar)
        figure = MOTIFS[clip.motif] if is_motif else FILLERS[clip.fillers[bar]]
        pairs = list(zip(*figure, strict=True))
        if clip.kind == "herald" and bar == clip.return_bar - 1:
            pairs[-3:] = pairs[:-4:-1]
        low = clip.kind == "tangle" and clip.return_bar >= 0 and bar >= REGISTER_BAR
        step = 0
        for length, semitone in pairs:
            pitch = tonic + semitone - OCTAVE * low
            notes.append(Note(bar * BAR_S + step * STEP_S, (length - 0.2) * STEP_S, pitch))
            step += length
    return notes
