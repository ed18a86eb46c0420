"""Notes played by FluidSynth with a General MIDI sound font, for a sound that this project did not make.

It needs the package `pyfluidsynth`, the library `libfluidsynth`, and a sound font, such as that of Debian's package
`fluid-soundfont-gm`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reprise.audio.synth import Note

PIANO, SAMPLE_RATE_HZ = 0, 16_000


class Sampler:
    """A synthesiser with the samples of one sound font, without reverb or chorus."""

    def __init__(self, soundfont: Path) -> None:
        import fluidsynth

        self._synth = fluidsynth.Synth(samplerate=float(SAMPLE_RATE_HZ), gain=0.4)
        for effect in ("reverb", "chorus"):
            self._synth.setting(f"synth.{effect}.active", 0)
        self._font = self._synth.sfload(str(soundfont))
        if self._font < 0:
            raise ValueError(f"sound font {soundfont}: cannot be read; valid: an .sf2 file")

    def render(self, notes: Sequence[Note], *, duration_s: float, program: int = PIANO) -> np.ndarray:
        """Mono float32 `[sample]` at `SAMPLE_RATE_HZ`. program: a General MIDI instrument, from 0."""
        self._synth.program_select(0, self._font, 0, program)
        # Notes end before others begin.
        changes = sorted(
            change
            for note in notes
            for change in (
                (round(note.onset_s * SAMPLE_RATE_HZ), 1, int(note.midi), int(20 + 80 * note.velocity)),
                (round(min(note.onset_s + note.duration_s, duration_s) * SAMPLE_RATE_HZ), 0, int(note.midi), 0),
            )
        )
        parts, now = [], 0
        for at, begins, midi, velocity in [*changes, (round(duration_s * SAMPLE_RATE_HZ), 0, 0, 0)]:
            if at > now:
                parts.append(self._synth.get_samples(at - now).reshape(-1, 2).mean(axis=1))
                now = at
            if begins:
                self._synth.noteon(0, midi, velocity)
            else:
                self._synth.noteoff(0, midi)
        self._synth.all_sounds_off(0)
        return (np.concatenate(parts) / 2**15).astype(np.float32)
