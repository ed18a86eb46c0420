"""From screens to candidates: which features are tested, on which clips, against which controls.

Everything that an ablation depends on is decided here without looking at a horizon, so that a changed horizon that
leads to the same features generates nothing again: whether a clip returns is a property of its continuation after
the prefix, controls are matched on that, and clips, also the donors of resampling and those that are steered, are
taken in the order of a hash of their names. The one control that a horizon defines, the strongest local feature, is
a feature like the candidate: it is part of what an ablation is.

Degenerate input: no accepted return after the prefix gives no clips, and so no candidates; no feature that is local
alone gives no such control; a clip without another to donate is not continued.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from reprise.identity import stable_fraction

# A control must not tell returning clips from others itself: |AUROC - 0.5| at most this.
MAX_CONTROL_AUROC_OFFSET = 0.1


def returning(
    events: pd.DataFrame, clip_ids: pd.Series, *, start_s: float, stop_s: float, which: str = "accepted"
) -> np.ndarray:
    """Which clips have an accepted event (or one of the column `which`) with its onset in `[start_s, stop_s]`:
    bool `[clip]`."""
    inside = events[which].astype(bool) & events["onset_s"].between(start_s, stop_s)
    return clip_ids.isin(events.loc[inside, "clip_id"]).to_numpy()


def motif_of_return(
    events: pd.DataFrame, clip_ids: pd.Series, *, start_s: float, stop_s: float, prefix_s: float
) -> pd.DataFrame:
    """The motif of each clip's first accepted event with its onset in `[start_s, stop_s]` and its motif in the prefix:
    columns clip_id, motif_start_s, motif_duration_s, in the order of `clip_ids`; clips without one are left out."""
    motif_end_s = events["motif_start_s"] + events["motif_duration_s"]
    inside = events["accepted"].astype(bool) & events["onset_s"].between(start_s, stop_s) & (motif_end_s <= prefix_s)
    first = events[inside].sort_values("onset_s", kind="stable").drop_duplicates("clip_id").set_index("clip_id")
    kept = clip_ids[clip_ids.isin(first.index)]
    return first.loc[kept, ["motif_start_s", "motif_duration_s"]].reset_index()


def clips_to_continue(clips: pd.DataFrame, wanted: np.ndarray, confirmation_clips: np.ndarray, n: int) -> pd.DataFrame:
    """Up to `n` of the `wanted` clips (bool `[clip]`) of held-out prompts, in the order of a hash of their names."""
    chosen = clips[wanted & confirmation_clips]
    order = chosen["clip_id"].map(lambda c: stable_fraction(f"ablation {c}")).argsort(kind="stable")
    return chosen.iloc[order].head(n).sort_values("clip_id", ignore_index=True)


def motif_before(clip_ids: pd.Series, ends_s: np.ndarray, *, duration_s: float, prefix_s: float) -> pd.DataFrame:
    """The motif of each clip, whether it returns or not: columns clip_id, motif_start_s, motif_duration_s.

    ends_s: when each clip's motif has ended `[clip]`, NaN where that is unknown. Clips whose motif is unknown or ends
    after `prefix_s` are left out. A motif with its ends on beats may have begun up to half a beat beside this start.
    """
    start_s = np.maximum(ends_s - duration_s, 0.0)
    table = pd.DataFrame({"clip_id": clip_ids, "motif_start_s": start_s, "motif_duration_s": ends_s - start_s})
    return table[ends_s <= prefix_s].reset_index(drop=True)


def donors(continued: pd.DataFrame, clips: pd.DataFrame, eligible: np.ndarray) -> list[str | None]:
    """For each continued clip the clip whose activations it is given: an eligible one (bool `[clip]`) of another
    prompt, None where there is none.

    Both tables have clip_id and prompt_id. Of all eligible clips it is the one with the least hash of both names, so
    neither order nor the presence of other clips matters, unless a new one wins.
    """
    chosen: list[str | None] = []
    for clip in continued.itertuples():
        others = clips.loc[eligible & (clips["prompt_id"] != clip.prompt_id), "clip_id"]
        chosen.append(min(others, key=lambda other: stable_fraction(f"donor {clip.clip_id} {other}"), default=None))
    return chosen


def rank_features(screens: pd.DataFrame, *, fdr: float, horizons: list[str]) -> pd.DataFrame:
    """Features that a longer horizon singles out, best first: one row a (layer, feature), its strongest horizon.

    screens: all screens joined, with q over the whole family. Kept are features that are *more* active before a
    return (z > 0: removing one should remove it) with q <= fdr in one of `horizons`.
    """
    found = screens[screens["horizon"].isin(horizons) & (screens["q"] <= fdr) & (screens["z"] > 0)]
    found = found.sort_values(["z", "layer", "feature"], ascending=[False, True, True], kind="stable")
    return found.drop_duplicates(["layer", "feature"]).reset_index(drop=True)


def strongest_local_feature(
    screens: pd.DataFrame, *, layer: int, excluded: int, fdr: float, local: str, longer: list[str]
) -> int | None:
    """The feature of a layer that the local horizon singles out most, as `rank_features` does, and no longer horizon
    does in either direction; None where there is none. excluded: the candidate, which is never taken."""
    found = screens[(screens["layer"] == layer) & (screens["q"] <= fdr) & (screens["feature"] != excluded)]
    far = found.loc[found["horizon"].isin(longer), "feature"]
    near = found[(found["horizon"] == local) & (found["z"] > 0) & ~found["feature"].isin(far)]
    near = near.sort_values(["z", "feature"], ascending=[False, True], kind="stable")
    return None if near.empty else int(near["feature"].iloc[0])


def activation_when_active(latents: csr_matrix, feature: int) -> float:
    """Mean of a feature's activation over the rows of `latents` `[row, d_sae]` in which it is active; 0 if in none."""
    values = latents[:, [feature]].data
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0


