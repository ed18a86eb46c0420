"""The accuracy of recurrence labels on planted returns, on tunes and on annotated sonatas; and their cost.

Sections of `labels.json`:
- `planted`: see `benchmarks/planted.py`.
- `tunes`: scores in which the notes show what returns (see `benchmarks/scores.py`), performed and rendered. At most
  `TUNE_S` seconds from the first full bar. The motif is the opening two to four bars.
- `sonatas`: BPS-Motif (Hsiao et al. 2023), experts' motif annotations of 32 first movements by Beethoven, from the
  folder given by `--bps-dir`. Without it, this section stays unchanged. Notes are rendered as a piano, with half a
  second per crotchet. Each motif letter is searched from its first occurrence, and then from the next occurrence
  after each `SONATA_S`.
- `sonatas_sampled`: the same, played with the samples of the sound font given by `--soundfont`
  (benchmarks/sampled.py).
- `speed`: the records that go into `results.json`.

Three methods get the same audio. *Ours*: events that `find_events` accepts at its shipped thresholds. *Plain*: see
`benchmarks/plain.py`, with frames of 64 ms and onsets every 0.25 s. Its threshold is the one with the best F1 on this
same data; ours is not tuned on it. *Plain, any key*: the same at the best of twelve transpositions.

Counts: an event finds a return if it is within `TOLERANCE_S` of its onset, with one event per return.
`after_other_music`: returns after a gap of at least `LEAST_GAP_S`, as events are defined. This is a little more than
the shipped gap, so that no single frame decides. Repeats without a gap and variants are ignored, found or not.
`every_return`: repeats count too. Intervals: 95%, bootstrap over pieces.
"""

import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import mir_eval
import numpy as np
import pandas as pd

from benchmarks import planted
from benchmarks.plain import plain_candidates, plain_curve, plain_curves
from benchmarks.planted import SETTINGS, TOLERANCE_S
from benchmarks.processes import in_fresh_process, peak_memory_mb
from benchmarks.records import record
from benchmarks.sampled import Sampler
from benchmarks.scores import CORPORA, EXACT, NEAR, Piece, find_truth, motif_length_q, perform, pieces
from reprise.audio.chroma import MIN_MOTIF_S
from reprise.audio.synth import Note, render
from reprise.identity import seed_from
from reprise.targets.recurrence.detection import find_events

SAMPLE_RATE_HZ = 16_000
SECTIONS = ("planted", "tunes", "sonatas", "sonatas_sampled", "speed")
PLAIN = ("plain", "plain_any_key")
N_TUNES = {"fiddle": 120, "folk": 120, "chorale": 30}
TUNE_S = SONATA_S = 30.0
CROTCHET_S = 0.5
LEAST_GAP_S = SETTINGS.min_gap_s + 0.25
LEAD_S = 1.0
MOST_WINDOWS = 4
PLAIN_FRAME_S, PLAIN_HOP_S = 0.064, 0.25
N_BOOTSTRAP = 2000
N_PLANTED = 60
N_SPEED = 3


class Labelled(NamedTuple):
    """The truth of one clip and the results of all methods. Onsets are in seconds from the clip's start.

    group: the piece. returns_s: returns after other music. too_soon_s: repeats without a gap. plain: by method, the
    candidates as (onset, score). has_content: whether the motif has enough content.
    """

    corpus: str
    group: str
    returns_s: np.ndarray
    n_transposed: int
    too_soon_s: np.ndarray
    variants_s: np.ndarray
    ours_s: np.ndarray
    plain: dict[str, list[tuple[float, float]]]
    has_content: bool


class SonataClip(NamedTuple):
    """One clip of a movement: `audio` from `start_s` of the movement. All else is in seconds from the clip's start."""

    audio: np.ndarray
    start_s: float
    motif_start_s: float
    motif_duration_s: float
    onsets_s: np.ndarray
    ends_s: np.ndarray


