"""Every verdict can be reached, by the gate that should decide it, and by no other road."""

import json

import numpy as np
import pandas as pd
import pytest

from reprise.storage.files import write_json
from reprise.verdict.gates import verdict
from reprise.verdict.meanings import VERDICTS
from reprise.verdict.preregistration import Thresholds

THRESHOLDS = Thresholds(
    min_positive_clips=20,
    min_negative_clips=20,
    min_positive_prompts=10,
    alpha=0.05,
    min_gain_auroc=0.05,
    max_missed_gain_auroc=0.15,
    min_learned_gain_auroc=0.025,
    min_effect=0.2,
    min_selectivity=0.1,
    max_damage=0.5,
    min_stored_fraction=0.5,
)
CLIPS = {"n_clips": 192, "n_usable": 192, "unusable": {}, "n_with_event": 90, "n_prompts_with_event": 40}
STRONG, NOTHING = (0.30, 0.02, 0.01), (0.00, 0.04, 0.6)  # gain, half of its interval, p


def probe(role: str, result: tuple[float, float, float], **changes: object) -> dict:
    gain, half, p = result
    row = {"layer": 2, "representation": "resid", "role": role, "n_clips": 192, "n_positive_clips": 80}
    row["n_positive_prompts"] = 40
    row |= {"gain_auroc": gain, "gain_auroc_low": gain - half, "gain_auroc_high": gain + half, "p_gain": p}
    row |= {"learned_auroc": gain / 2, "learned_auroc_low": gain / 2 - half, "learned_auroc_high": gain / 2 + half}
    return row | {"p_learned": p, "null_gain": 0.0} | changes


def probes(long=STRONG, local=STRONG, **changes: object) -> pd.DataFrame:
    rows = [probe("long", long, **changes), probe("local", local, **changes)]
    rows += [probe("long", NOTHING, layer=4, **changes), probe("long", NOTHING, representation="embedding", **changes)]
    return pd.DataFrame(rows)


def candidate(feature: int = 7, result=(0.2, 0.05, 0.01)) -> dict:
    gain, half, p = result
    about = {"name": f"c{feature}", "title": f"layer 2, feature {feature}", "kind": "feature", "layer": 2}
    row = about | {"gain_auroc": gain, "p_gain": p, "p_adjusted": p}
    row |= {"confirmed": gain - half > 0 and p <= 0.05}
    return row | {"gain_auroc_low": gain - half, "gain_auroc_high": gain + half}


def ablation(
    feature: int = 7,
    *,
    window: str = "until_event",
    effect=(0.8, 0.7, 0.9),
    selectivity=(0.6, 0.5, 0.7),
    damage: tuple[float, float, float] = (0.05, 0.04, 0.06),
    stored_fraction: tuple[float, float, float] = (np.nan, np.nan, np.nan),
    second_target: tuple[float, float, float] | None = None,
) -> list[dict]:
    rows = []
    for dose in (0.5, 1.0):
        # Dose 0.5 is weaker in everything: a verdict that read it would be another one.
        scale = 1.0 if dose == 1.0 else 0.01
        row = {"candidate": f"c{feature}", "window": window, "kind": "target", "control": 0, "dose": dose}
        for name, (value, low, high) in {"effect": effect, "selectivity": selectivity}.items():
            row |= {name: scale * value, f"{name}_low": scale * low, f"{name}_high": scale * high}
        for name, ends in (("damage", damage), ("stored_fraction", stored_fraction)):
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        rows.append(row | {"strongest_control": "resampled0"})
    second = dict(zip(("effect", "effect_low", "effect_high"), second_target or effect, strict=True))
    rows.append(rows[-1] | {"kind": "second_target"} | second)
    control = rows[-1] | {"kind": "random_subspace", "effect": 0.01, "effect_low": -0.1, "effect_high": 0.1}
    return [control, *rows]


def judge(**changes: object) -> dict:
    given = {
        "clips": CLIPS,
        "probes": probes(),
        "candidates": pd.DataFrame([candidate()]),
        "matched": pd.DataFrame(ablation() + ablation(window="prefix_only", stored_fraction=(0.875, 0.7, 1.0))),
        "sufficiency": pd.DataFrame(),
        "thresholds": THRESHOLDS,
        "long_role": "long",
    }
    found = verdict(**(given | changes))
    assert found["verdict"] in VERDICTS
    assert all(c["verdict"] in VERDICTS for c in found["candidates"])
    return found


