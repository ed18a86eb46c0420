"""How well scores separate positive from negative rows (AUROC), and how this varies if prompts are resampled.

Conventions. `score` (float), `y` (0 or 1) and `groups` (int, the prompt) are `[row]`. `weights` `[draw, prompt]` is
how often each prompt is drawn.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


def auroc(score: Array, y: Array) -> float:
    """The fraction of pairs of a positive and a negative row in which the positive scores higher. Ties count half."""
    ranks = pd.Series(score).rank().to_numpy()
    n1 = int(y.sum())
    return float((ranks[y == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * (len(y) - n1)))


def auroc_draws(score: Array, y: Array, groups: NDArray[np.int64], weights: Array) -> Array:
    """AUROC `[draw]`, with each prompt counted as often as `weights` `[draw, prompt]` says."""
    return weighted_auroc(prompt_wins(score, y, groups), y, groups, weights)


def prompt_wins(score: Array, y: Array, groups: NDArray[np.int64]) -> Array:
    """For prompts g and h, the number of pairs in which a positive row of g scores higher than a negative row of h.

    The result is float `[g, h]`, and ties count half. The AUROC under any weights of prompts is a quadratic form in
    it. Labels of `groups` may have gaps; rows and columns follow their sorted order.
    """
    names, groups = np.unique(groups, return_inverse=True)
    positive, negative = score[y == 1], score[y == 0]
    wins = np.zeros((len(names), len(names)))
    order = np.argsort(groups[y == 1], kind="stable")
    starts = np.searchsorted(groups[y == 1][order], np.arange(len(names)))
    present = np.unique(groups[y == 1])
    for h in range(len(names)):
        theirs = np.sort(negative[groups[y == 0] == h])
        below = 0.5 * (np.searchsorted(theirs, positive, "left") + np.searchsorted(theirs, positive, "right"))
        wins[present, h] = np.add.reduceat(below[order], starts[present]) if len(order) else 0.0
    return wins


def weighted_auroc(wins: Array, y: Array, groups: NDArray[np.int64], weights: Array) -> Array:
    """AUROC `[draw]` from `prompt_wins`, with prompt `weights` `[draw, prompt]`. NaN if a draw has only one class."""
    groups = np.unique(groups, return_inverse=True)[1]
    positives = weights @ np.bincount(groups, y, wins.shape[0])
    negatives = weights @ np.bincount(groups, 1 - y, wins.shape[0])
    pairs = positives * negatives
    won = np.einsum("ng,gh,nh->n", weights, wins, weights, optimize=True)
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
