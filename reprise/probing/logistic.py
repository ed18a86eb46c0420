"""Penalised logistic regression on rows that are grouped by fold, and its losses.

Conventions. `x` `[row, d]`, `y` 0/1 `[row]`, `folds` int `[row]` (-1: in no fold). A logit is the log-odds of y = 1.
Columns are scaled by the training rows only.

A fit that fails raises a FitError and never gives a wrong number. It fails if the Hessian is not positive definite, if
the loss is not finite, or if it does not converge in `MAX_STEPS` steps.

Degenerate input: a constant column becomes 0 and keeps the coefficient 0. If the classes are separable, the penalty
keeps coefficients finite. Without a penalty on the separating column, the fit raises a FitError.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs
from scipy.special import expit

Array = NDArray[np.float64]

MAX_STEPS = 200
# A step is slow if the Newton decrement after it is more than this fraction of the one before. A new Hessian may be
# better then.
SLOW_FRACTION = 0.5
# Below this Newton decrement, in nats, another step would not change the loss.
SMALL_DECREMENT = 1e-6
# Columns are float32, so a loss is known to about this many nats. A step that raises it by less is as good as another.
ROUNDING = 1e-4


class FitError(ArithmeticError):
    """A fit failed, with the reason."""


def fit_logistic(
    x: NDArray, y: Array, penalty: Array, start: Array | None = None, factor: Array | None = None
) -> Array:
    """Find the coefficients that minimise the log-loss summed over rows + sum(penalty * coef**2) / 2.

    This is Newton's method, but most of its time goes into the Hessian. So one Hessian is kept for several steps and
    corrected by their gradients (L-BFGS from that Hessian; Nocedal & Wright 2006, "Numerical Optimization", 7.2). A
    new one is computed after two slow steps in a row. The minimum is the same.

    Parameters
    ----------
    x : array `[row, d]`
        Columns. The first is all ones, for the intercept.
    y : float array `[row]`
        Labels, 0 or 1, with both classes.
    penalty : float array `[d]`
        L2 penalties; 0 for the intercept.
    start : float array `[d]`, optional
        Where the fit starts. By default the base rate alone.
    factor : float array `[d, d]`, optional
        `hessian_factor` of a similar fit, to begin with in place of this one's own. It does not change the minimum.

    Returns
    -------
    float array `[d]`
        Coefficients.

    Raises
    ------
    FitError
        If the fit fails: see the head of this module.
    """
    coef = np.zeros(x.shape[1])
    if start is None:
        coef[0] = logit(y.mean())
    else:
        coef[:] = start
    eta = np.asarray(x @ coef.astype(x.dtype), np.float64)
    loss, gradient = _loss(eta, y, coef, penalty), _gradient(x, eta, y, coef, penalty)
    history, slow, before = [], 0, np.inf
    for _ in range(MAX_STEPS):
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            raise FitError(f"the loss of a logistic regression of {x.shape[0]} rows, {x.shape[1]} columns is {loss}")
        fresh = factor is None
        if not fresh:
            step = _corrected_step(factor, history, gradient)
            decrement = float(gradient @ step)
            slow = slow + 1 if decrement > SLOW_FRACTION * before else 0
        if fresh or slow == 2:
            factor = _factor(x, eta, penalty)
            step = dpotrs(factor, gradient, lower=True)[0]
            decrement = float(gradient @ step)
            fresh, history, slow = True, [], 0
        # With a new Hessian, this step would change nothing. With a kept Hessian it is less exact, so it is still
        # taken.
        near = decrement < SMALL_DECREMENT
        if near and fresh:
            return coef
        size = 1.0
        while True:
            moved = -size * step
            new_eta = np.asarray(x @ (coef + moved).astype(x.dtype), np.float64)
            new_loss = _loss(new_eta, y, coef + moved, penalty)
            if new_loss <= loss + ROUNDING or size < 1e-3:
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
        f"(another step would change the loss by {decrement:.2g} nats)"
    )


def hessian_factor(x: NDArray, penalty: Array, coef: Array) -> Array:
    """Cholesky factor `[d, d]` of the Hessian at `coef`; parameters as in `fit_logistic`, which raises the same."""
    return _factor(x, np.asarray(x @ coef.astype(x.dtype), np.float64), penalty)


def _factor(x: NDArray, eta: Array, penalty: Array) -> Array:
    p = expit(eta)
    root = np.sqrt(p * (1 - p)).astype(x.dtype)[:, None] * x
    hessian = np.asarray(root.T @ root, np.float64)
    hessian.flat[:: len(hessian) + 1] += penalty + 1e-6
    factor, failed = dpotrf(hessian.T, lower=True, overwrite_a=True)
    if failed:
        raise FitError(f"the Hessian of a logistic regression is not positive definite (column {failed - 1})")
    return factor


def _corrected_step(factor: Array, history: Sequence[tuple[Array, Array]], gradient: Array) -> Array:
    """A Newton step with the Cholesky `factor` of a Hessian, corrected by the two loops of L-BFGS.

    history: the earlier steps, oldest first, each with the change of the gradient over it.
    """
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
    """For each fold, yield all rows, with columns standardised by the rows of the other folds.

    Rows of fold -1 are not used for this. Constant columns become 0.
    """
    exact = x.astype(np.float64)
    train = ((folds != np.arange(folds.max() + 1)[:, None]) & (folds >= 0)).astype(np.float64)
    train /= train.sum(axis=1, keepdims=True)
    for mean, square in zip(train @ exact, train @ exact**2, strict=True):
        sd = np.sqrt(np.maximum(square - mean**2, 0.0))
        scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-6 * (np.abs(mean) + 1e-20))
        yield ((x - mean.astype(x.dtype)) * scale.astype(x.dtype)).astype(np.float32)


def design(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The columns of a fit: ones for the intercept, then the blocks."""
    return np.concatenate([np.ones((len(blocks[0]), 1), np.float32), *blocks], axis=1)


def penalty_vector(blocks: Sequence[NDArray], penalties: Sequence[float]) -> Array:
    return np.concatenate([[0.0], *(np.full(x.shape[1], p) for x, p in zip(blocks, penalties, strict=True))])


def logit(p: Array) -> Array:
    return np.log(p) - np.log1p(-p)


def log_loss_bits(eta: Array, y: Array) -> Array:
    """Log-loss of each row in bits, from logits."""
    return (np.logaddexp(0.0, eta) - y * eta) / np.log(2.0)