def feature_statistics(latents: csr_matrix, clip_of_row: np.ndarray, returns: np.ndarray) -> pd.DataFrame:
    """Rate, mean activation where active, and AUROC of returning clips of every feature.

    latents: CSR `[row, d_sae]`, rows are positions; clip_of_row `[row]` indexes `returns` `[clip]`.
    Columns: rate (share of rows active), mean_activation (0 if never active), auroc (of a clip's mean activation
    against whether it returns; 0.5 where one class is missing).
    """
    n_rows, n_features = latents.shape
    active = np.asarray((latents > 0).sum(axis=0)).ravel()
    total = np.asarray(latents.sum(axis=0)).ravel()
    by_clip = csr_matrix((np.ones(n_rows), (clip_of_row, np.arange(n_rows))), shape=(len(returns), n_rows)) @ latents
    ranks = rankdata(by_clip.toarray(), axis=0)
    n1 = int(returns.sum())
    n0 = len(returns) - n1
    auroc = np.full(n_features, 0.5)
    if n1 and n0:
        auroc = (ranks[returns].sum(axis=0) - n1 * (n1 + 1) / 2) / (n1 * n0)
    mean = np.divide(total, active, out=np.zeros(n_features), where=active > 0)
    return pd.DataFrame({"rate": active / n_rows, "mean_activation": mean, "auroc": auroc})


class LayerFit(NamedTuple):
    """What the screened prompts' clips say of one layer, at the positions where a plan could be held.

    latents: CSR `[row, d_sae]`, a row per such position; returning: whether its clip returns, bool `[row]`.
    statistics: as `feature_statistics` gives. direction, reference: as `mean_difference` gives.
    """

    latents: csr_matrix
    returning: np.ndarray
    statistics: pd.DataFrame
    direction: np.ndarray
    reference: float


def fit_layer(
    latents: csr_matrix, acts: np.ndarray, could_plan: np.ndarray, *, returns: np.ndarray, fitted: np.ndarray
) -> LayerFit:
    """Fit what the edits of one layer are compared with, on the `fitted` clips alone.

    latents: CSR `[clip * position, d_sae]`, clip by clip; acts: float `[clip, position, d_model]`; could_plan: bool
    `[clip, position]`, at least one of each fitted clip; returns, fitted: bool `[clip]`. Other clips are never read:
    effects are measured on them. Raises ValueError as `mean_difference` does.
    """
    rows = could_plan & fitted[:, None]
    clip_of_row = np.nonzero(rows[fitted])[0]
    mine, returns = latents[rows.ravel()], returns[fitted]
    means = acts[fitted].astype(np.float64).mean(axis=1, where=could_plan[fitted][..., None])
    direction, reference = mean_difference(means[returns], means[~returns])
    return LayerFit(mine, returns[clip_of_row], feature_statistics(mine, clip_of_row, returns), direction, reference)


def fit_edits(
    fit: LayerFit, feature: int, decoder_norm: np.ndarray, *, n_matched: int, local: int | None, target: str
) -> dict[str, Any]:
    """The part of a candidate's specification that is fitted: matched features, reference values, steering level and
    the mean difference.

    decoder_norm: `[d_sae]`. local: the local control, if there is one. target: `ablation.target`.
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
        "steer_z_star": round(activation_when_active(fit.latents[fit.returning], feature), 6),
        "mean_difference": [round(float(v), 6) for v in fit.direction],
        "mean_difference_reference": round(fit.reference, 6),
    }


def candidate_name(spec: dict[str, Any]) -> str:
    """Name of an ablation by what it is: layer2-f117-1a2b3c4d. Equal specifications have equal names."""
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
    return f"layer{spec['layer']}-f{spec['feature']}-{digest}"


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

    rate: share of positions at which a feature is active, `[d_sae]`. edit_norm: its mean |z - z*| ||W_dec|| where it
    is active, `[d_sae]`. Distance is Euclidean in (log rate, log norm); ties go to the lower index. Features in
    `excluded` (other candidates, say) and those below `min_rate` are never picked: fewer than `n` may be left.
    Raises ValueError when `feature` itself is never active.
    """
    usable = (rate >= min_rate) & (edit_norm > 0)
    usable[[feature, *excluded]] = False
    if not (rate[feature] > 0 and edit_norm[feature] > 0):
        raise ValueError(f"match_features: feature {feature} is never active; a candidate must be")
    others = np.flatnonzero(usable)
    gap = np.hypot(np.log(rate[others] / rate[feature]), np.log(edit_norm[others] / edit_norm[feature]))
    return tuple(int(j) for j in others[np.argsort(gap, kind="stable")[:n]])


def mean_difference(returning: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float]:
    """The direction from clips that do not return to clips that do: a unit vector float32 `[d_model]`, and where the
    clips that do not return lie on it.

    returning, other: float `[clip, d_model]`, a clip's mean activation before its event (or before the same time).
    Dose 1 moves a position to the projection of the clips that do not return. Raises ValueError when a side is empty
    or the means are equal.
    """
    if len(returning) == 0 or len(other) == 0:
        raise ValueError(f"mean_difference: {len(returning)} returning clips and {len(other)} others; both are needed")
    mean = other.mean(axis=0, dtype=np.float64)
    v = returning.mean(axis=0, dtype=np.float64) - mean
    norm = np.linalg.norm(v)
    if not norm > 0:
        raise ValueError("mean_difference: the two means are equal; there is no direction between them")
    return (v / norm).astype(np.float32), float(v @ mean / norm)
