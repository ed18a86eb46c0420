"""Effects and damage: known continuations, known dose curves."""

import numpy as np
import pandas as pd
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.audio.synth import Note, render
from reprise.interventions.effects import (
    Continuation,
    Target,
    acoustic_summary,
    best_score,
    compare,
    continuation_nll,
    dose_mix,
    first_difference_s,
    matched_damage,
    outside_return,
    steering_summary,
)
from reprise.models.audiocraft import as_model
from reprise.models.musicgen import Model
from reprise.organisms.lm import build_lm

RATE_HZ, SR = 25.0, 16000
TARGET = Target(prefix_s=2.0, start_s=4.0, stop_s=5.0, motif_s=1.0)
HOW = {"frame_rate_hz": RATE_HZ, "sample_rate_hz": SR, "min_score": 0.7}
NO_KL = np.zeros(200, np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    lm = build_lm().eval()
    return as_model(lm, None, digest="none", frame_rate_hz=RATE_HZ, sample_rate_hz=SR, max_duration_s=20.0)


def test_nll_is_audiocrafts_own(model):
    """Against audiocraft's `compute_predictions`, which has its own delay pattern and mask."""
    from audiocraft.modules.conditioners import ConditioningAttributes

    tokens = np.random.default_rng(0).integers(0, model.card, (3, model.n_codebooks, 20)).astype(np.uint16)
    prompts = ["piano in c, amber theme", "organ in eb, brook theme", "piano in eb, coral theme"]
    found = continuation_nll(model, tokens, prompts, rows=2)
    assert found.shape == (3, 20) and found.dtype == np.float32
    codes = torch.from_numpy(tokens.astype(np.int64))
    with torch.no_grad():
        out = model.lm.compute_predictions(codes, [ConditioningAttributes(text={"description": p}) for p in prompts])
    nll = -out.logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0]
    known = out.mask & ~nll.isnan()
    # Where audiocraft has all codebooks of a frame, the means agree.
    whole = known.all(1)
    assert whole[:, :16].all()
    expected = nll.mean(1)[whole].numpy()
    np.testing.assert_allclose(found[whole.numpy()], expected, rtol=1e-4)
    assert np.isfinite(found).all()


def test_nll_of_a_clip_does_not_depend_on_the_others(model):
    tokens = np.random.default_rng(1).integers(0, model.card, (5, model.n_codebooks, 12))
    prompts = [f"piano in c, {name} theme" for name in ("amber", "brook", "coral", "delta", "ember")]
    together = continuation_nll(model, tokens, prompts, rows=4)
    order = [4, 2, 0]
    assert np.array_equal(continuation_nll(model, tokens[order], [prompts[i] for i in order], rows=4), together[order])


def test_outside_return_leaves_out_prefix_window_and_motif():
    times_s = np.arange(0, 8, 0.5)
    assert times_s[outside_return(times_s, TARGET)].tolist() == [2.0, 2.5, 3.0, 3.5, 6.5, 7.0, 7.5]


def test_first_difference():
    a = np.zeros((4, 50), int)
    b = a.copy()
    assert np.isnan(first_difference_s(a, b, RATE_HZ))
    b[2, 30:] = 1
    assert first_difference_s(a, b, RATE_HZ) == pytest.approx(1.2)


def test_best_score_is_0_where_there_is_no_room():
    time_s, score = np.arange(0, 2, 0.1), np.linspace(0, 1, 20)
    assert best_score(time_s, score, 0.5, 1.2) == pytest.approx(score[12])
    assert best_score(time_s, score, 5.0, 6.0) == 0.0


def notes(per_second: float, midi: float, velocity: float = 0.8, stop_s: float = 8.0) -> np.ndarray:
    step_s = 1 / per_second
    onsets = np.arange(0, stop_s - 1e-9, step_s)
    return render(
        [Note(t, 0.8 * step_s, midi, velocity) for t in onsets], timbre="organ", duration_s=8.0, sample_rate_hz=SR
    )


