"""Penalised logistic regression on rows that are grouped by fold, and its losses.

Conventions. `x` `[row, d]`, `y` 0/1 `[row]`, `folds` int `[row]` (-1: in no fold). A logit is the log-odds of y = 1.
Columns are scaled by the rows that train, never by all.

A fit that fails is a FitError, never a silent number: a Hessian that is not positive definite, a loss that is not
finite, or no end after `MAX_STEPS` steps.

Degenerate input: a constant column becomes 0 and keeps the coefficient 0. Separable classes end where the penalty
holds them; without a penalty on the separating column that is a FitError.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs
from scipy.special import expit

Array = NDArray[np.float64]

MAX_STEPS = 200
# A step that leaves more than this share of the Newton decrement before it is slow: a new Hessian may be better.
SLOW_FRACTION = 0.3
# What a Newton step would still change of the loss is nothing then.
SMALL_DECREMENT = 1e-6


class FitError(ArithmeticError):
    """A fit has no result: says why."""


def fit_logistic(x: NDArray, y: Array, penalty: Array, start: Array | None = None) -> Array:
    """Coefficients minimising log-loss summed over rows + sum(penalty * coef**2) / 2.

    `x` `[row, d]`, its first column ones for an intercept (penalty 0), `y` 0/1 with both classes, `penalty` `[d]`.
    From `start`, or from the base rate alone. Newton's method, but the Hessian is most of the work: one is kept and
    corrected by what the steps since have met (L-BFGS from that Hessian; Nocedal & Wright 2006, "Numerical
    Optimization", 7.2) until two steps in a row bring the end hardly nearer. The end is the same. Raises FitError.
    """
    coef = np.zeros(x.shape[1])
    if start is None:
        coef[0] = logit(y.mean())
    else:
        coef[:] = start
    eta = np.asarray(x @ coef.astype(x.dtype), np.float64)
    loss, gradient = _loss(eta, y, coef, penalty), _gradient(x, eta, y, coef, penalty)
    factor, history, slow, before = None, [], 0, np.inf
    for _ in range(MAX_STEPS):
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            raise FitError(f"the loss of a logistic regression of {x.shape[0]} rows, {x.shape[1]} columns is {loss}")
        fresh = factor is None
        if not fresh:
            step = _corrected_step(factor, history, gradient)
            decrement = float(gradient @ step)
            slow = slow + 1 if decrement > SLOW_FRACTION * before else 0
        if fresh or slow == 2:
            p = expit(eta)
            root = np.sqrt(p * (1 - p)).astype(x.dtype)[:, None] * x
            hessian = np.asarray(root.T @ root, np.float64)
            hessian.flat[:: len(hessian) + 1] += penalty + 1e-6
            factor, failed = dpotrf(hessian.T, lower=True, overwrite_a=True)
            if failed:
                raise FitError(f"the Hessian of a logistic regression is not positive definite (column {failed - 1})")
            step = dpotrs(factor, gradient, lower=True)[0]
            decrement = float(gradient @ step)
            fresh, history, slow = True, [], 0
        # Another Newton step would change nothing then; one by a kept Hessian leaves a share, and is taken.
        near = decrement < SMALL_DECREMENT
        if near and fresh:
            return coef
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
            return coef
        new_gradient = _gradient(x, eta, y, coef, penalty)
        history.append((moved, new_gradient - gradient))
        gradient = new_gradient
    raise FitError(
        f"a logistic regression of {x.shape[0]} rows and {x.shape[1]} columns did not converge in {MAX_STEPS} steps "
        f"(what a step would change: {decrement:.2g} nats)"
    )


def _corrected_step(factor: Array, history: Sequence[tuple[Array, Array]], gradient: Array) -> Array:
    """A Newton step by a Hessian's Cholesky `factor`, corrected by how far was moved and how the gradient changed by
    that, oldest first: the two loops of L-BFGS."""
    pairs = [(moved, change, moved @ change) for moved, change in history if moved @ change > 0]
    step, shares = gradient.copy(), []
    for moved, change, curvature in reversed(pairs):
        shares.append(moved @ step / curvature)
        step -= shares[-1] * change
    step = dpotrs(factor, step, lower=True)[0]
    for (moved, change, curvature), share in zip(pairs, reversed(shares), strict=True):
        step += (share - change @ step / curvature) * moved
    return step


def _loss(eta: Array, y: Array, coef: Array, penalty: Array) -> float:
    return float(np.logaddexp(0.0, eta).sum() - y @ eta + 0.5 * (penalty * coef) @ coef)


def _gradient(x: NDArray, eta: Array, y: Array, coef: Array, penalty: Array) -> Array:
    return np.asarray(x.T @ (expit(eta) - y).astype(x.dtype), np.float64) + penalty * coef


def scaled(x: NDArray, folds: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """For each fold, all rows with columns scaled by the rows of the other folds (-1: of none); constant ones become
    0."""
    exact = x.astype(np.float64)
    train = ((folds != np.arange(folds.max() + 1)[:, None]) & (folds >= 0)).astype(np.float64)
    train /= train.sum(axis=1, keepdims=True)
    for mean, square in zip(train @ exact, train @ exact**2, strict=True):
        sd = np.sqrt(np.maximum(square - mean**2, 0.0))
        scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-6 * (np.abs(mean) + 1e-20))
        yield ((x - mean.astype(x.dtype)) * scale.astype(x.dtype)).astype(np.float32)


def design(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """[1, blocks], the columns of a fit."""
    return np.concatenate([np.ones((len(blocks[0]), 1), np.float32), *blocks], axis=1)


def penalty_vector(blocks: Sequence[NDArray], penalties: Sequence[float]) -> Array:
    return np.concatenate([[0.0], *(np.full(x.shape[1], p) for x, p in zip(blocks, penalties, strict=True))])


def logit(p: Array) -> Array:
    return np.log(p) - np.log1p(-p)


def log_loss_bits(eta: Array, y: Array) -> Array:
    """Log-loss of each row in bits, from logits."""
    return (np.logaddexp(0.0, eta) - y * eta) / np.log(2.0)
