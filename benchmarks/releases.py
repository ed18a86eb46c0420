"""Random chord progressions with one known release of a tension, and progressions without one; and another method on
the same clips.

All clips last 20 s. They begin with the tonic of a key, and other chords between that last at most 1 s. The chords are
held, broken or repeated, on any instrument of `reprise/audio/synth.py`; half of the clips have a melody with passing
notes above them.

`RELEASES`: at 7 to 16 s, after 3 to 6 s of dominant chords, the tonic comes and stays for most of the rest.
- `cadence`: with even loudness.
- `soft_cadence`: it becomes louder until then, and is soft afterwards.

`DECOYS`, in which no dominant is released:
- `unresolved`: the same dominant chords go on to the end.
- `deceptive`: another chord of the key comes and stays.
- `wandering`: chords of other keys follow.
- `reverse`: rest first, and then dominant chords to the end.
- `opening`: the beginning goes on.
- `swell`: the same, louder and then soft.
- `key_chords`: chords of the key in random order, without its dominant. Another of them may sound like a tonic.
- `any_chords`: major, minor, diminished and seventh chords on any note.
- `tune`: a melody alone.
- `drone`: a fifth.
- `noise`: white.

A release is found if an event lies within `NEAR_S`. The other method is the tensile strain of the spiral array (Chew
2000; Herremans and Chew 2016): the distance of the centre of what sounds from that of the clip's key, in the same
frames. Its release is the largest fall from the mean of the seconds before to that of the seconds after, if it is
larger than in 0.95 of the decoys.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.planted import SAMPLE_RATE_HZ, share
from reprise.audio.harmony import key_fits
from reprise.audio.synth import TIMBRES, Note, render
from reprise.identity import seed_from
from reprise.targets.tension.detection import EARLY_S, FRAME_S, find_releases, harmony_frames
from reprise.targets.tension.settings import TensionSettings

SETTINGS = TensionSettings().model_dump()
CLIP_S, STEP_S = 20.0, 0.5
RELEASES = ("cadence", "soft_cadence")
DECOYS = (
    "unresolved",
    "deceptive",
    "wandering",
    "reverse",
    "opening",
    "swell",
    "key_chords",
    "any_chords",
    "tune",
    "drone",
    "noise",
)
NEAR_S = 0.5
N_CLIPS = 100

CHORDS = {
    "I": (0, 4, 7),
    "i": (0, 3, 7),
    "ii": (2, 5, 9),
    "iio": (2, 5, 8),
    "III": (3, 7, 10),
    "iii": (4, 7, 11),
    "IV": (5, 9, 0),
    "iv": (5, 8, 0),
    "V": (7, 11, 2),
    "V7": (7, 11, 2, 5),
    "vi": (9, 0, 4),
    "VI": (8, 0, 3),
    "viio": (11, 2, 5),
    "viio7": (11, 2, 5, 8),
    "bII": (1, 5, 8),
    "II7": (2, 6, 9, 0),
}


class Scene(NamedTuple):
    """One clip: `audio` float32 `[sample]` at `SAMPLE_RATE_HZ`, and where its tension is released, NaN without it."""

    kind: str
    audio: np.ndarray
    onset_s: float
    seed: int


class Key(NamedTuple):
    """A key: its tonic's pitch class and chord, other chords of it, its dominants and its scale."""

    tonic: int
    rest: str
    others: tuple[str, str, str]
    third: str
    dominants: tuple[str, ...]
    scale: tuple[int, ...]


# A chord's name and how long it lasts, in seconds.
Progression = list[tuple[str, float]]


def draw(kind: str, seed: int) -> Scene:
    """Draw a scene. kind: one of `RELEASES` or `DECOYS`; any other raises KeyError."""
    rng = np.random.default_rng(seed_from("releases", kind, seed))
    timbre = str(rng.choice(sorted(TIMBRES)))
    at_s, build_s = float(rng.choice(np.arange(7, 16.01, STEP_S))), float(rng.choice([3.0, 4.0, 5.0, 6.0]))
    audio = _DRAWN[kind](rng, timbre, at_s, build_s)
    return Scene(kind, audio.astype(np.float32), at_s if kind in RELEASES else np.nan, seed)


