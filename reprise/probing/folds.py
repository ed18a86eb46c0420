"""Folds and swaps that keep the clips of a prompt together.

Conventions. `groups` int `[row]` or `[clip]` is the prompt of each row or clip. No prompt is ever in two folds.

Degenerate input: if a class occurs in fewer than two prompts, no folds can be made, and a note says so.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

N_INNER_FOLDS = 3


def prompt_folds(y: Array, groups: Index, n_folds: int, seed: int) -> tuple[Index, str]:
    """Assign rows to folds with balanced classes.

    Parameters
    ----------
    y : float array `[row]`
        Labels, 0 or 1.
    groups : int array `[row]`
        The prompt of each row.
    n_folds : int
        The most folds. There are never more folds than prompts with the rarer class.
    seed : int
        For the shuffling of prompts.

    Returns
    -------
    folds : int array `[row]`
    note : str
        Why no folds can be made, or "".
    """
    in_class = [len(np.unique(groups[y == label])) for label in (0, 1)]
    if min(in_class) < 2:
        return np.zeros(len(y), np.int64), f"prompts with a negative, positive row: {in_class}; two each are needed"
    # Imported here because it takes a second.
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(min(n_folds, *in_class), shuffle=True, random_state=seed)
    folds = np.zeros(len(y), np.int64)
    for fold, (_, test) in enumerate(splitter.split(y, y.astype(int), groups)):
        folds[test] = fold
    if any(len(np.unique(y[folds != f])) < 2 for f in range(folds.max() + 1)):
        return folds, "a training fold has one class"
    return folds, ""


def inner_folds(y: Array, groups: Index, folds: Index, seed: int) -> list[Index]:
    """For each fold, an int array `[row]` with the inner folds of its training rows, and -1 for its test rows.

    y, groups, seed: as in `prompt_folds`. folds: its result. All training rows get 0 if their prompts cannot be split.
    """
    inner = []
    for fold in range(folds.max() + 1):
        train = folds != fold
        found, note = prompt_folds(y[train], groups[train], N_INNER_FOLDS, seed)
        of_row = np.full(len(y), -1)
        of_row[train] = 0 if note else found
        inner.append(of_row)
    return inner


def training_rate(y: Array, folds: Index) -> Array:
    """For each row, the base rate in the other folds."""
    rates = np.array([y[folds != f].mean() for f in range(folds.max() + 1)])
    return rates[folds]


def swap_clips(group: Index, within_prompt: bool, rng: np.random.Generator) -> Index:
    """Draw a donor clip for each clip: prompts permuted as blocks, or seeds permuted within each prompt.

    Parameters
    ----------
    group : int array `[clip]`
        The prompt of each clip.
    within_prompt : bool
        Whether clips only swap within their prompt. Otherwise each prompt takes the clips of another prompt in random
        order. If that prompt has fewer clips, they are repeated.
    rng : numpy.random.Generator
        Permutations are drawn uniformly from it.

    Returns
    -------
    int array `[clip]`
        Indices of the donors.
    """
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    order = np.arange(len(members)) if within_prompt else rng.permutation(len(members))
    donors = np.empty(len(group), np.int64)
    for own, other in zip(members, order, strict=True):
        dealt = rng.permutation(members[other])
        donors[own] = dealt if len(dealt) == len(own) else np.resize(dealt, len(own))
    return donors