def gate(found: dict, name: str) -> dict:
    (one,) = [g for g in found["gates"] if g["name"] == name]
    return one


def test_foresight_when_every_gate_passes():
    found = judge()
    assert found["verdict"] == "foresight" == found["candidates"][0]["verdict"]
    names = [g["name"] for g in found["gates"]]
    assert names == [
        "usable_clips",
        "events",
        "positive_clips",
        "negative_clips",
        "positive_prompts",
        "prediction",
        "learned",
        "confirmation",
        "effect",
        "damage",
        "selectivity",
        "second_target",
    ]
    assert all(g["outcome"] == "passed" and g["sentence"].endswith(".") for g in found["gates"])
    effect = gate(found, "effect")
    assert (effect["value"], effect["low"], effect["high"], effect["threshold"]) == (0.8, 0.7, 0.9, 0.2)
    assert found["candidates"][0]["mechanism"] == "stored"
    assert found["candidates"][0]["stored_fraction"] == pytest.approx(0.875)


def test_no_events_at_all_is_none_and_few_are_unresolved():
    nothing = CLIPS | {"n_with_event": 0, "n_prompts_with_event": 0}
    found = judge(clips=nothing, probes=probes().iloc[:0])
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
    assert found["verdict"] == "none" and gate(found, "prediction")["outcome"] == "failed"
    # Selective effects of a candidate don't help: it predicts nothing.
    assert gate(found, "effect")["outcome"] == "not reached" and found["candidates"][0]["verdict"] == "none"


def test_absence_needs_an_interval_that_excludes_a_gain():
    assert judge(probes=probes(long=(0.0, 0.2, 0.6), local=NOTHING))["verdict"] == "unresolved"
    no_scores = judge(probes=probes(long=(np.nan, np.nan, np.nan), local=NOTHING))
    assert no_scores["verdict"] == "unresolved"


def test_the_embedding_is_a_check_and_no_evidence():
    table = probes(long=NOTHING, local=NOTHING)
    table.loc[table["representation"] == "embedding", ["gain_auroc", "gain_auroc_low", "p_gain"]] = [0.4, 0.3, 0.01]
    found = judge(probes=table)
    assert found["verdict"] == "none"
    (check,) = [c for c in found["checks"] if c["name"] == "embedding"]
    assert check["outcome"] == "failed" and "baseline leaves something out" in check["sentence"]


def test_a_p_value_that_is_not_known_or_not_small_decides_nothing():
    # The gain is there, and what explains it is not known: chance, or the prompt where swaps within it gain as much.
    for p in (0.5, np.nan):
        assert judge(probes=probes(p_gain=p))["verdict"] == "unresolved"
    assert judge(probes=probes(p_gain=0.5, null_gain=0.3))["verdict"] == "none"
    # One test whose p is missing counts among the tests: 0.03 does not survive two.
    table = probes(long=(0.3, 0.02, 0.03))
    table.loc[(table["layer"] == 4) & (table["role"] == "long"), "p_gain"] = np.nan
    assert judge(probes=table)["verdict"] == "unresolved"


def test_a_gain_that_random_weights_have_too_is_no_plan():
    known = judge(probes=probes(learned_auroc=0.0, learned_auroc_low=-0.02, learned_auroc_high=0.02, p_learned=0.5))
    assert known["verdict"] == "none" and "random weights" in known["reason"]
    assert gate(known, "learned")["outcome"] == "failed" and gate(known, "confirmation")["outcome"] == "not reached"
    wide = judge(probes=probes(learned_auroc=0.04, learned_auroc_low=-0.02, learned_auroc_high=0.1, p_learned=0.2))
    assert wide["verdict"] == "unresolved" and gate(wide, "learned")["outcome"] == "undecided"
    unknown = judge(probes=probes(**dict.fromkeys(("learned_auroc", "learned_auroc_low", "p_learned"), np.nan)))
    assert unknown["verdict"] == "unresolved"
    # One probe must show both: a gain of the residual is not saved by latents that learned, but gain nothing.
    table = probes(learned_auroc=0.0, learned_auroc_low=-0.1, learned_auroc_high=0.1)
    other = table["layer"] == 4
    table.loc[other, ["learned_auroc", "learned_auroc_low", "p_learned"]] = [0.2, 0.1, 0.001]
    assert judge(probes=table)["verdict"] == "unresolved"


