"""Keep the finished work of an interrupted job, so that the next job can continue from it.

Snakemake deletes the outputs of a job that did not finish. So the work is kept next to them, in
`.<output>.unfinished/<tag>/`. The tag is a digest of everything the work depends on, so a job never continues from
work with other inputs. The job that writes the outputs removes the folder.

Degenerate input: a pass that was being written when its job was killed is computed again.
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
    """The folder for unfinished work on `output` that depends on `depends_on` (plain values).

    Unfinished work for this output that depends on anything else is removed.
    """
    tag = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:12]
    folder = output.with_name(f".{output.name}.unfinished")
    for stale in folder.glob("*"):
        if stale.name != tag:
            shutil.rmtree(stale)
    (folder / tag).mkdir(parents=True, exist_ok=True)
    return folder / tag


def remove_unfinished(output: Path) -> None:
    """Remove the unfinished work for `output`, once it is written."""
    shutil.rmtree(output.with_name(f".{output.name}.unfinished"), ignore_errors=True)


def kept_passes(folder: Path, make: Callable[[int], Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
    """Iterate over the arrays of all passes, in order.

    The first ones are read from `folder`. The rest come from `make(n)`, which starts with pass number n. Each of these
    is saved in `folder` before it is yielded.
    """
    n_kept = 0
    while (file := folder / f"{n_kept:06d}.npy").is_file():
        yield np.load(file)
        n_kept += 1
    if n_kept:
        log.info("%d passes are reused from an interrupted job", n_kept)
    for i, made in enumerate(make(n_kept), start=n_kept):
        partial = folder / ".partial.npy"
        np.save(partial, made)
        os.replace(partial, folder / f"{i:06d}.npy")
        yield made