def test_acoustic_summary_of_known_sounds():
    slow, fast = (acoustic_summary(notes(n, 69), SR, TARGET) for n in (2, 5))
    assert slow["onset_rate_hz"] == pytest.approx(2, abs=0.35) and fast["onset_rate_hz"] == pytest.approx(5, abs=0.5)
    quiet = acoustic_summary(notes(2, 69, velocity=0.4), SR, TARGET)
    assert quiet["loudness_db"] - slow["loudness_db"] == pytest.approx(-6.02, abs=0.1)
    assert quiet["centroid_hz"] == pytest.approx(slow["centroid_hz"], rel=0.02)
    high = acoustic_summary(notes(2, 81), SR, TARGET)
    assert high["centroid_hz"] / slow["centroid_hz"] == pytest.approx(2, rel=0.1)
    # Outside the return the continuation lasts from 2 to 4 s and from 6 to 8 s; sound stops at 7 s.
    short = acoustic_summary(notes(2, 69, stop_s=7.0), SR, TARGET)
    assert short["silence_share"] - slow["silence_share"] == pytest.approx(
        0.25 * (1 - slow["silence_share"]), abs=0.02
    )


def test_acoustic_summary_of_silence_and_of_nothing():
    silent = acoustic_summary(np.zeros(8 * SR, np.float32), SR, TARGET)
    assert silent["silence_share"] == 1 and silent["onset_rate_hz"] == 0 and np.isnan(silent["centroid_hz"])
    nothing = acoustic_summary(np.zeros(SR, np.float32), SR, TARGET)
    assert all(np.isnan(v) for v in nothing.values())


def continuation(
    *, score_at_return: float, nll: np.ndarray | float, audio: np.ndarray, changed_from: int
) -> Continuation:
    time_s = np.arange(0, 7, 0.1)
    score = np.full(len(time_s), 0.3)
    score[(time_s > 4.4) & (time_s < 4.6)] = score_at_return
    tokens = np.zeros((4, 200), int)
    tokens[:, changed_from:] = 1
    return Continuation(tokens, audio, np.broadcast_to(nll, 200).astype(np.float32), time_s, score)


def test_compare_counts_effect_inside_and_damage_outside_the_return():
    audio = notes(2, 69)
    nll = np.full(200, 1.5)
    nll[100:150] = 9.0  # 4 to 6 s: what the absence of a planned return costs
    nll[:50] = 7.0  # the prefix
    baseline = continuation(score_at_return=0.95, nll=1.0, audio=audio, changed_from=200)
    edited = continuation(score_at_return=0.4, nll=nll, audio=0.5 * audio, changed_from=60)
    nll[150] = 9.0  # the frame at 6 s is still the return's end
    record = compare(edited, baseline, TARGET, kl=NO_KL, **HOW)
    assert record["effect_score"] == pytest.approx(0.55) and record["effect_rate"] == 1.0
    assert (record["score"], record["found"], record["found_baseline"]) == (pytest.approx(0.4), 0.0, 1.0)
    assert record["first_difference_s"] == pytest.approx(2.4)
    assert record["shift_loudness_db"] == pytest.approx(-6.02, abs=0.05)
    assert record["shift_onset_rate_hz"] == 0
    assert [k for k in record if k.startswith("effect_score_lag")] == ["effect_score_lag0", "effect_score_lag1"]
    assert record["effect_score_lag0"] == 0
    edited = edited._replace(nll=np.where(np.arange(200) == 150, 9.0, np.broadcast_to(edited.nll, 200)))
    again = compare(edited, baseline, TARGET, kl=NO_KL, **HOW)
    assert again["damage_nats"] == pytest.approx(0.5)


