"""Every verdict and gate is said, and the truth of organisms stands beside it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from reprise.config.schema import ReportSettings
from reprise.report.numbers import interval
from reprise.report.views.verdict import GATES, gate_words
from reprise.storage.files import write_json
from reprise.targets.recurrence.view import WORDS
from reprise.verdict.meanings import VERDICTS, meanings
from tests.unit.report.html_page import Page
from tests.unit.report.results_folder import GAINS, run_script, write_card, write_study


@pytest.mark.parametrize("study", GAINS)
def test_every_verdict_and_gate_number_is_said(made: SimpleNamespace, page: Page, study: str) -> None:
    record = json.loads((made.root / "results" / study / "verdict.json").read_text())
    said = page.said(study)
    assert record["verdict"] == {"planner": "foresight", "improviser": "none", "quiet": "none"}[study]
    assert f"{study} {record['verdict']}" in said
    assert record["reason"] in said
    for gate in [*record["gates"], *record["checks"]]:
        title, digits, _, sense = gate_words(gate["name"], WORDS)
        assert title in said
        assert (gate["sentence"] if gate["outcome"] != "not reached" else f"{title} not reached") in said
        if gate["value"] is not None:
            assert interval(gate["value"], gate["low"], gate["high"], digits) in said
            assert f"{sense} {gate['threshold']:g}" in said


def test_every_verdict_and_gate_has_words() -> None:
    assert set(meanings(WORDS)) == set(VERDICTS)
    gates = {"events", "positive_clips", "negative_clips", "positive_prompts", "prediction"}
    assert gates | {"confirmation", "effect", "damage", "selectivity", "shorter_horizons"} <= set(GATES)
    assert ReportSettings().title


def test_truth_stands_beside_the_verdict_of_organisms_only(page: Page) -> None:
    said = page.said()
    assert "agrees with the truth for 2 of 2" in said
    assert "planner foresight foresight ✓ yes 0.21 [0.17, 0.26]" in said
    assert "improviser none none ✓ yes 0.01 [−0.04, 0.05] — — 5 of 12 gates passed; first not to" in said
    assert "Calibration · model organism" in page.said("planner")
    assert "Calibration" not in page.said("quiet") and "Built to be" not in page.said("quiet")
    # What is evidence comes before what is calibration.
    assert list(page.text) == ["", "quiet", "planner", "improviser"]
    assert "Only model organisms" not in said


def test_a_wrong_verdict_is_not_hidden(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path
    studies = {"improviser": write_study(root, "improviser", gains=GAINS["improviser"], candidates=False)}
    page = Page(run_script(root, monkeypatch, studies, [write_card(root, "improviser", "foresight")]))
    assert "agrees with the truth for 0 of 1" in page.said() and "✗ no" in page.said()
    assert "The verdict does not agree" in page.said("improviser")
    assert "Only model organisms were studied here" in page.said()


def test_an_organism_without_a_stated_truth_is_still_kept_apart(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    studies = {"quiet": write_study(tmp_path, "quiet", gains={}, candidates=False)}
    write_json(tmp_path / "resources" / "quiet" / "card.json", {"kind": "model organism"})
    page = Page(run_script(tmp_path, monkeypatch, studies, ["resources/quiet/card.json"]))
    assert "quiet not stated none —" in page.said() and "agrees with the truth" not in page.said()
    assert "Only model organisms were studied here" in page.said()
    assert "Calibration · model organism" in page.said("quiet")
