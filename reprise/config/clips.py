"""Which clips a study has: of which prompts or recordings, how many, and in which batch each is stored."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reprise.config.prompts import Prompt
from reprise.config.schema import Study
from reprise.recordings.manifest import Track, read_tracks


class ClipRow(NamedTuple):
    """One row of the clips table; `pandas.DataFrame(rows)` has these columns."""

    clip_id: str
    prompt_id: str
    prompt: str
    seed: int
    batch: str
    duration_s: float


def count_clips(study: Study, n_units: int) -> tuple[int, str]:
    """How many clips a study has of so many prompts or, at most, tracks, and in words how that comes about."""
    seeds = (len(study.seeds), "seeds")
    if study.source == "prompts":
        factors = [(n_units, "prompts"), seeds]
    else:
        factors = [(n_units, "tracks"), (study.recordings.max_clips_per_track, "cuts at most")]
        factors += [seeds] * (study.source == "continuation")
    return math.prod(n for n, _ in factors), " x ".join(f"{n} {what}" for n, what in factors)


def study_tracks(study: Study, *, base_dir: Path = Path()) -> list[Track]:
    """The recordings of a study. Raises ConfigError; see `read_tracks`."""
    asked = study.recordings
    checksums = base_dir / asked.checksums if asked.checksums else ""
    return read_tracks(base_dir / asked.manifest, checksums=checksums, max_tracks=asked.max_tracks)


def assign_batches(prompt_ids: Sequence[str], n_batches: int) -> dict[str, str]:
    """The batch of each prompt, "b00" and so on, by a hash of its id alone.

    Appending, deleting or reordering prompts moves no other prompt. With few prompts a batch may stay empty: the
    batches that exist are the values.
    """
    return {i: f"b{int(hashlib.sha256(i.encode()).hexdigest()[:15], 16) % n_batches:02d}" for i in prompt_ids}


def clips_table(
    prompts: Sequence[Prompt], *, seeds: Sequence[int], n_batches: int, duration_s: float
) -> list[ClipRow]:
    """Every clip of a study: prompts x seeds, sorted by batch, prompt_id and seed, whatever the order given."""
    batches = assign_batches([p.prompt_id for p in prompts], n_batches)
    rows = [
        ClipRow(f"{p.prompt_id}-s{seed}", p.prompt_id, p.prompt, int(seed), batches[p.prompt_id], float(duration_s))
        for p in prompts
        for seed in seeds
    ]
    return sorted(rows, key=lambda row: (row.batch, row.prompt_id, row.seed))
