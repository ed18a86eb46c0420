"""What a candidate's edit is compared with, and the values that edits move to. Fitted on screened clips only.

Controls share as much as possible with the candidate. For SAE latents: other latents of the layer, matched on rate and
edit norm, that do not separate the classes themselves. For everything that is fitted with labels: the same fit on
labels exchanged between prompts, of the same kind and rank. Random subspaces need no fit
(reprise/interventions/subspace.py).

Classes are clips with and without an event, which no horizon defines. Clips of the confirmation prompts are never
read: effects are measured on them.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from reprise.candidates.featurizers.data import FitData, swapped
from reprise.candidates.featurizers.directions import leace, mean_difference, probe_direction
from reprise.candidates.featurizers.latent_sets import clip_mean_latents, feature_set
from reprise.candidates.featurizers.sizes import N_FOLDS
from reprise.interventions.subspace import Subspace, coordinates, of_latents, to_record
from reprise.probing.folds import prompt_folds
from reprise.probing.scores import auroc

if TYPE_CHECKING:
    from reprise.candidates.featurizers.das import Interchanges

# Kinds that are fitted with labels here.
FITTED = ("feature_set", "mean_difference", "probe", "leace", "das")
# A matched latent must not itself separate clips with an event from others: |AUROC - 0.5| is at most this.
MAX_CONTROL_AUROC_OFFSET = 0.1
# A control's fit may fail, or find a smaller set. So many exchanges of labels are tried for each control.
EXCHANGES_PER_CONTROL = 10


class LayerFit(NamedTuple):
    """The screened clips of one layer.

    data: their streams and classes. latents: their SAE latents, CSR `[clip * position, d_sae]`, decoder: the SAE's
    W_dec `[d_sae, d_model]`, and statistics: see `feature_statistics`; None without an SAE. interchanges: what `das`
    needs; None where the model is not loaded.
    """

    data: FitData
    latents: csr_matrix | None = None
    decoder: NDArray[np.floating] | None = None
    statistics: pd.DataFrame | None = None
    interchanges: "Interchanges | None" = None


def fit_layer(
    acts: NDArray[np.floating],
    could_plan: NDArray[np.bool_],
    has_event: NDArray[np.bool_],
    prompt: NDArray,
    *,
    fitted: NDArray[np.bool_],
    latents: csr_matrix | None = None,
    decoder: NDArray[np.floating] | None = None,
) -> LayerFit:
    """Gather what candidates of one layer are fitted on: the `fitted` clips only.

    Parameters
    ----------
    acts : float array `[clip, position, d_model]`
        The residual stream.
    could_plan : bool array `[clip, position]`
        Where a plan could be held: at least one position of each fitted clip.
    has_event, prompt, fitted : arrays `[clip]`
        Which clips have an event, their prompts, and which are used.
    latents : CSR matrix `[clip * position, d_sae]`, optional
        SAE latents, clip by clip.
    decoder : array `[d_sae, d_model]`, optional
        The SAE's decoder directions.

    Returns
    -------
    LayerFit
    """
    data = FitData(
        np.asarray(acts[fitted], np.float32),
        could_plan[fitted],
        np.asarray(has_event)[fitted],
        np.asarray(prompt)[fitted],
    )
    if latents is None or decoder is None:
        return LayerFit(data)
    mine = latents[np.repeat(fitted, could_plan.shape[1])]
    rows = data.could_plan
    statistics = feature_statistics(mine[rows.ravel()], np.nonzero(rows)[0], data.has_event)
    return LayerFit(data, mine, decoder, statistics)


def featurize(kind: str, fit: LayerFit, *, seed: int, rank: int | None = None) -> Subspace:
    """Fit a candidate of a kind that is fitted with labels.

    Parameters
    ----------
    kind : str
        One of `FITTED`.
    fit : LayerFit
        The screened clips.
    seed : int
        Assigns prompts to folds.
    rank : int, optional
        The size of a `feature_set`, which is found by default, or of a `das`, by default 1.

    Returns
    -------
    Subspace

    Raises
    ------
    ValueError
        If the clips do not allow a fit, or the kind needs an SAE or the model and there is none.
    """
    if kind == "das":
        if fit.interchanges is None:
            raise ValueError("das: needs the model; valid: a fit with interchanges")
        # This imports torch, which takes two seconds.
        from reprise.candidates.featurizers.das import das

        return das(fit.data, fit.interchanges, rank=rank or 1, seed=seed)
    if kind == "feature_set":
        if fit.latents is None or fit.decoder is None:
            raise ValueError("feature_set: needs an SAE; valid: a layer that has one")
        sizes = {} if rank is None else {"sizes": (rank,)}
        return feature_set(fit.data, fit.latents, fit.decoder, seed=seed, **sizes)
    if kind == "probe":
        return probe_direction(fit.data, seed=seed)
    return {"mean_difference": mean_difference, "leace": leace}[kind](fit.data)


def held_out_auroc(fit_to: Callable[[LayerFit], Subspace], fit: LayerFit, *, seed: int) -> float:
    """How well a kind of candidate separates the classes in screened prompts that it was not fitted on.

    Parameters
    ----------
    fit_to : callable
        Fits a candidate to some of the clips. For a candidate that was given, it returns that one.
    fit : LayerFit
        The screened clips.
    seed : int
        Assigns prompts to folds.

    Returns
    -------
    float
        AUROC of the coordinates, weighted by the class difference of the other folds. NaN if prompts cannot be split,
        or a fold has no fit.
    """
    data = fit.data
    folds, note = prompt_folds(
        data.has_event.astype(np.float64), np.unique(data.prompt, return_inverse=True)[1], N_FOLDS, seed
    )
    if note:
        return float("nan")
    score = np.empty(len(folds))
    for fold in range(folds.max() + 1):
        train = folds != fold
        try:
            subspace = fit_to(_some(fit, train))
        except ValueError:
            return float("nan")
        c = clip_coordinates(subspace, fit)
        with_, without = (c[train & (data.has_event == value)] for value in (True, False))
        weight = (with_.mean(axis=0) - without.mean(axis=0)) / np.maximum(c[train].var(axis=0), 1e-12)
        score[~train] = c[~train] @ weight
    return auroc(score, data.has_event.astype(np.float64))


def _some(fit: LayerFit, clips: NDArray[np.bool_]) -> LayerFit:
    """The fit on some of its clips."""
    d = fit.data
    data = FitData(d.x[clips], d.could_plan[clips], d.has_event[clips], d.prompt[clips])
    latents = None if fit.latents is None else fit.latents[np.repeat(clips, fit.data.could_plan.shape[1])]
    interchanges = None if fit.interchanges is None else fit.interchanges.some(clips)
    return LayerFit(data, latents, fit.decoder, interchanges=interchanges)


def clip_coordinates(subspace: Subspace, fit: LayerFit) -> NDArray[np.float64]:
    """Mean coordinates of each screened clip over its positions, `[clip, rank]`."""
    if not subspace.latents:
        return coordinates(subspace, fit.data.clip_means).astype(np.float64)
    if fit.latents is None:
        raise ValueError("clip_coordinates: latents need an SAE; valid: a layer that has one")
    return clip_mean_latents(fit.latents[:, list(subspace.latents)], fit.data.could_plan)


def edits_of(
    subspace: Subspace,
    fit: LayerFit,
    *,
    n_controls: int,
    local: int | None = None,
    seed: int,
    fits: Sequence[Subspace] | None = None,
) -> dict[str, dict[str, Subspace]]:
    """The candidate and its controls of the same kind and rank.

    Parameters
    ----------
    subspace : Subspace
        The candidate.
    fit : LayerFit
        The screened clips of its layer.
    n_controls : int
        Number of controls of each kind.
    local : int, optional
        The latent that predicts most at the local horizon only.
    seed : int
        Exchanges labels between prompts.
    fits : sequence of Subspace, optional
        Fits on exchanged labels (`swapped_fits`) that were made before.

    Returns
    -------
    dict
        By kind of condition (reprise/interventions/conditions.py), subspaces by name.

    Raises
    ------
    ValueError
        If a latent is never active, or labels that were exchanged allow too few fits of the candidate's rank.
    """
    found = {"target": {"target": subspace}}
    if subspace.latents:
        sets = matched_sets(subspace.latents, fit, n=n_controls)
        found["matched_feature"] = {f"matched_feature{i}": of_latents("matched", each) for i, each in enumerate(sets)}
        if local is not None and subspace.kind == "feature":
            found["local_feature"] = {"local_feature": of_latents("local", [local])}
    # What was found elsewhere cannot be fitted again.
    if subspace.kind in FITTED:
        fits = swapped_fits(subspace, fit, n=n_controls, seed=seed) if fits is None else fits
        found["swapped_fit"] = {f"swapped_fit{i}": each for i, each in enumerate(fits)}
    return found


def swapped_fits(
    subspace: Subspace, fit: LayerFit, *, n: int, seed: int, fit_to: Callable[[LayerFit], Subspace] | None = None
) -> list[Subspace]:
    """`n` subspaces of the candidate's kind and rank, each fitted on other labels exchanged between prompts.

    fit_to: fits the candidate's kind; by default `featurize`. Raises ValueError if too few exchanges allow such a fit.
    """
    fit_to = fit_to or partial(featurize, subspace.kind, seed=seed, rank=subspace.rank)
    found: list[Subspace] = []
    for i in range(n * EXCHANGES_PER_CONTROL):
        exchanged = fit._replace(data=swapped(fit.data, seed=seed + i))
        with suppress(ValueError):
            found.append(fit_to(exchanged))
        found = [each for each in found if each.rank == subspace.rank]
        if len(found) == n:
            return found
    raise ValueError(
        f"{subspace.kind}: {len(found)} of {n} controls of rank {subspace.rank} could be fitted on exchanged labels; "
        "valid: more clips, or a smaller candidate"
    )


def references_of(subspaces: Mapping[str, Subspace], fit: LayerFit) -> dict[str, dict[str, list[float]]]:
    """Coordinates to move to, by name of a subspace: `with` and `without` an event (class means), and `zero`."""
    found = {}
    for name, subspace in subspaces.items():
        c, has_event = clip_coordinates(subspace, fit), fit.data.has_event
        means = {
            "with": c[has_event].mean(axis=0),
            "without": c[~has_event].mean(axis=0),
            "zero": np.zeros(subspace.rank),
        }
        found[name] = {what: [round(float(v), 6) for v in mean] for what, mean in means.items()}
    return found


def matched_sets(latents: Sequence[int], fit: LayerFit, *, n: int) -> list[tuple[int, ...]]:
    """`n` sets of other latents, each member matched to a member of the candidate (`match_features`); none twice.

    Raises ValueError if a latent is never active, or there is no SAE.
    """
    if fit.statistics is None or fit.decoder is None:
        raise ValueError("matched_sets: needs an SAE; valid: a layer that has one")
    about = fit.statistics
    rate = about["rate"].to_numpy()
    norm = about["mean_activation"].to_numpy() * np.linalg.norm(fit.decoder, axis=1)
    telling = np.flatnonzero((about["auroc"] - 0.5).abs() > MAX_CONTROL_AUROC_OFFSET)
    taken = {*latents, *telling.tolist()}
    sets: list[tuple[int, ...]] = []
    for _ in range(n):
        mine: list[int] = []
        for latent in latents:
            match = match_features(latent, rate, norm, n=1, excluded=sorted(taken - {latent}))
            mine += match
            taken |= set(match)
        if len(mine) < len(latents):
            break
        sets.append(tuple(mine))
    return sets


def plain(edits: Mapping[str, Mapping[str, Subspace]]) -> dict[str, Any]:
    """`kinds` (names by kind of condition) and `subspaces` (records by name), for a candidate's specification."""
    return {
        "kinds": {kind: list(named) for kind, named in edits.items()},
        "subspaces": {name: to_record(each) for named in edits.values() for name, each in named.items()},
    }


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
