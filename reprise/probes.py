"""Does a representation say more about the future than position, past sound, prompt and past recurrences do?

Conventions. Everything lies on a common grid: clip x time. `y` 0/1 `[clip, time]`, `usable` bool `[clip, time]` (rows
are the usable grid points), `prompt` `[clip]`, the baseline B `[clip, time, b]` and the representation R
`[clip, time, d]` (or CSR `[clip * time, d]`, clip-major) at *every* grid point, so that a clip can be given another
clip's R at its own times. Scores: AUROC pooled over the out-of-fold predictions, and bits, the reduction in log-loss
per label against the training folds' base rate (a V-information estimate; it can be negative). The conditional gain
is score(B+R) - score(B).

How. L2 logistic regression, folds and inner folds grouped by prompt, standardisation inside folds, one penalty for B
and another for R so that a large R cannot drown B. In B+R the representation enters as its residual on B: R minus what
a ridge fitted on *other prompts* predicts of it from B. The span is that of B and R, but R cannot help by repeating
B, and the residual is what may be exchanged between clips under the null "R says nothing beyond B". A raw R could
not: swapping a copy of B for noise would make B+R worse, and a useless R would look significant. The residual, and
the PCA of a wide R, see no label and are computed once for all folds, so they cannot leak one; fixing them makes the
statistic the same function of the exchanged data in every swap.

Nulls. Pseudosession swap (Harris, "Nonsense correlations in neuroscience", bioRxiv 2020): whole trajectories are
exchanged, never shifted in time, so autocorrelation stays. Across prompts (is anything there?), prompts are permuted
*as blocks*: a prompt's clips resemble each other, and swapping single clips would break that in the null alone.
Within prompts (is it *this* performance's future, or its prompt's?), seeds are permuted; where no prompt has two
seeds there is nothing to permute and no p-value. Permutations are uniform, fixed points included: derangements only
(two seeds a prompt leave just one) are no group, and p-values from them are too small (Southworth, Kim & Owen 2009,
"Properties of balanced permutations"). Penalties stay as chosen for the unswapped R. For R alone the labels are
shuffled between prompts, a prompt's clips together.

Local returns. A longer horizon is asked only where no return begins within the local one (`without_local` in
reprise/labels.py): a representation that knows of imminent returns alone then gains nothing at a longer horizon,
however much returns cluster. The prediction of a local probe is deliberately not made part of B: a plan that is held
in one direction of R predicts at every horizon, and B would already hold it.

Limits. Exchange assumes that the residual is independent of B, not just uncorrelated: an R that is a nonlinear
function of B can show a gain. A donor's R may come from a time at which the donor's own row was left out (a
recurrence was sounding). The interval resamples prompts over fixed predictions, without the variance of refitting.

Degenerate input (no usable rows, one class, a class in fewer than two prompts) gives NaN scores and a `note`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpotrf, dpotrs
from scipy.sparse import csr_matrix, issparse
from scipy.special import expit
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import StratifiedGroupKFold

Array = NDArray[np.float64]

# L2 penalties (on standardised columns, against a log-loss summed over rows), largest first: each fit starts from
# the one before. Rows of a clip repeat each other, so useful penalties are larger than for independent rows.
PENALTIES = (10000.0, 1000.0, 100.0, 10.0, 1.0)
# Ridge penalties for the residual of R on B, per row.
RIDGES = (1e-6, 1e-3, 1e-2, 1e-1, 1.0)
# A residual column with less than this share of its column's standard deviation is a copy of B: set to 0.
COPY_SHARE = 1e-3
# A step that leaves more than this share of the Newton decrement before it is slow: a new Hessian may be better.
SLOW_SHARE = 0.3


class Probe(NamedTuple):
    """A flat `record` of builtins, and `predictions`: clip, time (indices), prompt, y, fold, p_B, p_R, p_BR a row."""

    record: dict[str, float | int | str]
    predictions: pd.DataFrame


def baseline_features(
    prompts: Sequence[str],
    prompt_ids: Sequence[str],
    times_s: ArrayLike,
    descriptors: NDArray[np.float32],
    *,
    descriptor_names: Sequence[str],
) -> tuple[NDArray[np.float32], list[str]]:
    """Baseline B on the grid: float32 `[clip, time, b]` and its column names.

    Position (one column a grid time), the causal `descriptors` `[clip, time, m]` (acoustics and recurrences so far),
    and the words of the prompt (0/1; words in one prompt only or in all prompts carry nothing to another prompt and
    are left out). `prompts`, `prompt_ids`: the text of each clip, "" for none, and whose it is. Several recordings may
    have the same text, and then its words tell something of each other.
    """
    times_s = np.asarray(times_s, np.float64)
    n_clips, n_times = len(prompts), len(times_s)
    if descriptors.shape[:2] != (n_clips, n_times):
        raise ValueError(f"descriptors: shape {descriptors.shape} must begin with (clips, times) {n_clips, n_times}")
    names = [f"time_{t:g}s" for t in times_s] + list(descriptor_names)
    parts = [np.broadcast_to(np.eye(n_times, dtype=np.float32), (n_clips, n_times, n_times)), descriptors]

    texts = pd.Series(list(prompts)).groupby(list(prompt_ids)).first()
    # One word more, since no word at all is an error there; it counts only where a text has it.
    vectorizer = CountVectorizer(binary=True, token_pattern=r"(?u)\b\w+\b").fit([*texts, "nothing"])
    in_texts = np.asarray(vectorizer.transform(texts).sum(axis=0)).ravel()
    keep = (in_texts > 1) & (in_texts < len(texts))
    words = vectorizer.transform(prompts).toarray()[:, keep].astype(np.float32)
    parts.append(np.broadcast_to(words[:, None], (n_clips, n_times, words.shape[1])))
    names += [f"word_{w}" for w in vectorizer.get_feature_names_out()[keep]]
    return np.concatenate(parts, axis=2, dtype=np.float32), names


def random_codes(x: NDArray[np.float32], *, d_sae: int, k: int, seed: int) -> csr_matrix:
    """Codes of a random dictionary: CSR `[clip * time, d_sae]`, clip-major, of activations `[clip, time, d_model]`.

    Directions are uniform on the sphere, activations are centred over all rows (their mean would otherwise choose the
    same directions everywhere), and the k largest products above 0 are kept, as a top-k SAE would.
    """
    rows = x.reshape(-1, x.shape[-1])
    directions = np.random.default_rng(seed).standard_normal((x.shape[-1], d_sae)).astype(np.float32)
    products = (rows - rows.mean(axis=0)) @ (directions / np.linalg.norm(directions, axis=0))
    chosen = np.argpartition(products, -k, axis=1)[:, -k:]
    values = np.maximum(np.take_along_axis(products, chosen, axis=1), 0.0)
    codes = csr_matrix((values.ravel(), chosen.ravel(), np.arange(0, len(rows) * k + 1, k)), (len(rows), d_sae))
    codes.eliminate_zeros()
    return codes


def probe(
    y: ArrayLike,
    usable: ArrayLike,
    prompt: ArrayLike,
    baseline: NDArray[np.float32],
    representation: NDArray[np.float32] | csr_matrix,
    *,
    seed: int,
    n_swaps: int = 99,
    n_folds: int = 5,
    n_bootstrap: int = 2000,
    max_components: int = 128,
    unusable_because: str = "",
) -> Probe:
    """Score B, R and B+R for one (horizon, layer, representation); arrays as in the module docstring.

    `prompt` `[clip]`, any hashable. An R wider than `max_components` is first reduced to that many principal
    components (CSR: truncated SVD, not centred, so that it stays sparse); `variance_kept` says how much of R they
    hold. Penalties are chosen per fold from `PENALTIES` by three inner folds grouped by prompt: B's first, then R's
    with B's fixed. Where R is known to be worthless `unusable_because` says why: nothing is fitted, and that is the
    note.

    The record: n_rows, n_clips, n_prompts, n_positive_rows, n_positive_clips, n_positive_prompts, base_rate; auroc_*
    and bits_* for B, R, BR; gain_auroc and gain_bits with _low and _high (95 % percentile interval of a bootstrap
    over prompts); p_swap (on bits) and p_swap_auroc, across prompts, each (1 + swaps with a gain at least as large) /
    (1 + n_swaps);
    swap_gain_*_q50 and _q95 of that null; the same with _within_prompt, NaN where no prompt has two seeds; p_shuffle
    of bits_R with labels shuffled between prompts; penalty_* (median over folds), n_folds, n_components,
    variance_kept, seed and note.
    Raises ValueError when shapes disagree.
    """
    y, usable = np.asarray(y), np.asarray(usable, bool)
    group = np.unique(np.asarray(prompt), return_inverse=True)[1]
    _check_shapes(y, usable, group, baseline, representation)
    clip, time = np.nonzero(usable)
    y_rows, groups = y[clip, time].astype(np.float64), group[clip]
    record: dict[str, float | int | str] = {
        "n_rows": len(clip),
        "n_clips": len(np.unique(clip)),
        "n_prompts": len(np.unique(groups)),
        "n_positive_rows": int(y_rows.sum()),
        "n_positive_clips": len(np.unique(clip[y_rows == 1])),
        "n_positive_prompts": len(np.unique(groups[y_rows == 1])),
        "base_rate": float(y_rows.mean()) if len(clip) else np.nan,
        "n_swaps": n_swaps,
        "n_bootstrap": n_bootstrap,
        "seed": seed,
        "note": "",
    }
    rows = pd.DataFrame({"clip": clip, "time": time, "prompt": np.asarray(prompt)[clip], "y": y_rows.astype(np.int8)})
    folds, note = prompt_folds(y_rows, groups, n_folds, seed)
    if note := unusable_because or note:
        return Probe(record | dict.fromkeys(_SCORES, np.nan) | {"note": note}, rows)

    reduced, variance_kept = _reduce(representation, y.shape, max_components, seed)
    beyond = residual(reduced, baseline, group, n_folds, seed)
    b, r = baseline[clip, time], reduced[clip, time]
    inner = [_inner_folds(y_rows, groups, folds != f, seed) for f in range(folds.max() + 1)]

    base = _logit(_training_rate(y_rows, folds))
    penalty_b = _choose_penalties([b], y_rows, inner, first=None)
    penalty_r = _choose_penalties([r], y_rows, inner, first=None)
    penalty_br = _choose_penalties([b, beyond[clip, time]], y_rows, inner, first=penalty_b)
    eta_b, coefs_b = _predict([b], y_rows, folds, [penalty_b], None)
    eta_r, _ = _predict([r], y_rows, folds, [penalty_r], None)
    eta_br, _ = _predict([b, beyond[clip, time]], y_rows, folds, [penalty_b, penalty_br], coefs_b)
    etas = {"B": eta_b, "R": eta_r, "BR": eta_br}
    base_loss = log_loss_bits(base, y_rows)
    bits = {name: base_loss - log_loss_bits(eta, y_rows) for name, eta in etas.items()}
    wins = {name: prompt_wins(eta, y_rows, groups) for name, eta in etas.items()}

    weights = _bootstrap_weights(groups, n_bootstrap, seed)
    ones = np.ones((1, weights.shape[1]))
    for name in etas:
        record[f"auroc_{name}"] = float(weighted_auroc(wins[name], y_rows, groups, ones)[0])
        record[f"bits_{name}"] = float(bits[name].mean())
    gain = {"auroc": record["auroc_BR"] - record["auroc_B"], "bits": record["bits_BR"] - record["bits_B"]}
    draws = {
        "auroc": weighted_auroc(wins["BR"], y_rows, groups, weights)
        - weighted_auroc(wins["B"], y_rows, groups, weights),
        "bits": _weighted_mean(bits["BR"] - bits["B"], groups, weights),
    }

    for score in ("auroc", "bits"):
        record[f"gain_{score}"] = float(gain[score])
        record[f"gain_{score}_low"], record[f"gain_{score}_high"] = map(
            float, np.nanpercentile(draws[score], [2.5, 97.5])
        )
    scaled_b = list(_scaled(b, folds))
    as_one = np.zeros(len(groups), np.int64)  # no prompt is weighted here: the pairs need not be counted by prompt
    for within_prompt, end in ((False, ""), (True, "_within_prompt")):
        rng = np.random.default_rng([seed, 1, int(within_prompt)])
        exchangeable = not within_prompt or np.bincount(group).max() > 1
        null: dict[str, list[float]] = {"auroc": [], "bits": []}
        for _ in range(n_swaps if exchangeable else 0):
            donors = swap_clips(group, within_prompt, rng)
            swapped = [b, beyond[donors[clip], time]]
            eta, _ = _predict(swapped, y_rows, folds, [penalty_b, penalty_br], coefs_b, scaled_b)
            null["bits"].append(float((base_loss - log_loss_bits(eta, y_rows) - bits["B"]).mean()))
            auroc = weighted_auroc(prompt_wins(eta, y_rows, as_one), y_rows, as_one, np.ones((1, 1)))[0]
            null["auroc"].append(float(auroc - record["auroc_B"]))
        for score, values in null.items():
            p = "p_swap" if score == "bits" else "p_swap_auroc"
            record[p + end] = _p_value(gain[score], values)
            for q in (50, 95):
                record[f"swap_gain_{score}_q{q}{end}"] = float(np.percentile(values, q)) if values else np.nan
    record["p_shuffle"] = _p_value(
        record["bits_R"], list(_shuffled_bits(reduced, y, usable, group, folds, penalty_r, n_swaps, seed))
    )
    record |= {
        "penalty_B": float(np.median(penalty_b)),
        "penalty_R": float(np.median(penalty_r)),
        "penalty_BR": float(np.median(penalty_br)),
        "n_folds": int(folds.max() + 1),
        "n_components": reduced.shape[2],
        "variance_kept": variance_kept,
    }
    rows["fold"] = folds
    for name, eta in etas.items():
        rows[f"p_{name}"] = expit(eta)
    return Probe(record, rows)


def _p_value(found: float, null: Sequence[float]) -> float:
    """(1 + null values at least as large) / (1 + null values); NaN without any."""
    # A swap that changes nothing (R repeats B or position) must count as a tie, whatever the rounding.
    return (1 + int(np.sum(np.asarray(null) >= found - 1e-6))) / (1 + len(null)) if len(null) else np.nan


def _shuffled_bits(
    r: NDArray[np.float32],
    y: NDArray,
    usable: NDArray[np.bool_],
    group: NDArray[np.int64],
    folds: NDArray[np.int64],
    penalty: Sequence[float],
    n: int,
    seed: int,
) -> Iterator[float]:
    """bits_R with labels (and which times are usable) shuffled between prompts, `n` times."""
    clip, _ = np.nonzero(usable)
    # A prompt none of whose times is usable has no fold, and what labels it is dealt are left out.
    fold_of_prompt = np.full(group.max() + 1, -1)
    fold_of_prompt[group[clip]] = folds
    rng = np.random.default_rng([seed, 4])
    for _ in range(n):
        donors = swap_clips(group, False, rng)
        clip, time = np.nonzero(usable[donors])
        y_rows, rows_fold = y[donors][clip, time].astype(np.float64), fold_of_prompt[group[clip]]
        known = rows_fold >= 0
        clip, time, y_rows, rows_fold = clip[known], time[known], y_rows[known], rows_fold[known]
        if any(len(np.unique(y_rows[rows_fold != f])) < 2 for f in range(folds.max() + 1)):
            continue
        eta, _ = _predict([r[clip, time]], y_rows, rows_fold, [penalty], None)
        base = _logit(_training_rate(y_rows, rows_fold))
        yield float((log_loss_bits(base, y_rows) - log_loss_bits(eta, y_rows)).mean())


_SCORES = (
    *(f"{score}_{name}" for score in ("auroc", "bits") for name in ("B", "R", "BR")),
    *(f"gain_{score}{end}" for score in ("auroc", "bits") for end in ("", "_low", "_high")),
    *(
        f"swap_gain_{score}_q{q}{end}"
        for score in ("auroc", "bits")
        for q in (50, 95)
        for end in ("", "_within_prompt")
    ),
    *(
        "p_swap",
        "p_swap_auroc",
        "p_swap_within_prompt",
        "p_swap_auroc_within_prompt",
        "p_shuffle",
        "penalty_B",
        "penalty_R",
        "penalty_BR",
        "n_folds",
        "n_components",
        "variance_kept",
    ),
)


def _check_shapes(
    y: NDArray, usable: NDArray, group: NDArray, baseline: NDArray, representation: NDArray | csr_matrix
) -> None:
    grid = y.shape
    wanted = {
        "usable": (usable.shape, grid),
        "prompt": (group.shape, grid[:1]),
        "baseline": (baseline.shape[:2], grid),
    }
    if issparse(representation):
        wanted["representation (CSR)"] = (representation.shape[:1], (grid[0] * grid[1],))
    else:
        wanted["representation"] = (representation.shape[:2], grid)
    for name, (found, right) in wanted.items():
        if found != right:
            raise ValueError(f"{name}: shape begins with {found}; y {grid} asks for {right}")
    if not np.isin(y[usable], (0, 1)).all():
        raise ValueError(f"y: holds {np.setdiff1d(y[usable], (0, 1))[0]} at a usable point; valid are 0 and 1")


def prompt_folds(y: Array, groups: NDArray[np.int64], n_folds: int, seed: int) -> tuple[NDArray[np.int64], str]:
    """Fold of each row, no prompt in two folds, classes balanced; and a note, not empty when it cannot be done.

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


