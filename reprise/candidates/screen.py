"""Which SAE features rank clips by whether an event follows? One pass over the sparse latents of a layer.

Conventions. Labels lie on the grid clip x time (`reprise.targets.labels.label_grid`): `y` 0/1 and `usable` bool
`[clip, time]`. SAE latents are `indices` int and `values` float `[clip, position, k]`. A value of 0 is an unused slot,
an inactive feature is 0, and latents are never negative. Clips are compared *at the same time* only, so position
explains nothing.

Statistic. At each time the feature is ranked over all clips (midranks: all clips in which it is inactive share one
rank), r. Labels are centred over the clips usable at that time, y, and are 0 where a clip is not usable. T = sum of r
* y over clips and times.

Null. Pseudosession swap: the labels of clip i are combined with the whole trajectory of clip j, so autocorrelation
within a clip does not matter. With G_ij = sum_t y_it r_jt, T is the trace of G and a swap is sum_i G_i,pi(i). Its mean
and variance over all permutations pi are exact (Hoeffding 1951, "A combinatorial central limit theorem": mean = sum(G)
/ n, variance = squared norm of the doubly centred G / (n - 1)), and its distribution is close to normal. Blocked
within prompt, both are sums over prompts: seeds of one prompt are exchanged, so whatever the prompt explains is
conditioned away. This is the default if prompts have several seeds. Across all clips, clips count as independent. If
prompts have several seeds, use it only if labels do not cluster by prompt.

Approximations. (1) A row that is not usable moves with the labels, not with the trajectory: a swap may pair a usable
label with latents of a donor from a moment at which the donor itself was left out (an event was sounding there).
Censoring depends on time alone and is not affected. (2) The distribution of T is taken as normal or, for p <
`REFINE_BELOW`, as Pearson type III with the exact third moment, as Mielke & Berry do for permutation statistics. With
few positives or few active clips it is skewed, and normal tails then reject far too often. The far tails of such
features stay approximate: filter by activity first and confirm on held-out prompts.

Degenerate input: a feature outside the activity limits, or whose statistic cannot vary under swaps (constant within
every prompt, or no time with both classes), has `tested` False and NaN z and p.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.stats import norm, pearson3

from reprise.candidates.swap_moments import BLOCK_FLOATS, centred_labels, run_starts, swap_moments, swap_third_moment
from reprise.statistics import benjamini_hochberg

Array = NDArray[np.float64]

# Two-sided normal p-values below this are corrected for the skewness of the swap distribution.
REFINE_BELOW = 0.1


class Entries(NamedTuple):
    """The active latents at grid times, one entry each: `clip`, `time`, `feature` int and `value` float32 > 0."""

    clip: NDArray[np.int64]
    time: NDArray[np.int64]
    feature: NDArray[np.int64]
    value: NDArray[np.float32]


def active_entries(
    batches: Iterable[tuple[NDArray[np.floating], NDArray[np.integer]]], positions: ArrayLike, n_features: int
) -> Entries:
    """Collect the active latents at the grid positions.

    Parameters
    ----------
    batches : iterable of (values, indices), each `[clip, position, k]`
        SAE latents in clip order. Each batch is read once, one at a time.
    positions : int array `[time]`
        The grid.
    n_features : int
        Number of features of the SAE.

    Returns
    -------
    Entries

    Raises
    ------
    ValueError
        For a negative or non-finite value, an index out of range, a feature that occurs twice at one position, or no
        batch.
    """
    positions = np.asarray(positions, np.int64)
    parts, first_clip = [], 0
    for values, indices in batches:
        values, indices = np.asarray(values)[:, positions], np.asarray(indices)[:, positions]
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"SAE latents: values from {values.min()} to {values.max()}; valid: finite values >= 0")
        slot = np.flatnonzero(values)
        place, feature = slot // values.shape[2], indices.ravel()[slot].astype(np.int64)
        if len(feature) and not 0 <= feature.min() <= feature.max() < n_features:
            raise ValueError(f"SAE latents: index {feature.min()} to {feature.max()}; valid: 0 to {n_features - 1}")
        keys = np.sort(place * n_features + feature)
        if (keys[1:] == keys[:-1]).any():
            raise ValueError("SAE latents: a feature occurs twice at one position; valid: once")
        clip, time = np.divmod(place, len(positions))
        parts.append(Entries(clip + first_clip, time, feature, values.ravel()[slot].astype(np.float32)))
        first_clip += len(values)
    if not parts:
        raise ValueError("SAE latents: no batches; valid: at least one")
    return Entries(
        clip=np.concatenate([part.clip for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        feature=np.concatenate([part.feature for part in parts]),
        value=np.concatenate([part.value for part in parts]),
    )


def screen(
    entries: Entries,
    n_features: int,
    y: ArrayLike,
    usable: ArrayLike,
    prompt: ArrayLike,
    *,
    min_active: float,
    max_active: float,
    within_prompt: bool | None = None,
) -> pd.DataFrame:
    """Screen every feature of a layer for one horizon.

    Parameters
    ----------
    entries : Entries
        The active latents.
    n_features : int
        Number of features of the SAE.
    y, usable : arrays `[clip, time]`
        Labels 0/1, and bool.
    prompt : array `[clip]`
        The prompt of each clip.
    min_active, max_active : float
        Features are tested if the fraction of clips in which they are active lies within these limits. The limits use
        no label, so they may define the family that is corrected for multiple tests.
    within_prompt : bool, optional
        Whether swaps stay within a prompt. Default: they do if any prompt has several clips.

    Returns
    -------
    DataFrame
        One row per feature, in order: feature; active_fraction (of clips with any activity at grid times), rate
        (fraction of grid points active), mean_activation (where active; NaN if never); auroc (stratified by time: over
        pairs of a positive and a negative clip at the same time, how often the positive has the larger value; a tie
        counts one half); z, p (two-sided), tested.
    """
    y, usable = np.asarray(y), np.asarray(usable, bool)
    n_clips, n_times = y.shape
    group = np.unique(np.asarray(prompt), return_inverse=True)[1]
    if within_prompt is None:
        within_prompt = bool(np.bincount(group).max() > 1)
    group = group if within_prompt else np.zeros_like(group)
    place = entries.clip * n_times + entries.time
    latents = csr_array((entries.value, (entries.feature, place)), shape=(n_features, n_clips * n_times))
    blocks = [
        _screen_block(latents[first:stop], y, usable, group, min_active=min_active, max_active=max_active)
        for first, stop in _blocks(latents.indptr)
    ]
    table = pd.DataFrame({name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]})
    table.insert(0, "feature", np.arange(n_features))
    z, skew = table["z"].to_numpy(), table.pop("skew").to_numpy()
    tail = np.isfinite(skew)
    p = 2 * norm.sf(np.abs(z))
    p[tail] = _skewed_p(z[tail], skew[tail])
    return table.assign(p=p, tested=np.isfinite(z))


def _blocks(n_before: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """Runs (first, stop) of features with at most `BLOCK_FLOATS` active latents, or of one feature that has more.

    n_before: `[feature + 1]`, the number of latents of the features before each.
    """
    first = 0
    while first < len(n_before) - 1:
        fitting = int(np.searchsorted(n_before, n_before[first] + BLOCK_FLOATS, side="right")) - 1
        yield first, (first := max(first + 1, fitting))


def _screen_block(
    latents: csr_array,
    y: NDArray,
    usable: NDArray[np.bool_],
    group: NDArray[np.int64],
    *,
    min_active: float,
    max_active: float,
) -> dict[str, Array]:
    """Columns of `screen` for a few features, from their latents `[feature, clip x time]`; swaps are within `group`.

    skew is that of T over swaps. It is NaN if the normal p is not below `REFINE_BELOW`.
    """
    n_features, (n_clips, n_times) = latents.shape[0], y.shape
    n_active = np.diff(latents.indptr)
    feature = np.repeat(np.arange(n_features), n_active)
    clip, time = np.divmod(latents.indices, n_times)
    share = np.bincount(feature[run_starts(feature, clip)], minlength=n_features) / max(1, n_clips)
    total = np.bincount(feature, latents.data, n_features)

    order = _order(feature, time, latents.data, n_times)
    entries = Entries(clip[order], time[order], feature, latents.data[order])
    lift = np.empty(len(order))
    lift[order] = rank_lift(*entries, np.full(n_times, n_clips))

    tested = np.flatnonzero((share >= min_active) & (share <= max_active) & (n_active > 0))
    ranks = csr_array((lift, latents.indices, latents.indptr), shape=latents.shape)[tested]
    centred = centred_labels(y, usable)
    statistic, mean, variance = swap_moments(ranks, centred, group)
    # Rounding can give a tiny variance where the true one is 0.
    varies = variance > 1e-9 * (ranks**2).sum(axis=1) * np.sum(centred**2)
    z, skew = np.full(n_features, np.nan), np.full(n_features, np.nan)
    z[tested[varies]] = (statistic - mean)[varies] / np.sqrt(variance[varies])
    tail = np.flatnonzero(2 * norm.sf(np.abs(z[tested])) < REFINE_BELOW)
    skew[tested[tail]] = swap_third_moment(ranks[tail], centred, group) / variance[tail] ** 1.5
    return {
        "active_fraction": share,
        "rate": n_active / max(1, n_clips * n_times),
        "mean_activation": np.divide(total, n_active, out=np.full(n_features, np.nan), where=n_active > 0),
        "auroc": stratified_auroc(*entries, n_features, y, usable),
        "z": z,
        "skew": skew,
    }


def _order(feature: NDArray, time: NDArray, value: NDArray, n_times: int) -> NDArray[np.int64]:
    """The order by (feature, time, value)."""
    # The bits of positive floats are ordered like the floats: one integer key sorts several times faster than lexsort.
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return np.argsort(((feature * n_times + time).astype(np.uint64) << np.uint64(32)) | bits)


def _sorted(entries: Entries, n_times: int) -> Entries:
    """Entries by (feature, time, value)."""
    order = _order(entries.feature, entries.time, entries.value, n_times)
    return Entries(entries.clip[order], entries.time[order], entries.feature[order], entries.value[order])


def rank_lift(clip: NDArray, time: NDArray, feature: NDArray, value: NDArray, n_clips: NDArray) -> Array:
    """Midrank of each active entry minus the midrank of the inactive clips.

    Parameters
    ----------
    clip, time, feature, value : arrays `[entry]`
        Entries sorted by (feature, time, value).
    n_clips : int array `[time]`
        Number of clips that are ranked at each time.

    Returns
    -------
    float array `[entry]`
        An inactive clip's lift is 0. Lifts are therefore ranks up to a constant per (feature, time), which affects
        neither centring nor swaps.
    """
    n = len(clip)
    group, run = run_starts(feature, time), run_starts(feature, time, value)
    n_active, n_equal = np.diff(group, append=n), np.diff(run, append=n)
    # rank = inactive + place in the group, counted from 1; all inactive clips have the midrank (inactive + 1) / 2.
    lift = np.repeat(run + (n_equal + 1) / 2, n_equal)
    lift += np.repeat((n_clips[time[group]] - n_active - 1) / 2 - group, n_active)
    return lift


def stratified_auroc(
    clip: NDArray,
    time: NDArray,
    feature: NDArray,
    value: NDArray,
    n_features: int,
    y: NDArray,
    usable: NDArray[np.bool_],
) -> Array:
    """AUROC over pairs of usable clips at the same time.

    Parameters
    ----------
    clip, time, feature, value : arrays `[entry]`
        Entries sorted as for `rank_lift`.
    n_features : int
        Number of features.
    y, usable : arrays `[clip, time]`
        Labels 0/1, and bool.

    Returns
    -------
    float array `[feature]`
        A tie counts one half. NaN if no time has both classes.
    """
    place = clip * y.shape[1] + time
    here = usable.ravel()[place]
    place, time, feature, value = place[here], time[here], feature[here], value[here]
    n_usable, n_positive = usable.sum(axis=0), (y * usable).sum(axis=0)
    pairs = float(np.sum(n_positive * (n_usable - n_positive)))
    if pairs == 0:
        return np.full(n_features, np.nan)
    # The ranks of the positives, relative to a feature that is never active: an active positive has its own lift, and
    # each active clip lowers every positive by 1/2, because the midrank of the inactive clips falls by that much.
    won = rank_lift(place, time, feature, value, n_usable)
    won *= y.ravel()[place]
    won -= (n_positive / 2)[time]
    return 0.5 + np.bincount(feature, won, n_features) / pairs


def _skewed_p(z: Array, skew: Array) -> Array:
    """Two-sided p-value: twice the tail on the side of z.

    The tail is that of a Pearson type III distribution with this skewness, or of the normal distribution if that is
    larger (on its short side the former ends and would give 0).
    """
    tail = np.where(z > 0, pearson3.sf(z, skew), pearson3.cdf(z, skew))
    return np.minimum(1.0, 2 * np.maximum(tail, norm.sf(np.abs(z))))


def false_discovery(p: ArrayLike) -> Array:
    """Adjusted p-values (q) of the whole family at once. NaN (not tested) stays NaN and is not counted."""
    p = np.asarray(p, np.float64)
    q = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    q[tested] = benjamini_hochberg(p[tested])
    return q
