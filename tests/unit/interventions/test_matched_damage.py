"""Effects at equal damage: known dose curves."""

import numpy as np
import pandas as pd
import pytest

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.matched_damage import dose_mix, matched_damage


def at(damage: list[float], effect: list[float], where: float) -> float:
    return float(dose_mix(np.array(damage), np.array(effect), where) @ np.array(effect))


def test_control_curve_runs_through_the_origin_and_never_falls():
    damage, effect = [0.1, 0.2, 0.4], [0.2, 0.6, 0.8]
    assert at(damage, effect, 0.05) == pytest.approx(0.1)
    assert at(damage, effect, 0.15) == pytest.approx(0.4)
    assert at(damage, effect, 0.2) == pytest.approx(0.6)
    assert at(damage, effect, 9.0) == pytest.approx(0.8)
    assert at(damage, effect, 0.0) == at(damage, effect, -1.0) == 0.0
    # Order of doses does not matter; a dose that does less than a gentler one is passed over.
    assert at([0.4, 0.1, 0.2], [0.1, 0.2, 0.6], 0.4) == pytest.approx(0.6)
    # A control whose damage is not above 0 has its effect for nothing.
    assert at([-0.1, 0.2], [0.3, 0.1], 0.0) == pytest.approx(0.3)
    assert at([0.1], [-0.5], 1.0) == 0.0
    assert np.isnan(at([np.nan], [0.1], 0.1))


DOSES = (0.25, 0.5, 1.0, 2.0)


def study(
    effect_of: dict[str, object], *, n_prompts: int = 60, doses: tuple[float, ...] = DOSES, seed: int = 0
) -> pd.DataFrame:
    """Effects of two clips a prompt; `effect_of[kind](dose)` gives the share of returns lost and the mean damage."""
    rng = np.random.default_rng(seed)
    rows = []
    for prompt in range(n_prompts):
        size = rng.normal(1, 0.1)
        for clip in range(2):
            # The same luck for all conditions of a clip, as with paired noise.
            luck = rng.random()
            for kind, curve in effect_of.items():
                for dose in (0.0,) if kind in ("resampled", "untouched") else doses:
                    effect, damage = curve(dose)
                    row = {"clip_id": f"p{prompt}-s{clip}", "prompt_id": f"p{prompt}"}
                    row |= {"kind": kind, "control": 0, "dose": dose}
                    row["window"] = "none" if kind in ("resampled", "untouched") else "until_event"
                    row |= {"effect_rate": float(luck < effect), "damage_nats": size * damage}
                    rows.append(row)
    return pd.DataFrame(rows)


def harm(dose: float) -> tuple[float, float]:
    """Noise: the return falls with the damage, whatever does it."""
    damage = 0.3 * dose**2
    return 1 - np.exp(-3 * damage), damage


def plan(dose: float) -> tuple[float, float]:
    return 0.8 * min(dose, 1.0), 0.02 * dose


