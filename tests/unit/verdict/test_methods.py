"""What each method answers in a calibration run."""

import math
from typing import Any

import pytest

from reprise.verdict.methods import answers

KINDS = ("feature", "mean_difference", "probe")
NO_EDITS = {"feature": math.nan, "mean_difference": math.nan}


def record(verdict: str, *candidates: tuple[str, str], prediction: str = "passed") -> dict[str, Any]:
    """A study's verdict, with the gate of prediction, and edited candidates as (kind, verdict)."""
    gates = [{"name": "events", "outcome": "passed"}, {"name": "prediction", "outcome": prediction}]
    # The gates of the candidate that decided say nothing about the others.
    gates += [{"name": "selectivity", "outcome": "failed"}]
    tried = [{"kind": kind, "verdict": name, "edited": True} for kind, name in candidates]
    tried.append({"kind": "probe", "verdict": "foresight", "edited": False})
    return {"verdict": verdict, "gates": gates, "candidates": tried, "thresholds": {"min_effect": 0.2}}


def test_each_kind_is_judged_by_its_own_candidates() -> None:
    study = record("foresight", ("feature", "correlate"), ("mean_difference", "foresight"), ("feature", "entangled"))
    found = answers(study, [], NO_EDITS, kinds=KINDS)
    assert found["verdict"] == "foresight" == found["mean_difference"]
    assert found["feature"] == "entangled"
    # A candidate that was not edited answers nothing.
    assert found["probe"] == "unresolved"


@pytest.mark.parametrize("verdict", ["none", "local", "unresolved"])
def test_where_nothing_predicts_every_kind_says_what_the_study_says(verdict: str) -> None:
    study = record(verdict, prediction="failed" if verdict != "unresolved" else "undecided")
    found = answers(study, [], NO_EDITS, kinds=KINDS)
    assert {found[kind] for kind in KINDS} == {verdict}


def test_plain_methods_ask_for_one_number() -> None:
    study = record("none", prediction="failed")
    found = answers(study, [0.55, 0.61], {"feature": 0.2, "mean_difference": 0.19}, kinds=KINDS)
    assert found["raw probe"] == "foresight" == found["plain feature"] and found["plain mean difference"] == "none"
    nothing = answers(study, [0.55], NO_EDITS, kinds=KINDS)
    assert {nothing[name] for name in ("raw probe", "plain feature", "plain mean difference")} == {"none"}
    assert answers(study, [], NO_EDITS, kinds=())["raw probe"] == "none"
