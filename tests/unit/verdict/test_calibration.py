"""A calibration's runs share no clip, depend on their names alone, and are counted right."""

import math
from collections import Counter
from typing import Any

import pandas as pd
import pytest
import yaml
from scipy.stats import binomtest

from reprise.config.errors import ConfigError
from reprise.config.prompts import Prompt, read_prompts
from reprise.config.validation import validate
from reprise.organisms.truth import GROUND_TRUTH
from reprise.verdict.calibration import calibration_settings, draw, parse_run, run_names, run_settings
from reprise.verdict.calibration_runs import counted, run_record
from reprise.verdict.confusion import confusion, shares
from reprise.verdict.meanings import VERDICTS
from tests.places import ROOT

ASKED = yaml.safe_load((ROOT / "config" / "calibration.yaml").read_text())


def test_every_shipped_run_is_a_valid_study_and_no_two_share_a_clip() -> None:
    names = run_names(ASKED)
    n_runs = Counter(parse_run(name)[0] for name in names)
    assert len(names) == len(set(names)) and n_runs.keys() == ASKED["organisms"].keys()
    assert min(n_runs.values()) >= 12
    # If none of them is foresight, the exact 95 % interval of false foresight ends below 5 %.
    n_none = sum(n for organism, n in n_runs.items() if GROUND_TRUTH[organism]["verdict"] == "none")
    assert binomtest(0, n_none).proportion_ci().high < 0.05
    listed, used = read_prompts(ROOT / ASKED["prompts"]), {}
    for name in names:
        organism, _ = parse_run(name)
        raw = {"studies": {name.rpartition("/")[2]: run_settings(ASKED, name)}}
        (study,) = validate(raw, source="calibration.yaml", check_files=False).studies.values()
        prompts = draw(listed, ASKED["prompts_per_run"], name)
        assert len(prompts) == ASKED["prompts_per_run"] and [p for p in listed if p in prompts] == prompts
        clips = {(p.prompt, seed) for p in prompts for seed in study.seeds}
        assert not clips & used.setdefault(organism, set())
        used[organism] |= clips


def test_prompts_depend_on_the_runs_name_alone() -> None:
    prompts = [Prompt(f"p{i}", f"prompt {i}") for i in range(30)]
    first = draw(prompts, 10, "calibration/loop-03")
    assert first == [p for p in draw(prompts[::-1], 10, "calibration/loop-03")[::-1]]
    assert set(first) != set(draw(prompts, 10, "calibration/loop-04"))
    assert draw(prompts, 99, "calibration/loop-03") == prompts


@pytest.mark.parametrize("name", ["planner", "calibration/planner", "other/planner-00", "calibration/-01"])
def test_another_name_is_no_run(name: str) -> None:
    with pytest.raises(ValueError, match="is not a run"):
        parse_run(name)


def test_verdicts_are_counted_with_exact_intervals() -> None:
    runs = pd.DataFrame(
        [("planner", "foresight")] * 9 + [("planner", "unresolved")] + [("loop", "none")] * 10,
        columns=["organism", "verdict"],
    )
    counts = confusion(runs)
    assert list(counts) == ["planner", "loop"] and list(counts["loop"]) == list(VERDICTS)
    assert counts["planner"]["foresight"] == 9 and sum(counts["planner"].values()) == 10
    table = shares(counts, {"planner": "foresight", "loop": "none"}).set_index("organism")
    # Clopper and Pearson 1934, 95 %: 9 of 10, and 0 of 10.
    assert table.loc["planner", ["right_low", "right_high"]].tolist() == pytest.approx([0.5550, 0.9975], abs=1e-4)
    assert table.loc["loop", ["foresight_low", "foresight_high"]].tolist() == pytest.approx([0, 0.3085], abs=1e-4)
    assert table.loc["loop", "right_fraction"] == 1.0 and table.loc["planner", "n_foresight"] == 9


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (5, "c.yaml: calibration: got 5; valid: fields of config/calibration.yaml"),
        ({"runs": "two"}, 'c.yaml: calibration.runs: got "two"; valid: a whole number >= 1'),
        ({"runs": 0}, "c.yaml: calibration.runs: got 0; valid: a whole number >= 1"),
        ({"run": 2}, "c.yaml: calibration.run: unknown field 'run'; did you mean 'runs'?"),
        ({"organisms": {"parrot": "x"}}, "c.yaml: calibration.organisms: parrot has no known answer; valid: planner"),
        ({"own": {"parrot": {}}}, "c.yaml: calibration.own: parrot has no known answer; valid: planner"),
    ],
)
def test_bad_fields_are_named(given, line):
    assert calibration_settings(ASKED, None, source="c.yaml") == ASKED
    assert calibration_settings(ASKED, {"runs": 2}, source="c.yaml") == ASKED | {"runs": 2}
    with pytest.raises(ConfigError) as caught:
        calibration_settings(ASKED, given, source="c.yaml")
    (found,) = caught.value.problems
    assert found.startswith(line)


def a_run(study: str, verdict: str) -> dict[str, Any]:
    gate = {"name": "prediction", "value": 0.1, "low": 0.05, "high": 0.2, "outcome": "passed"}
    judged = {"study": study, "verdict": verdict, "reason": "because", "gates": [gate], "candidates": []}
    judged |= {"declared": {"candidates": {"kinds": ["feature"]}}, "thresholds": {"min_effect": 0.2}}
    return run_record(judged, {"feature": {"effect": None}, "mean_difference": {"effect": 0.5}}, [0.55, math.nan, 0.7])


def test_runs_are_counted_for_every_method() -> None:
    records = [a_run("calibration/planner-00", "foresight"), a_run("calibration/loop-03", "none")]
    assert (records[1]["organism"], records[1]["run"], records[1]["truth"]) == ("loop", 3, "none")
    assert records[0]["prediction_low"] == 0.05
    counts, methods = counted(records)
    assert counts["planner"]["foresight"] == counts["loop"]["none"] == 1 and sum(counts["planner"].values()) == 1
    # A probe whose AUROC is not known says nothing, and a fraction that is not known is no foresight.
    assert methods["raw probe"]["loop"]["foresight"] == 1 and methods["plain feature"]["planner"]["none"] == 1
    assert methods["plain mean difference"]["loop"]["foresight"] == 1 and methods["verdict"] == counts
    assert counted([]) == ({}, {})
