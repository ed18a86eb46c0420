"""Random clips with one known start of a section, and random clips without one; tunes with known strains; and other
methods on the same clips.

`SECTIONS`: clips of 24 s of a random tune, or of a riff that repeats. At 7 to 17 s one thing changes for good:
- `timbre`: the instrument.
- `key`: all by 1, 3, 4 or 6 semitones.
- `texture`: chords join the tune, or leave it.
- `material`: another riff in the same key, on the same instrument.

`DECOYS`, in which no section begins:
- `odd_bar`: one bar on another instrument in another key, and then everything as before.
- `fade`: the loudness falls or rises by 40 dB.
- `noise`: white or pink.
- `drift`: one instrument turns slowly into another.
- `tune`, `loop`, `chords`: a tune, a riff, and a tune with chords, without any change.

`strains`: fiddle tunes (`reprise/organisms/tunes.py`) with the form AABB, a strain of 7.7 s each. A section begins
with the first B; a repeated strain is none. The two strains share less than half of their notes.

A section is found if an event lies within `NEAR_S` or `FAR_S`. The other methods hear the same frames, with the best
of several settings on these same clips:
- `novelty`: the highest peak of checkerboard novelty, if it is higher than in 0.95 of the decoys.
- `librosa`: the boundary between two segments of its agglomerative segmentation. It is told that there are two, and it
  answers in every clip.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import librosa
import numpy as np

from benchmarks.planted import SAMPLE_RATE_HZ, share
from reprise.audio.synth import TIMBRES, Note, render
from reprise.identity import seed_from
from reprise.organisms.codec import FRAME_RATE_HZ
from reprise.organisms.tunes import BAR_FRAMES, GAP_S, STRAIN_BARS, Tune, read_tunes
from reprise.targets.section.detection import FRAME_S, find_sections, section_features
from reprise.targets.section.settings import SectionSettings

SETTINGS = SectionSettings().model_dump()
CLIP_S = 24.0
SECTIONS = ("timbre", "key", "texture", "material")
DECOYS = ("odd_bar", "fade", "noise", "drift", "tune", "loop", "chords")
NEAR_S, FAR_S = 0.5, 3.0
KERNELS_S = (4.0, 6.0, 7.0)
N_CLIPS, EVERY_TUNE = 60, 6
# Strains that share a smaller fraction of their notes differ.
MOST_IN_COMMON = 0.5
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 7, 9))


class Scene(NamedTuple):
    """One clip: `audio` float32 `[sample]` at `SAMPLE_RATE_HZ`, and where its section begins, NaN without one."""

    kind: str
    audio: np.ndarray
    onset_s: float
    seed: int


class Style(NamedTuple):
    """What the notes of a clip have in common."""

    tonic: int
    scale: tuple[int, ...]
    bar_s: float


def draw(kind: str, seed: int) -> Scene:
    """Draw a scene. kind: one of `SECTIONS` or `DECOYS`; any other raises KeyError."""
    rng = np.random.default_rng(seed_from("sections", kind, seed))
    style = Style(int(rng.integers(57, 66)), SCALES[rng.integers(len(SCALES))], float(rng.choice([1.0, 1.5, 2.0])))
    first, second = (str(name) for name in rng.choice(sorted(TIMBRES), 2, replace=False))
    at_s = float(rng.choice(np.arange(7, 17.01, 0.25)))
    audio = _DRAWN[kind](rng, style, first, second, at_s)
    return Scene(kind, audio.astype(np.float32), at_s if kind in SECTIONS else np.nan, seed)


def strains(tunes: Iterable[Tune]) -> list[Scene]:
    """The clips of all tunes with the form AABB."""
    length = STRAIN_BARS * BAR_FRAMES
    scenes = []
    for i, tune in enumerate(tunes):
        parts = [
            {(onset - k * length, midi) for onset, _, midi in tune.notes if k * length <= onset < (k + 1) * length}
            for k in range(4)
        ]
        common = [len(a & b) / max(min(len(a), len(b)), 1) for a, b in zip(parts, parts[1:], strict=False)]
        if not (common[1] < MOST_IN_COMMON and min(common[0], common[2]) > 0.8):
            continue
        rng = np.random.default_rng(seed_from("strains", tune.name))
        notes = [
            Note(onset / FRAME_RATE_HZ, max(duration / FRAME_RATE_HZ - GAP_S, GAP_S), midi)
            for onset, duration, midi in tune.notes
            if onset < 4 * length
        ]
        audio = _rendered(notes, str(rng.choice(sorted(TIMBRES))), 4 * length / FRAME_RATE_HZ)
        scenes.append(Scene("strains", audio, 2 * length / FRAME_RATE_HZ, i))
    return scenes


def found_in(scene: Scene) -> np.ndarray:
    """Onsets in seconds of the events that are accepted at the shipped settings."""
    found = find_sections(scene.audio, SAMPLE_RATE_HZ, SETTINGS, seed=[scene.seed, 3]).events
    return found.loc[found["accepted"], "onset_s"].to_numpy(float)


def hits(scenes: list[Scene], onsets_s: list[np.ndarray]) -> dict[str, Any]:
    """How many sections are found, and in how many clips another event is."""
    errors_s = [np.abs(found - scene.onset_s) for scene, found in zip(scenes, onsets_s, strict=True)]
    return {
        f"found_within_{NEAR_S:g}_s": share(sum(bool((e <= NEAR_S).any()) for e in errors_s), len(scenes)),
        f"found_within_{FAR_S:g}_s": share(sum(bool((e <= FAR_S).any()) for e in errors_s), len(scenes)),
        "clips_with_a_false_event": share(sum(bool((e > FAR_S).any()) for e in errors_s), len(scenes)),
    }


def novelty_peak(features: np.ndarray, kernel_s: float) -> tuple[float, float]:
    """Seconds and height of the highest checkerboard novelty (Foote 2000), with a Gaussian taper. features: `[frame,
    d]`."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    similarity, n = unit @ unit.T, round(kernel_s / FRAME_S)
    away = np.arange(-n, n) + 0.5
    tapered = np.sign(away) * np.exp(-0.5 * (away / (n / 2)) ** 2)
    kernel = np.outer(tapered, tapered)
    at = range(n, len(features) - n + 1)
    novelty = [float((kernel * similarity[i - n : i + n, i - n : i + n]).sum()) for i in at]
    return FRAME_S * at[int(np.argmax(novelty))], max(novelty)


