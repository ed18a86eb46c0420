"""Mean, variance and third moment of the screen's statistic over all swaps of whole trajectories between clips.

What is swapped, and why: reprise/candidates/screen.py. The moments are exact, so no swap is drawn.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Array = NDArray[np.float64]

# Maximum size of an intermediate array, in numbers; small arrays are also faster.
BLOCK_FLOATS = 2**18


def centred_labels(y: NDArray, usable: NDArray[np.bool_]) -> Array:
    """Labels minus their mean over the clips usable at that time, 0 where not usable: `[clip, time]`."""
    n_usable = usable.sum(axis=0)
    rate = np.divide((y * usable).sum(axis=0), n_usable, out=np.zeros(len(n_usable)), where=n_usable > 0)
    return np.where(usable, y - rate, 0.0)


def swap_moments(
    ranks: NDArray[np.floating] | csr_array, labels: Array, group: NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    """T and its exact mean and variance over all swaps of clips within `group`.

    Parameters
    ----------
    ranks : array `[feature, clip, time]`, or CSR `[feature, clip x time]` with sorted indices
        Ranks, or lifts.
    labels : array `[clip, time]`
        Centred labels.
    group : int array `[clip]`
        Clips are exchanged within a group.

    Returns
    -------
    statistic, mean, variance : float arrays `[feature]`
    """
    ranks, size = _sparse(ranks), np.bincount(group)
    members, expected = _by_group(labels, group)
    variance = _sum_over_groups(ranks, members, group, 1 / np.maximum(size - 1, 1), power=2)
    return ranks @ labels.ravel(), ranks @ expected[group].ravel(), variance


def swap_third_moment(ranks: NDArray[np.floating] | csr_array, labels: Array, group: NDArray[np.int64]) -> Array:
    """Exact third central moment of T over all swaps within `group`, `[feature]`; arrays as in `swap_moments`.

    For a group of m clips it is m / ((m - 1) (m - 2)) times the sum of the cubed doubly centred G (0 for m < 3).
    """
    size = np.bincount(group)
    weight = np.where(size > 2, size / np.maximum((size - 1) * (size - 2), 1), 0)
    return _sum_over_groups(_sparse(ranks), _by_group(labels, group)[0], group, weight, power=3)


def _sparse(ranks: NDArray[np.floating] | csr_array) -> csr_array:
    return csr_array(ranks.reshape(len(ranks), -1)) if isinstance(ranks, np.ndarray) else ranks


def _by_group(labels: Array, group: NDArray[np.int64]) -> tuple[Array, Array]:
    """Labels minus their mean over the group, and that mean.

    The labels are `[group, member, time]` (0 if a group has no such member), the mean is `[group, time]`.
    """
    size, order = np.bincount(group), np.argsort(group, kind="stable")
    member = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    members = np.zeros((len(size), size.max(), labels.shape[1]))
    members[group[order], member] = labels[order]
    mean = members.sum(axis=1) / np.maximum(size, 1)[:, None]
    members[group[order], member] -= mean[group[order]]
    return members, mean


def _sum_over_groups(
    ranks: csr_array, members: Array, group: NDArray[np.int64], weight: Array, *, power: int
) -> Array:
    """Sum over groups of `weight` `[group]` times the sum of the doubly centred G to the `power`, `[feature]`.

    `members`: labels, see `_by_group`. They are already centred, so only the mean column remains to be subtracted from
    a column of G (the trajectory of one clip against the labels of all clips of its group). If the feature is inactive
    in that clip, the column is 0, and minus the mean column after the subtraction. So only the columns of active clips
    are computed, for a few labels of each group at a time.
    """
    size, n_times = np.bincount(group), members.shape[2]
    feature = np.repeat(np.arange(ranks.shape[0]), np.diff(ranks.indptr))
    clip, time = np.divmod(ranks.indices, n_times)
    column = run_starts(feature, clip)
    shape = (len(column), len(size) * n_times)
    trajectories = csr_array((ranks.data, group[clip] * n_times + time, np.r_[column, len(clip)]), shape=shape)
    # The cell (feature, group) that a column belongs to.
    cells, cell, n_active = np.unique(
        feature[column] * len(size) + group[clip[column]], return_inverse=True, return_counts=True
    )
    cell_feature, cell_group = np.divmod(cells, len(size))
    into_cells = csr_array((np.ones(len(cell)), (cell, np.arange(len(cell)))), shape=(len(cells), len(cell)))

    total, step = np.zeros(len(cells)), max(1, BLOCK_FLOATS // max(1, len(column)))
    for begin in range(0, members.shape[1], step):
        some = members[:, begin : begin + step].swapaxes(1, 2)
        g = trajectories @ some.reshape(-1, some.shape[2])
        mean = into_cells @ g / size[cell_group][:, None]
        sums = into_cells @ _power_sums(g - mean[cell], power)
        total += sums + (size[cell_group] - n_active) * _power_sums(-mean, power)
    return np.bincount(cell_feature, weight[cell_group] * total, ranks.shape[0]).astype(np.float64, copy=False)


def _power_sums(x: Array, power: int) -> Array:
    return np.einsum("ij,ij->i", x, x if power == 2 else x**2)


def run_starts(*columns: NDArray) -> NDArray[np.int64]:
    """Where each run of equal rows begins."""
    begins = np.zeros(len(columns[0]), bool)
    begins[:1] = True
    for column in columns:
        begins[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(begins)
