"""Does a representation say more about the future than the baseline, for one horizon and layer?

Conventions. Everything lies on one grid: clip x time. `y` 0/1 and `usable` bool are `[clip, time]`, and rows are the
usable grid points. `prompt` is `[clip]`, the baseline's columns B are `[clip, time, b]`, and the representation R is
`[clip, time, d]` (or CSR `[clip * time, d]`, clip-major). B and R have values at *every* grid point, so that a clip
can get the R of another clip at its own times. Clips without a usable time are removed first.

Scores: AUROC, pooled over the out-of-fold predictions, which every gate reads; and bits, the reduction in log-loss per
label against the base rate of the training folds (an estimate of V-information; it can be negative), which is only
shown.

Conditional gain: score(B+R) - score(B). B is the better form of a fitted baseline (reprise/probing/baseline.py), and
B+R contains its logit. Folds and inner folds are grouped by prompt, columns are scaled inside folds, and R has its own
penalty. B+R contains R as its residual on B: R minus its prediction from B's columns by a ridge that is fitted on
*other prompts*. So R cannot help by repeating B, and the residual can be exchanged between clips under the null "R
says nothing beyond B". A raw R could not be exchanged: swapping a copy of B for noise would make B+R worse, and a
useless R would look significant. The residual, and the PCA of a wide R, see no label, so they cannot leak one. They
are computed once for all folds, so the statistic is the same function of the exchanged data in every swap.

Prediction never shows that a model uses what it carries. Only an edit does. A network with random weights remembers
past sound, and so it predicts too. reprise/probing/learned.py measures what the model learned beyond that.

Nulls. Pseudosession swap (Harris, "Nonsense correlations in neuroscience", bioRxiv 2020): whole trajectories are
exchanged and never shifted in time, so autocorrelation stays. There are two nulls. Across prompts (does R predict
anything?), prompts are permuted *as blocks*: clips of a prompt are similar, and swapping single clips would break this
in the null only. Within prompts (does R predict the future of *this* clip, or that of its prompt?), seeds are
permuted. If no prompt has two seeds, this null does not apply. Permutations are uniform and may leave clips in place.
Derangements alone are no group (with two seeds per prompt there is only one), and their p-values are too small
(Southworth, Kim & Owen 2009, "Properties of balanced permutations"). Penalties stay those of the unswapped R. A gain
must beat both nulls: `p_gain` is the larger of their p-values.

Local returns. At a longer horizon, times are used only if no return begins within the local horizon (`without_local`
in reprise/targets/labels.py). So a representation that only knows imminent returns gains nothing at a longer horizon,
however much returns cluster. The prediction of a local probe is deliberately not part of B: a plan in one direction of
R predicts at every horizon, and B would already contain it.

Limits. Exchange assumes that the residual is independent of B, not just uncorrelated. An R that is a nonlinear
function of B can show a gain. A donor's R may come from a time that is not usable in the donor itself (a recurrence
sounds). The interval resamples prompts over fixed predictions, without the variance of refitting.

Degenerate input: no usable rows, one class, a class in fewer than two prompts, or a fit that does not converge give
NaN scores and a `note`. A NaN in B or R of a clip that has a usable time is an error that names clip and column.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from scipy.special import expit

from reprise.probing.baseline import Baseline, FoldFit, better_form, check_finite, extend, fit_baseline, refit, tested
from reprise.probing.folds import swap_clips, training_rate
from reprise.probing.logistic import FitError, log_loss_bits, logit
from reprise.probing.residual import residual
from reprise.probing.scores import auroc, auroc_draws
from reprise.statistics import bootstrap_weights, largest_p, p_value

Array = NDArray[np.float64]
MAX_COMPONENTS = 128


class Question(NamedTuple):
    """The labels that a representation should predict, and the baseline that it is compared with.

    y: labels 0/1 `[clip, time]`. usable: bool `[clip, time]`. prompt, clip_ids: `[clip]`. x: the baseline's columns,
    float32 `[clip, time, b]`. names: their names.
    """

    y: NDArray
    usable: NDArray[np.bool_]
    prompt: NDArray
    clip_ids: Sequence[str]
    x: NDArray[np.float32]
    names: Sequence[str]


class Probe(NamedTuple):
    """The result of a probe.

    record: flat, of builtins. predictions: one row per usable grid point with clip, time (indices), prompt, y, fold,
    p_B, p_R and p_BR.
    """

    record: dict[str, float | int | str]
    predictions: pd.DataFrame


class _Rows(NamedTuple):
    """The usable grid points: `[row]`, except `group`, which is `[clip]`. Only clips with a usable time are in it."""

    clip: NDArray[np.int64]
    time: NDArray[np.int64]
    y: Array
    groups: NDArray[np.int64]
    group: NDArray[np.int64]


def fit_question(question: Question, *, seed: int, n_folds: int = 5) -> Baseline:
    """Fit the baseline of a question. Its rows are in the order of `np.nonzero(usable)`.

    A fit that does not converge gives a `note`. Raises ValueError for a NaN in a clip that has a usable time.
    """
    question, rows, _ = _asked(question)
    if not len(rows.y):
        return Baseline({}, np.zeros(0, np.int64), {}, "no usable time")
    try:
        x = question.x[rows.clip, rows.time]
        return fit_baseline(rows.y, rows.groups, x, question.names, seed=seed, n_folds=n_folds)
    except FitError as error:
        return Baseline({}, np.zeros(len(rows.y), np.int64), {}, str(error))


def probe(
    question: Question,
    representation: NDArray[np.float32] | csr_matrix,
    *,
    seed: int,
    baseline: Baseline | None = None,
    n_swaps: int = 99,
    n_folds: int = 5,
    n_bootstrap: int = 2000,
    max_components: int = MAX_COMPONENTS,
    unusable_because: str = "",
) -> Probe:
    """Score B, R and B+R for one (horizon, layer, representation).

    Penalties are chosen per fold, by inner folds grouped by prompt.

    Parameters
    ----------
    question : Question
        Labels and the baseline's columns.
    representation : float32 array `[clip, time, d]` or CSR `[clip * time, d]`
        R, at every grid point.
    seed : int
        For folds, PCA, bootstrap and swaps.
    baseline : Baseline, optional
        Result of `fit_question` with the same seed and folds. By default it is fitted here.
    n_swaps, n_folds, n_bootstrap : int
        Number of swaps for each null, of outer folds at most, and of bootstrap draws.
    max_components : int
        A wider R is first reduced to this many principal components (CSR: truncated SVD, not centred, so that it
        stays sparse).
    unusable_because : str
        Why R is known to be worthless. Then nothing is fitted, and this becomes the note.

    Returns
    -------
    Probe
        Its record has n_rows, n_clips, n_prompts, n_positive_rows, n_positive_clips, n_positive_prompts, base_rate;
        `form`, the better one of the baseline, and auroc_B_<form> of both; auroc_* and bits_* of B, R, BR; gain_auroc
        and gain_bits with _low and _high (95 % percentile interval of a bootstrap over prompts); p_swap across prompts
        and p_swap_within_prompt of gain_auroc (NaN if no prompt has two seeds), and p_gain, the larger of them;
        swap_gain and swap_gain_within_prompt with _q50 and _q95 of the nulls, and null_gain, the smaller of their
        medians; penalty_R and penalty_BR (median over folds), n_folds, n_components, variance_kept (fraction of R's
        variance that the components have), n_swaps, n_bootstrap, seed and note.

    Raises
    ------
    ValueError
        If shapes disagree, or a value that is used is not finite.
    """
    _check_shapes(question, representation)
    n_grid = question.y.shape
    question, rows, kept = _asked(question)
    record = _counts(question, rows) | {"n_swaps": n_swaps, "n_bootstrap": n_bootstrap, "seed": seed, "note": ""}
    table = pd.DataFrame(
        {
            "clip": kept[rows.clip],
            "time": rows.time,
            "prompt": np.asarray(question.prompt)[rows.clip],
            "y": rows.y.astype(np.int8),
        }
    )

    def not_scored(note: str) -> Probe:
        return Probe(record | dict.fromkeys(_SCORES, np.nan) | {"form": "", "note": note}, table)

    if unusable_because:
        return not_scored(unusable_because)
    if baseline is None:
        baseline = fit_question(question, seed=seed, n_folds=n_folds)
    if baseline.note:
        return not_scored(baseline.note)
    folds = baseline.folds
    r, variance_kept = _reduce(_of_clips(representation, kept, n_grid[1]), question, max_components, seed)
    inner = baseline.inner
    try:
        form = better_form({form: auroc(tested(eta, folds), rows.y) for form, eta in baseline.eta.items()})
        below = baseline.eta[form]
        beyond = residual(r, question.x, rows.group, n_folds, seed)
        both, fits = extend(below, beyond[rows.clip, rows.time], rows.y, folds, inner)
        alone, fits_alone = extend(None, r[rows.clip, rows.time], rows.y, folds, inner)
        etas = {"B": tested(below, folds), "R": tested(alone, folds), "BR": tested(both, folds)}
        nulls = _null_gains(rows, below, beyond, folds, fits, etas["B"], n_swaps, seed)
    except FitError as error:
        return not_scored(str(error))
    record |= _scores(rows, folds, etas, n_bootstrap, seed)
    record |= {f"auroc_B_{f}": auroc(tested(eta, folds), rows.y) for f, eta in baseline.eta.items()}
    record |= _against(record["gain_auroc"], nulls)
    record |= {
        "form": form,
        "penalty_R": float(np.median([fit.penalty for fit in fits_alone])),
        "penalty_BR": float(np.median([fit.penalty for fit in fits])),
        "n_folds": int(folds.max() + 1),
        "n_components": r.shape[2],
        "variance_kept": variance_kept,
    }
    table["fold"] = folds
    for name, eta in etas.items():
        table[f"p_{name}"] = expit(eta)
    return Probe(record, table)


def _asked(question: Question) -> tuple[Question, _Rows, NDArray[np.int64]]:
    """The question for clips with a usable time only, its rows, and the indices of these clips."""
    kept = np.flatnonzero(np.asarray(question.usable, bool).any(axis=1))
    y, usable, prompt = (np.asarray(part)[kept] for part in question[:3])
    clip_ids = [question.clip_ids[i] for i in kept]
    x = question.x[kept]
    check_finite(x, clip_ids, question.names, what="baseline")
    group = np.unique(prompt, return_inverse=True)[1] if len(kept) else np.zeros(0, np.int64)
    clip, time = np.nonzero(usable)
    rows = _Rows(clip, time, y[clip, time].astype(np.float64), group[clip], group)
    return Question(y, usable.astype(bool), prompt, clip_ids, x, question.names), rows, kept


def _of_clips(
    representation: NDArray[np.float32] | csr_matrix, kept: NDArray[np.int64], n_times: int
) -> NDArray[np.float32] | csr_matrix:
    """The representation of some clips, dense or CSR as before."""
    if issparse(representation):
        return representation[(kept[:, None] * n_times + np.arange(n_times)).ravel()]
    return representation[kept]


def _counts(question: Question, rows: _Rows) -> dict[str, float | int]:
    positive = rows.y == 1
    return {
        "n_rows": len(rows.y),
        "n_clips": len(np.unique(rows.clip)),
        "n_prompts": len(np.unique(rows.groups)),
        "n_positive_rows": int(rows.y.sum()),
        "n_positive_clips": len(np.unique(rows.clip[positive])),
        "n_positive_prompts": len(np.unique(rows.groups[positive])),
        "base_rate": float(rows.y.mean()) if len(rows.y) else np.nan,
    }


def _scores(
    rows: _Rows, folds: NDArray[np.int64], etas: dict[str, Array], n_bootstrap: int, seed: int
) -> dict[str, float]:
    """AUROC and bits of B, R and BR, and the gains of BR over B with their intervals over prompts."""
    base_loss = log_loss_bits(logit(training_rate(rows.y, folds)), rows.y)
    bits = {name: base_loss - log_loss_bits(eta, rows.y) for name, eta in etas.items()}
    record = {f"auroc_{name}": auroc(eta, rows.y) for name, eta in etas.items()}
    record |= {f"bits_{name}": float(bits[name].mean()) for name in etas}
    weights = _bootstrap(rows, n_bootstrap, seed)
    draws = {
        "auroc": auroc_draws(etas["BR"], rows.y, rows.groups, weights)
        - auroc_draws(etas["B"], rows.y, rows.groups, weights),
        "bits": _weighted_mean(bits["BR"] - bits["B"], rows.groups, weights),
    }
    for score in ("auroc", "bits"):
        record[f"gain_{score}"] = record[f"{score}_BR"] - record[f"{score}_B"]
        record |= _percentiles(f"gain_{score}", draws[score])
    return record


def _null_gains(
    rows: _Rows,
    below: Array,
    beyond: NDArray[np.float32],
    folds: NDArray[np.int64],
    fits: Sequence[FoldFit],
    over: Array,
    n_swaps: int,
    seed: int,
) -> dict[str, Array]:
    """For each kind of swap, gains in AUROC over the logits `over` with R's residual swapped between clips."""
    auroc_over = auroc(over, rows.y)
    nulls = {}
    for kind in ("", "_within_prompt"):
        within = bool(kind)
        if within and np.bincount(rows.group).max() < 2:
            continue
        rng = np.random.default_rng([seed, 1, int(within)])
        gains = []
        for _ in range(n_swaps):
            swapped = beyond[swap_clips(rows.group, within, rng)[rows.clip], rows.time]
            gains.append(auroc(refit(below, swapped, rows.y, folds, fits), rows.y) - auroc_over)
        nulls[kind] = np.array(gains)
    return nulls