def label(
    audio: np.ndarray, start_s: float, duration_s: float, seed: tuple[int, ...]
) -> tuple[pd.DataFrame, dict[str, list[tuple[float, float]]]]:
    """Run all methods on one clip.

    Parameters
    ----------
    audio : float32 array `[sample]`
        Mono audio at `SAMPLE_RATE_HZ`.
    start_s, duration_s : float
        Start and length of the motif in seconds.
    seed : tuple of int
        Seed of the surrogates.

    Returns
    -------
    accepted : DataFrame
        Events that ours accepts.
    plain : dict
        By plain method, candidates as (onset in seconds, score).
    """
    events = find_events(
        audio, SAMPLE_RATE_HZ, motif_start_s=start_s, motif_duration_s=duration_s, settings=SETTINGS, seed=seed
    )
    onsets_s, scores = plain_curves(
        audio,
        SAMPLE_RATE_HZ,
        motif_start_s=start_s,
        motif_duration_s=duration_s,
        frame_s=PLAIN_FRAME_S,
        hop_s=PLAIN_HOP_S,
    )
    accepted = events[events["accepted"]]
    accepted.attrs["has_content"] = not events.attrs.get("no_events_because", "").startswith("motif")
    curves = {"plain": scores[0], "plain_any_key": scores.max(axis=0)}
    return accepted, {m: plain_candidates(onsets_s, c, motif_duration_s=duration_s) for m, c in curves.items()}


def count(found_s: Iterable[float], true_s: np.ndarray, ignored_s: np.ndarray) -> tuple[int, int, int]:
    """(true positives, false positives, false negatives) of found onsets. All arguments are onsets in seconds.

    A found onset near an ignored one is not a false positive.
    """
    found_s = np.sort(np.asarray(list(found_s), float))
    pairs = mir_eval.util.match_events(np.sort(true_s), found_s, TOLERANCE_S) if len(true_s) and len(found_s) else []
    hits = {found for _, found in pairs}
    wrong = [t for i, t in enumerate(found_s) if i not in hits and not (np.abs(ignored_s - t) <= TOLERANCE_S).any()]
    return len(hits), len(wrong), len(true_s) - len(hits)


