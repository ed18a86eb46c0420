"""Every verdict can be reached, by the gate that should decide it, and by no other road."""

import json

import numpy as np
import pandas as pd
import pytest

from reprise.preregistration import Thresholds, declare, digest, is_intact, preregistration, summary
from reprise.stores import write_json
from reprise.verdict import VERDICTS, detectable_auroc, hanley_mcneil_se, verdict

THRESHOLDS = Thresholds(
    min_positive_clips=20,
    min_negative_clips=20,
    min_positive_prompts=10,
    alpha=0.05,
    min_gain_auroc=0.05,
    max_missed_gain_auroc=0.15,
    min_effect=0.2,
    min_selectivity=0.1,
    max_damage=0.5,
    min_stored_share=0.5,
)
EVENTS = {"n_clips": 192, "n_with_event": 90, "n_prompts_with_event": 40}
STRONG, NOTHING = (0.30, 0.02, 0.01), (0.00, 0.04, 0.6)  # gain, half of its interval, p


def probe(role: str, result: tuple[float, float, float], **changes: object) -> dict:
    gain, half, p = result
    row = {"layer": 2, "representation": "resid", "role": role, "n_clips": 192, "n_positive_clips": 80}
    row["n_positive_prompts"] = 40
    row |= {"gain_auroc": gain, "gain_auroc_low": gain - half, "gain_auroc_high": gain + half, "p_swap": p}
    return row | {"null_gain": 0.0} | changes


def probes(long=STRONG, local=STRONG, **changes: object) -> pd.DataFrame:
    rows = [probe("long", long, **changes), probe("local", local, **changes)]
    rows += [probe("long", NOTHING, layer=4, **changes), probe("long", NOTHING, representation="embedding", **changes)]
    return pd.DataFrame(rows)


def candidate(feature: int = 7, result=(0.2, 0.05, 0.01)) -> dict:
    gain, half, p = result
    row = {"layer": 2, "feature": feature, "gain_auroc": gain, "p_swap": p}
    return row | {"gain_auroc_low": gain - half, "gain_auroc_high": gain + half}


def ablation(
    feature: int = 7,
    *,
    window: str = "until_event",
    effect=(0.8, 0.7, 0.9),
    selectivity=(0.6, 0.5, 0.7),
    damage: float = 0.05,
) -> list[dict]:
    rows = []
    for dose in (0.5, 1.0):
        # Dose 0.5 is weaker in everything: a verdict that read it would be another one.
        scale = 1.0 if dose == 1.0 else 0.01
        row = {"layer": 2, "feature": feature, "window": window, "kind": "target", "control": 0, "dose": dose}
        for name, (value, low, high) in {"effect": effect, "selectivity": selectivity}.items():
            row |= {name: scale * value, f"{name}_low": scale * low, f"{name}_high": scale * high}
        row |= {"damage": damage, "damage_low": damage - 0.01, "damage_high": damage + 0.01}
        rows.append(row | {"strongest_control": "resampled0"})
    control = rows[-1] | {"kind": "random_direction", "effect": 0.01, "effect_low": -0.1, "effect_high": 0.1}
    return [control, *rows]


def declaration(settings: dict, history: list[dict] | None = None, known: str = "nothing") -> dict:
    """A study's preregistration as the workflow writes it."""
    declared = preregistration(THRESHOLDS, settings)
    return declared | {"declarations": summary(declare(history or [], declared, known=known))}


def judge(**changes: object) -> dict:
    given = {
        "events": EVENTS,
        "probes": probes(),
        "candidates": pd.DataFrame([candidate()]),
        "matched": pd.DataFrame(ablation() + ablation(window="prefix_only", effect=(0.7, 0.6, 0.8))),
        "thresholds": THRESHOLDS,
        "long_role": "long",
        "declared": declaration({"horizons": {"long": [4, 8]}}),
    }
    found = judged = verdict(**(given | changes))
    assert found["verdict"] in VERDICTS
    assert all(c["verdict"] in VERDICTS for c in judged["candidates"])
    return found


def gate(found: dict, name: str) -> dict:
    (one,) = [g for g in found["gates"] if g["name"] == name]
    return one


def test_foresight_when_every_gate_passes():
    found = judge()
    assert found["verdict"] == "foresight" == found["candidates"][0]["verdict"]
    names = [g["name"] for g in found["gates"]]
    assert names == [
        "events",
        "positive_clips",
        "negative_clips",
        "positive_prompts",
        "prediction",
        "confirmation",
        "effect",
        "damage",
        "selectivity",
    ]
    assert all(g["passed"] is True and g["sentence"].endswith(".") for g in found["gates"])
    effect = gate(found, "effect")
    assert (effect["value"], effect["low"], effect["high"], effect["threshold"]) == (0.8, 0.7, 0.9, 0.2)
    assert found["candidates"][0]["mechanism"] == "stored"
    assert found["candidates"][0]["stored_share"] == pytest.approx(0.875)