def _against(gain: float, nulls: dict[str, Array]) -> dict[str, float]:
    """p-values of a gain against each null, and the larger of them."""
    p = {f"p_swap{kind}": p_value(gain, null) for kind, null in nulls.items()}
    quantiles = {
        f"swap_gain{kind}_q{q}": float(np.percentile(null, q)) for kind, null in nulls.items() for q in (50, 95)
    }
    medians = [float(np.median(null)) for null in nulls.values()]
    both = {"p_gain": float(largest_p(list(p.values()))), "null_gain": min(medians)}
    return dict.fromkeys(_AGAINST, np.nan) | p | quantiles | both


_AGAINST = (
    "p_gain",
    "null_gain",
    *(f"p_swap{kind}" for kind in ("", "_within_prompt")),
    *(f"swap_gain{kind}_q{q}" for kind in ("", "_within_prompt") for q in (50, 95)),
)
_SCORES = (
    *(f"{score}_{name}" for score in ("auroc", "bits") for name in ("B", "R", "BR")),
    "auroc_B_linear",
    "auroc_B_trees",
    *(f"gain_{score}{end}" for score in ("auroc", "bits") for end in ("", "_low", "_high")),
    *_AGAINST,
    *("penalty_R", "penalty_BR", "n_folds", "n_components", "variance_kept"),
)


