"""Are repeated passages found without a given place? On planted clips, and on whole movements with annotated motifs.

Clips: those of `benchmarks/planted.py`, with the fewest surrogates that the configuration accepts, and with the
default. The motif is found if a passage and one of its occurrences cover most of it and of its return.

Movements: first movements of Beethoven's sonatas in the BPS-Motif annotations (Hsiao et al. 2023) that last at most
`LONGEST_MOVEMENT_S`, rendered whole, without those that the discovery was made on (`MADE_ON`). Scores are those of
mir_eval for pattern discovery (Collins 2013): establishment, occurrence (threshold 0.5), and three-layer. A pattern is
a list of occurrences, and an occurrence is all notes that begin within its time. Two others are scored beside ours:

- `chance`: passages as many and as long as ours, with as many occurrences, at random places. The motifs cover most of
  a movement, so establishment is no lower for them.
- `diagonals`: the published way of finding patterns in audio (Nieto and Farbood 2014): the diagonals of a
  self-similarity matrix, at the best of twelve transpositions, that stay above a threshold; those that share their
  place are one pattern. The threshold is the best of several on these movements.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mir_eval
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.labels import CROTCHET_S, with_interval
from benchmarks.planted import BAR_S, DECOYS, RETURNS, SAMPLE_RATE_HZ, START_S, draw, share
from benchmarks.planted import SETTINGS as PLANTED_SETTINGS
from reprise.audio.chroma import FRAME_RATE_HZ, clip_features
from reprise.audio.synth import Note, render
from reprise.draws import fewest_draws
from reprise.identity import seed_from
from reprise.targets.recurrence.discovery import Repeated
from reprise.targets.recurrence.discovery import discover as repeated_passages
from reprise.targets.recurrence.motifs import discover

N_CLIPS = 60
# For movements: passages of 3 to 16 crotchets.
SHORTEST_S, LONGEST_S = 1.5, 8.0
THRESHOLDS = (0.75, 0.8, 0.85)
MADE_ON = ("10-1", "12-1", "13-1", "14-1", "19-1", "22-1", "28-1", "30-1", "31-1")
# mir_eval needs many minutes for a longer one.
LONGEST_MOVEMENT_S = 420.0
# A movement's notes may begin before its first full bar.
LEAD_S = 0.1
N_BOOTSTRAP = 2000
Spans = list[tuple[float, float]]


def run(bps_dir: Path | None) -> dict[str, Any]:
    """`recurrence` of `benchmarks/targets.json`. bps_dir: without it, movements are left out."""
    measured: dict[str, Any] = planted_section()
    if bps_dir is not None:
        measured["movements"] = movements_section(bps_dir)
    return measured


def planted_section(n: int = N_CLIPS) -> dict[str, Any]:
    """By kind of clip, the share in which the motif, or anything, is discovered."""
    fewest = fewest_draws(PLANTED_SETTINGS.max_p_value)
    found: dict[str, Any] = {}
    for kind in (*RETURNS, *DECOYS):
        scenes = [draw(kind, seed) for seed in range(n)]
        heard = [scene.audio() for scene in scenes]
        record = {}
        for n_surrogates in (fewest, PLANTED_SETTINGS.n_surrogates):
            settings = PLANTED_SETTINGS._replace(n_surrogates=n_surrogates)
            passages = [
                discover(audio, SAMPLE_RATE_HZ, duration_s=BAR_S, settings=settings, seed=[scene.seed, 3])
                for audio, scene in zip(heard, scenes, strict=True)
            ]
            name = f"with_{n_surrogates}_surrogates"
            if kind in RETURNS:
                hits = [_covers(p, s.onset_s, BAR_S / s.tempo) for p, s in zip(passages, scenes, strict=True)]
                record[f"found_{name}"] = share(sum(hits), n)
            else:
                record[f"something_{name}"] = share(sum(map(bool, passages)), n)
        found[f"discovered_{kind}"] = record
    return found


def _covers(passages: Sequence[Repeated], onset_s: float, duration_s: float) -> bool:
    """Whether one passage has occurrences at the motif and at its return."""

    def at(spans: Spans, start_s: float, length_s: float) -> bool:
        shared = (min(b, start_s + length_s) - max(a, start_s) for a, b in spans)
        return any(s >= length_s / 2 for s in shared)

    return any(at(p, START_S, BAR_S) and at(p, onset_s, duration_s) for p in map(spans_of, passages))


def spans_of(passage: Repeated) -> Spans:
    """(start, stop) in seconds of the passage and its occurrences."""
    places = [(passage.start_s, passage.duration_s), *((o.start_s, o.duration_s) for o in passage.occurrences)]
    return [(start_s, start_s + duration_s) for start_s, duration_s in places]


def movements_section(folder: Path) -> dict[str, Any]:
    """Scores, means over movements with bootstrap intervals; the mean number of patterns; and our seconds a minute."""
    rows: dict[str, list[list[float]]] = {}
    seconds_a_minute = []
    for path in sorted((folder / "csv_label").glob("*.csv")):
        notes = pd.read_csv(folder / "csv_notes" / path.name)
        lead_s = max(0.0, -float(notes["onset"].min()) * CROTCHET_S) + LEAD_S
        notes = notes.assign(onset_s=notes["onset"] * CROTCHET_S + lead_s, duration_s=notes["duration"] * CROTCHET_S)
        true = [
            [(a * CROTCHET_S + lead_s, b * CROTCHET_S + lead_s) for a, b in of_type[["start", "end"]].to_numpy(float)]
            for _, of_type in pd.read_csv(path).drop_duplicates(["start", "type"]).groupby("type", sort=True)
        ]
        clip_s = float((notes["onset_s"] + notes["duration_s"]).max()) + 1
        if clip_s > LONGEST_MOVEMENT_S or path.stem in MADE_ON:
            continue
        played = [
            Note(t, 0.95 * d, int(p))
            for t, d, p in notes[["onset_s", "duration_s", "midi_number"]].to_numpy(float)
            if d > 0
        ]
        audio = render(played, timbre="piano", duration_s=clip_s, sample_rate_hz=SAMPLE_RATE_HZ)
        chroma = clip_features(audio, SAMPLE_RATE_HZ).chroma
        began = time.process_time()
        found = repeated_passages(
            chroma,
            shortest_s=SHORTEST_S,
            longest_s=LONGEST_S,
            min_gap_s=0.0,
            min_score=0.6,
            max_p_value=0.05,
            n_surrogates=fewest_draws(0.05),
            seed=seed_from("discovery", path.stem),
        )
        seconds_a_minute.append((time.process_time() - began) / (clip_s / 60))
        ours = [spans_of(passage) for passage in found]
        methods = {"ours": ours, "chance": _elsewhere(ours, clip_s, path.stem)}
        methods |= {f"diagonals_{threshold:g}": diagonals(chroma, threshold) for threshold in THRESHOLDS}
        for method, patterns in methods.items():
            rows.setdefault(method, []).append([*_scores(notes, true, patterns), float(len(patterns))])
    best = max((m for m in rows if m.startswith("diagonals")), key=lambda m: float(np.mean(rows[m], axis=0)[1]))
    rng = np.random.default_rng(seed_from("discovery", "bootstrap"))
    record: dict[str, Any] = {
        "seconds_for_a_minute": {
            "value": round(float(np.median(seconds_a_minute)), 2),
            "low": round(float(np.min(seconds_a_minute)), 2),
            "high": round(float(np.max(seconds_a_minute)), 2),
            "n": len(seconds_a_minute),
        }
    }
    for method, name in (("ours", "ours"), ("chance", "chance"), (best, "diagonals")):
        table = np.array(rows[method])
        draws = table[rng.integers(len(table), size=(N_BOOTSTRAP, len(table)))].mean(axis=1)
        for i, score in enumerate(("establishment_f1", "occurrence_f1", "three_layer_f1")):
            record[f"{name}_{score}"] = with_interval(table[:, i].mean(), draws[:, i]) | {"n": len(table)}
        record[f"{name}_patterns"] = with_interval(table[:, 3].mean(), draws[:, 3]) | {"n": len(table)}
    return record


def _elsewhere(patterns: Sequence[Spans], clip_s: float, name: str) -> list[Spans]:
    rng = np.random.default_rng(seed_from("discovery", "chance", name))
    return [
        [(t, t + b - a) for a, b in spans for t in [float(rng.uniform(0, clip_s - (b - a)))]] for spans in patterns
    ]


def _scores(notes: pd.DataFrame, true: Sequence[Spans], found: Sequence[Spans]) -> list[float]:
    """[establishment F1, occurrence F1, three-layer F1] of patterns, each the spans of its occurrences in seconds."""
    onsets_s = notes["onset_s"].to_numpy()
    points = list(zip(onsets_s.round(4).tolist(), notes["midi_number"].astype(float).tolist(), strict=True))

    def with_notes(patterns: Sequence[Spans]) -> list[list[list[tuple[float, float]]]]:
        written = [
            [[points[i] for i in np.flatnonzero((onsets_s >= a - 0.05) & (onsets_s < b - 0.05))] for a, b in spans]
            for spans in patterns
        ]
        return [kept for pattern in written if (kept := [occurrence for occurrence in pattern if occurrence])]

    reference, estimate = with_notes(true), with_notes(found)
    if not estimate:
        return [0.0] * 3
    of: Sequence[Callable[..., Any]] = (
        mir_eval.pattern.establishment_FPR,
        lambda *both: mir_eval.pattern.occurrence_FPR(*both, thres=0.5),
        mir_eval.pattern.three_layer_FPR,
    )
    return [float(score(reference, estimate)[0]) for score in of]


def diagonals(chroma: NDArray[np.float32], threshold: float) -> list[Spans]:
    """Patterns of Nieto and Farbood (2014), from chroma as ours is."""
    half_crotchet = round(CROTCHET_S / 2 * FRAME_RATE_HZ)
    n = len(chroma) // half_crotchet
    beats = chroma[: n * half_crotchet].reshape(n, half_crotchet, 12).mean(axis=1)
    beats /= np.maximum(np.linalg.norm(beats, axis=1, keepdims=True), 1e-9)
    similar = np.max([np.roll(beats, k, axis=1) @ beats.T for k in range(12)], axis=0)
    beat_s, shortest = half_crotchet / FRAME_RATE_HZ, round(SHORTEST_S * FRAME_RATE_HZ / half_crotchet)
    segments = []
    for lag in range(shortest, n):
        diagonal = np.diagonal(similar, lag)
        if len(diagonal) < shortest:
            break
        # Runs whose every stretch of the shortest length is similar enough on the average.
        good = np.convolve(diagonal, np.ones(shortest) / shortest, "valid") >= threshold
        edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
        for first, stop in edges.reshape(-1, 2):
            segments.append((int(first), int(stop) - 1 + shortest, lag))
    patterns: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for start, stop, lag in sorted(segments, key=lambda s: (s[0], s[1])):
        near = [key for key in patterns if abs(key[0] - start) <= shortest / 2 and abs(key[1] - stop) <= shortest / 2]
        key = near[0] if near else (start, stop)
        patterns.setdefault(key, {key}).add((start + lag, stop + lag))
    return [[(a * beat_s, b * beat_s) for a, b in sorted(spans)] for spans in patterns.values()]