def agglomerated(features: np.ndarray) -> float:
    """Seconds of the boundary between two segments of librosa's agglomerative segmentation. features `[frame, d]`."""
    return float(FRAME_S * librosa.segment.agglomerative(features.T, 2)[1])


def others(scenes: list[Scene], decoys: list[Scene]) -> dict[str, list[np.ndarray]]:
    """Onsets in seconds that other methods find in each clip, by method and setting."""
    features, in_decoys = (
        [section_features(scene.audio, SAMPLE_RATE_HZ) for scene in some] for some in (scenes, decoys)
    )
    answers = {}
    for n_steps in (1, 4):
        stacked = [librosa.feature.stack_memory(each.T, n_steps=n_steps, mode="edge").T for each in features]
        answers[f"librosa, {n_steps} frames"] = [np.array([agglomerated(each)]) for each in stacked]
    for kernel_s in KERNELS_S:
        threshold = float(np.quantile([novelty_peak(each, kernel_s)[1] for each in in_decoys], 0.95))
        peaks = [novelty_peak(each, kernel_s) for each in features]
        found = [[at_s] if height > threshold else [] for at_s, height in peaks]
        answers[f"novelty, {kernel_s:g} s"] = [np.array(each) for each in found]
    return answers


def measure(n: int, tunes: list[Tune]) -> dict[str, Any]:
    """`targets.json`'s part about sections, with `n` clips of each kind."""
    by_kind = {kind: [draw(kind, seed) for seed in range(n)] for kind in (*SECTIONS, *DECOYS)}
    by_kind["strains"] = strains(tunes)
    measured: dict[str, Any] = {}
    decoys = [scene for kind in DECOYS for scene in by_kind[kind]]
    false = {kind: [len(found_in(scene)) > 0 for scene in by_kind[kind]] for kind in DECOYS}
    for kind in (*SECTIONS, "strains"):
        scenes = by_kind[kind]
        measured[kind] = hits(scenes, [found_in(scene) for scene in scenes])
        answers = {name: hits(scenes, found) for name, found in others(scenes, decoys).items()}
        for method in ("librosa", "novelty"):
            settings = [name for name in answers if name.startswith(method)]
            near = f"found_within_{NEAR_S:g}_s"
            best = max(settings, key=lambda name: answers[name][near]["value"])
            measured[kind] |= {
                f"{method}_{key}": value for key, value in answers[best].items() if key.startswith("found")
            }
    measured |= {kind: {"clips_with_a_false_event": share(sum(found), len(found))} for kind, found in false.items()}
    every = [value for found in false.values() for value in found]
    return measured | {"all_decoys": {"clips_with_a_false_event": share(sum(every), len(every))}}


def run() -> dict[str, Any]:
    """The part `section` of `targets.json`. It takes some minutes, and needs music21."""
    return measure(N_CLIPS, read_tunes()[::EVERY_TUNE])


def _rendered(notes: list[Note], timbre: str, duration_s: float = CLIP_S) -> np.ndarray:
    return render(notes, timbre=timbre, duration_s=duration_s, sample_rate_hz=SAMPLE_RATE_HZ)


