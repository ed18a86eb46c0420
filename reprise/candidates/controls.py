"""What a candidate's edit is compared with, fitted on screened clips only: matched features, the mean difference,
reference values and the level of steering.

Controls are matched on whether clips have an event, which no horizon defines. Clips of the confirmation prompts are
never read: effects are measured on them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

# A control must not itself separate clips with an event from others: |AUROC - 0.5| is at most this.
MAX_CONTROL_AUROC_OFFSET = 0.1


def activation_when_active(latents: csr_matrix, feature: int) -> float:
    """Mean activation of a feature over the rows of `latents` `[row, d_sae]` in which it is active; 0 if there are
    none."""
    values = latents[:, [feature]].data
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0


def feature_statistics(latents: csr_matrix, clip_of_row: np.ndarray, has_event: np.ndarray) -> pd.DataFrame:
    """Rate, mean activation where active, and AUROC of clips with an event, of every feature.

    Parameters
    ----------
    latents : CSR matrix `[row, d_sae]`
        Rows are positions.
    clip_of_row : int array `[row]`
        Index of each row's clip in `has_event`.
    has_event : bool array `[clip]`
        Whether the clip has an event.

    Returns
    -------
    DataFrame
        rate (fraction of rows active), mean_activation (0 if never active), auroc (of a clip's mean activation against
        whether it has an event; 0.5 if one class is missing).
    """
    n_rows, n_features = latents.shape
    active = np.asarray((latents > 0).sum(axis=0)).ravel()
    total = np.asarray(latents.sum(axis=0)).ravel()
    by_clip = csr_matrix((np.ones(n_rows), (clip_of_row, np.arange(n_rows))), shape=(len(has_event), n_rows)) @ latents
    ranks = rankdata(by_clip.toarray(), axis=0)
    n1 = int(has_event.sum())
    n0 = len(has_event) - n1
    auroc = np.full(n_features, 0.5)
    if n1 and n0:
        auroc = (ranks[has_event].sum(axis=0) - n1 * (n1 + 1) / 2) / (n1 * n0)
    mean = np.divide(total, active, out=np.zeros(n_features), where=active > 0)
    return pd.DataFrame({"rate": active / n_rows, "mean_activation": mean, "auroc": auroc})


class LayerFit(NamedTuple):
    """What is fitted for one layer on the clips of screened prompts, at the positions where a plan could be held.

    latents: CSR `[row, d_sae]`, one row per such position. with_event: whether its clip has an event, bool `[row]`.
    statistics: see `feature_statistics`. direction, reference: see `mean_difference`.
    """

    latents: csr_matrix
    with_event: np.ndarray
    statistics: pd.DataFrame
    direction: np.ndarray
    reference: float


def fit_layer(
    latents: csr_matrix, acts: np.ndarray, could_plan: np.ndarray, *, has_event: np.ndarray, fitted: np.ndarray
) -> LayerFit:
    """Fit the controls and directions of one layer, on the `fitted` clips only.

    The other clips are never read, because effects are measured on them.

    Parameters
    ----------
    latents : CSR matrix `[clip * position, d_sae]`
        SAE latents, clip by clip.
    acts : float array `[clip, position, d_model]`
        The residual stream.
    could_plan : bool array `[clip, position]`
        Where a plan could be held: at least one position of each fitted clip.
    has_event, fitted : bool arrays `[clip]`
        Which clips have an event, and which are used.

    Returns
    -------
    LayerFit

    Raises
    ------
    ValueError
        As `mean_difference` does.
    """
    rows = could_plan & fitted[:, None]
    clip_of_row = np.nonzero(rows[fitted])[0]
    mine, has_event = latents[rows.ravel()], has_event[fitted]
    means = acts[fitted].astype(np.float64).mean(axis=1, where=could_plan[fitted][..., None])
    direction, reference = mean_difference(means[has_event], means[~has_event])
    return LayerFit(
        mine, has_event[clip_of_row], feature_statistics(mine, clip_of_row, has_event), direction, reference
    )


def fit_edits(
    fit: LayerFit, feature: int, decoder_norm: np.ndarray, *, n_matched: int, local: int | None, target: str
) -> dict[str, Any]:
    """The fitted part of a candidate's specification: matched features, reference values, steering level and the mean
    difference.

    Parameters
    ----------
    fit : LayerFit
        The fit of the layer.
    feature : int
        The candidate.
    decoder_norm : array `[d_sae]`
        Norms of the decoder directions.
    n_matched : int
        Number of matched features.
    local : int or None
        The local control.
    target : str
        The study's `ablation.target`.

    Returns
    -------
    dict
        Plain builtins.

    Raises
    ------
    ValueError
        If the feature is never active.
    """
    about = fit.statistics
    telling = np.flatnonzero((about["auroc"] - 0.5).abs() > MAX_CONTROL_AUROC_OFFSET)
    matched = match_features(
        feature,
        about["rate"].to_numpy(),
        about["mean_activation"].to_numpy() * decoder_norm,
        n=n_matched,
        excluded=telling[telling != feature].tolist(),
    )
    z_star = {}
    if target == "mean":
        read = [feature, *matched, *([] if local is None else [local])]
        means = np.ravel(fit.latents[:, read].mean(axis=0))
        z_star = {str(j): round(float(mean), 6) for j, mean in zip(read, means, strict=True)}
    return {
        "matched_features": list(matched),
        "local_feature": local,
        "z_star": z_star,
        "steer_z_star": round(activation_when_active(fit.latents[fit.with_event], feature), 6),
        "mean_difference": [round(float(v), 6) for v in fit.direction],
        "mean_difference_reference": round(fit.reference, 6),
    }


def match_features(
    feature: int,
    rate: np.ndarray,
    edit_norm: np.ndarray,
    *,
    n: int,
    excluded: Sequence[int] = (),
    min_rate: float = 1e-3,
) -> tuple[int, ...]:
    """The `n` features most like `feature` in how often and how strongly an edit of them acts.

    Distance is Euclidean in (log rate, log norm); ties go to the lower index.

    Parameters
    ----------
    feature : int
        The candidate.
    rate : array `[d_sae]`
        Fraction of positions at which a feature is active.
    edit_norm : array `[d_sae]`
        Mean |z - z*| ||W_dec|| where the feature is active.
    n : int
        Number of features.
    excluded : sequence of int
        Features that are never picked (for example other candidates).
    min_rate : float
        Features with a lower rate are never picked.

    Returns
    -------
    tuple of int
        Fewer than `n` if not enough features are left.

    Raises
    ------
    ValueError
        If `feature` itself is never active.
    """
    usable = (rate >= min_rate) & (edit_norm > 0)
    usable[[feature, *excluded]] = False
    if not (rate[feature] > 0 and edit_norm[feature] > 0):
        raise ValueError(f"match_features: feature {feature} is never active; valid: a feature that is active")
    others = np.flatnonzero(usable)
    gap = np.hypot(np.log(rate[others] / rate[feature]), np.log(edit_norm[others] / edit_norm[feature]))
    return tuple(int(j) for j in others[np.argsort(gap, kind="stable")[:n]])


def mean_difference(with_event: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float]:
    """The direction from clips that do not return to clips that do.

    Parameters
    ----------
    with_event, other : float arrays `[clip, d_model]`
        A clip's mean activation before its event (or before the same time).

    Returns
    -------
    direction : float32 array `[d_model]`
        A unit vector.
    reference : float
        The projection of the mean of the clips without an event. Dose 1 moves a position to it.

    Raises
    ------
    ValueError
        If a side is empty or the means are equal.
    """
    if len(with_event) == 0 or len(other) == 0:
        raise ValueError(
            f"mean_difference: {len(with_event)} clips with an event and {len(other)} others; valid: at least one each"
        )
    mean = other.mean(axis=0, dtype=np.float64)
    v = with_event.mean(axis=0, dtype=np.float64) - mean
    norm = np.linalg.norm(v)
    if not norm > 0:
        raise ValueError("mean_difference: the two means are equal, so there is no direction; valid: different means")
    return (v / norm).astype(np.float32), float(v @ mean / norm)