def found_in(scene: Scene) -> np.ndarray:
    """Onsets in seconds of the events that are accepted at the shipped settings."""
    found = find_releases(scene.audio, SAMPLE_RATE_HZ, SETTINGS, seed=[scene.seed, 3]).events
    return found.loc[found["accepted"], "onset_s"].to_numpy(float)


def hits(scenes: list[Scene], onsets_s: list[np.ndarray]) -> dict[str, Any]:
    """How many releases are found, and in how many clips another event is."""
    errors_s = [np.abs(found - scene.onset_s) for scene, found in zip(scenes, onsets_s, strict=True)]
    return {
        f"found_within_{NEAR_S:g}_s": share(sum(bool((e <= NEAR_S).any()) for e in errors_s), len(scenes)),
        "clips_with_a_false_event": share(sum(bool((e > NEAR_S).any()) for e in errors_s), len(scenes)),
    }


def largest_fall(audio: np.ndarray) -> tuple[float, float]:
    """Seconds and size of the largest fall of the tensile strain in a clip."""
    frames = harmony_frames(audio, SAMPLE_RATE_HZ)
    fits = key_fits(frames)
    tonic, is_major = int(fits.argmax()) % 12, fits.argmax() < 12
    shares = np.sqrt(np.roll(frames, -tonic, axis=1))
    # The pitch classes above the tonic as steps along the line of fifths.
    fifths = {(7 * k) % 12: k for k in (range(-5, 7) if is_major else range(-6, 6))}
    pitches = np.array([_on_the_spiral(fifths[pitch]) for pitch in range(12)])
    centres = shares @ pitches / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
    strain = np.linalg.norm(centres - _centre_of_key(bool(is_major)), axis=1)
    before, after = (round(SETTINGS[name] / FRAME_S) for name in ("build_s", "rest_s"))
    at = np.arange(before, len(strain) - after + 1)
    falls = [strain[i - before : i].mean() - strain[i : i + after].mean() for i in at]
    return float(at[int(np.argmax(falls))] * FRAME_S - EARLY_S), float(max(falls))


def measure(n: int) -> dict[str, Any]:
    """`targets.json`'s part about releases, with `n` clips of each kind."""
    by_kind = {kind: [draw(kind, seed) for seed in range(n)] for kind in (*RELEASES, *DECOYS)}
    false = {kind: [len(found_in(scene)) > 0 for scene in by_kind[kind]] for kind in DECOYS}
    largest = float(np.quantile([largest_fall(s.audio)[1] for kind in DECOYS for s in by_kind[kind]], 0.95))
    measured: dict[str, Any] = {}
    for kind in RELEASES:
        scenes = by_kind[kind]
        falls = [largest_fall(scene.audio) for scene in scenes]
        strain = hits(scenes, [np.array([at_s] if fall > largest else []) for at_s, fall in falls])
        near = f"found_within_{NEAR_S:g}_s"
        measured[kind] = hits(scenes, [found_in(scene) for scene in scenes]) | {f"strain_{near}": strain[near]}
    measured |= {kind: {"clips_with_a_false_event": share(sum(found), n)} for kind, found in false.items()}
    every = [value for found in false.values() for value in found]
    return measured | {"all_decoys": {"clips_with_a_false_event": share(sum(every), len(every))}}


def run() -> dict[str, Any]:
    """The part `tension` of `targets.json`. It takes some minutes."""
    return measure(N_CLIPS)


def key_of(rng: np.random.Generator) -> Key:
    """A random key."""
    tonic = int(rng.integers(12))
    if rng.random() < 0.65:
        return Key(tonic, "I", ("IV", "ii", "vi"), "iii", ("V", "V7", "V7", "viio"), (0, 2, 4, 5, 7, 9, 11))
    return Key(tonic, "i", ("iv", "iio", "VI"), "III", ("V", "V7", "V7", "viio", "viio7"), (0, 2, 3, 5, 7, 8, 11))


def _filled(
    rng: np.random.Generator, duration_s: float, lasting_s: list[float], name: Callable[[int], str]
) -> Progression:
    """Chords of one length for `duration_s`; the last is cut. name(i): the i-th."""
    progression: Progression = []
    each_s, at_s = float(rng.choice(lasting_s)), 0.0
    while at_s < duration_s - 1e-6:
        held_s = min(each_s, duration_s - at_s)
        progression.append((name(len(progression)), held_s))
        at_s += held_s
    return progression