def at_dose_1(found: pd.DataFrame, kind: str = "target") -> pd.Series:
    rows = found[(found["kind"] == kind) & (found["dose"] == 1.0)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_planted_direction_is_selective_by_the_known_amount():
    row = at_dose_1(matched_damage(study({"target": plan, "random_subspace": harm, "matched_feature": harm})))
    # At damage 0.02 a control lies on the chord from its dose 1/4 (damage 0.01875) to 1/2 (0.075).
    low, high = harm(0.25), harm(0.5)
    control = low[0] + (0.02 - low[1]) / (high[1] - low[1]) * (high[0] - low[0])
    assert row["effect"] == pytest.approx(0.8, abs=0.08)
    assert row["damage"] == pytest.approx(0.02, abs=0.002)
    assert row["control_effect"] == pytest.approx(control, abs=0.05)
    assert row["selectivity"] == pytest.approx(0.8 - control, abs=0.1)
    assert row["selectivity_low"] > 0.5 and row["selectivity_high"] < 0.9
    assert (row["n_clips"], row["n_prompts"]) == (120, 60)


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_a_noise_adding_intervention_of_any_strength_is_not_selective(strength):
    """It moves the return, and more the stronger it is; its controls do so too for the same damage."""
    found = matched_damage(
        study({"target": lambda dose: harm(strength * dose), "random_subspace": harm, "matched_feature": harm}),
    )
    row = at_dose_1(found)
    assert row["effect_low"] > 0
    assert row["selectivity_low"] <= 0.03 and row["selectivity"] < 0.08


def test_what_fresh_noise_loses_is_no_credit():
    """Half of the returns are luck: any edit loses them at no damage, and so does a rerun with other noise."""
    lucky = {"target": lambda dose: (0.5, 0.0), "random_subspace": lambda dose: (0.5, 0.05 * dose)}
    assert at_dose_1(matched_damage(study(lucky)))["selectivity_low"] > 0.3, "the trap"
    row = at_dose_1(matched_damage(study(lucky | {"resampled": lambda dose: (0.5, 0.04)})))
    assert row["strongest_control"] == "resampled0"
    assert row["selectivity"] == pytest.approx(0.0, abs=0.05) and row["selectivity_low"] <= 0


@pytest.mark.parametrize("kind", ["local_feature"])
def test_a_comparator_is_judged_and_is_no_control(kind):
    table = study({"target": plan, "random_subspace": harm, kind: lambda dose: (1.0, 0.0)})
    found = matched_damage(table)
    without = matched_damage(table[table["kind"] != kind])
    assert at_dose_1(found)["selectivity"] == at_dose_1(without)["selectivity"]
    assert at_dose_1(found)["strongest_control"] == "random_subspace0"
    assert at_dose_1(found, kind)["selectivity"] > 0.9


def test_clips_of_the_other_arm_do_not_enter_matched_damage():
    """Neither their prompts, which would be resampled, nor their rows."""
    table = study({"target": plan, "random_subspace": harm, "resampled": lambda dose: (0.1, 0.0)}).assign(
        arm="necessity"
    )
    others = table.assign(arm="sufficiency", prompt_id="s" + table["prompt_id"], clip_id="s" + table["clip_id"])
    others["effect_rate"] = 1.0
    alone = matched_damage(table)
    pd.testing.assert_frame_equal(alone, matched_damage(pd.concat([table, others])))
    pd.testing.assert_frame_equal(alone, matched_damage(table.drop(columns="arm")))


def test_dose_0_changes_no_other_dose():
    curves = {"target": plan, "random_subspace": harm, "matched_feature": harm}
    table = study(curves, doses=(0.0, *DOSES))
    nothing = table["dose"] == 0
    table.loc[nothing, ["effect_rate", "damage_nats"]] = 0.0
    found = matched_damage(table)
    without = matched_damage(table[~nothing])
    rest = found[found["dose"] > 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, without)
    zero = found[(found["dose"] == 0) & (found["kind"] == "target")].iloc[0]
    assert zero["effect"] == zero["damage"] == zero["selectivity"] == 0


def test_without_controls_selectivity_is_unknown():
    row = at_dose_1(matched_damage(study({"target": plan})))
    assert np.isnan(row["selectivity"]) and np.isnan(row["selectivity_low"]) and row["strongest_control"] == ""


def test_matched_damage_does_not_depend_on_row_order():
    table = study({"target": plan, "random_subspace": harm})
    found = matched_damage(table)
    pd.testing.assert_frame_equal(found, matched_damage(table.sample(frac=1, random_state=0)))


def test_where_every_clip_changes_the_interval_does_not_end_at_1():
    """Twelve prompts that all lose their return: an exact interval begins at 0.025 ** (1 / 12)."""
    table = study({"target": lambda dose: (1.0, 0.0), "resampled": lambda dose: (0.0, 0.0)}, n_prompts=12)
    row = at_dose_1(matched_damage(table))
    assert row["effect"] == row["effect_high"] == 1.0
    assert row["effect_low"] == pytest.approx(0.025 ** (1 / 12), abs=1e-6)
    assert row["selectivity"] == 1.0 and 0.5 < row["selectivity_low"] < 0.8
    # The best of two candidates has its interval at half the level.
    wider = at_dose_1(matched_damage(table, level=0.975))
    assert wider["effect_low"] == pytest.approx(0.0125 ** (1 / 12), abs=1e-6)
    assert wider["selectivity_low"] < row["selectivity_low"] and wider["damage_high"] > row["damage_high"]


def test_only_clips_that_return_can_lose_it():
    table = study({"target": plan})
    table.loc[0, "effect_rate"] = -1.0
    with pytest.raises(ValueError, match="valid: from 0 to 1"):
        matched_damage(table)


def test_the_stored_fraction_has_a_paired_interval():
    whole = study({"target": lambda dose: (0.8, 0.0)}, doses=(1.0,))
    prefix = whole.assign(window="prefix_only")
    # The same clips lose their return: the share is 1 however few they are, and its interval knows.
    row = matched_damage(pd.concat([whole, prefix])).set_index("window").loc["prefix_only"]
    assert row["stored_fraction"] == 1.0 and row["stored_fraction_low"] > 0.85
    half = prefix.copy()
    half.loc[half["clip_id"].str.endswith("s1"), "effect_rate"] = 0.0
    row = matched_damage(pd.concat([whole, half])).set_index("window").loc["prefix_only"]
    assert row["stored_fraction"] == pytest.approx(0.5, abs=0.06)
    assert 0.3 < row["stored_fraction_low"] < row["stored_fraction"] < row["stored_fraction_high"] < 0.7
    alone = matched_damage(prefix).iloc[0]
    assert np.isnan(alone["stored_fraction"]) and np.isnan(alone["stored_fraction_low"])


def test_the_interval_is_that_of_prompts_not_of_clips():
    """Ten copies of every clip are no more evidence."""
    table = study({"target": plan, "random_subspace": harm})
    copies = [table.assign(clip_id=table["clip_id"] + f"-{n}") for n in range(10)]
    few, many = (at_dose_1(matched_damage(t)) for t in (table, pd.concat(copies)))
    with pytest.raises(ValueError, match=r"has target0 at dose 0\.25 twice"):
        matched_damage(pd.concat([table] * 2))
    assert many["n_clips"] == 10 * few["n_clips"]
    for column in ("effect_low", "effect_high", "damage_low", "selectivity_low", "selectivity_high"):
        assert many[column] == pytest.approx(few[column], abs=1e-9)
