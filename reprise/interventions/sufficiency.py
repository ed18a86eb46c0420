"""Is a candidate sufficient: do clips without an event get one if they are given the coordinates of clips with one?

Clips without an event are continued with the candidate's coordinates of the other class (arm "sufficiency" of
reprise/interventions/conditions.py), and with those of each control. Nothing here enters matched damage
(reprise/interventions/matched_damage.py).

Intervals are over prompts, and hold at the edges (reprise/statistics.py).

Degenerate input: without such clips the summary is empty; without controls, what depends on them is NaN.
"""

import math
from typing import Any

import pandas as pd

from reprise.interventions.matched_damage import CONTROLS, WRECKED, smallest, valued
from reprise.statistics import bounded_interval, share_interval

# Numbers with intervals in `sufficiency_summary`.
VALUES = ("rate_untouched", "rate_edited", "gained", "more_than_controls", "damage")


def sufficiency_summary(effects: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """How often clips without an event get one under the edit: one row, or none without such clips.

    Parameters
    ----------
    effects : DataFrame
        Of one candidate, one row per (clip, condition) with arm, kind, control, prompt_id, clip_id, found and
        damage_nats. Only the arm "sufficiency" is used.
    level : float
        Level of the intervals.

    Returns
    -------
    DataFrame
        n_clips, n_prompts, strongest_control, and value, `_low` and `_high` of the `VALUES`: the rate of events in
        untouched and in edited clips; `gained`, edited minus untouched; `more_than_controls`, edited minus the control
        under which most clips get an event (`matched_damage.smallest`); and the damage of the edit in nats per token.
    """
    columns = [
        "n_clips",
        "n_prompts",
        "strongest_control",
        *(f"{v}{e}" for v in VALUES for e in ("", "_low", "_high")),
    ]
    part = effects[effects["arm"] == "sufficiency"] if "arm" in effects else effects.head(0)
    if part.empty:
        return pd.DataFrame(columns=columns)
    prompt_of = part.drop_duplicates("clip_id").set_index("clip_id")["prompt_id"]
    found = {
        (str(kind), int(control)): rows.set_index("clip_id")["found"].astype(float)
        for (kind, control), rows in part.groupby(["kind", "control"])
    }
    edited, untouched = found["target", 0], found["untouched", 0]

    def more_than(other: pd.Series) -> pd.Series:
        return (edited - other).dropna()

    record: dict[str, Any] = {"n_clips": len(prompt_of), "n_prompts": prompt_of.nunique(), "strongest_control": ""}
    for name, values in (("rate_untouched", untouched), ("rate_edited", edited)):
        record |= valued(name, values, share_interval(values, prompt_of[values.index], level))
    record |= smallest("gained", [more_than(untouched)], prompt_of, level)
    controls = {key: more_than(values) for key, values in found.items() if key[0] in CONTROLS}
    record |= dict.fromkeys((f"more_than_controls{end}" for end in ("", "_low", "_high")), math.nan)
    if controls:
        strongest = min(controls, key=lambda key: controls[key].mean())
        record["strongest_control"] = f"{strongest[0]}{strongest[1]}"
        record |= smallest("more_than_controls", list(controls.values()), prompt_of, level)
    damage = part[part["kind"] == "target"].set_index("clip_id")["damage_nats"].dropna().clip(*WRECKED)
    record |= valued("damage", damage, bounded_interval(damage, prompt_of[damage.index], WRECKED, level))
    return pd.DataFrame([record], columns=columns)
