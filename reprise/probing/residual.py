"""The part of a representation R that a baseline B does not have: R minus its ridge prediction from B's columns.

So R cannot help by repeating B. The residual can be exchanged between clips under the null "R says nothing beyond B"
(reprise/probing/probes.py).
"""

import numpy as np
from numpy.typing import NDArray

# Ridge penalties for the residual of R on B, per row.
RIDGES = (1e-6, 1e-3, 1e-2, 1e-1, 1.0)
# A residual column with less than this fraction of its column's standard deviation is a copy of B and set to 0.
COPY_FRACTION = 1e-3


def residual(
    representation: NDArray[np.float32],
    baseline: NDArray[np.float32],
    group: NDArray[np.int64],
    n_folds: int,
    seed: int,
) -> NDArray[np.float32]:
    """R minus its ridge prediction from B, fitted on other prompts. It sees no label.

    The penalty is chosen per column of R by the out-of-fold error. Columns that B predicts (nearly) exactly become 0.

    Parameters
    ----------
    representation : float32 array `[clip, time, d]`
        R.
    baseline : float32 array `[clip, time, b]`
        B's columns.
    group : int array `[clip]`
        The prompt of each clip. With a single prompt, the ridge is fitted on the same clips.
    n_folds, seed : int
        The most folds over prompts, and the seed of their draw.

    Returns
    -------
    float32 array `[clip, time, d]`
    """
    n_clips, n_times, d = representation.shape
    x = baseline.reshape(n_clips * n_times, -1).astype(np.float64)
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1.0)
    r = representation.reshape(n_clips * n_times, d).astype(np.float64)
    groups = np.unique(group)
    fold_of_group = np.random.default_rng([seed, 3]).permutation(len(groups)) % min(n_folds, len(groups))
    fold = np.repeat(fold_of_group[np.searchsorted(groups, group)], n_times)
    out = np.empty((len(RIDGES), *r.shape))
    for f in np.unique(fold):
        train, test = (fold != f, fold == f) if len(groups) > 1 else (fold == f, fold == f)
        mean_x, mean_r = x[train].mean(0), r[train].mean(0)
        values, vectors = np.linalg.eigh((x[train] - mean_x).T @ (x[train] - mean_x) / train.sum())
        target = vectors.T @ ((x[train] - mean_x).T @ (r[train] - mean_r)) / train.sum()
        projected = (x[test] - mean_x) @ vectors
        for i, ridge in enumerate(RIDGES):
            out[i, test] = r[test] - mean_r - projected @ (target / (np.maximum(values, 0.0) + ridge)[:, None])
    best = np.argmin(np.square(out).sum(axis=1), axis=0)
    chosen = out[best, :, np.arange(d)].T
    chosen[:, np.sqrt(np.square(chosen).mean(0)) <= COPY_FRACTION * r.std(0)] = 0.0
    return chosen.reshape(n_clips, n_times, d).astype(np.float32)
