"""The effects of edits at equal damage: how much more a candidate does to the return than its controls do.

A candidate's controls have a curve each, damage to effect over doses, through the origin: at the damage that the
target does, what would a control have done to the return? Selectivity is the target's effect less the largest of
these. See `matched_damage`. Effect and damage of a clip: reprise/interventions/effects.py.

Intervals are over prompts and hold at the edges, where all clips or none change (reprise/statistics.py).

Degenerate input: a condition with no clips is not in the table; without controls selectivity is NaN.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprise.statistics import bounded_interval, ratio_interval, share_interval

Array = NDArray[np.float64]

# What a candidate's effect must exceed.
CONTROLS = ("resampled", "matched_feature", "random_direction")
# Judged as the target is, and no controls: `mean_difference` may hold the plan itself, `local_feature` part of it.
COMPARATORS = ("mean_difference", "local_feature")
# A clip whose tokens cost this much more is wrecked, however much more it is: damage is counted up to here. An
# interval for a mean needs such a bound, since one clip in a hundred could otherwise do any damage.
MAX_DAMAGE_NATS = 1.0
WRECKED = (-MAX_DAMAGE_NATS, MAX_DAMAGE_NATS)


def dose_mix(damage: Array, effect: Array, at: float) -> Array:
    """How a control's doses are mixed to do a given damage: weights `[dose]`, 0 in all for the untouched clip.

    damage, effect: the doses' means `[dose]`. The mixed effect, weights @ effect, is the largest that the control
    reaches without doing more damage, interpolated linearly to the next such point: doses in order of damage, the
    running maximum of their effects, from the origin on. Damage below 0 counts as 0. Beyond the control's largest
    damage its largest effect is used, without extrapolation. All of it favours the control. NaN where any input is.
    """
    if np.isnan(damage).any() or np.isnan(effect).any() or np.isnan(at):
        return np.full(len(damage), np.nan)
    damage, at = np.maximum(damage, 0.0), max(at, 0.0)
    order = np.argsort(damage, kind="stable")
    x = np.concatenate([[0.0], damage[order]])
    # Which dose holds the running maximum at each point; -1: the origin.
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

    effects: one row per (clip, condition) with layer, feature, kind, window, control, dose, prompt_id, clip_id,
    effect_rate (0 or 1: only clips whose untouched continuation returns) and damage_nats; rows whose `arm` is "steer",
    where there is such a column, are left out. For each candidate (layer, feature) and window, the conditions of that
    window and the unedited kinds (window "none", listed with every window).

    Rows: layer, feature, window, kind, control, dose, n_clips, n_prompts, and value, `_low` and `_high` of effect and
    damage. For `target` and the comparators also, at that row's damage: `<kind>_effect` of each kind of control (the
    largest over its features or directions), `control_effect` (the largest of all), `strongest_control`, and
    `selectivity` = effect - control_effect with its interval. `resampled` counts as a control that does no damage: an
    edit gets no credit for what fresh sampling noise loses by itself. For `target` edited in the prefix only also
    `stored_fraction`, its effect over that of the same dose until the event, with its interval.

    Intervals are those of reprise/statistics.py, over prompts, at `level`: 1 - 0.05 / n guards n candidates together.
    The selectivity is the smallest of the differences to each control, so its interval is from their smallest lower
    end to their smallest upper end, the latter at level 1 - (1 - level) / controls (the smallest of several upper ends
    is too low more often than one is). Raises ValueError for an effect outside 0 to 1.
    """
    rows = []
    if "arm" in effects:
        effects = effects[effects["arm"] != "steer"]
    effects = effects.assign(damage_nats=effects["damage_nats"].clip(-MAX_DAMAGE_NATS, MAX_DAMAGE_NATS))
    for (layer, feature), candidate in effects.groupby(["layer", "feature"], sort=True):
        by_window = {
            window: _conditions(candidate[candidate["window"].isin([window, "none"])])
            for window in candidate["window"].unique()
            if window != "none"
        }
        prompt_of = candidate.drop_duplicates("clip_id").set_index("clip_id")["prompt_id"]
        for window, conditions in by_window.items():
            for (kind, control, dose), clips in conditions.items():
                prompts = prompt_of[clips.index].to_numpy()
                record = {"layer": layer, "feature": feature, "window": window}
                record |= {"kind": kind, "control": control, "dose": dose}
                record |= {"n_clips": len(clips), "n_prompts": len(np.unique(prompts))}
                record |= valued("effect", clips["effect"], share_interval(clips["effect"], prompts, level))
                ends = bounded_interval(clips["damage"], prompts, WRECKED, level)
                record |= valued("damage", clips["damage"], ends)
                if kind in ("target", *COMPARATORS):
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
    """What the clips of a condition lose more than under each control at equal damage."""
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
    prompts = {name: prompt_of[more.index] for name, more in excess.items()}
    lows, _ = zip(*(bounded_interval(excess[n], prompts[n], (-1.0, 1.0), level) for n in controls), strict=True)
    at_once = 1 - (1 - level) / len(controls)
    _, highs = zip(*(bounded_interval(excess[n], prompts[n], (-1.0, 1.0), at_once) for n in controls), strict=True)
    return record | {
        "control_effect": effects[strongest],
        "strongest_control": f"{strongest[0]}{strongest[1]}",
        "selectivity": float(np.min([more.mean() for more in excess.values()])),
        "selectivity_low": float(np.min(lows)),
        "selectivity_high": float(np.min(highs)),
    }


def _stored_fraction(
    prefix: pd.DataFrame, whole: pd.DataFrame | None, prompt_of: pd.Series, level: float
) -> dict[str, float]:
    """The effect of editing the prefix alone over that of editing until the event, over the same clips."""
    if whole is None or not len(both := prefix.index.intersection(whole.index)):
        return dict.fromkeys(("stored_fraction", "stored_fraction_low", "stored_fraction_high"), math.nan)
    part, all_ = prefix.loc[both, "effect"], whole.loc[both, "effect"]
    low, high = ratio_interval(part, all_, prompt_of[both], level)
    share = float(part.mean() / all_.mean()) if all_.mean() > 0 else math.nan
    return {"stored_fraction": share, "stored_fraction_low": low, "stored_fraction_high": high}


def valued(name: str, values: pd.Series, ends: tuple[float, float]) -> dict[str, float]:
    """Mean and interval under a name."""
    value = float(values.mean()) if len(values) else math.nan
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
