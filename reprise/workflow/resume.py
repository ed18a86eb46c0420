"""What a job that was cut off leaves for the next one to go on from.

Snakemake deletes the outputs of a job that did not end, so it lies beside them, in `.<output>.unfinished/<tag>/`. The
tag is a digest of all that the work depends on: nothing goes on from what was computed from something else. Whoever
has written the outputs removes the folder.

Degenerate input: a pass that was being written when its job was killed is made again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reprise.workflow.job import log


def unfinished_folder(output: Path, depends_on: Any) -> Path:
    """The folder for work on `output` that rests on `depends_on` (plain values). What rests on anything else, left by
    an earlier job for this output, is removed."""
    tag = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:12]
    folder = output.with_name(f".{output.name}.unfinished")
    for stale in folder.glob("*"):
        if stale.name != tag:
            shutil.rmtree(stale)
    (folder / tag).mkdir(parents=True, exist_ok=True)
    return folder / tag


def remove_unfinished(output: Path) -> None:
    """Remove what was kept for `output`, which is written now."""
    shutil.rmtree(output.with_name(f".{output.name}.unfinished"), ignore_errors=True)


def kept_passes(folder: Path, make: Callable[[int], Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
    """The arrays of all passes in order: first those that are in `folder`, then those of `make(n)`, which begins with
    pass number n; each is kept in `folder` before it is handed on."""
    n_kept = 0
    while (file := folder / f"{n_kept:06d}.npy").is_file():
        yield np.load(file)
        n_kept += 1
    if n_kept:
        log.info("%d passes are there from a job that was cut off", n_kept)
    for i, made in enumerate(make(n_kept), start=n_kept):
        partial = folder / ".partial.npy"
        np.save(partial, made)
        os.replace(partial, folder / f"{i:06d}.npy")
        yield made