def test_no_events_at_all_is_none_and_few_are_unresolved():
    found = judge(events={"n_clips": 192, "n_with_event": 0, "n_prompts_with_event": 0}, probes=probes().iloc[:0])
    assert (found["verdict"], found["reason"]) == ("none", "no valid events")
    for changes in ({"n_positive_clips": 19}, {"n_positive_clips": 173}):
        assert judge(probes=probes(**changes))["verdict"] == "unresolved"
    # Of prompts, too, those with a return in the horizon count, not those with any.
    assert judge(probes=probes(n_positive_prompts=9))["verdict"] == "unresolved"


@pytest.mark.parametrize(
    "long",
    [
        pytest.param(NOTHING, id="no gain"),
        pytest.param((0.04, 0.01, 0.01), id="gain below the least that counts"),
        pytest.param((0.06, 0.07, 0.01), id="interval holds 0"),
        pytest.param((0.10, 0.02, 0.03), id="p-value not below alpha after correction for two layers"),
        pytest.param((0.10, 0.02, np.nan), id="no p-value"),
    ],
)
def test_without_prediction_at_the_long_horizon_it_is_local_or_none(long):
    assert judge(probes=probes(long=long))["verdict"] == "local"
    found = judge(probes=probes(long=long, local=NOTHING))
    assert found["verdict"] == "none" and gate(found, "prediction")["passed"] is False
    # Selective effects of a candidate don't help: it predicts nothing.
    assert gate(found, "effect")["passed"] is None and found["candidates"][0]["verdict"] == "none"


def test_absence_needs_an_interval_that_excludes_a_gain():
    assert judge(probes=probes(long=(0.0, 0.2, 0.6), local=NOTHING))["verdict"] == "unresolved"
    no_scores = judge(probes=probes(long=(np.nan, np.nan, np.nan), local=NOTHING))
    assert no_scores["verdict"] == "unresolved"


def test_the_embedding_is_a_check_and_no_evidence():
    table = probes(long=NOTHING, local=NOTHING)
    table.loc[table["representation"] == "embedding", ["gain_auroc", "gain_auroc_low", "p_swap"]] = [0.4, 0.3, 0.01]
    found = judge(probes=table)
    assert found["verdict"] == "none"
    (check,) = [c for c in found["checks"] if c["name"] == "embedding"]
    assert check["passed"] is False and "baseline leaves something out" in check["sentence"]


def test_every_kind_of_swap_must_be_significant():
    within = probes()
    within["p_swap"] = within["p_swap"].where(within["p_swap"] > 0.05, 0.5)
    assert judge(probes=pd.concat([probes(), probes()]))["verdict"] == "foresight"
    # The gain is there, and what explains it is not known: chance, or the prompt where swaps within it gain as much.
    assert judge(probes=pd.concat([probes(), within], ignore_index=True))["verdict"] == "unresolved"
    within["null_gain"] = within["gain_auroc"]
    assert judge(probes=pd.concat([probes(), within], ignore_index=True))["verdict"] == "none"


def test_entangled_when_not_selective_or_destructive():
    for changes in (
        {"selectivity": (0.3, -0.05, 0.5)},
        {"selectivity": (0.05, 0.01, 0.1)},
        {"selectivity": (np.nan, np.nan, np.nan)},
        {"damage": 0.6},
    ):
        found = judge(matched=pd.DataFrame(ablation(**changes)))
        assert found["verdict"] == "entangled"
        assert gate(found, "effect")["passed"] is True


def test_correlate_when_removal_does_nothing_and_unresolved_when_that_is_not_known():
    found = judge(matched=pd.DataFrame(ablation(effect=(0.02, -0.05, 0.1))))
    assert found["verdict"] == "correlate" and found["candidates"][0]["mechanism"] == ""
    # A real effect too small to count, and known to be.
    assert judge(matched=pd.DataFrame(ablation(effect=(0.1, 0.05, 0.15))))["verdict"] == "correlate"
    assert judge(matched=pd.DataFrame(ablation(effect=(0.15, -0.2, 0.5))))["verdict"] == "unresolved"
    assert judge(matched=pd.DataFrame())["verdict"] == "unresolved"


def test_correlate_when_no_feature_is_confirmed():
    for result in ((0.2, 0.05, 0.2), (0.05, 0.06, 0.01), (np.nan, np.nan, np.nan)):
        found = judge(candidates=pd.DataFrame([candidate(result=result)]))
        assert found["verdict"] == "correlate"
        assert found["candidates"][0]["verdict"] == "none"
    assert judge(candidates=pd.DataFrame([candidate()]).iloc[:0])["verdict"] == "correlate"


def test_a_study_is_what_its_best_candidate_is():
    candidates = pd.DataFrame([candidate(7), candidate(8), candidate(9)])
    of = {
        "correlate": ablation(7, effect=(0.0, -0.05, 0.05)),
        "entangled": ablation(8, selectivity=(0.0, -0.1, 0.1)),
        "foresight": ablation(9),
    }
    found = judge(candidates=candidates, matched=pd.DataFrame(of["correlate"] + of["entangled"] + of["foresight"]))
    assert [c["verdict"] for c in found["candidates"]] == list(of)
    assert found["verdict"] == "foresight" and found["reason"].startswith("layer 2, feature 9")
    assert gate(found, "selectivity")["value"] == 0.6
    found = judge(candidates=candidates.iloc[:2], matched=pd.DataFrame(of["correlate"] + of["entangled"]))
    assert found["verdict"] == "entangled"