def _opening(rng: np.random.Generator, key: Key, duration_s: float) -> Progression:
    first, _, third = key.others
    patterns = (
        (key.rest, first, key.rest, third),
        (key.rest, key.rest, first, key.rest),
        (key.rest, third, key.rest, first),
    )
    pattern = patterns[rng.integers(3)]
    return _filled(rng, duration_s, [0.5, 1.0], lambda i: pattern[i % 4])


def _build_up(rng: np.random.Generator, key: Key, duration_s: float) -> Progression:
    def name(i: int) -> str:
        return str(rng.choice(key.dominants)) if rng.random() < 0.85 else key.others[1]

    return _filled(rng, duration_s, [0.5, 1.0, 1.5], name)


def _rest(rng: np.random.Generator, key: Key, duration_s: float) -> Progression:
    def name(i: int) -> str:
        return key.rest if i == 0 or rng.random() < 0.8 else str(rng.choice(key.others))

    return _filled(rng, duration_s, [1.0, 2.0], name)


def _deceptive(rng: np.random.Generator, key: Key, duration_s: float) -> Progression:
    stays, passes = str(rng.choice(key.others)), str(rng.choice(key.others))
    return _filled(rng, duration_s, [1.0, 2.0], lambda i: passes if i % 3 == 2 else stays)


def _wandering(rng: np.random.Generator, key: Key, duration_s: float) -> Progression:
    return _filled(rng, duration_s, [1.0], lambda i: str(rng.choice(["VI", "bII", "II7", "viio7", "III"])))


def _notes_of(chord: tuple[int, ...], tonic: int, at_s: float, held_s: float, style: str, lowest: int) -> list[Note]:
    """A chord with its root in the bass. style: held, broken or repeated."""
    root = (tonic + chord[0]) % 12
    bass = Note(at_s, 0.97 * held_s, 36 + root + (12 if root < 4 else 0), 0.5)
    upper = sorted(lowest + (tonic + step - lowest) % 12 for step in chord)
    if style == "held":
        return [bass, *(Note(at_s, 0.97 * held_s, midi, 0.4) for midi in upper)]
    if style == "broken":
        return [bass, *(Note(at_s + i / 4, 0.24, upper[i % len(upper)], 0.5) for i in range(round(4 * held_s)))]
    return [bass, *(Note(at_s + i / 2, 0.45, midi, 0.4) for i in range(round(2 * held_s)) for midi in upper)]


def _melody(rng: np.random.Generator, progression: Progression, key: Key) -> list[Note]:
    """Notes of the chords on the beat, and of the scale between."""
    notes, at_s, last = [], 0.0, 76
    for name, held_s in progression:
        for i in range(round(held_s / STEP_S)):
            pitches = CHORDS[name] if i % 2 == 0 or rng.random() < 0.5 else key.scale
            near = [m for m in range(last - 5, last + 6) if (m - key.tonic) % 12 in pitches and 69 <= m <= 88]
            last = int(rng.choice(near or [76]))
            notes.append(Note(at_s + i * STEP_S, 0.96 * STEP_S, last, 0.6))
        at_s += held_s
    return notes


def _played(rng: np.random.Generator, timbre: str, key: Key, progression: Progression) -> np.ndarray:
    style, lowest = str(rng.choice(["held", "broken", "repeated"])), int(rng.choice([52, 57, 60]))
    notes, at_s = [], 0.0
    for name, held_s in progression:
        notes += _notes_of(CHORDS[name], key.tonic, at_s, held_s, style, lowest)
        at_s += held_s
    return _rendered(notes + (_melody(rng, progression, key) if rng.random() < 0.5 else []), timbre)


def _rendered(notes: list[Note], timbre: str) -> np.ndarray:
    return render(notes, timbre=timbre, duration_s=CLIP_S, sample_rate_hz=SAMPLE_RATE_HZ)


def _swelling(audio: np.ndarray, at_s: float, build_s: float) -> np.ndarray:
    """Louder by 20 dB within `build_s` up to `at_s`, and 12 dB below the loudest after it."""
    before_s = np.maximum(at_s - np.arange(len(audio)) / SAMPLE_RATE_HZ, 0)
    return audio * np.where(before_s > 0, 10 ** (-np.minimum(before_s / build_s, 1)), 0.25)