def rates(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 `[..., 3]` from counts `[..., 3]`. Precision is 1 if nothing is found."""
    tp, fp, fn = np.moveaxis(counts.astype(float), -1, 0)
    f1 = np.where(2 * tp + fp + fn > 0, 2 * tp / np.maximum(2 * tp + fp + fn, 1), 1.0)
    return np.stack(
        [np.where(tp + fp > 0, tp / np.maximum(tp + fp, 1), 1.0), tp / np.maximum(tp + fn, 1), f1], axis=-1
    )


def with_interval(value: float, draws: np.ndarray) -> dict[str, float]:
    """A number with the 2.5th and 97.5th percentile of its bootstrap draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def best_threshold(clips: list[Labelled], truths: list[tuple[np.ndarray, np.ndarray]], method: str) -> float:
    """The score threshold at which the F1 of a plain method over all clips is highest.

    truths: for each clip the onsets of returns, and those that are ignored, in seconds.
    """
    scores = [score for clip in clips for _, score in clip.plain[method]]
    grid = np.unique(np.quantile(scores, np.linspace(0, 1, 201)))
    f1 = [rates(_plain_counts(clips, truths, method, threshold).sum(axis=0))[2] for threshold in grid]
    return float(grid[int(np.argmax(f1))])


def _plain_counts(
    clips: list[Labelled], truths: list[tuple[np.ndarray, np.ndarray]], method: str, threshold: float
) -> np.ndarray:
    return np.array(
        [
            count([t for t, score in clip.plain[method] if score >= threshold], *truth)
            for clip, truth in zip(clips, truths, strict=True)
        ]
    )


def compare(clips: list[Labelled], *, repeats_count: bool) -> dict[str, Any]:
    """Precision, recall and F1 of all methods over `clips`, and the lead of ours in F1; per corpus and in total."""
    truths = [
        (np.concatenate([c.returns_s, c.too_soon_s]), c.variants_s)
        if repeats_count
        else (c.returns_s, np.concatenate([c.too_soon_s, c.variants_s]))
        for c in clips
    ]
    thresholds = {method: best_threshold(clips, truths, method) for method in PLAIN}
    counts = {"ours": np.array([count(c.ours_s, *truth) for c, truth in zip(clips, truths, strict=True)])}
    counts |= {method: _plain_counts(clips, truths, method, thresholds[method]) for method in PLAIN}
    record: dict[str, Any] = {"thresholds": thresholds}
    corpora = list(dict.fromkeys(c.corpus for c in clips))
    for name in ["all", *(corpora if len(corpora) > 1 else [])]:
        rows = np.array([name in ("all", c.corpus) for c in clips])
        groups = [c.group for c, row in zip(clips, rows, strict=True) if row]
        record[name] = _compared({method: c[rows] for method, c in counts.items()}, groups)
    return record


def _compared(counts: dict[str, np.ndarray], groups: list[str]) -> dict[str, Any]:
    ours = counts["ours"]
    _, index = np.unique(groups, return_inverse=True)
    n_groups = int(index.max()) + 1
    record: dict[str, Any] = {"n_pieces": n_groups, "n_clips": len(ours), "n_returns": int(ours[:, [0, 2]].sum())}
    if not record["n_returns"]:
        return record | {
            method: {"clips_with_a_false_event": planted.share(int((c[:, 1] > 0).sum()), len(c))}
            for method, c in counts.items()
        }
    drawn = np.random.default_rng(seed_from("labels", "bootstrap")).integers(n_groups, size=(N_BOOTSTRAP, n_groups))
    values, draws = {}, {}
    for method, of_clips in counts.items():
        of_groups = np.zeros((n_groups, 3))
        np.add.at(of_groups, index, of_clips)
        values[method], draws[method] = rates(of_groups.sum(axis=0)), rates(of_groups[drawn].sum(axis=1))
        record[method] = {
            name: with_interval(values[method][i], draws[method][:, i])
            for i, name in enumerate(("precision", "recall", "f1"))
        } | dict(zip(("n_right", "n_false", "n_missed"), map(int, of_clips.sum(axis=0)), strict=True))
        if method != "ours":
            record[method]["f1_ours_ahead"] = with_interval(
                values["ours"][2] - values[method][2], draws["ours"][:, 2] - draws[method][:, 2]
            )
    return record


def label_tunes() -> tuple[list[Labelled], list[Labelled]]:
    """All methods on every tune of `N_TUNES`: unchanged, and with another key and tempo after the motif."""
    every = [piece for corpus in CORPORA for piece in pieces(corpus, N_TUNES[corpus])]
    return [label_tune(piece, changed=False) for piece in every], [label_tune(piece, changed=True) for piece in every]


def label_tune(piece: Piece, *, changed: bool) -> Labelled:
    """All methods on one tune. changed: whether key and tempo change after the motif (see `perform`)."""
    played = perform(piece)
    end_q = max(n.onset_q + n.duration_q for n in piece.notes)
    clip_q = float(played.quarters(played.seconds(piece.downbeat_q) + TUNE_S)) - piece.downbeat_q
    quarter_s = TUNE_S / clip_q
    length_q = motif_length_q(piece, quarter_s)
    if changed:
        played = perform(piece, change_q=piece.downbeat_q + length_q)
    begin_s = float(played.seconds(piece.downbeat_q))
    clip_s = min(TUNE_S, float(played.seconds(end_q)) - begin_s)
    motif_end_q = piece.downbeat_q + length_q
    after_s = float(played.seconds(motif_end_q + piece.bar_q) - played.seconds(motif_end_q)) / piece.bar_q
    truth = find_truth(
        piece.notes,
        start_q=piece.downbeat_q,
        length_q=length_q,
        stop_q=float(played.quarters(begin_s + clip_s)),
        gap_q=LEAST_GAP_S / after_s,
    )
    # The upbeat is left out. A first note that is played a little early starts at the clip's start.
    notes = [n._replace(onset_s=max(0.0, n.onset_s - begin_s)) for n in played.notes if n.onset_s >= begin_s - 0.03]
    audio = render(notes, timbre=played.timbre, duration_s=clip_s, sample_rate_hz=SAMPLE_RATE_HZ)
    duration_s = float(played.seconds(piece.downbeat_q + length_q)) - begin_s
    accepted, plain = label(audio, 0.0, duration_s, seed_from("labels", piece.corpus, piece.name))
    returns_s, too_soon_s, variants_s = (
        played.seconds(onsets_q) - begin_s for onsets_q in (truth.returns, truth.too_soon, truth.variants)
    )
    return Labelled(
        corpus=piece.corpus,
        group=piece.name,
        returns_s=returns_s,
        n_transposed=int((truth.transpositions > 0).sum()),
        too_soon_s=too_soon_s,
        variants_s=variants_s,
        ours_s=accepted["onset_s"].to_numpy(float),
        plain=plain,
        has_content=accepted.attrs["has_content"],
    )


def tunes_section() -> dict[str, Any]:
    """Section `tunes`."""
    straight, changed = label_tunes()
    return {
        "source": f"music21 {version('music21')} corpus: ryansMammoth, essenFolksong, bach",
        "settings": SETTINGS._asdict(),
        "clip_s": TUNE_S,
        "tolerance_s": TOLERANCE_S,
        "exact": EXACT,
        "near": NEAR,
        "n_repeats_too_soon": sum(len(c.too_soon_s) for c in straight),
        "n_returns_transposed_in_the_score": sum(c.n_transposed for c in straight),
        "n_clips_with_a_variant": sum(len(c.variants_s) > 0 for c in straight),
        "n_motifs_with_too_little_content": sum(not c.has_content for c in straight),
        "after_other_music": compare(straight, repeats_count=False),
        "every_return": compare(straight, repeats_count=True),
        "in_another_key_and_tempo": compare(changed, repeats_count=False),
    }


def planted_section(n: int = N_PLANTED) -> dict[str, Any]:
    """Section `planted`, and under `against_plain` all methods on the returns at 10 dB and on all decoys."""
    clips = []
    for kind in (*planted.RETURNS, *planted.DECOYS):
        for seed in range(n):
            snr_db = 10 if kind in planted.RETURNS else planted.SNRS_DB[seed % len(planted.SNRS_DB)]
            scene = planted.draw(kind, seed, snr_db=snr_db)
            accepted, plain = label(scene.audio(), planted.START_S, planted.BAR_S, (seed, 2))
            onsets_s = np.array([scene.onset_s] if kind in planted.RETURNS else [])
            clips.append(
                Labelled(
                    corpus=kind,
                    group=f"{kind} {seed}",
                    returns_s=onsets_s,
                    n_transposed=int("transposed" in kind),
                    too_soon_s=np.zeros(0),
                    variants_s=np.zeros(0),
                    ours_s=accepted["onset_s"].to_numpy(float),
                    plain=plain,
                    has_content=accepted.attrs["has_content"],
                )
            )
    return planted.measure(n) | {"against_plain": compare(clips, repeats_count=False)}


def sonata_clips(notes: pd.DataFrame, occurrences: pd.DataFrame, sampler: Sampler | None = None) -> list[SonataClip]:
    """The clips of one movement: for each motif letter, from its first occurrence, then after each `SONATA_S`.

    sampler: plays the notes; the project's own synthesiser by default.
    """
    clips = []
    for _, of_type in occurrences.groupby("type", sort=True):
        # If two voices play it at the same time, it is one occurrence.
        spans = of_type.sort_values(["start", "end"]).drop_duplicates("start")[["start", "end"]].to_numpy(float)
        spans *= CROTCHET_S
        next_s, n_windows = -np.inf, 0
        for i, (start_s, end_s) in enumerate(spans):
            if start_s < next_s or n_windows == MOST_WINDOWS or end_s - start_s < MIN_MOTIF_S:
                continue
            begin_s = start_s - LEAD_S
            later = spans[i + 1 :]
            later = later[(later[:, 0] >= end_s - 1e-9) & (later[:, 1] <= begin_s + SONATA_S)] - begin_s
            next_s, n_windows = start_s + SONATA_S, n_windows + 1
            played = [
                Note(float(t - begin_s), float(0.95 * d), int(p))
                for t, d, p in notes[["onset_s", "duration_s", "midi_number"]].to_numpy(float)
                if begin_s - 1e-9 <= t < begin_s + SONATA_S and d > 0
            ]
            if sampler is None:
                audio = render(played, timbre="piano", duration_s=SONATA_S, sample_rate_hz=SAMPLE_RATE_HZ)
            else:
                audio = sampler.render(played, duration_s=SONATA_S)
            clips.append(SonataClip(audio, begin_s, LEAD_S, end_s - start_s, later[:, 0], later[:, 1]))
    return clips


def _pattern(notes: pd.DataFrame, spans_s: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Occurrences in mir_eval's form: for each span, the notes of all voices that begin in it."""
    occurrences = []
    for start_s, end_s in spans_s:
        inside = notes[(notes["onset_s"] >= start_s - 0.05) & (notes["onset_s"] < end_s - 0.05)]
        if len(inside):
            occurrences.append([(round(float(t), 4), float(p)) for t, p in inside[["onset_s", "midi_number"]].values])
    return occurrences


def sonatas_section(folder: Path, sampler: Sampler | None = None) -> dict[str, Any]:
    """Section `sonatas`, from a folder with `csv_notes` and `csv_label`. sampler: of `sonata_clips`."""
    clips: list[Labelled] = []
    ours_spans: list[list[tuple[float, float]]] = []
    plain_spans: dict[str, list[list[tuple[float, float, float]]]] = {method: [] for method in PLAIN}
    true_spans: list[list[tuple[float, float]]] = []
    notes_of: dict[str, pd.DataFrame] = {}
    for path in sorted((folder / "csv_label").glob("*.csv")):
        notes = pd.read_csv(folder / "csv_notes" / path.name)
        notes = notes.assign(onset_s=notes["onset"] * CROTCHET_S, duration_s=notes["duration"] * CROTCHET_S)
        notes_of[path.stem] = notes
        for i, clip in enumerate(sonata_clips(notes, pd.read_csv(path), sampler)):
            seed = seed_from("labels", path.stem, i)
            accepted, plain = label(clip.audio, clip.motif_start_s, clip.motif_duration_s, seed)
            ends_s = np.concatenate([[clip.motif_start_s + clip.motif_duration_s], clip.ends_s])
            gaps_s = clip.onsets_s - np.maximum.accumulate(ends_s)[:-1]
            late = gaps_s >= LEAST_GAP_S
            clips.append(
                Labelled(
                    "sonata",
                    path.stem,
                    clip.onsets_s[late],
                    0,
                    clip.onsets_s[~late],
                    np.zeros(0),
                    accepted["onset_s"].to_numpy(float),
                    plain,
                    accepted.attrs["has_content"],
                )
            )
            at = clip.start_s
            true_spans.append([(at + a, at + b) for a, b in zip(clip.onsets_s, clip.ends_s, strict=True)])
            ours_spans.append([(at + a, at + a + d) for a, d in accepted[["onset_s", "duration_s"]].to_numpy(float)])
            for method, candidates in plain.items():
                plain_spans[method].append([(at + t, at + t + clip.motif_duration_s, s) for t, s in candidates])
    every = compare(clips, repeats_count=True)
    found = {
        "ours": ours_spans,
    } | {
        method: [[(a, b) for a, b, s in clip if s >= every["thresholds"][method]] for clip in plain_spans[method]]
        for method in PLAIN
    }
    return {
        "source": "BPS-Motif (Hsiao, Hung, Chen and Li, ISMIR 2023)",
        "settings": SETTINGS._asdict(),
        "clip_s": SONATA_S,
        "crotchet_s": CROTCHET_S,
        "tolerance_s": TOLERANCE_S,
        "n_motifs_with_too_little_content": sum(not c.has_content for c in clips),
        "after_other_music": compare(clips, repeats_count=False),
        "every_return": every,
        "patterns": pattern_metrics(notes_of, [c.group for c in clips], true_spans, found),
    }


def pattern_metrics(
    notes_of: dict[str, pd.DataFrame],
    movements: list[str],
    true_spans: list[list[tuple[float, float]]],
    found: dict[str, list[list[tuple[float, float]]]],
) -> dict[str, Any]:
    """mir_eval's establishment and occurrence precision, recall and F1 (threshold 0.5), mean over movements.

    A pattern is the set of later occurrences of one motif in one clip, without the given one. A movement in which a
    method finds nothing counts as 0 for this method.

    Parameters
    ----------
    notes_of : dict
        Notes by movement.
    movements : list of str
        The movement of each clip.
    true_spans : list of list
        For each clip, (start, stop) of the annotated occurrences in seconds.
    found : dict
        By method, the spans that it finds, in the same form.
    """
    record: dict[str, Any] = {}
    rng = np.random.default_rng(seed_from("labels", "patterns"))
    names = list(notes_of)
    for method, spans in found.items():
        scores = []
        for name in names:
            rows = [i for i, movement in enumerate(movements) if movement == name]
            reference = [p for i in rows if (p := _pattern(notes_of[name], true_spans[i]))]
            estimate = [p for i in rows if (p := _pattern(notes_of[name], spans[i]))]
            if not reference:
                continue
            if not estimate:
                scores.append([0.0] * 6)
                continue
            f, p, r = mir_eval.pattern.establishment_FPR(reference, estimate)
            fo, po, ro = mir_eval.pattern.occurrence_FPR(reference, estimate, thres=0.5)
            scores.append([p, r, f, po, ro, fo])
        table = np.array(scores)
        draws = table[rng.integers(len(table), size=(N_BOOTSTRAP, len(table)))].mean(axis=1)
        keys = [f"{kind}_{name}" for kind in ("establishment", "occurrence") for name in ("precision", "recall", "f1")]
        record[method] = {key: with_interval(table[:, i].mean(), draws[:, i]) for i, key in enumerate(keys)}
    return {"n_movements": len(table), "occurrence_threshold": 0.5} | record


def long_clip(seed: int = 0, motif_s: float = 10.0, clip_s: float = 30.0) -> np.ndarray:
    """A clip for timing, `clip_s` seconds long: motif from 0, another tune of half its length, motif, another tune."""
    rng = np.random.default_rng(seed_from("labels", "long clip", seed))

    def tune(start_s: float, stop_s: float) -> list[Note]:
        notes, at_s = [], start_s
        while at_s < stop_s - 0.2:
            length_s = float(rng.choice([0.25, 0.5, 0.75]))
            notes.append(Note(at_s, 0.9 * length_s, 60 + int(rng.choice([0, 2, 4, 5, 7, 9, 11, 12, 14, 16]))))
            at_s += length_s
        return notes

    motif = [n for n in tune(0.0, motif_s) if n.onset_s + n.duration_s <= motif_s]
    again_s = 1.5 * motif_s
    notes = [*motif, *tune(motif_s, again_s), *(n._replace(onset_s=n.onset_s + again_s) for n in motif)]
    notes += tune(again_s + motif_s, clip_s)
    return render(notes, timbre="piano", duration_s=clip_s, sample_rate_hz=SAMPLE_RATE_HZ)


def time_labels(n: int) -> dict[str, list[float]]:
    """Processor seconds of each method on one clip of 30 s with a motif of 10 s, in `n` interleaved rounds.

    Processor time on one thread depends less than wall time on other work of the machine. Both methods score the same
    onsets, those after the motif. Ours does so in twelve keys, the plain method in one.
    """
    motif = {"motif_start_s": 0.0, "motif_duration_s": 10.0}
    warm = long_clip(1)[: 12 * SAMPLE_RATE_HZ]
    find_events(warm, SAMPLE_RATE_HZ, motif_start_s=0.0, motif_duration_s=2.0)
    plain_curve(warm, SAMPLE_RATE_HZ, motif_start_s=0.0, motif_duration_s=2.0, frame_s=0.064, hop_s=1.0)
    methods = {
        "match": lambda a: find_events(a, SAMPLE_RATE_HZ, **motif, settings=SETTINGS._replace(n_surrogates=0)),
        "stage": lambda a: find_events(a, SAMPLE_RATE_HZ, **motif, settings=SETTINGS),
        "plain": lambda a: plain_curve(a, SAMPLE_RATE_HZ, **motif, frame_s=0.016, hop_s=0.016),
    }
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for i in range(n):
        audio = long_clip(i)
        for name, method in methods.items():
            began = time.process_time()
            method(audio)
            taken[name].append(time.process_time() - began)
    return taken


def peak_mb(n_clips: int) -> float:
    """Label `n_clips` clips one after another, and return this process's peak resident memory in MB."""
    for i in range(n_clips):
        find_events(long_clip(i % 5), SAMPLE_RATE_HZ, motif_start_s=0.0, motif_duration_s=10.0, settings=SETTINGS)
    return peak_memory_mb()


def speed_records() -> list[dict[str, Any]]:
    """Flat records for `results.json`."""
    taken = {
        name: median(values)
        for name, values in in_fresh_process("labels", f"time_labels({N_SPEED})", threads=1).items()
    }
    few, many = 5, 50
    small, large = (in_fresh_process("labels", f"peak_mb({n})", threads=1) for n in (few, many))

    return [
        record(
            "label_clip",
            taken["match"],
            taken["plain"],
            taken["plain"] / taken["match"],
            "s",
            N_SPEED,
            "finding a 10 s motif in a 30 s clip, against a full DTW at each 16 ms (ratio: times faster; one core)",
        ),
        record(
            "label_clip_stage",
            taken["stage"],
            taken["plain"],
            taken["plain"] / taken["stage"],
            "s",
            N_SPEED,
            f"the same with {SETTINGS.n_surrogates} surrogates and every test (ratio: times faster; one core)",
        ),
        record(
            "label_memory",
            large,
            small,
            large / small,
            "MB",
            1,
            f"peak memory of labelling {many} clips, against {few}",
        ),
    ]


def run(
    *, bps_dir: Path | None, soundfont: Path | None = None, sections: Iterable[str] = SECTIONS
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Records for `results.json`, and the sections of `labels.json` that were measured.

    bps_dir, soundfont: without them, the sections that need them are left out, and a line says so. Raises ValueError
    for an unknown section.
    """
    sections = list(sections)
    if unknown := [s for s in sections if s not in SECTIONS]:
        raise ValueError(f"sections: {', '.join(unknown)} unknown; valid: {', '.join(SECTIONS)}")
    labels: dict[str, Any] = {}
    records: list[dict[str, Any]] = []
    if "planted" in sections:
        labels["planted"] = planted_section()
    if "tunes" in sections:
        labels["tunes"] = tunes_section()
    for section in ("sonatas", "sonatas_sampled"):
        if section not in sections:
            continue
        sampled = section == "sonatas_sampled"
        if bps_dir is None or not (bps_dir / "csv_label").is_dir():
            print(
                f"{section}: skipped. --bps-dir: {bps_dir or 'not set'}; valid: the folder of the BPS-Motif data set, "
                "with csv_label (REPRISE_BPS_DIR sets it too)"
            )
        elif sampled and soundfont is None:
            print(f"{section}: skipped. --soundfont: not set; valid: an .sf2 file (REPRISE_SOUNDFONT sets it too)")
        else:
            labels[section] = sonatas_section(bps_dir, Sampler(soundfont) if sampled and soundfont else None)
    if "speed" in sections:
        records = speed_records()
    return records, labels
