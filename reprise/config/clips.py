"""The clips of a study: their prompts or recordings, their number, and the batch in which each is stored."""

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
    """The number of clips of a study with `n_units` prompts or tracks, and how it is computed, in words.

    With recordings the number is an upper bound, since short tracks give fewer cuts.
    """
    seeds = (len(study.seeds), "seeds")
    if study.source == "prompts":
        factors = [(n_units, "prompts"), seeds]
    else:
        factors = [(n_units, "tracks"), (study.recordings.max_clips_per_track, "cuts at most")]
        factors += [seeds] * (study.source == "continuation")
    return math.prod(n for n, _ in factors), " x ".join(f"{n} {what}" for n, what in factors)


def study_tracks(study: Study, *, base_dir: Path = Path()) -> list[Track]:
    """The recordings of a study. Raises ConfigError; see `read_tracks`."""
    settings = study.recordings
    checksums = base_dir / settings.checksums if settings.checksums else ""
    return read_tracks(base_dir / settings.manifest, checksums=checksums, max_tracks=settings.max_tracks)


def assign_batches(prompt_ids: Sequence[str], n_batches: int) -> dict[str, str]:
    """The batch of each prompt ("b00", "b01", ...), from a hash of its id alone.

    Adding, deleting or reordering prompts does not move the others. With few prompts some batches may have no clips;
    only the batches among the values exist.
    """
    return {i: f"b{int(hashlib.sha256(i.encode()).hexdigest()[:15], 16) % n_batches:02d}" for i in prompt_ids}


def clips_table(
    prompts: Sequence[Prompt], *, seeds: Sequence[int], n_batches: int, duration_s: float
) -> list[ClipRow]:
    """Every clip of a study: prompts x seeds, sorted by batch, prompt_id and seed.

    Parameters
    ----------
    prompts
        The study's prompts, in any order.
    seeds
        The study's seeds, in any order.
    n_batches
        Number of batches; see `assign_batches`.
    duration_s
        Length of each clip, in seconds.

    Returns
    -------
    list of ClipRow
        One row per clip.
    """
    batches = assign_batches([p.prompt_id for p in prompts], n_batches)
    rows = [
        ClipRow(f"{p.prompt_id}-s{seed}", p.prompt_id, p.prompt, int(seed), batches[p.prompt_id], float(duration_s))
        for p in prompts
        for seed in seeds
    ]
    return sorted(rows, key=lambda row: (row.batch, row.prompt_id, row.seed))
