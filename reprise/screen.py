"""Which SAE features rank clips by whether the motif will return? One pass over the sparse codes of a layer.

Conventions. Labels lie on the grid clip x time (`reprise.probes.label_grid`): `y` 0/1 and `usable` bool
`[clip, time]`. SAE codes are `indices` int and `values` float `[clip, position, k]`; a value of 0 is an unused slot,
an inactive feature is 0, and codes are never negative. Clips are compared *at the same time* only, so position
explains nothing.

Statistic. At each time the feature is ranked over all clips (midranks: all clips where it is inactive share one
rank), r; labels are centred over the clips usable at that time, y, and are 0 where a clip is not usable.
T = sum of r * y over clips and times.

Null. Pseudosession swap: clip i's labels meet clip j's whole trajectory, so that autocorrelation within a clip costs
nothing. With G_ij = sum_t y_it r_jt, T is the trace of G and a swap is sum_i G_i,pi(i): its mean and variance over
all permutations pi are exact (Hoeffding 1951, "A combinatorial central limit theorem": mean = sum(G) / n, variance =
squared norm of the doubly centred G / (n - 1)), and its law is close to normal. Blocked within prompt, both are
sums over prompts: seeds of one prompt are exchanged, and whatever the prompt explains is conditioned away. This is
the default when prompts have several seeds. Across all clips, clips count as independent: with several seeds a
prompt, use it only where labels do not cluster by prompt.

Approximations. (1) A row that is not usable moves with the labels, not with the trajectory: a swap may pair a usable
label with a donor's code from a moment at which the donor itself was left out (a recurrence was sounding there).
Censoring depends on time alone and is not affected. (2) The law of T is normal or, for p < `REFINE_BELOW`, Pearson
type III with the exact third moment, as Mielke & Berry do for permutation statistics: with few positives or few active
clips it is skewed, and normal tails then reject far too often. Far tails of such features stay rough: filter by
activity first and confirm on held-out prompts.

Degenerate input: a feature outside the activity limits, or whose statistic cannot vary under swaps (constant
within every prompt, or no time with both classes), has `tested` False and NaN z and p.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, norm, pearson3

from reprise.probes import Probe, probe

Array = NDArray[np.float64]

# Floats of the dense rank block [feature, clip, time] held at once.
BLOCK_FLOATS = 2**22
# Two-sided normal p-values below this are corrected for the skewness of the swap distribution.
REFINE_BELOW = 0.1


class Entries(NamedTuple):
    """The active codes at grid times, one entry each: `clip`, `time`, `feature` int and `value` float32 > 0."""

    clip: NDArray[np.int64]
    time: NDArray[np.int64]
    feature: NDArray[np.int64]
    value: NDArray[np.float32]


def active_entries(
    batches: Iterable[tuple[NDArray[np.integer], NDArray[np.floating]]], positions: ArrayLike, n_features: int
) -> Entries:
    """Collect the active codes at grid `positions` `[time]` from batches of (indices, values) `[clip, position, k]`.

    Batches come in clip order and are read once, one at a time. Raises ValueError on a negative or non-finite value,
    an index out of range, or a feature that comes twice at one position.
    """
    positions = np.asarray(positions, np.int64)
    parts, first_clip = [], 0
    for indices, values in batches:
        indices, values = np.asarray(indices)[:, positions], np.asarray(values)[:, positions]
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"SAE codes: values from {values.min()} to {values.max()}; valid are finite values >= 0")
        clip, time, slot = np.nonzero(values)
        feature = indices[clip, time, slot].astype(np.int64)
        if len(feature) and not 0 <= feature.min() <= feature.max() < n_features:
            raise ValueError(f"SAE codes: index {feature.min()} to {feature.max()}; valid are 0 to {n_features - 1}")
        if len(np.unique((clip * len(positions) + time) * n_features + feature)) < len(feature):
            raise ValueError("SAE codes: a feature comes twice at one position; once is valid")
        parts.append(Entries(clip + first_clip, time, feature, values[clip, time, slot].astype(np.float32)))
        first_clip += len(values)
    if not parts:
        raise ValueError("SAE codes: no batches; at least one is needed")
    return Entries(*(np.concatenate(column) for column in zip(*parts, strict=True)))


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
    """Screen every feature of a layer for one horizon; one row a feature, in order.

    `prompt` `[clip]`. Tested are features active in a share of clips within [`min_active`, `max_active`]; the limits
    look at no label, so they may define the family that is corrected for multiple tests. `within_prompt` None: blocked
    within prompt if any prompt has several clips.

    Columns: feature; active_share (of clips with any activity at grid times), rate (share of grid points active),
    mean_activation (where active; NaN if never); auroc (stratified by time: over pairs of a positive and a negative
    clip at the same time, how often the positive has the larger value, ties a half); z, p (two-sided), tested.
    """
    y, usable = np.asarray(y), np.asarray(usable, bool)
    n_clips, n_times = y.shape
    group = np.unique(np.asarray(prompt), return_inverse=True)[1]
    if within_prompt is None:
        within_prompt = bool(np.bincount(group).max() > 1)
    clip, time, feature, value = _sorted(entries, n_times)

    n_active = np.bincount(feature, minlength=n_features)
    active = np.zeros((n_features, n_clips), bool)
    active[feature, clip] = True
    active_share = active.mean(axis=1)
    total = np.bincount(feature, value, n_features)
    mean_activation = np.divide(total, n_active, out=np.full(n_features, np.nan), where=n_active > 0)

    lift = rank_lift(clip, time, feature, value, np.full(n_times, n_clips))
    centred = centred_labels(y, usable)
    tested = (active_share >= min_active) & (active_share <= max_active) & (n_active > 0)
    blocks = group if within_prompt else np.zeros_like(group)
    z, p = np.full(n_features, np.nan), np.full(n_features, np.nan)
    wanted = np.flatnonzero(tested)
    step = max(1, BLOCK_FLOATS // max(1, n_clips * n_times))
    for begin in range(0, len(wanted), step):
        block = wanted[begin : begin + step]
        rows = slice(*np.searchsorted(feature, [block[0], block[-1] + 1]))
        slot = np.searchsorted(block, feature[rows])
        here = block[slot] == feature[rows]
        dense = np.zeros((len(block), n_clips, n_times), np.float32)
        dense[slot[here], clip[rows][here], time[rows][here]] = lift[rows][here]
        statistic, mean, variance = swap_moments(dense, centred, blocks)
        # Rounding leaves a trace of variance where there is none.
        scale = np.einsum("fnt,fnt->f", dense, dense, dtype=np.float64) * np.sum(centred**2)
        varies = variance > 1e-9 * scale
        z[block] = np.divide(statistic - mean, np.sqrt(variance), out=np.full(len(block), np.nan), where=varies)
        p[block] = 2 * norm.sf(np.abs(z[block]))
        tail = np.flatnonzero(p[block] < REFINE_BELOW)
        skew = swap_third_moment(dense[tail], centred, blocks) / variance[tail] ** 1.5
        p[block[tail]] = _skewed_p(z[block[tail]], skew)
    return pd.DataFrame(
        {
            "feature": np.arange(n_features),
            "active_share": active_share,
            "rate": n_active / max(1, n_clips * n_times),
            "mean_activation": mean_activation,
            "auroc": stratified_auroc(clip, time, feature, value, n_features, y, usable),
            "z": z,
            "p": p,
            "tested": np.isfinite(z),
        }
    )


def _sorted(entries: Entries, n_times: int) -> Entries:
    """Entries by (feature, time, value)."""
    # The bits of positive floats are ordered like the floats: one integer key sorts several times faster than lexsort.
    bits = np.ascontiguousarray(entries.value, np.float32).view(np.uint32)
    key = ((entries.feature * n_times + entries.time).astype(np.uint64) << np.uint64(32)) | bits
    order = np.argsort(key)
    return Entries(*(column[order] for column in entries))


def rank_lift(clip: NDArray, time: NDArray, feature: NDArray, value: NDArray, n_clips: NDArray) -> Array:
    """Midrank of each active entry minus the midrank of the inactive clips, among `n_clips` `[time]` clips.

    Entries sorted by (feature, time, value). An inactive clip's lift is 0, so lifts are ranks up to a constant a
    (feature, time), which neither centring nor a swap can see.
    """
    if not len(clip):
        return np.empty(0)
    key = feature * len(n_clips) + time
    new_group = np.r_[True, key[1:] != key[:-1]]
    new_run = new_group | np.r_[True, value[1:] != value[:-1]]
    group_start, run_start = np.flatnonzero(new_group), np.flatnonzero(new_run)
    group_of, run_of = np.cumsum(new_group) - 1, np.cumsum(new_run) - 1
    run_length = np.diff(np.r_[run_start, len(clip)])
    group_size = np.diff(np.r_[group_start, len(clip)])
    within = run_start[run_of] - group_start[group_of] + (run_length[run_of] + 1) / 2
    inactive = n_clips[time] - group_size[group_of]
    # rank = inactive + within; the inactive share the midrank (inactive + 1) / 2.
    return inactive + within - (inactive + 1) / 2


def centred_labels(y: NDArray, usable: NDArray[np.bool_]) -> Array:
    """Labels minus their mean over the clips usable at that time, 0 where not usable: `[clip, time]`."""
    n_usable = usable.sum(axis=0)
    rate = np.divide((y * usable).sum(axis=0), n_usable, out=np.zeros(len(n_usable)), where=n_usable > 0)
    return np.where(usable, y - rate, 0.0)


def _grouped(ranks: NDArray, labels: NDArray, group: NDArray[np.int64]) -> Iterator[tuple[NDArray, NDArray]]:
    """For each group size m: ranks `[feature, group, m, time]` and labels `[group, m, time]`."""
    sizes = np.bincount(group)
    for m in np.unique(sizes[sizes > 0]):
        members = np.stack([np.flatnonzero(group == g) for g in np.flatnonzero(sizes == m)])
        yield ranks[:, members], labels[members]


def swap_moments(ranks: NDArray[np.floating], labels: Array, group: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """T and its exact mean and variance over all swaps of clips within `group` `[clip]`, each `[feature]`.

    `ranks` `[feature, clip, time]`, `labels` `[clip, time]`. Per group of m clips, with Y and R centred over its clips
    the doubly centred G is Y R^T; its squared norm is taken from that m x m matrix or, where it is smaller, as
    sum((Y^T Y) * (R^T R)) from two time x time matrices.
    """
    labels = labels.astype(ranks.dtype)
    statistic = np.einsum("fnt,nt->f", ranks, labels, dtype=np.float64)
    mean, variance = np.zeros(len(ranks)), np.zeros(len(ranks))
    for r, y in _grouped(ranks, labels, group):
        m = y.shape[1]
        mean += np.einsum("fgt,gt->f", r.sum(axis=2, dtype=np.float64), y.sum(axis=1, dtype=np.float64)) / m
        if m == 1:
            continue
        r, y = r - r.mean(axis=2, keepdims=True), y - y.mean(axis=1, keepdims=True)
        if m <= y.shape[2]:
            norm2 = np.square(y @ r.swapaxes(-1, -2), dtype=np.float64).sum(axis=(1, 2, 3))
        else:
            gram = np.asarray(y.swapaxes(-1, -2) @ y, np.float64)
            norm2 = np.einsum("fgtu,gtu->f", r.swapaxes(-1, -2) @ r, gram, dtype=np.float64)
        variance += norm2 / (m - 1)
    return statistic, mean, variance


def swap_third_moment(ranks: NDArray[np.floating], labels: Array, group: NDArray[np.int64]) -> Array:
    """Exact third central moment of T over all swaps within `group`, `[feature]`; arrays as in `swap_moments`.

    Per group of m clips it is m / ((m - 1) (m - 2)) times the sum of the cubed doubly centred G (0 for m < 3).
    """
    labels, out = labels.astype(ranks.dtype), np.zeros(len(ranks))
    for r, y in _grouped(ranks, labels, group):
        m = y.shape[1]
        if m > 2:
            r, y = r - r.mean(axis=2, keepdims=True), y - y.mean(axis=1, keepdims=True)
            cubes = np.power(y @ r.swapaxes(-1, -2), 3, dtype=np.float64).sum(axis=(1, 2, 3))
            out += cubes * m / ((m - 1) * (m - 2))
    return out


def stratified_auroc(
    clip: NDArray,
    time: NDArray,
    feature: NDArray,
    value: NDArray,
    n_features: int,
    y: NDArray,
    usable: NDArray[np.bool_],
) -> Array:
    """AUROC `[feature]` over pairs of usable clips at the same time, ties a half; entries sorted as `rank_lift` asks.

    NaN where no time has both classes.
    """
    here = usable[clip, time]
    clip, time, feature, value = clip[here], time[here], feature[here], value[here]
    n_usable, n_positive = usable.sum(axis=0), (y * usable).sum(axis=0)
    pairs = float(np.sum(n_positive * (n_usable - n_positive)))
    if pairs == 0:
        return np.full(n_features, np.nan)
    # The positives' ranks, above those of a feature that is never active: its own lift for an active positive, and
    # 1/2 less for every positive per active clip, since the inactive clips' midrank falls by that much.
    lift = rank_lift(clip, time, feature, value, n_usable)
    won = np.bincount(feature, lift * y[clip, time] - n_positive[time] / 2, n_features)
    return 0.5 + won / pairs


def _skewed_p(z: Array, skew: Array) -> Array:
    """Two-sided p, twice the tail on the side of z: of a Pearson type III law with this skewness, or of the normal
    law where that is larger (on its short side the former ends, and would give 0).
    """
    tail = np.where(z > 0, pearson3.sf(z, skew), pearson3.cdf(z, skew))
    return np.minimum(1.0, 2 * np.maximum(tail, norm.sf(np.abs(z))))


def benjamini_hochberg(p: ArrayLike) -> Array:
    """Adjusted p-values (q) of the whole family at once; NaN, not tested, stays NaN and is not counted."""
    p = np.asarray(p, np.float64)
    q = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    return q


def confirm(
    entries: Entries,
    feature: int,
    y: ArrayLike,
    usable: ArrayLike,
    prompt: ArrayLike,
    baseline: NDArray[np.float32],
    held_out: ArrayLike,
    *,
    seed: int,
    within_prompt: bool = False,
    n_swaps: int = 199,
) -> Probe:
    """The conditional gain of one feature over the baseline, in held-out clips alone (see `reprise.probes.probe`).

    `held_out` bool `[clip]` must take prompts whole, and none that was screened. The feature's value is the
    representation. The record gains `feature`. Raises ValueError when a prompt is split.
    """
    prompt, held_out = np.asarray(prompt), np.asarray(held_out, bool)
    split = np.intersect1d(prompt[held_out], prompt[~held_out])
    if len(split):
        raise ValueError(f"held_out: prompt {split[0]!r} has clips on both sides; a prompt is held out whole or not")
    values = np.zeros((*np.shape(y), 1), np.float32)
    mine = entries.feature == feature
    values[entries.clip[mine], entries.time[mine], 0] = entries.value[mine]
    result = probe(
        np.asarray(y)[held_out],
        np.asarray(usable)[held_out],
        prompt[held_out],
        baseline[held_out],
        values[held_out],
        seed=seed,
        within_prompt=within_prompt,
        n_swaps=n_swaps,
    )
    return Probe({"feature": int(feature)} | result.record, result.predictions)
