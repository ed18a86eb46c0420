"""Directions in the residual stream that separate clips with an event from the others: candidates of rank 1.

`mean_difference`: from the mean of the clips without an event to the mean of those with one.

`probe`: the weights of a regularised logistic regression on clip means. It may point elsewhere: it ignores what both
classes have in common, also where that hides the difference.

`leace`: the smallest change of the stream after which no linear function says which class a clip is of (least-squares
concept erasure: Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form"). With two classes it has
rank 1. It is an oblique projection: what is read and what is written are different directions. The closed form takes a
few lines here; tests compare it with the authors' package `concept-erasure`.

Conventions as in reprise/candidates/featurizers/data.py. Coordinates are 0 at the mean of all clips.

Degenerate input: one class alone, or equal class means, raise ValueError.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from reprise.candidates.featurizers.data import FitData, check_classes
from reprise.candidates.featurizers.sizes import N_FOLDS
from reprise.interventions.subspace import Subspace, linear
from reprise.probing.folds import prompt_folds
from reprise.probing.logistic import fit_logistic, log_loss_bits

Array = NDArray[np.float64]

# Inverse penalties that the probe chooses from, by the log-loss in prompts that it was not fitted on.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def mean_difference(data: FitData) -> Subspace:
    """The difference of the class means, as a unit vector. Raises ValueError: see the head of this module."""
    return linear("mean_difference", _unit(_class_difference(data.clip_means, data.has_event)), mean=data.mean)


def probe_direction(data: FitData, *, seed: int) -> Subspace:
    """The weights of a logistic regression on clip means, as a unit vector.

    Parameters
    ----------
    data : FitData
        The clips.
    seed : int
        Assigns prompts to the folds in which the penalty is chosen.

    Returns
    -------
    Subspace

    Raises
    ------
    ValueError
        See the head of this module.
    """
    check_classes(data.has_event, who="probe")
    return linear(
        "probe", _unit(logistic_weights(data.clip_means, data.has_event, data.prompt, seed=seed)), mean=data.mean
    )


def leace(data: FitData) -> Subspace:
    """The projection whose removal leaves no linear information on the class. Raises ValueError: see the head."""
    rows = data.x[data.could_plan].astype(np.float64)
    # A clip counts once, so rows are centred and weighted by clip.
    per_clip = data.could_plan.sum(axis=1)
    weight = np.repeat(1 / per_clip, per_clip)
    centred = rows - data.mean
    covariance, _ = ledoit_wolf(centred * np.sqrt(weight * len(rows) / weight.sum())[:, None], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = (vectors / np.sqrt(values)) @ vectors.T
    unwhiten = (vectors * np.sqrt(values)) @ vectors.T
    # The covariance of the stream with the class is a multiple of this.
    along = whiten @ _class_difference(data.clip_means, data.has_event)
    along /= np.linalg.norm(along)
    return linear("leace", along @ whiten, unwhiten @ along, mean=data.mean)


def logistic_weights(means: Array, has_event: NDArray[np.bool_], prompt: NDArray, *, seed: int) -> Array:
    """Weights of a regularised logistic regression.

    Parameters
    ----------
    means : array `[clip, d]`
        One row per clip.
    has_event, prompt : arrays `[clip]`
        Class and prompt of each clip.
    seed : int
        Assigns prompts to folds.

    Returns
    -------
    float array `[d]`
        Weights of the unscaled columns, at the penalty with the smallest log-loss in held-out prompts; at the
        strongest penalty if prompts cannot be split.
    """
    y = has_event.astype(np.float64)
    folds, note = prompt_folds(y, np.unique(prompt, return_inverse=True)[1], N_FOLDS, seed)
    best = 0
    if not note:
        logits = np.empty((len(PENALTIES), len(y)))
        for fold in range(folds.max() + 1):
            logits[:, folds == fold] = held_out_logits(means, y, folds != fold)
        best = int(np.argmin([np.mean(log_loss_bits(row, y)) for row in logits]))
    everything = np.ones(len(y), bool)
    x, scale = _scaled(means, everything)
    return _coefficients(x, y, everything)[best][1:] / scale


def held_out_logits(means: Array, y: Array, train: NDArray[np.bool_]) -> Array:
    """Log-odds of the clips outside `train` `[clip]`, from regressions on those inside: `[penalty, held-out clip]`."""
    x, _ = _scaled(means, train)
    return np.stack([x[~train] @ coef for coef in _coefficients(x, y, train)])


def _scaled(means: Array, train: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Ones and the columns, standardised over `train`: `[clip, 1 + d]`; and the columns' scales."""
    scale = means[train].std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    return np.column_stack([np.ones(len(means)), (means - means[train].mean(axis=0)) / scale]), scale


def _coefficients(x: Array, y: Array, train: NDArray[np.bool_]) -> list[Array]:
    """Coefficients `[1 + d]` for each penalty. Each fit starts from the one before."""
    found: list[Array] = []
    for inverse in PENALTIES:
        penalty = np.r_[0.0, np.full(x.shape[1] - 1, 1 / inverse)]
        found.append(fit_logistic(x[train], y[train], penalty, found[-1] if found else None))
    return found


def _class_difference(means: Array, has_event: NDArray[np.bool_]) -> Array:
    check_classes(has_event, who="mean_difference")
    return means[has_event].mean(axis=0) - means[~has_event].mean(axis=0)


def _unit(v: Array) -> Array:
    norm = np.linalg.norm(v)
    if not norm > 0:
        raise ValueError(
            "mean_difference: the class means are equal, so there is no direction; valid: different means"
        )
    return v / norm