def test_kl_is_binned_from_the_prefixs_end_and_counted_outside_the_return():
    audio = notes(2, 69)
    baseline = continuation(score_at_return=0.95, nll=1.0, audio=audio, changed_from=200)
    kl = np.zeros(200)
    kl[:50] = 5.0  # the prefix
    kl[50:75], kl[100:125], kl[175:] = 0.2, 9.0, 0.6  # 2 to 3 s, 4 to 5 s (the return), 7 to 8 s
    record = compare(baseline, baseline, TARGET, kl=kl, **HOW)
    lags = {k.removeprefix("kl_lag"): v for k, v in record.items() if k.startswith("kl_lag")}
    assert lags == pytest.approx({"0": 0.2, "1": 0.0, "2": 9.0, "3": 0.0, "4": 0.0, "5": 0.6})
    # Outside the return lie 2 to 4 s and what follows 6 s: 50 frames, and 49 (the one at 6 s is still the return's).
    assert record["kl_nats"] == pytest.approx((25 * 0.2 + 25 * 0.6) / 99)
    half = compare(baseline, baseline, TARGET, kl=kl, bin_s=4.0, **HOW)
    assert {k: v for k, v in half.items() if "kl_lag" in k} == pytest.approx({"kl_lag0": 2.3, "kl_lag4": 0.3})


def test_a_baseline_against_itself_is_no_effect_and_no_damage():
    audio = notes(2, 69)
    baseline = continuation(score_at_return=0.95, nll=1.0, audio=audio, changed_from=200)
    record = compare(baseline, baseline, TARGET, kl=NO_KL, **HOW)
    assert np.isnan(record.pop("first_difference_s"))
    assert all(v == 0 for k, v in record.items() if k.startswith(("effect", "damage", "shift", "kl")))


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
                    row = {"layer": 2, "feature": 5, "clip_id": f"p{prompt}-s{clip}", "prompt_id": f"p{prompt}"}
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
    row = at_dose_1(matched_damage(study({"target": plan, "random_direction": harm, "matched_feature": harm})))
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
        study({"target": lambda dose: harm(strength * dose), "random_direction": harm, "matched_feature": harm}),
    )
    row = at_dose_1(found)
    assert row["effect_low"] > 0
    assert row["selectivity_low"] <= 0.03 and row["selectivity"] < 0.08


def test_what_fresh_noise_loses_is_no_credit():
    """Half of the returns are luck: any edit loses them at no damage, and so does a rerun with other noise."""
    lucky = {"target": lambda dose: (0.5, 0.0), "random_direction": lambda dose: (0.5, 0.05 * dose)}
    assert at_dose_1(matched_damage(study(lucky)))["selectivity_low"] > 0.3, "the trap"
    row = at_dose_1(matched_damage(study(lucky | {"resampled": lambda dose: (0.5, 0.04)})))
    assert row["strongest_control"] == "resampled0"
    assert row["selectivity"] == pytest.approx(0.0, abs=0.05) and row["selectivity_low"] <= 0


@pytest.mark.parametrize("kind", ["mean_difference", "local_feature"])
def test_a_comparator_is_judged_and_is_no_control(kind):
    table = study({"target": plan, "random_direction": harm, kind: lambda dose: (1.0, 0.0)})
    found = matched_damage(table)
    without = matched_damage(table[table["kind"] != kind])
    assert at_dose_1(found)["selectivity"] == at_dose_1(without)["selectivity"]
    assert at_dose_1(found)["strongest_control"] == "random_direction0"
    assert at_dose_1(found, kind)["selectivity"] > 0.9


def test_steered_clips_do_not_enter_matched_damage():
    """Neither their prompts, which would be resampled, nor their rows."""
    table = study({"target": plan, "random_direction": harm, "resampled": lambda dose: (0.1, 0.0)}).assign(
        arm="ablate"
    )
    steered = table.assign(arm="steer", prompt_id="s" + table["prompt_id"], clip_id="s" + table["clip_id"])
    steered["effect_rate"] = 1.0
    alone = matched_damage(table)
    pd.testing.assert_frame_equal(alone, matched_damage(pd.concat([table, steered])))
    pd.testing.assert_frame_equal(alone, matched_damage(table.drop(columns="arm")))


def test_dose_0_changes_no_other_dose():
    curves = {"target": plan, "random_direction": harm, "matched_feature": harm}
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
    table = study({"target": plan, "random_direction": harm})
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


