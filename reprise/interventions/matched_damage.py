"""The effects of edits at equal damage: how much more a candidate does to the event than its controls.

Each control of a candidate has a curve from damage to effect over doses, through the origin. It answers: at the damage
that the target does, what would this control have done to the event? Selectivity is the target's effect minus the
largest of these. See `matched_damage`. Effect and damage of a clip: reprise/interventions/effects.py.

Intervals are over prompts. They also hold at the edges, where all clips or none change (reprise/statistics.py).

Degenerate input: a condition without clips is not in the table; without controls the selectivity is NaN.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprise.statistics import bounded_interval, ratio_interval, share_interval

Array = NDArray[np.float64]

# A candidate's effect must exceed that of each of these.
CONTROLS = ("resampled", "matched_feature", "swapped_fit", "random_subspace")
# Judged like the target, not used as a control: `local_feature` may hold a part of the plan.
COMPARATORS = ("local_feature",)
# Damage is counted up to this bound: a clip whose tokens cost this much more is wrecked, and how far beyond does not
# matter. An interval for a mean needs such a bound, since otherwise one clip in a hundred could have any damage.
MAX_DAMAGE_NATS = 1.0
WRECKED = (-MAX_DAMAGE_NATS, MAX_DAMAGE_NATS)


def dose_mix(damage: Array, effect: Array, at: float) -> Array:
    """Mix the doses of a control to reach a given damage.

    The mixed effect, weights @ effect, is the largest that the control reaches without doing more damage. It is
    interpolated linearly to the next such point: doses in order of damage, the running maximum of their effects,
    starting at the origin. Damage below 0 counts as 0. Beyond the control's largest damage its largest effect is used,
    without extrapolation. All of this favours the control.

    Parameters
    ----------
    damage, effect : arrays `[dose]`
        Mean damage (nats per token) and mean effect of each dose.
    at : float
        The damage to reach, in nats per token.

    Returns
    -------
    float array `[dose]`
        Weights of the doses. All are 0 for the untouched clip, and NaN if any input is.
    """
    if np.isnan(damage).any() or np.isnan(effect).any() or np.isnan(at):
        return np.full(len(damage), np.nan)
    damage, at = np.maximum(damage, 0.0), max(at, 0.0)
    order = np.argsort(damage, kind="stable")
    x = np.concatenate([[0.0], damage[order]])
    # The dose that holds the running maximum at each point; -1: the origin.
    best, highest = [-1], 0.0
    for dose in order:
        rises = effect[dose] > highest
        best.append(int(dose) if rises else best[-1])
        highest = max(highest, float(effect[dose]))
    left = int((x <= at).sum()) - 1
    right = min(left + 1, len(x) - 1)
    width = x[right] - x[left]
    share = (at - x[left]) / width if width > 0 else 0.0
    weights = np.zeros(len(damage))
    for point, weight in ((left, 1 - share), (right, share)):
        if best[point] >= 0:
            weights[best[point]] += weight
    return weights


def matched_damage(effects: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Effect, damage and selectivity of every condition, one flat row each.

    Parameters
    ----------
    effects : DataFrame
        Of one candidate, one row per (clip, condition) with kind, window, control, dose, prompt_id, clip_id,
        effect_rate (0 or 1: only clips whose untouched continuation has an event) and damage_nats. Only rows of the
        `arm` "necessity" are used, if that column is present. Each window uses its own conditions and the unedited
        kinds (window "none", listed with every window).
    level : float
        Level of the intervals over prompts. 1 - 0.05 / n covers n candidates together.

    Returns
    -------
    DataFrame
        window, kind, control, dose, n_clips, n_prompts, and value, `_low` and `_high` of effect and damage. `target`,
        `second_target` and the comparators also have, at the damage of that row: `<kind>_effect` of each kind of
        control (the largest over its features or directions), `control_effect` (the largest of all),
        `strongest_control`, and `selectivity` = effect - control_effect with its interval. `target` edited in the
        prefix only also has `stored_fraction`, its effect divided by that of the same dose until the event, with its
        interval.

    Raises
    ------
    ValueError
        For an effect outside 0 to 1, or a condition that a clip has twice.

    Notes
    -----
    `resampled` counts as a control that does no damage: an edit gets no credit for what fresh sampling noise loses by
    itself. The selectivity is the smallest of the differences to each control (`smallest`).
    """
    rows = []
    if "arm" in effects:
        effects = effects[effects["arm"] == "necessity"]
    effects = effects.assign(damage_nats=effects["damage_nats"].clip(-MAX_DAMAGE_NATS, MAX_DAMAGE_NATS))
    by_window = {
        window: _conditions(effects[effects["window"].isin([window, "none"])])
        for window in effects["window"].unique()
        if window != "none"
    }
    prompt_of = effects.drop_duplicates("clip_id").set_index("clip_id")["prompt_id"]
    for window, conditions in by_window.items():
        for (kind, control, dose), clips in conditions.items():
            prompts = prompt_of[clips.index].to_numpy()
            record = {"window": window, "kind": kind, "control": control, "dose": dose}
            record |= {"n_clips": len(clips), "n_prompts": len(np.unique(prompts))}
            record |= valued("effect", clips["effect"], share_interval(clips["effect"], prompts, level))
            ends = bounded_interval(clips["damage"], prompts, WRECKED, level)
            record |= valued("damage", clips["damage"], ends)
            if window == "until_event" and kind in ("target", "second_target", *COMPARATORS):
                record |= _selectivity(clips, conditions, prompt_of, level)
            if kind == "target" and window == "prefix_only":
                whole = by_window.get("until_event", {}).get((kind, control, dose))
                record |= _stored_fraction(clips, whole, prompt_of, level)
            rows.append(record)
    return pd.DataFrame(rows)


