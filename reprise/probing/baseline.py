"""The baseline: how well sound and prompt predict a return, without the model.

Its columns (`baseline_features`) are the position, causal acoustics, the returns so far, and the prompt's words. A
representation must predict more than that. A baseline that overfits would make this too easy: in one case, position
alone scored 0.69 and all columns together 0.65. So the baseline has several members:

- one linear member for each part (position, sound, returns so far, prompt), and one for all columns together;
- one non-linear member: gradient-boosted trees over all columns.

Members are stacked inside the nested folds. A logistic regression without negative weights combines their logits on
rows that they were not fitted to (Wolpert 1992; van der Laan, Polley & Hubbard 2007, "Super Learner"). So if one part
alone predicts best, it keeps its weight. There are two forms: `linear` (the linear members) and `trees` (all members).
A gain is measured over the better form.

Conventions. As in reprise/probing/probes.py: the grid is clip x time, and rows are its usable points. The logit of a
row comes from fits to other prompts. `eta` `[fold, row]` holds two kinds of logits for an outer fold f: those of test
rows come from members fitted to all training rows, those of training rows from members fitted to the other inner
folds. A fit on top of a baseline (`extend`) therefore sees the same kind of logit in training and in testing.

Degenerate input: labels that cannot be split give a `note` and no logits. A part without columns has no member.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from reprise.probing.folds import inner_folds, prompt_folds, training_rate
from reprise.probing.logistic import (
    FitError,
    design,
    fit_logistic,
    hessian_factor,
    log_loss_bits,
    logit,
    penalty_vector,
    scaled,
)

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# L2 penalties (on standardised columns, against a log-loss summed over rows), largest first: each fit starts from the
# previous one. Rows of a clip are similar, so useful penalties are larger than for independent rows.
PENALTIES = (10000.0, 1000.0, 100.0, 10.0, 1.0)
# Penalty of the logits to which a block is added. It is small, so these logits keep their weight. The fit still
# converges if they separate the classes.
OFFSET_PENALTY = 1.0
# Penalty of the stack's weights. Its members are logits.
STACK_PENALTY = 1.0
FORMS = ("linear", "trees")
# Small trees with many rows per leaf, because rows of a clip are similar.
TREES = {"max_iter": 60, "learning_rate": 0.05, "max_leaf_nodes": 6, "min_samples_leaf": 20, "l2_regularization": 5.0}


class Baseline(NamedTuple):
    """A fitted baseline.

    eta: by form, logits float64 `[fold, row]` (see the head of this module). folds: int `[row]`. bits: by member and
    form, how many bits its log-loss on the test rows lies below that of the base rate, mean over rows. note: why
    nothing was fitted, or "". inner: the inner folds of each fold, as in `inner_folds`.
    """

    eta: dict[str, Array]
    folds: Index
    bits: dict[str, float]
    note: str = ""
    inner: Sequence[Index] = ()


class FoldFit(NamedTuple):
    """A fit of `extend` in one fold: its penalty, and where a fit to a block like its own starts.

    start: coefficients `[d]`, 0 for those of the block. factor: see `hessian_factor`, at `start`.
    """

    penalty: float
    start: Array
    factor: Array


def baseline_features(
    prompts: Sequence[str],
    prompt_ids: Sequence[str],
    times_s: ArrayLike,
    descriptors: NDArray[np.float32],
    *,
    descriptor_names: Sequence[str],
) -> tuple[NDArray[np.float32], list[str]]:
    """The columns of the baseline on the grid, and their names.

    They are the position (one column per grid time), the descriptors, and the words of the prompt (0 or 1). Words in
    one prompt only, or in all prompts, say nothing about another prompt and are left out. Several recordings may have
    the same text. Then its words do say something about the other recordings.

    Parameters
    ----------
    prompts, prompt_ids : sequence of str `[clip]`
        The text of each clip ("" for none), and the id of its prompt.
    times_s : array `[time]`
        Times of the grid in seconds.
    descriptors : float32 array `[clip, time, m]`
        Causal descriptors: acoustics and recurrences so far.
    descriptor_names : sequence of str `[m]`
        Their names.

    Returns
    -------
    columns : float32 array `[clip, time, b]`
    names : list of str `[b]`

    Raises
    ------
    ValueError
        If `descriptors` has another shape.
    """
    times_s = np.asarray(times_s, np.float64)
    n_clips, n_times = len(prompts), len(times_s)
    if descriptors.shape[:2] != (n_clips, n_times):
        raise ValueError(f"descriptors: shape {descriptors.shape} must begin with (clips, times) {n_clips, n_times}")
    names = [f"time_{t:g}s" for t in times_s] + list(descriptor_names)
    parts = [np.broadcast_to(np.eye(n_times, dtype=np.float32), (n_clips, n_times, n_times)), descriptors]

    texts = pd.Series(list(prompts)).groupby(list(prompt_ids)).first()
    in_texts = Counter(word for text in texts for word in words_of(text))
    kept = sorted(word for word, n in in_texts.items() if 1 < n < len(texts))
    has_word = np.array([[word in words for word in kept] for words in map(words_of, prompts)], np.float32)
    parts.append(np.broadcast_to(has_word.reshape(n_clips, 1, -1), (n_clips, n_times, len(kept))))
    names += [f"word_{word}" for word in kept]
    return np.concatenate(parts, axis=2, dtype=np.float32), names


def words_of(text: str) -> set[str]:
    """The different words of a text, in lower case."""
    return set(re.findall(r"\w+", text.lower()))


def part_of(column: str) -> str:
    """The part of the baseline that a column of `baseline_features` belongs to."""
    parts = {"time_": "position", "word_": "prompt", "match_": "returns so far"}
    return next((part for prefix, part in parts.items() if column.startswith(prefix)), "sound")


def check_finite(x: NDArray, clips: Sequence[str], columns: Sequence[str], *, what: str) -> None:
    """Check that `x` `[clip, time, column]` has no NaN and no infinite value.

    Raises ValueError that names `what`, and the clip (of `clips`) and column (of `columns`) of the first bad value.
    """
    bad = ~np.isfinite(x)
    if bad.any():
        clip, time, column = (int(i[0]) for i in np.nonzero(bad))
        value = x[clip, time, column]
        raise ValueError(
            f"{what}: clip {clips[clip]}, column {columns[column]} is {value} at time {time} of the grid; valid: "
            "finite numbers (clips without a usable time are not checked)"
        )


def fit_baseline(
    y: Array,
    groups: Index,
    x: NDArray[np.float32],
    names: Sequence[str],
    *,
    seed: int,
    n_folds: int,
    forms: Sequence[str] = FORMS,
) -> Baseline:
    """Fit the baseline to rows.

    Parameters
    ----------
    y : float array `[row]`
        Labels, 0 or 1.
    groups : int array `[row]`
        The prompt of each row.
    x : float32 array `[row, column]`
        Columns of `baseline_features`.
    names : sequence of str `[column]`
        Their names.
    seed, n_folds : int
        The outer folds are those of `prompt_folds` with this seed.
    forms : sequence of str
        Which of `FORMS` are fitted. `linear` always is.

    Returns
    -------
    Baseline
        With a `note` and no logits if the labels cannot be split.

    Raises
    ------
    FitError
        If a fit does not converge.
    """
    folds, note = prompt_folds(y, groups, n_folds, seed)
    if note:
        return Baseline({}, folds, {}, note)
    inner = inner_folds(y, groups, folds, seed)
    part = np.array([part_of(name) for name in names])
    blocks = {f"{kind} alone": x[:, part == kind] for kind in dict.fromkeys(part.tolist())} | {"all columns": x}
    members = {name: _linear_member(block, y, folds, inner) for name, block in blocks.items()}
    eta = {"linear": _stack(list(members.values()), y, folds)}
    if "trees" in forms:
        members["all columns, trees"] = _cross_fit(_fit_trees(x, y, seed), folds, inner)
        eta["trees"] = _stack(list(members.values()), y, folds)
    constant = logit(training_rate(y, folds))
    loss = {name: log_loss_bits(tested(of, folds), y).mean() for name, of in (members | eta).items()}
    base = log_loss_bits(constant, y).mean()
    return Baseline(eta, folds, {name: float(base - bits) for name, bits in loss.items()}, inner=inner)


def tested(eta: Array, folds: Index) -> Array:
    """The test-row logits `[row]` in `eta` `[fold, row]`."""
    return eta[folds, np.arange(len(folds))]


def _linear_member(x: NDArray[np.float32], y: Array, folds: Index, inner: Sequence[Index]) -> Array:
    return extend(None, x, y, folds, inner)[0]


def extend(
    below: Array | None, block: NDArray[np.float32], y: Array, folds: Index, inner: Sequence[Index]
) -> tuple[Array, list[FoldFit]]:
    """Fit a logistic regression on a block of columns, added to existing logits.

    In each fold, the block's penalty is the one with the smallest log-loss in the inner folds. If the training rows of
    a fold cannot be split, it gets the largest penalty, and its training rows get logits of the fit to all of them.

    Parameters
    ----------
    below : float array `[fold, row]` or None
        The existing logits, such as those of a baseline.
    block : float32 array `[row, d]`
        The columns to add.
    y : float array `[row]`
        Labels, 0 or 1.
    folds : int array `[row]`
        The outer fold of each row.
    inner : sequence of int array `[row]`
        The inner folds of each outer fold (`inner_folds`).

    Returns
    -------
    eta : float array `[fold, row]`
        Logits.
    fits : list of FoldFit
        The fit of each fold, for `refit`.
    """
    eta = np.empty((len(inner), len(y)))
    fits = []
    for fold, (inner_fold, outer) in enumerate(zip(inner, scaled(block, folds), strict=True)):
        train = folds != fold
        penalty, out_of_inner = PENALTIES[0], None
        if inner_fold.max() > 0:
            of_penalty = _inner_logits(below, block, y, fold, inner_fold)
            losses = [log_loss_bits(e[train], y[train]).sum() for e in of_penalty]
            best = int(np.argmin(losses))
            penalty, out_of_inner = PENALTIES[best], of_penalty[best]
        parts, fixed = _with_below(below, outer, fold, train)
        x = design(parts)
        vector = penalty_vector(parts, [*fixed, penalty])
        coef = fit_logistic(x[train], y[train], vector)
        eta[fold] = x @ coef
        if out_of_inner is not None:
            eta[fold, train] = out_of_inner[train]
        # A block of no use has coefficients of 0: the fit to an exchanged block is near this point.
        start = np.zeros_like(coef)
        start[: 1 + len(fixed)] = coef[: 1 + len(fixed)]
        fits.append(FoldFit(penalty, start, hessian_factor(x[train], vector, start)))
    return eta, fits


def refit(
    below: Array,
    block: NDArray[np.float32],
    y: Array,
    folds: Index,
    fits: Sequence[FoldFit],
) -> Array:
    """Fit the regression of `extend` to another block, with penalties that are already chosen.

    Parameters
    ----------
    below, block, y, folds
        As in `extend`.
    fits : sequence of FoldFit
        From `extend`: the penalty of each fold, and where its fit starts.

    Returns
    -------
    float array `[row]`
        Logits of the test rows.
    """
    eta = np.empty(len(y))
    for fold, outer in enumerate(scaled(block, folds)):
        train, test = folds != fold, folds == fold
        parts, fixed = _with_below(below, outer, fold, train)
        x = design(parts)
        vector = penalty_vector(parts, [*fixed, fits[fold].penalty])
        coef = fit_logistic(x[train], y[train], vector, fits[fold].start, fits[fold].factor)
        eta[test] = x[test] @ coef
    return eta


def _inner_logits(
    below: Array | None, block: NDArray[np.float32], y: Array, fold: int, inner_fold: Index
) -> list[Array]:
    """For each penalty, logits `[row]` of the training rows from fits to the other inner folds."""
    out = [np.zeros(len(y)) for _ in PENALTIES]
    for f, part in enumerate(scaled(block, inner_fold)):
        train, test = (inner_fold >= 0) & (inner_fold != f), inner_fold == f
        parts, fixed = _with_below(below, part, fold, train)
        x, coef = design(parts), None
        for i, penalty in enumerate(PENALTIES):
            coef = fit_logistic(x[train], y[train], penalty_vector(parts, [*fixed, penalty]), coef)
            out[i][test] = x[test] @ coef
    return out


def _with_below(
    below: Array | None, block: NDArray[np.float32], fold: int, train: NDArray[np.bool_]
) -> tuple[list[NDArray[np.float32]], list[float]]:
    """The blocks of a fit, with the logits below first, and the penalties of all blocks except the last."""
    if below is None:
        return [block], []
    column = below[fold]
    spread = column[train].std()
    column = (column - column[train].mean()) / spread if spread > 1e-9 else np.zeros_like(column)
    return [column[:, None].astype(np.float32), block], [OFFSET_PENALTY]


Fit = Callable[[NDArray[np.bool_]], Callable[[NDArray[np.bool_]], Array]]


def _fit_trees(x: NDArray[np.float32], y: Array, seed: int) -> Fit:
    # Imported here because it takes half a second.
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    def fit(train: NDArray[np.bool_]) -> Callable[[NDArray[np.bool_]], Array]:
        model = HistGradientBoostingClassifier(**TREES, early_stopping=False, random_state=seed)
        # A job has one thread, but OpenMP would use every core of the machine.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(x[train], y[train].astype(int))
        return lambda rows: model.decision_function(x[rows])

    return fit


def _cross_fit(fit: Fit, folds: Index, inner: Sequence[Index]) -> Array:
    """Logits `[fold, row]` of a model that is fitted to each set of training rows."""
    eta = np.empty((len(inner), len(folds)))
    for fold, inner_fold in enumerate(inner):
        train, test = folds != fold, folds == fold
        predict = fit(train)
        eta[fold, test] = predict(test)
        if inner_fold.max() == 0:
            eta[fold, train] = predict(train)
        for f in range(inner_fold.max() + 1 if inner_fold.max() > 0 else 0):
            seen, unseen = (inner_fold >= 0) & (inner_fold != f), inner_fold == f
            eta[fold, unseen] = fit(seen)(unseen)
    return eta


def _stack(members: Sequence[Array], y: Array, folds: Index) -> Array:
    """Combine the members' logits into one, `[fold, row]`. The weights are 0 or more, and fitted in each fold."""
    eta = np.empty_like(members[0])
    for fold in range(len(eta)):
        z = np.stack([member[fold] for member in members], axis=1)
        weights = _stack_weights(z[folds != fold], y[folds != fold])
        eta[fold] = weights[0] + z @ weights[1:]
    return eta


def _stack_weights(z: Array, y: Array) -> Array:
    """The intercept, and a weight of 0 or more for each column of `z` `[row, member]`."""

    def loss(w: Array) -> tuple[float, Array]:
        eta = w[0] + z @ w[1:]
        error = expit(eta) - y
        value = np.logaddexp(0.0, eta).sum() - y @ eta + 0.5 * STACK_PENALTY * w[1:] @ w[1:]
        return float(value), np.r_[error.sum(), error @ z + STACK_PENALTY * w[1:]]

    # Imported here because it takes a third of a second.
    from scipy.optimize import minimize

    start = np.r_[0.0, np.full(z.shape[1], 1 / z.shape[1])]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None)] + [(0, None)] * z.shape[1])
    if not found.success or not np.isfinite(found.x).all():
        raise FitError(f"the stack of {z.shape[1]} members did not converge: {found.message}")
    return found.x


def better_form(auroc: Mapping[str, float]) -> str:
    """The form with the higher AUROC. If they are equal, the simpler one."""
    return max(auroc, key=lambda form: (auroc[form], form == "linear"))