def _progression(
    follows: Callable[[np.random.Generator, Key, float], Progression],
) -> Callable[[np.random.Generator, str, float, float], np.ndarray]:
    """An opening, a build-up of `build_s`, and from `at_s` on what `follows`."""

    def audio(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
        key = key_of(rng)
        progression = _opening(rng, key, at_s - build_s) + _build_up(rng, key, build_s)
        return _played(rng, timbre, key, progression + follows(rng, key, CLIP_S - at_s))

    return audio


def _soft_cadence(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    return _swelling(_progression(_rest)(rng, timbre, at_s, build_s), at_s, build_s)


def _reverse(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    key = key_of(rng)
    return _played(rng, timbre, key, _rest(rng, key, at_s) + _build_up(rng, key, CLIP_S - at_s))


def _opening_only(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    key = key_of(rng)
    return _played(rng, timbre, key, _opening(rng, key, CLIP_S))


def _swell(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    return _swelling(_opening_only(rng, timbre, at_s, build_s), at_s, build_s)


def _key_chords(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    key = key_of(rng)
    names = [key.rest, *key.others, key.third]
    return _played(rng, timbre, key, _filled(rng, CLIP_S, [0.5, 1.0, 2.0], lambda i: str(rng.choice(names))))


def _any_chords(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    style, lowest, notes = str(rng.choice(["held", "broken", "repeated"])), int(rng.choice([52, 57, 60])), []
    each_s = float(rng.choice([0.5, 1.0, 2.0]))
    for start_s in np.arange(0, CLIP_S, each_s):
        chord = ((0, 4, 7), (0, 3, 7), (0, 3, 6), (0, 4, 7, 10))[rng.integers(4)]
        notes += _notes_of(chord, int(rng.integers(12)), float(start_s), each_s, style, lowest)
    return _rendered(notes, timbre)


def _tune(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    key, notes, start_s, last = key_of(rng), [], 0.0, 72
    while start_s < CLIP_S - 1e-6:
        held_s = float(rng.choice([0.25, 0.5, 0.5, 1.0]))
        near = [m for m in range(last - 4, last + 5) if (m - key.tonic) % 12 in key.scale and 60 <= m <= 84]
        last = int(rng.choice(near or [72]))
        notes.append(Note(start_s, 0.95 * held_s, last, 0.6))
        start_s += held_s
    return _rendered(notes, timbre)


def _drone(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    tonic = int(rng.integers(36, 48))
    return _rendered([Note(0.0, CLIP_S, tonic, 0.6), Note(0.0, CLIP_S, tonic + 7, 0.5)], timbre)


def _noise(rng: np.random.Generator, timbre: str, at_s: float, build_s: float) -> np.ndarray:
    noise = rng.normal(size=round(CLIP_S * SAMPLE_RATE_HZ))
    return noise / np.abs(noise).max() / 2


def _on_the_spiral(fifths: float) -> np.ndarray:
    """A pitch on the spiral array, with the ratio of height to radius of Chew 2000."""
    return np.array([np.sin(fifths * np.pi / 2), np.cos(fifths * np.pi / 2), fifths * np.sqrt(2 / 15)])


def _centre_of_key(is_major: bool) -> np.ndarray:
    """The centre of a key whose tonic is at 0, with the weights of Chew 2000."""
    weights = np.array([0.536, 0.274, 0.190])

    def chord(root: int, major: bool) -> np.ndarray:
        return weights @ [_on_the_spiral(root), _on_the_spiral(root + 1), _on_the_spiral(root + (4 if major else -3))]

    if is_major:
        return np.asarray(weights @ [chord(0, True), chord(1, True), chord(-1, True)])
    dominant, subdominant = (0.75 * chord(k, k > 0) + 0.25 * chord(k, k < 0) for k in (1, -1))
    return np.asarray(weights @ [chord(0, False), dominant, subdominant])


_DRAWN: dict[str, Callable[[np.random.Generator, str, float, float], np.ndarray]] = {
    "cadence": _progression(_rest),
    "soft_cadence": _soft_cadence,
    "unresolved": _progression(_build_up),
    "deceptive": _progression(_deceptive),
    "wandering": _progression(_wandering),
    "reverse": _reverse,
    "opening": _opening_only,
    "swell": _swell,
    "key_chords": _key_chords,
    "any_chords": _any_chords,
    "tune": _tune,
    "drone": _drone,
    "noise": _noise,
}
