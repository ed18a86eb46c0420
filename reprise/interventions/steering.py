"""Is a feature sufficient: does turning it up bring a return in clips that did not return?

Clips that do not return are continued with the feature's value in clips that do. The result is reported but no gate
uses it. Its rows (`arm` "steer") never enter matched damage (reprise/interventions/matched_damage.py).

Degenerate input: without steered clips the summary is empty.
"""

from typing import Any

import pandas as pd

from reprise.interventions.matched_damage import WRECKED, valued
from reprise.statistics import bounded_interval, share_interval

# Numbers with intervals in `steering_summary`.
STEERING_VALUES = (
    "rate_untouched",
    "rate_steered",
    "rate_random",
    "difference",
    "difference_random",
    "damage_steered",
    "damage_random",
)


def steering_summary(effects: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Return rates and damage of steered clips: one flat row per candidate (layer, feature).

    Parameters
    ----------
    effects : DataFrame
        One row per (clip, condition) with arm, layer, feature, kind, prompt_id, found and damage_nats. Only the arm
        "steer" is used, with its kinds untouched, steer and steer_random.
    level : float
        Level of the intervals.

    Returns
    -------
    DataFrame
        layer, feature, n_clips, n_prompts, and value, `_low` and `_high` of the `STEERING_VALUES`: the return rates of
        untouched clips, of steered clips, and of clips moved by the same size in a random direction; `difference`,
        steered minus untouched; `difference_random`, steered minus random; and the mean damage (nats per token) of
        both. Intervals as in `matched_damage`.
    """
    rows = []
    for (layer, feature), part in effects[effects["arm"] == "steer"].groupby(["layer", "feature"], sort=True):
        by_kind = {kind: rows_.set_index("clip_id") for kind, rows_ in part.groupby("kind")}
        prompt_of = part.drop_duplicates("clip_id").set_index("clip_id")["prompt_id"]
        found = {kind: rows_["found"].astype(float) for kind, rows_ in by_kind.items()}
        record: dict[str, Any] = {"layer": layer, "feature": feature}
        record |= {"n_clips": part["clip_id"].nunique(), "n_prompts": part["prompt_id"].nunique()}
        for name, kind in (("untouched", "untouched"), ("steered", "steer"), ("random", "steer_random")):
            prompts = prompt_of[found[kind].index]
            record |= valued(f"rate_{name}", found[kind], share_interval(found[kind], prompts, level))
        for name, kind in (("difference", "untouched"), ("difference_random", "steer_random")):
            more = (found["steer"] - found[kind]).dropna()
            record |= valued(name, more, bounded_interval(more, prompt_of[more.index], (-1.0, 1.0), level))
        for name, kind in (("steered", "steer"), ("random", "steer_random")):
            damage = by_kind[kind]["damage_nats"].dropna().clip(*WRECKED)
            ends = bounded_interval(damage, prompt_of[damage.index], WRECKED, level)
            record |= valued(f"damage_{name}", damage, ends)
        rows.append(record)
    numbers = [f"{name}{end}" for name in STEERING_VALUES for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["layer", "feature", "n_clips", "n_prompts", *numbers])