def _bootstrap(rows: _Rows, n_bootstrap: int, seed: int) -> Array:
    return bootstrap_weights(len(np.unique(rows.groups)), n_bootstrap, [seed, 2])


def _percentiles(name: str, draws: Array) -> dict[str, float]:
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def random_latents(x: NDArray[np.float32], *, d_sae: int, k: int, seed: int) -> csr_matrix:
    """Latents of a random dictionary.

    Directions are uniform on the sphere. Activations are centred over all rows: otherwise their mean would choose the
    same directions everywhere. The k largest products above 0 are kept, as in a top-k SAE.

    Parameters
    ----------
    x : float32 array `[clip, time, d_model]`
        Activations.
    d_sae, k : int
        Number of directions, and of active ones per row at most.
    seed : int
        For the directions.

    Returns
    -------
    CSR `[clip * time, d_sae]`, clip-major
    """
    rows = x.reshape(-1, x.shape[-1])
    directions = np.random.default_rng(seed).standard_normal((x.shape[-1], d_sae)).astype(np.float32)
    products = (rows - rows.mean(axis=0)) @ (directions / np.linalg.norm(directions, axis=0))
    chosen = np.argpartition(products, -k, axis=1)[:, -k:]
    values = np.maximum(np.take_along_axis(products, chosen, axis=1), 0.0)
    latents = csr_matrix((values.ravel(), chosen.ravel(), np.arange(0, len(rows) * k + 1, k)), (len(rows), d_sae))
    latents.eliminate_zeros()
    return latents


