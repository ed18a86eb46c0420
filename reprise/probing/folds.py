"""Folds and exchanges that keep a prompt together.

Conventions. `groups` int `[row]` or `[clip]`: which prompt something belongs to. No prompt is ever in two folds.

Degenerate input: where a class is in fewer than two prompts no folds can be made, and a note says so.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

Array = NDArray[np.float64]
Index = NDArray[np.int64]

N_INNER_FOLDS = 3


def prompt_folds(y: Array, groups: Index, n_folds: int, seed: int) -> tuple[Index, str]:
    """Fold of each row, classes balanced; and a note, not empty when it cannot be done.

    At most `n_folds`, and no more than there are prompts with either class.
    """
    in_class = [len(np.unique(groups[y == label])) for label in (0, 1)]
    if min(in_class) < 2:
        return np.zeros(len(y), np.int64), f"prompts with a negative, positive row: {in_class}; two each are needed"
    splitter = StratifiedGroupKFold(min(n_folds, *in_class), shuffle=True, random_state=seed)
    folds = np.zeros(len(y), np.int64)
    for fold, (_, test) in enumerate(splitter.split(y, y.astype(int), groups)):
        folds[test] = fold
    if any(len(np.unique(y[folds != f])) < 2 for f in range(folds.max() + 1)):
        return folds, "a training fold has one class"
    return folds, ""


def inner_folds(y: Array, groups: Index, folds: Index, seed: int) -> list[Index]:
    """For each fold, the inner fold of each of its training rows (-1 elsewhere); all 0 when the training prompts
    cannot be split."""
    inner = []
    for fold in range(folds.max() + 1):
        train = folds != fold
        found, note = prompt_folds(y[train], groups[train], N_INNER_FOLDS, seed)
        of_row = np.full(len(y), -1)
        of_row[train] = 0 if note else found
        inner.append(of_row)
    return inner


def training_rate(y: Array, folds: Index) -> Array:
    """For each row the base rate of the other folds."""
    rates = np.array([y[folds != f].mean() for f in range(folds.max() + 1)])
    return rates[folds]


def swap_clips(group: Index, within_prompt: bool, rng: np.random.Generator) -> Index:
    """Donor clip of each clip, a uniform draw: prompts permuted as blocks, or seeds within each prompt.

    `group` int `[clip]`. Across prompts, the donor prompt's clips are dealt out in random order, again from the start
    where it has fewer.
    """
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    order = np.arange(len(members)) if within_prompt else rng.permutation(len(members))
    donors = np.empty(len(group), np.int64)
    for own, other in zip(members, order, strict=True):
        dealt = rng.permutation(members[other])
        donors[own] = dealt if len(dealt) == len(own) else np.resize(dealt, len(own))
    return donors
