"""Read the questions of probes and confirmations from a study's files. Write and read a fitted baseline."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reprise.probing.baseline import FORMS, Baseline, baseline_features
from reprise.probing.probes import Question
from reprise.storage.artifacts import read_array, read_meta
from reprise.storage.files import write_parquet
from reprise.targets.labels import LabelGrid


def read_question(descriptors: Sequence[str], clips: pd.DataFrame, grid: LabelGrid) -> Question:
    """The question of a grid of labels.

    Parameters
    ----------
    descriptors : sequence of str
        Manifests of the stores of descriptors.
    clips : DataFrame
        Result of `read_clips`.
    grid : LabelGrid
        The labels.

    Returns
    -------
    Question
    """
    x, names = baseline_features(
        clips["prompt"],
        clips["prompt_id"],
        grid.times_s,
        read_array(descriptors, "descriptors", grid.positions),
        descriptor_names=read_meta(descriptors)["names"],
    )
    return Question(grid.y, grid.usable, clips["prompt_id"].to_numpy(), clips["clip_id"].tolist(), x, names)


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a fitted baseline as a table with one row per row of the question.

    Columns: the row's fold, its inner fold in each fold, the logits of each form and fold, and the note.
    """
    table = pd.DataFrame({"fold": baseline.folds})
    for fold, inner in enumerate(baseline.inner):
        table[f"inner_{fold}"] = inner
    for form, eta in baseline.eta.items():
        for fold, values in enumerate(eta):
            table[f"{form}_{fold}"] = values
    write_parquet(path, table.assign(note=baseline.note))


def read_baseline(path: str | Path) -> Baseline:
    """Read a baseline that `write_baseline` wrote, without `bits`."""
    table = pd.read_parquet(path)
    folds = table["fold"].to_numpy(np.int64)
    if not len(table):
        return Baseline({}, folds, {}, "no usable time")
    if note := str(table["note"].iloc[0]):
        return Baseline({}, folds, {}, note)
    n_folds = int(folds.max()) + 1
    eta = {form: table[[f"{form}_{fold}" for fold in range(n_folds)]].to_numpy().T.copy() for form in FORMS}
    inner = [table[f"inner_{fold}"].to_numpy(np.int64) for fold in range(n_folds)]
    return Baseline(eta, folds, {}, inner=inner)