def test_entangled_only_where_that_is_known():
    for changes in ({"selectivity": (0.02, -0.05, 0.09)}, {"damage": (0.7, 0.6, 0.8)}):
        found = judge(matched=pd.DataFrame(ablation(**changes)))
        assert found["verdict"] == "entangled"
        assert gate(found, "effect")["outcome"] == "passed"
    # Both are known to fail where one is.
    both = ablation(selectivity=(0.02, -0.05, 0.09), damage=(0.4, 0.1, 0.9))
    assert judge(matched=pd.DataFrame(both))["verdict"] == "entangled"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("selectivity", {"selectivity": (0.3, -0.05, 0.5)}),
        ("selectivity", {"selectivity": (0.05, 0.01, 0.1)}),
        ("selectivity", {"selectivity": (np.nan, np.nan, np.nan)}),
        ("damage", {"damage": (0.3, -0.1, 0.7)}),
        ("damage", {"damage": (0.6, 0.4, 0.8)}),
        ("damage", {"damage": (np.nan, np.nan, np.nan)}),
        ("effect", {"effect": (0.15, -0.2, 0.5)}),
        ("effect", {"effect": (np.nan, np.nan, np.nan)}),
    ],
)
def test_what_is_too_wide_or_not_known_is_unresolved(name, changes):
    found = judge(matched=pd.DataFrame(ablation(**changes)))
    assert found["verdict"] == "unresolved"
    assert gate(found, name)["outcome"] == "undecided"


def test_correlate_needs_an_edit_that_did_nothing():
    found = judge(matched=pd.DataFrame(ablation(effect=(0.02, -0.05, 0.1))))
    assert found["verdict"] == "correlate" and found["candidates"][0]["mechanism"] == ""
    # A real effect too small to count, and known to be.
    assert judge(matched=pd.DataFrame(ablation(effect=(0.1, 0.05, 0.15))))["verdict"] == "correlate"
    # Nothing was edited: no candidate was found, none was confirmed, or none could be ablated.
    for changes, why in (
        ({"candidates": pd.DataFrame([candidate()]).iloc[:0]}, "no candidate was found"),
        (
            {"candidates": pd.DataFrame([candidate(result=(0.2, 0.05, 0.2))])},
            "none of 1 candidates tried was confirmed",
        ),
        ({"candidates": pd.DataFrame([candidate(result=(np.nan,) * 3)])}, "none of 1 candidates tried was confirmed"),
        ({"matched": pd.DataFrame()}, "no confirmed candidate could be edited"),
    ):
        found = judge(**changes)
        assert found["verdict"] == "unresolved" and "nothing was edited" in found["reason"] and why in found["reason"]


def test_another_edit_target_must_show_the_effect_too():
    for second, outcome in (((0.0, -0.05, 0.05), "failed"), ((0.3, -0.1, 0.6), "undecided")):
        found = judge(matched=pd.DataFrame(ablation(second_target=second)))
        assert found["verdict"] == "unresolved" and "second edit target" in found["reason"]
        assert gate(found, "second_target")["outcome"] == outcome
    # It is asked last: what is entangled is entangled with any target.
    both = ablation(second_target=(0.0, -0.05, 0.05), selectivity=(0.02, -0.05, 0.09))
    assert judge(matched=pd.DataFrame(both))["verdict"] == "entangled"
    # A study may do without one.
    alone = pd.DataFrame([row for row in ablation() if row["kind"] != "second_target"])
    assert judge(matched=alone, second_target=False)["verdict"] == "foresight"
    # If it is asked for, what could not be measured does not pass.
    found = judge(matched=alone)
    assert found["verdict"] == "unresolved" and gate(found, "second_target")["outcome"] == "undecided"