Condition = tuple[str, int, float]


def _conditions(part: pd.DataFrame) -> dict[Condition, pd.DataFrame]:
    """The clips of each (kind, control, dose): `effect` and `damage` by clip_id, where both are known."""
    known = part.dropna(subset=["effect_rate", "damage_nats"])
    twice = known.duplicated(["clip_id", "kind", "control", "dose"])
    if twice.any():
        row = known[twice].iloc[0]
        name = f"{row['kind']}{row['control']} at dose {row['dose']:g}"
        raise ValueError(f"matched_damage: clip {row['clip_id']} has {name} twice; valid: one row per condition")
    known = known.rename(columns={"effect_rate": "effect", "damage_nats": "damage"})
    return {
        (str(kind), int(control), float(dose)): rows.set_index("clip_id")[["effect", "damage"]].sort_index()
        for (kind, control, dose), rows in known.groupby(["kind", "control", "dose"], sort=True)
    }


def _selectivity(
    clips: pd.DataFrame, conditions: Mapping[Condition, pd.DataFrame], prompt_of: pd.Series, level: float
) -> dict[str, float | str]:
    """How much more the clips of a condition lose than under each control at equal damage."""
    at, effects, excess = float(clips["damage"].mean()), {}, {}
    controls = sorted({key[:2] for key in conditions if key[0] in CONTROLS})
    for name in controls:
        doses = [c for key, c in conditions.items() if key[:2] == name]
        damage = np.array([0.0 if name[0] == "resampled" else c["damage"].mean() for c in doses])
        weights = dose_mix(damage, np.array([c["effect"].mean() for c in doses]), at)
        control = sum(weight * c["effect"] for weight, c in zip(weights, doses, strict=True))
        more = (clips["effect"] - control).dropna()
        effects[name], excess[name] = float((clips["effect"] - more).mean()), more
    record: dict[str, float | str] = {}
    for kind in CONTROLS:
        record[f"{kind}_effect"] = max((e for name, e in effects.items() if name[0] == kind), default=math.nan)
    if not controls:
        nothing = dict.fromkeys(("control_effect", "selectivity", "selectivity_low", "selectivity_high"), math.nan)
        return record | nothing | {"strongest_control": ""}
    strongest = max(controls, key=lambda name: effects[name])
    record |= {"control_effect": effects[strongest], "strongest_control": f"{strongest[0]}{strongest[1]}"}
    return record | smallest("selectivity", [excess[name] for name in controls], prompt_of, level)


def smallest(name: str, differences: Sequence[pd.Series], prompt_of: pd.Series, level: float) -> dict[str, float]:
    """The smallest of several mean differences, as fields `<name>`, `<name>_low` and `<name>_high`.

    Its interval runs from their smallest lower end to their smallest upper end. The upper ends are computed at level
    1 - (1 - level) / number of differences, because the smallest of several is too low more often than a single one.

    Parameters
    ----------
    name : str
        Of the fields.
    differences : sequence of Series
        Each by clip_id, with values from -1 to 1. One at least.
    prompt_of : Series
        The prompt of each clip_id.
    level : float
        Level of the interval.
    """
    prompts = [prompt_of[each.index] for each in differences]
    at_once = 1 - (1 - level) / len(differences)
    pairs = list(zip(differences, prompts, strict=True))
    return {
        name: float(np.min([each.mean() for each in differences])),
        f"{name}_low": float(np.min([bounded_interval(*pair, (-1.0, 1.0), level)[0] for pair in pairs])),
        f"{name}_high": float(np.min([bounded_interval(*pair, (-1.0, 1.0), at_once)[1] for pair in pairs])),
    }


def _stored_fraction(
    prefix: pd.DataFrame, whole: pd.DataFrame | None, prompt_of: pd.Series, level: float
) -> dict[str, float]:
    """The effect of editing the prefix alone, divided by that of editing until the event, over the same clips."""
    if whole is None or not len(both := prefix.index.intersection(whole.index)):
        return dict.fromkeys(("stored_fraction", "stored_fraction_low", "stored_fraction_high"), math.nan)
    part, all_ = prefix.loc[both, "effect"], whole.loc[both, "effect"]
    low, high = ratio_interval(part, all_, prompt_of[both], level)
    share = float(part.mean() / all_.mean()) if all_.mean() > 0 else math.nan
    return {"stored_fraction": share, "stored_fraction_low": low, "stored_fraction_high": high}


def valued(name: str, values: pd.Series, ends: tuple[float, float]) -> dict[str, float]:
    """Mean and interval of `values` as fields `<name>`, `<name>_low` and `<name>_high`."""
    value = float(values.mean()) if len(values) else math.nan
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