def _tune(rng: np.random.Generator, style: Style, start_s: float, stop_s: float) -> list[Note]:
    """A random walk in the scale from `start_s`, cut off at `stop_s`."""
    notes, at_s, degree, step_s = [], start_s, int(rng.integers(5)), style.bar_s / 8
    while at_s < stop_s - 1e-6:
        held_s = min(step_s * int(rng.choice([1, 1, 2, 2, 3])), stop_s - at_s)
        degree = int(np.clip(degree + rng.integers(-3, 4), -3, 8))
        notes.append(Note(at_s, 0.9 * held_s, _pitch(style, degree)))
        at_s += held_s
    return notes


def _pitch(style: Style, degree: int) -> int:
    octave, step = divmod(degree, len(style.scale))
    return style.tonic + 12 * octave + style.scale[step]


def _riff(rng: np.random.Generator, style: Style, start_s: float, stop_s: float) -> list[Note]:
    """One bar, again and again."""
    bar = _tune(rng, style, 0.0, style.bar_s)
    repeats = np.arange(start_s, stop_s - 1e-6, style.bar_s)
    placed = (note._replace(onset_s=note.onset_s + float(at_s)) for at_s in repeats for note in bar)
    return [note for note in placed if note.onset_s < stop_s - 1e-6]


def _chords(rng: np.random.Generator, style: Style, start_s: float, stop_s: float) -> list[Note]:
    """A soft triad in each bar."""
    notes = []
    for at_s in np.arange(start_s, stop_s - 1e-6, style.bar_s):
        root, held_s = int(rng.integers(len(style.scale))), min(style.bar_s, stop_s - float(at_s))
        notes += [Note(float(at_s), 0.95 * held_s, _pitch(style, root + k) - 12, 0.4) for k in (0, 2, 4)]
    return notes


def _melody(rng: np.random.Generator) -> Callable[..., list[Note]]:
    return _tune if rng.random() < 0.5 else _riff


def _timbre(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
    notes = _melody(rng)(rng, style, 0.0, CLIP_S)
    before, after = ([n for n in notes if (n.onset_s < at_s - 1e-6) == early] for early in (True, False))
    return _rendered(before, first) + _rendered(after, second)


def _key(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
    shift = int(rng.choice([1, 3, 4, 6, -1, -3, -4]))
    notes = _melody(rng)(rng, style, 0.0, CLIP_S)
    return _rendered([n._replace(midi=n.midi + shift) if n.onset_s >= at_s - 1e-6 else n for n in notes], first)


def _texture(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
    start_s, stop_s = (at_s, CLIP_S) if rng.random() < 0.5 else (0.0, at_s)
    notes = _melody(rng)(rng, style, 0.0, CLIP_S)
    return _rendered(notes + _chords(rng, style, start_s, stop_s), first)


def _material(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
    return _rendered(_riff(rng, style, 0.0, at_s) + _riff(rng, style, at_s, CLIP_S), first)


def _odd_bar(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
    notes = _melody(rng)(rng, style, 0.0, CLIP_S)
    odd = style._replace(tonic=style.tonic + int(rng.choice([1, 3, 6])))
    stop_s = at_s + style.bar_s
    kept = [n for n in notes if not at_s - 1e-6 <= n.onset_s < stop_s - 1e-6]
    return _rendered(kept, first) + _rendered(_tune(rng, odd, at_s, stop_s), second)


def _fade(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
    audio = _rendered(_melody(rng)(rng, style, 0.0, CLIP_S), first)
    down_db = np.linspace(0, -40, len(audio))
    return audio * 10 ** ((down_db if rng.random() < 0.5 else down_db[::-1]) / 20)


def _noise(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
    noise = rng.normal(size=round(CLIP_S * SAMPLE_RATE_HZ))
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(noise))
    return noise / np.abs(noise).max() / 2


def _drift(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
    notes = _melody(rng)(rng, style, 0.0, CLIP_S)
    part = np.linspace(0, 1, round(CLIP_S * SAMPLE_RATE_HZ))
    return _rendered(notes, first) * (1 - part) + _rendered(notes, second) * part


def _unchanged(
    melody: Callable[..., list[Note]], *, chords: bool
) -> Callable[[np.random.Generator, Style, str, str, float], np.ndarray]:
    def audio(rng: np.random.Generator, style: Style, first: str, second: str, at_s: float) -> np.ndarray:
        notes = melody(rng, style, 0.0, CLIP_S)
        return _rendered(notes + (_chords(rng, style, 0.0, CLIP_S) if chords else []), first)

    return audio


_DRAWN: dict[str, Callable[[np.random.Generator, Style, str, str, float], np.ndarray]] = {
    "timbre": _timbre,
    "key": _key,
    "texture": _texture,
    "material": _material,
    "odd_bar": _odd_bar,
    "fade": _fade,
    "noise": _noise,
    "drift": _drift,
    "tune": _unchanged(_tune, chords=False),
    "loop": _unchanged(_riff, chords=False),
    "chords": _unchanged(_tune, chords=True),
}