@pytest.mark.parametrize(
    ("gained", "more", "sufficient"),
    [
        ((0.7, 0.4, 0.9), (0.6, 0.3, 0.8), "shown"),
        ((0.7, 0.4, 0.9), (0.3, -0.1, 0.6), "not shown"),
        ((0.05, 0.0, 0.1), (0.05, 0.0, 0.1), "excluded"),
        ((0.7, 0.4, 0.9), (0.0, -0.1, 0.05), "excluded"),
        ((np.nan,) * 3, (np.nan,) * 3, "not shown"),
    ],
)
def test_sufficiency_is_reported_and_decides_nothing(gained, more, sufficient):
    row = {"candidate": "c7"}
    for name, values in (("gained", gained), ("more_than_controls", more)):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    found = judge(sufficiency=pd.DataFrame([row]))
    assert found["verdict"] == "foresight" and found["candidates"][0]["sufficient"] == sufficient
    assert judge()["candidates"][0]["sufficient"] == ""


def test_a_confirmation_is_corrected_for_what_was_tried():
    """The p-value that counts is the corrected one, and what was tried in vain stays in the record."""
    tried = [candidate(7) | {"p_gain": 0.02, "p_adjusted": 0.08, "confirmed": False}, candidate(8, (0.0, 0.05, 0.6))]
    found = judge(candidates=pd.DataFrame(tried))
    assert found["verdict"] == "unresolved" and len(found["candidates"]) == 2
    assert "correction for the 2 tried" in found["candidates"][0]["gates"][0]["sentence"]


def test_without_a_usable_clip_nothing_is_known():
    silent = CLIPS | {
        "n_usable": 0,
        "unusable": {"audio: is silent": 192},
        "n_with_event": 0,
        "n_prompts_with_event": 0,
    }
    found = judge(clips=silent, probes=probes().iloc[:0])
    assert found["verdict"] == "unresolved" and "192 clips: audio: is silent" in found["reason"]
    one = judge(clips=CLIPS | {"n_usable": 191, "unusable": {"cannot be decoded": 1}})
    assert one["verdict"] == "foresight" and "1 clip: cannot be decoded" in gate(one, "usable_clips")["sentence"]


def test_a_study_is_what_its_best_candidate_is():
    candidates = pd.DataFrame([candidate(7), candidate(8), candidate(9)])
    of = {
        "correlate": ablation(7, effect=(0.0, -0.05, 0.05)),
        "entangled": ablation(8, selectivity=(0.0, -0.1, 0.09)),
        "foresight": ablation(9),
    }
    found = judge(candidates=candidates, matched=pd.DataFrame(of["correlate"] + of["entangled"] + of["foresight"]))
    assert [c["verdict"] for c in found["candidates"]] == list(of)
    assert found["verdict"] == "foresight" and found["reason"].startswith("layer 2, feature 9")
    assert gate(found, "selectivity")["value"] == 0.6
    found = judge(candidates=candidates.iloc[:2], matched=pd.DataFrame(of["correlate"] + of["entangled"]))
    assert found["verdict"] == "entangled"


@pytest.mark.parametrize(
    ("share", "mechanism"),
    [
        ((0.8, 0.6, 1.0), "stored"),
        ((0.1, 0.0, 0.3), "recomputed"),
        # A point estimate above or below the threshold is not enough.
        ((0.8, 0.4, 1.2), "undecided"),
        ((0.3, 0.1, 0.6), "undecided"),
        ((np.nan, np.nan, np.nan), "undecided"),
    ],
)
def test_mechanism_needs_all_of_the_interval_of_the_stored_fraction(share, mechanism):
    matched = pd.DataFrame(ablation() + ablation(window="prefix_only", stored_fraction=share))
    assert judge(matched=matched)["candidates"][0]["mechanism"] == mechanism


def test_a_random_dictionary_and_random_weights_decide_nothing():
    table = probes(long=NOTHING, local=NOTHING)
    others = [probe("long", STRONG, representation=r) for r in ("random_dictionary", "random_model")]
    found = judge(probes=pd.concat([table, pd.DataFrame(others)], ignore_index=True))
    checks = {check["name"]: check for check in found["checks"]}
    assert found["verdict"] == "none" and checks.keys() == {"shorter_horizons", "embedding", "random_model"}
    # Said, though it decides nothing by itself: memory of what the baseline no longer hears.
    assert checks["random_model"]["outcome"] == "failed"
    assert "the model with random weights predicts too" in checks["random_model"]["sentence"]


def test_the_verdict_is_json(tmp_path):
    for changes in ({}, {"matched": pd.DataFrame()}, {"probes": probes().iloc[:0]}):
        found = judge(**changes)
        write_json(tmp_path / "verdict.json", found)
        assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == found["verdict"]
