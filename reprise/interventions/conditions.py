"""The table of edits to run: one row per clip and condition.

A condition says what is removed from one layer, at which positions and how much of it. z_j is the SAE's activation of
feature j at a position, z* its reference value and W_dec[j] its decoder direction:

    untouched          x
    resampled          x, but with other sampling noise after the prefix
    target             x - dose (z_j - z*) W_dec[j]                    j: the candidate feature
    matched_feature    the same with another active feature of that layer, matched on rate and edit norm
    random_direction   x - dose |z_j - z*| ||W_dec[j]|| r              r: a fixed unit vector, j: the candidate feature
    mean_difference    x - dose (v.x - reference) v                    v: a given unit vector
    local_feature      as matched_feature, with the strongest feature that predicts a return at a short horizon only
    steer              as target, in a clip that does not return: z* is the feature's value in clips that do
    steer_random       as random_direction, with the z* of steer

z* is 0, a mean, or the activation of the same feature at the same position of another clip, the donor (resampling).
The donor's activations come from its conditional pass. This also holds where the edit changes both cfg_branches of a
guided batch.

`resampled` guards against regression to the mean. Clips are chosen because they return. Any edit that sends the
sampling along another path therefore loses the returns that were luck, even if it does no damage. The returns that
`resampled` loses are this luck.

Windows. `until_event` edits every position up to the end of the row's target window, in which its return is expected.
This includes prefix and generated positions, and asks whether the feature is used. `prefix_only` edits the positions
before the end of the prefix. Their keys and values persist, and no position that chooses a frame of the continuation
is edited. This asks whether the plan is stored there. Position p chooses codebook 0 of frame p, so a window ends
before its `stop_position`: the prefix's length in frames, or the last frame of the target window + 1.

Degenerate input: no clips or no doses give an empty table.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

KINDS = (
    "untouched",
    "resampled",
    "target",
    "matched_feature",
    "random_direction",
    "mean_difference",
    "local_feature",
)
STEERING_KINDS = ("untouched", "steer", "steer_random")
UNEDITED = ("untouched", "resampled")
WINDOWS = ("until_event", "prefix_only")


class Candidate(NamedTuple):
    """A feature to test.

    layer, feature: indices. matched_features: features of the same layer that it is compared with. local_feature: the
    local control, None if there is none.
    """

    layer: int
    feature: int
    matched_features: tuple[int, ...] = ()
    local_feature: int | None = None


def condition_table(
    candidate: Candidate,
    clips: pd.DataFrame,
    doses: Sequence[float],
    windows: Sequence[str],
    kinds: Sequence[str],
    *,
    prefix_s: float,
    frame_rate_hz: float,
    n_random: int = 1,
    n_resampled: int = 1,
    z_star: Mapping[int, float] | None = None,
) -> pd.DataFrame:
    """Make the table of edits: one row per (clip, condition), with the conditions of a clip next to each other.

    Parameters
    ----------
    candidate : Candidate
        The feature to test and its controls.
    clips : DataFrame
        One row per clip with columns clip_id, prompt_id, prompt, seed, target_start_s and target_stop_s. Its return is
        expected to begin between the last two (onset +- tolerance, or a horizon counted from the prefix's end: see
        `reprise/interventions/effects.py`). A column donor, if present, names the clip whose activations are the
        reference. Other columns are copied.
    doses : sequence of float
        1 removes the feature. Dose 0 is kept if listed: its tokens must equal those of the untouched row.
    windows, kinds : sequence of str
        From `WINDOWS`, and from `KINDS` and `STEERING_KINDS`.
    prefix_s, frame_rate_hz : float
        Length of the prefix in seconds, and frames per second.
    n_random, n_resampled : int
        Number of random directions, and of resampled rows per clip.
    z_star : mapping, optional
        Reference activation by feature; 0 for features that are not listed.

    Returns
    -------
    DataFrame
        The columns of `clips`, and layer, feature (the candidate's), kind, window, control (number of the matched
        feature, random direction or resampling), dose, edit_feature (the feature that is read, -1 if none), z_star
        (NaN where a donor gives the reference), n_prefix_frames, stop_position (positions below it are edited) and
        condition, a name that is unique within the candidate. `untouched` has one row per clip and `resampled` has
        `n_resampled`, with window "none" and dose 0.

    Raises
    ------
    ValueError
        For an unknown kind or window, or a target window that does not lie after `prefix_s`.
    """
    for name, given, valid in (("kinds", kinds, (*KINDS, *STEERING_KINDS[1:])), ("windows", windows, WINDOWS)):
        if unknown := [g for g in given if g not in valid]:
            raise ValueError(f"condition_table: {name} has {unknown[0]!r}; valid: {', '.join(valid)}")
    start_s, stop_s = (clips[c].to_numpy(float) for c in ("target_start_s", "target_stop_s"))
    if len(wrong := np.flatnonzero(~((start_s >= prefix_s) & (stop_s >= start_s)))):
        i = int(wrong[0])
        raise ValueError(
            f"condition_table: clip {clips['clip_id'].iloc[i]} has the target window {start_s[i]:g}-{stop_s[i]:g} s; "
            f"valid: after the prefix of {prefix_s:g} s"
        )
    conditions = _conditions(candidate, doses, windows, kinds, n_random, n_resampled, dict(z_star or {}))
    columns = ["condition", "kind", "window", "control", "dose", "edit_feature", "z_star"]
    table = clips.merge(pd.DataFrame(conditions, columns=columns), how="cross")
    n_prefix = round(prefix_s * frame_rate_hz)
    event_stop = np.rint(table["target_stop_s"] * frame_rate_hz) + 1
    stop = {"none": 0, "prefix_only": n_prefix, "until_event": event_stop}
    table["layer"], table["feature"], table["n_prefix_frames"] = candidate.layer, candidate.feature, n_prefix
    table["stop_position"] = np.select([table["window"] == w for w in stop], list(stop.values()), 0).astype(np.int64)
    if "donor" in table:
        table["z_star"] = table["z_star"].mask(table["donor"].notna() & (table["edit_feature"] >= 0))
    return table.astype({"dose": float, "z_star": float})


def _conditions(
    candidate: Candidate,
    doses: Sequence[float],
    windows: Sequence[str],
    kinds: Sequence[str],
    n_random: int,
    n_resampled: int,
    reference: Mapping[int, float],
) -> list[tuple[str, str, str, int, float, int, float]]:
    """The conditions of one clip: condition, kind, window, control, dose, edit_feature and z_star of each."""
    edited = {
        "target": [candidate.feature],
        "matched_feature": list(candidate.matched_features),
        "random_direction": [candidate.feature] * n_random,
        "mean_difference": [-1],
        "local_feature": [] if candidate.local_feature is None else [candidate.local_feature],
        "steer": [candidate.feature],
        "steer_random": [candidate.feature] * n_random,
    }
    conditions: list[tuple[str, str, str, int, float, int, float]] = []
    for kind in (k for k in UNEDITED if k in kinds):
        for control in range(n_resampled if kind == "resampled" else 1):
            conditions.append((f"{kind}{control}", kind, "none", control, 0.0, -1, 0.0))
    for window in windows:
        for kind in (k for k in kinds if k not in UNEDITED):
            for control, feature in enumerate(edited[kind]):
                for dose in doses:
                    name = f"{kind}{control}-{window}-d{dose:g}"
                    conditions.append((name, kind, window, control, dose, feature, reference.get(feature, 0.0)))
    return conditions