def _inner_folds(y: Array, groups: NDArray, train: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Inner fold of each training row (-1 elsewhere); all 0 when the training prompts cannot be split."""
    inner = np.full(len(y), -1)
    folds, note = prompt_folds(y[train], groups[train], 3, seed)
    inner[train] = 0 if note else folds
    return inner


def _reduce(
    representation: NDArray[np.float32] | csr_matrix, grid: tuple[int, int], max_components: int, seed: int
) -> tuple[NDArray[np.float32], float]:
    """R as dense `[clip, time, <= max_components]` and the share of its variance that is kept."""
    flat = representation if issparse(representation) else representation.reshape(grid[0] * grid[1], -1)
    if flat.shape[1] <= max_components:
        dense = flat.toarray() if issparse(flat) else flat
        return dense.reshape(*grid, -1).astype(np.float32), 1.0
    n_components = min(max_components, flat.shape[0] - 1)
    reducer = (
        TruncatedSVD(n_components, n_iter=4, random_state=seed)
        if issparse(flat)
        else PCA(n_components, svd_solver="randomized", iterated_power=4, random_state=seed)
    )
    reduced = reducer.fit_transform(flat)
    kept = float(np.sum(reducer.explained_variance_ratio_))
    return reduced.reshape(*grid, -1).astype(np.float32), kept


def residual(
    representation: NDArray[np.float32],
    baseline: NDArray[np.float32],
    group: NDArray[np.int64],
    n_folds: int,
    seed: int,
) -> NDArray[np.float32]:
    """R minus its ridge prediction from B, each prompt's from other prompts: `[clip, time, d]`. Sees no label.

    The ridge is chosen per column of R by the out-of-fold error. Columns that B predicts (nearly) exactly become 0.
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
    chosen[:, np.sqrt(np.square(chosen).mean(0)) <= COPY_SHARE * r.std(0)] = 0.0
    return chosen.reshape(n_clips, n_times, d).astype(np.float32)


def swap_clips(group: NDArray[np.int64], within_prompt: bool, rng: np.random.Generator) -> NDArray[np.int64]:
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


def fit_logistic(x: NDArray, y: Array, penalty: Array, start: Array | None = None) -> Array:
    """Coefficients minimising log-loss summed over rows + sum(penalty * coef**2) / 2.

    `x` `[row, d]`, its first column ones for an intercept (penalty 0), `y` 0/1 with both classes, `penalty` `[d]`.
    From `start`, or from the base rate alone. Newton's method, but the Hessian is most of the work: one is kept and
    corrected by what the steps since have met (L-BFGS from that Hessian; Nocedal & Wright 2006, "Numerical
    Optimization", 7.2) until two steps in a row bring the end hardly nearer. The end is the same.
    """
    coef = np.zeros(x.shape[1])
    if start is None:
        coef[0] = _logit(y.mean())
    else:
        coef[:] = start
    eta = np.asarray(x @ coef.astype(x.dtype), np.float64)
    loss, gradient = _loss(eta, y, coef, penalty), _gradient(x, eta, y, coef, penalty)
    factor, met, slow, before = None, [], 0, np.inf
    for _ in range(200):
        fresh = factor is None
        if not fresh:
            step = _corrected_step(factor, met, gradient)
            decrement = float(gradient @ step)
            slow = slow + 1 if decrement > SLOW_SHARE * before else 0
        if fresh or slow == 2:
            p = expit(eta)
            root = np.sqrt(p * (1 - p)).astype(x.dtype)[:, None] * x
            hessian = np.asarray(root.T @ root, np.float64)
            hessian.flat[:: len(hessian) + 1] += penalty + 1e-6
            factor = dpotrf(hessian.T, lower=True, overwrite_a=True)[0]
            step = dpotrs(factor, gradient, lower=True)[0]
            decrement = float(gradient @ step)
            fresh, met, slow = True, [], 0
        # What a Newton step would still change is nothing then; another leaves a share, and is taken.
        near = decrement < 1e-6
        if near and fresh:
            break
        size = 1.0
        while True:
            moved = -size * step
            new_eta = np.asarray(x @ (coef + moved).astype(x.dtype), np.float64)
            new_loss = _loss(new_eta, y, coef + moved, penalty)
            if new_loss <= loss or size < 1e-3:
                break
            size /= 2
        coef, eta, loss, before = coef + moved, new_eta, new_loss, decrement
        if near:
            break
        new_gradient = _gradient(x, eta, y, coef, penalty)
        met.append((moved, new_gradient - gradient))
        gradient = new_gradient
    return coef


def _corrected_step(factor: Array, met: Sequence[tuple[Array, Array]], gradient: Array) -> Array:
    """A Newton step by a Hessian's Cholesky `factor`, corrected by how far was moved and how the gradient changed by
    that, oldest first: the two loops of L-BFGS."""
    met = [(moved, change, moved @ change) for moved, change in met if moved @ change > 0]
    step, shares = gradient.copy(), []
    for moved, change, bent in reversed(met):
        shares.append(moved @ step / bent)
        step -= shares[-1] * change
    step = dpotrs(factor, step, lower=True)[0]
    for (moved, change, bent), share in zip(met, reversed(shares), strict=True):
        step += (share - change @ step / bent) * moved
    return step


def _loss(eta: Array, y: Array, coef: Array, penalty: Array) -> float:
    return float(np.logaddexp(0.0, eta).sum() - y @ eta + 0.5 * (penalty * coef) @ coef)


def _gradient(x: NDArray, eta: Array, y: Array, coef: Array, penalty: Array) -> Array:
    return np.asarray(x.T @ (expit(eta) - y).astype(x.dtype), np.float64) + penalty * coef


def _scaled(x: NDArray, folds: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """For each fold, all rows with columns scaled by the rows of the other folds (-1: of none); constant ones become
    0."""
    exact = x.astype(np.float64)
    train = ((folds != np.arange(folds.max() + 1)[:, None]) & (folds >= 0)).astype(np.float64)
    train /= train.sum(axis=1, keepdims=True)
    for mean, square in zip(train @ exact, train @ exact**2, strict=True):
        sd = np.sqrt(np.maximum(square - mean**2, 0.0))
        scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-6 * (np.abs(mean) + 1e-20))
        yield ((x - mean.astype(x.dtype)) * scale.astype(x.dtype)).astype(np.float32)


def _design(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """[1, blocks], the columns of a fit."""
    return np.concatenate([np.ones((len(blocks[0]), 1), np.float32), *blocks], axis=1)


def _penalty_vector(blocks: Sequence[NDArray], penalties: Sequence[float]) -> Array:
    return np.concatenate([[0.0], *(np.full(x.shape[1], p) for x, p in zip(blocks, penalties, strict=True))])


def _choose_penalties(
    blocks: Sequence[NDArray], y: Array, inner: Sequence[NDArray[np.int64]], first: Sequence[float] | None
) -> list[float]:
    """The last block's penalty for each outer fold, by the log-loss in its inner folds.

    With two blocks, `first` holds the first block's penalty per fold. A fold that cannot be split takes the largest.
    """
    chosen = []
    for fold, inner_fold in enumerate(inner):
        before = [] if first is None else [first[fold]]
        losses = np.zeros(len(PENALTIES))
        scaled = zip(*(_scaled(block, inner_fold) for block in blocks), strict=True) if inner_fold.max() > 0 else ()
        for f, parts in enumerate(scaled):
            train, test = (inner_fold >= 0) & (inner_fold != f), inner_fold == f
            x = _design(parts)
            x_train, x_test = x[train], x[test]
            coef = None
            for i, penalty in enumerate(PENALTIES):
                coef = fit_logistic(x_train, y[train], _penalty_vector(blocks, [*before, penalty]), coef)
                losses[i] += log_loss_bits(x_test @ coef, y[test]).sum()
        chosen.append(PENALTIES[int(np.argmin(losses))])
    return chosen


def _predict(
    blocks: Sequence[NDArray],
    y: Array,
    folds: NDArray[np.int64],
    penalties: Sequence[Sequence[float]],
    starts: Sequence[Array] | None,
    scaled_first: Sequence[NDArray[np.float32]] | None = None,
) -> tuple[Array, list[Array]]:
    """Out-of-fold logits `[row]` and each fold's coefficients; `penalties` `[block][fold]`.

    `starts`: coefficients of the first block alone, per fold, from which to start. `scaled_first`: the first block as
    it is scaled in each fold, where it was before.
    """
    eta, coefs = np.empty(len(y)), []
    first = _scaled(blocks[0], folds) if scaled_first is None else scaled_first
    for fold, parts in enumerate(zip(first, *(_scaled(block, folds) for block in blocks[1:]), strict=True)):
        train, test = folds != fold, folds == fold
        x = _design(parts)
        x_train, x_test = x[train], x[test]
        start = None if starts is None else np.pad(starts[fold], (0, x_train.shape[1] - len(starts[fold])))
        penalty = _penalty_vector(blocks, [block[fold] for block in penalties])
        coefs.append(fit_logistic(x_train, y[train], penalty, start))
        eta[test] = x_test @ coefs[-1]
    return eta, coefs


def _training_rate(y: Array, folds: NDArray[np.int64]) -> Array:
    """For each row the base rate of the other folds."""
    rates = np.array([y[folds != f].mean() for f in range(folds.max() + 1)])
    return rates[folds]


def _logit(p: Array) -> Array:
    return np.log(p) - np.log1p(-p)


def log_loss_bits(eta: Array, y: Array) -> Array:
    """Log-loss of each row in bits, from logits."""
    return (np.logaddexp(0.0, eta) - y * eta) / np.log(2.0)


def prompt_wins(score: Array, y: Array, groups: NDArray[np.int64]) -> Array:
    """`[g, h]`: over pairs of a positive row of prompt g and a negative of prompt h, how often the positive scores
    higher (ties a half). The AUROC under any weighting of prompts is a quadratic form in it. Labels of `groups` may
    have gaps; rows and columns follow their sorted order.
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
    """AUROC `[draw]` from `prompt_wins` under prompt `weights` `[draw, prompt]`; NaN where a class is missing."""
    groups = np.unique(groups, return_inverse=True)[1]
    positives = weights @ np.bincount(groups, y, wins.shape[0])
    negatives = weights @ np.bincount(groups, 1 - y, wins.shape[0])
    pairs = positives * negatives
    won = np.einsum("ng,gh,nh->n", weights, wins, weights, optimize=True)
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _bootstrap_weights(groups: NDArray[np.int64], n_bootstrap: int, seed: int) -> Array:
    """How often each prompt is drawn, `[draw, prompt]`."""
    n = len(np.unique(groups))
    return np.random.default_rng([seed, 2]).multinomial(n, np.full(n, 1 / n), n_bootstrap).astype(np.float64)


def _weighted_mean(values: Array, groups: NDArray[np.int64], weights: Array) -> Array:
    """Mean over rows `[draw]` when prompt g counts `weights[:, g]` times."""
    groups = np.unique(groups, return_inverse=True)[1]
    return (weights @ np.bincount(groups, values)) / (weights @ np.bincount(groups).astype(np.float64))
