"""The smallest set of SAE latents of a layer whose removal takes the class difference out of the stream.

An SAE may split what the model carries over several latents, or carry it twice. A set that only has to *predict* the
class leaves out every latent that repeats what another one says, and then the edit leaves the plan in place. So the
set is judged by what remains: latents are taken in the order of their part in the class difference along the direction
that separates the classes, until a regression on the rest of the stream (x minus the latents' own parts) predicts the
class no better, within one standard error, than it does without more of them.

Conventions as in reprise/candidates/featurizers/data.py. SAE latents are CSR `[clip * position, d_sae]`, clip-major.
`decoder` is the SAE's W_dec, `[d_sae, d_model]`. All estimates of what remains are for prompts that neither the order
nor the regression saw.

Degenerate input: a class alone raises ValueError. If the whole stream predicts nothing, the set has the fewest
latents.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from reprise.candidates.featurizers.data import FitData, check_classes
from reprise.candidates.featurizers.directions import PENALTIES, held_out_logits, logistic_weights
from reprise.candidates.featurizers.sizes import N_FOLDS
from reprise.interventions.subspace import Subspace, of_latents
from reprise.probing.folds import prompt_folds
from reprise.probing.scores import auroc

Array = NDArray[np.float64]

# The sizes that are tried.
SIZES = tuple(range(1, 17))


def feature_set(
    data: FitData, latents: csr_matrix, decoder: NDArray[np.floating], *, seed: int, sizes: Sequence[int] = SIZES
) -> Subspace:
    """Find the set.

    Parameters
    ----------
    data : FitData
        The clips.
    latents : CSR matrix `[clip * position, d_sae]`
        Their SAE latents, at the same positions.
    decoder : array `[d_sae, d_model]`
        The SAE's decoder directions.
    seed : int
        Assigns prompts to folds.
    sizes : sequence of int
        The sizes that are tried, ascending.

    Returns
    -------
    Subspace
        The latents, those with the greatest part first.

    Raises
    ------
    ValueError
        If a class is missing, or no latent has a part in the difference.
    """
    check_classes(data.has_event, who="feature_set")
    z = clip_mean_latents(latents, data.could_plan)
    means, y = data.clip_means, data.has_event.astype(np.float64)
    order = latents_in_order(z, means, decoder, data.has_event, data.prompt, seed=seed)
    if not len(order):
        raise ValueError("feature_set: no latent has a part in the class difference; valid: latents that differ")
    folds, note = prompt_folds(y, np.unique(data.prompt, return_inverse=True)[1], N_FOLDS, seed)
    if note:
        return of_latents("feature_set", order[: min(sizes)])
    listed = [size for size in sizes if size <= len(order)] or [len(order)]
    left = remaining(z, means, decoder, data, folds, listed, seed=seed)
    # Below chance is chance.
    least = max(0.5, left.min()) + _auroc_error(data.has_event)
    return of_latents("feature_set", order[: listed[int(np.argmax(left <= least))]])


def clip_mean_latents(latents: csr_matrix, could_plan: NDArray[np.bool_]) -> Array:
    """Mean latents of each clip over its positions, float `[clip, d_sae]`, from CSR `[clip * position, d_sae]`."""
    n_clips, n_positions = could_plan.shape
    clip, position = np.nonzero(could_plan)
    weight = 1 / could_plan.sum(axis=1)[clip]
    pick = csr_matrix((weight, (clip, clip * n_positions + position)), shape=(n_clips, latents.shape[0]))
    return (pick @ latents).toarray()


def latents_in_order(
    z: Array,
    means: Array,
    decoder: NDArray[np.floating],
    has_event: NDArray[np.bool_],
    prompt: NDArray,
    *,
    seed: int,
) -> NDArray[np.intp]:
    """Latents by their part in the class difference, greatest first; those that work against it are left out.

    Parameters
    ----------
    z : array `[clip, d_sae]`
        Mean latents of each clip.
    means : array `[clip, d_model]`
        Mean stream of each clip.
    decoder : array `[d_sae, d_model]`
        The SAE's decoder directions.
    has_event, prompt : arrays `[clip]`
        Class and prompt of each clip.
    seed : int
        Assigns prompts to the folds of the regression that finds the separating direction.

    Returns
    -------
    int array
        Indices of latents.
    """
    along = logistic_weights(means, has_event, prompt, seed=seed)
    part = (z[has_event].mean(axis=0) - z[~has_event].mean(axis=0)) * (np.asarray(decoder, np.float64) @ along)
    order = np.argsort(-part, kind="stable")
    return order[part[order] > 0]


def remaining(
    z: Array,
    means: Array,
    decoder: NDArray[np.floating],
    data: FitData,
    folds: NDArray[np.int64],
    sizes: Sequence[int],
    *,
    seed: int,
) -> Array:
    """How well a regression predicts the class in held-out prompts from the stream without the first latents.

    Parameters
    ----------
    z, means, decoder
        As in `latents_in_order`.
    data : FitData
        Classes and prompts of the clips.
    folds : int array `[clip]`
        In each fold the latents are ordered, and the regression is fitted, on the clips of the other folds.
    sizes : sequence of int
        How many latents are left out.
    seed : int
        As in `latents_in_order`.

    Returns
    -------
    float array `[size]`
        AUROC, at the penalty that predicts best, so that what remains is not underestimated.
    """
    y = data.has_event.astype(np.float64)
    logits = np.empty((len(sizes), len(PENALTIES), len(y)))
    for fold in range(folds.max() + 1):
        train = folds != fold
        order = latents_in_order(z[train], means[train], decoder, data.has_event[train], data.prompt[train], seed=seed)
        for i, size in enumerate(sizes):
            rest = means - z[:, order[:size]] @ decoder[order[:size]]
            logits[i][:, ~train] = held_out_logits(rest, y, train)
    return np.array([max(auroc(row, y) for row in of_size) for of_size in logits])


def _auroc_error(has_event: NDArray[np.bool_]) -> float:
    """Standard error of an AUROC at chance (Mann & Whitney 1947)."""
    n1, n0 = int(has_event.sum()), int((~has_event).sum())
    return float(np.sqrt((n1 + n0 + 1) / (12 * n1 * n0)))