@pytest.mark.parametrize(
    ("prefix", "mechanism"),
    [((0.5, 0.3, 0.7), "stored"), ((0.05, -0.1, 0.2), "recomputed"), ((0.3, 0.1, 0.6), "undecided")],
)
def test_mechanism_compares_the_prefix_with_the_whole(prefix, mechanism):
    matched = pd.DataFrame(ablation() + ablation(window="prefix_only", effect=prefix))
    assert judge(matched=matched)["candidates"][0]["mechanism"] == mechanism


def test_detectable_auroc_is_about_what_the_design_asks_for():
    assert detectable_auroc(90, 90) == pytest.approx(0.60, abs=0.015)
    assert detectable_auroc(350, 350) == pytest.approx(0.55, abs=0.01)
    assert np.isnan(detectable_auroc(0, 50)) and np.isnan(detectable_auroc(1, 1))
    # The variance of the Mann-Whitney statistic under no difference: (m + n + 1) / (12 m n).
    assert hanley_mcneil_se(0.5, 30, 50) == pytest.approx(np.sqrt(81 / (12 * 30 * 50)), rel=0.01)


def test_detectable_auroc_has_the_power_it_says():
    rng = np.random.default_rng(0)
    n, auroc = 60, detectable_auroc(60, 60)
    from scipy.stats import mannwhitneyu, norm

    shift = np.sqrt(2) * norm.ppf(auroc)
    x, y = rng.standard_normal((2000, n)) + shift, rng.standard_normal((2000, n))
    power = np.mean(mannwhitneyu(x, y, axis=1, alternative="greater").pvalue <= 0.05)
    assert power == pytest.approx(0.8, abs=0.03)


def test_preregistration_shows_a_changed_threshold():
    declared = preregistration(THRESHOLDS, {"seeds": [0, 1], "horizons": {"long": [4.0, 8.0]}})
    assert (
        declared["digest"]
        == preregistration(THRESHOLDS, {"horizons": {"long": [4.0, 8.0]}, "seeds": [0, 1]})["digest"]
    )
    assert is_intact(json.loads(json.dumps(declared)), THRESHOLDS)
    easier = THRESHOLDS._replace(min_effect=0.01)
    assert not is_intact(declared, easier)
    assert not is_intact(declared | {"thresholds": easier._asdict()}, easier)
    found = judge(declared=declared | {"declarations": []}, thresholds=easier)["preregistration"]
    assert found == {"digest": declared["digest"], "intact": False, "declarations": []}
    assert digest({"b": 1, "a": [1.5]}) == digest({"a": [1.5], "b": 1}) != digest({"a": [1.5], "b": 2})


def test_a_threshold_that_moves_after_the_fact_is_kept():
    settings = {"horizons": {"long": [4.0, 8.0]}}
    first = declare([], preregistration(THRESHOLDS, settings), known="nothing")
    again = declare(first, preregistration(THRESHOLDS, settings), known="effects")
    assert again == first and summary(first) == [{"digest": first[0]["digest"], "known": "nothing", "changed": []}]
    easier = preregistration(THRESHOLDS._replace(min_effect=0.01), {"horizons": {"long": [4.0, 9.0]}, "doses": [1]})
    moved = declare(first, easier, known="probes")
    assert moved[0] == first[0]
    assert summary(moved)[1]["known"] == "probes"
    assert moved[1]["changed"] == [
        "settings.doses: nothing to [1]",
        "settings.horizons.long: [4.0, 8.0] to [4.0, 9.0]",
        f"thresholds.min_effect: {THRESHOLDS.min_effect} to 0.01",
    ]
    back = declare(moved, preregistration(THRESHOLDS, settings), known="effects")
    assert len(back) == 3 and back[2]["digest"] == first[0]["digest"]


def test_a_random_dictionary_and_random_weights_decide_nothing():
    table = probes(long=NOTHING, local=NOTHING)
    others = [probe("long", STRONG, representation=r) for r in ("random_dictionary", "random_model")]
    found = judge(probes=pd.concat([table, pd.DataFrame(others)], ignore_index=True))
    checks = {check["name"]: check for check in found["checks"]}
    assert found["verdict"] == "none" and checks.keys() == {"shorter_horizons", "embedding", "random_model"}
    # Said, though it decides nothing: memory of what the baseline no longer hears.
    assert not checks["random_model"]["passed"]
    assert "the model with random weights predicts too" in checks["random_model"]["sentence"]


def test_the_verdict_is_json(tmp_path):
    for changes in ({}, {"matched": pd.DataFrame()}, {"probes": probes().iloc[:0]}):
        found = judge(**changes)
        write_json(tmp_path / "verdict.json", found)
        assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == found["verdict"]