def test_the_stored_share_has_a_paired_interval():
    whole = study({"target": lambda dose: (0.8, 0.0)}, doses=(1.0,))
    prefix = whole.assign(window="prefix_only")
    # The same clips lose their return: the share is 1 however few they are, and its interval knows.
    row = matched_damage(pd.concat([whole, prefix])).set_index("window").loc["prefix_only"]
    assert row["stored_share"] == 1.0 and row["stored_share_low"] > 0.85
    half = prefix.copy()
    half.loc[half["clip_id"].str.endswith("s1"), "effect_rate"] = 0.0
    row = matched_damage(pd.concat([whole, half])).set_index("window").loc["prefix_only"]
    assert row["stored_share"] == pytest.approx(0.5, abs=0.06)
    assert 0.3 < row["stored_share_low"] < row["stored_share"] < row["stored_share_high"] < 0.7
    alone = matched_damage(prefix).iloc[0]
    assert np.isnan(alone["stored_share"]) and np.isnan(alone["stored_share_low"])


def test_the_interval_is_that_of_prompts_not_of_clips():
    """Ten copies of every clip are no more evidence."""
    table = study({"target": plan, "random_direction": harm})
    copies = [table.assign(clip_id=table["clip_id"] + f"-{n}") for n in range(10)]
    few, many = (at_dose_1(matched_damage(t)) for t in (table, pd.concat(copies)))
    with pytest.raises(ValueError, match=r"has target0 at dose 0\.25 twice"):
        matched_damage(pd.concat([table] * 2))
    assert many["n_clips"] == 10 * few["n_clips"]
    for column in ("effect_low", "effect_high", "damage_low", "selectivity_low", "selectivity_high"):
        assert many[column] == pytest.approx(few[column], abs=1e-9)


def steered_study(returned: dict[str, list[float]], *, clips_a_prompt: int = 1) -> pd.DataFrame:
    """Found returns of each kind, one number a prompt, in the arm of steering."""
    rows = []
    for kind, found in returned.items():
        for prompt, value in enumerate(found):
            for clip in range(clips_a_prompt):
                row = {"arm": "steer", "layer": 2, "feature": 5, "kind": kind, "control": 0}
                row |= {"prompt_id": f"p{prompt}", "clip_id": f"p{prompt}-s{clip}", "found": value}
                rows.append(row | {"damage_nats": 0.0 if kind == "untouched" else 0.1 * prompt})
    return pd.DataFrame(rows)


SOME = {"untouched": [0, 0, 0, 1.0], "steer": [1, 1, 0, 1.0], "steer_random": [0, 0, 0, 1.0]}


def test_steering_summary_by_hand():
    table = steered_study(SOME)
    # The ablation's rows are no part of it.
    table = pd.concat([table, table.assign(arm="ablate", found=1.0)])
    (row,) = steering_summary(table).itertuples()
    assert (row.layer, row.feature, row.n_clips, row.n_prompts) == (2, 5, 4, 4)
    assert (row.rate_untouched, row.rate_steered, row.rate_random) == (0.25, 0.75, 0.25)
    assert row.difference == row.difference_random == 0.5
    # Four prompts say little.
    assert row.difference_low < 0 < row.difference_high and row.rate_steered_low < 0.3
    assert row.damage_steered == row.damage_random == pytest.approx(0.15)


def test_steering_intervals_are_of_prompts():
    few, many = (steering_summary(steered_study(SOME, clips_a_prompt=n)) for n in (1, 10))
    assert many["n_clips"].item() == 40
    ends = [c for c in few if c.endswith(("_low", "_high"))]
    np.testing.assert_allclose(few[ends].to_numpy(), many[ends].to_numpy())
    always = steering_summary(steered_study(SOME | {"steer": [1, 1, 1, 1.0]}))
    assert always["rate_steered_low"].item() == pytest.approx(0.025 ** (1 / 4))


def test_no_steered_clips_give_an_empty_summary_with_its_columns():
    table = steered_study(SOME)
    empty = steering_summary(table.assign(arm="ablate"))
    assert empty.empty and list(empty) == list(steering_summary(table))
    # Where nothing lies outside the return, damage is unknown and the rates are not.
    unknown = steering_summary(table.assign(damage_nats=np.nan))
    assert np.isnan(unknown["damage_steered"].item()) and unknown["rate_steered"].item() == 0.75