def _check_shapes(question: Question, representation: NDArray | csr_matrix) -> None:
    y, grid = np.asarray(question.y), np.shape(question.y)
    wanted = {
        "usable": (np.shape(question.usable), grid),
        "prompt": (np.shape(question.prompt), grid[:1]),
        "clip_ids": ((len(question.clip_ids),), grid[:1]),
        "baseline": (question.x.shape, (*grid, len(question.names))),
    }
    if issparse(representation):
        wanted["representation (CSR)"] = (representation.shape[:1], (grid[0] * grid[1],))
    else:
        wanted["representation"] = (representation.shape[:2], grid)
    for name, (found, right) in wanted.items():
        if found != right:
            raise ValueError(f"{name}: shape begins with {found}; valid: {right}, to match y {grid}")
    usable = np.asarray(question.usable, bool)
    if not np.isin(y[usable], (0, 1)).all():
        raise ValueError(f"y: holds {np.setdiff1d(y[usable], (0, 1))[0]} at a usable point; valid: 0 and 1")


def _reduce(
    representation: NDArray[np.float32] | csr_matrix, question: Question, max_components: int, seed: int
) -> tuple[NDArray[np.float32], float]:
    """R as dense `[clip, time, <= max_components]`, and the fraction of its variance that is kept."""
    grid = question.y.shape
    flat = representation if issparse(representation) else representation.reshape(grid[0] * grid[1], -1)
    columns = [f"{j}" for j in range(flat.shape[1])]
    check_finite(_values(flat, grid), question.clip_ids, columns, what="representation")
    if flat.shape[1] <= max_components:
        dense = flat.toarray() if issparse(flat) else flat
        return dense.reshape(*grid, -1).astype(np.float32), 1.0
    # Imported here because it takes a second.
    from sklearn.decomposition import PCA, TruncatedSVD

    n_components = min(max_components, flat.shape[0] - 1)
    reducer = (
        TruncatedSVD(n_components, n_iter=4, random_state=seed)
        if issparse(flat)
        else PCA(n_components, svd_solver="randomized", iterated_power=4, random_state=seed)
    )
    reduced = reducer.fit_transform(flat)
    kept = float(np.sum(reducer.explained_variance_ratio_))
    return reduced.reshape(*grid, -1).astype(np.float32), kept


def _values(flat: NDArray[np.float32] | csr_matrix, grid: tuple[int, int]) -> NDArray[np.float32]:
    """R as dense `[clip, time, d]` to look for values that are not finite. A finite CSR gives no columns."""
    if not issparse(flat):
        return flat.reshape(*grid, -1)
    bad = np.flatnonzero(~np.isfinite(flat.data))
    if not len(bad):
        return np.zeros((*grid, 0), np.float32)
    return flat.toarray().reshape(*grid, -1)


def _weighted_mean(values: Array, groups: NDArray[np.int64], weights: Array) -> Array:
    """Mean over rows, `[draw]`, if prompt g counts `weights[:, g]` times."""
    groups = np.unique(groups, return_inverse=True)[1]
    return (weights @ np.bincount(groups, values)) / (weights @ np.bincount(groups).astype(np.float64))
