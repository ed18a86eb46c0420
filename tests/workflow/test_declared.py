"""A study declares before it sees: no result that bears on its verdict is older than its first declaration, a later
declaration says what was known by then, and one that was altered by hand shows."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import snakemake, tiny_config, write_config

# What bears on the verdict, by the rule that makes it.
BEARING = {
    "events": "events/*.parquet",
    "measure_sae": "certificates/*.measured.json",
    "certify_sae": "certificates/layer?.json",
    "label": "labels/*.parquet",
    "baseline": "baselines/*.parquet",
    "probe": "probes/*/*",
    "screen": "screens/*/*.parquet",
    "candidates": "candidates.parquet",
    "estimate_power": "power.json",
    "verdict": "verdict.json",
}


def with_min_effect(value: float) -> dict:
    config = tiny_config()
    config["defaults"]["verdict"] = {"min_effect": value}
    return config


def rules_after(study: Path, rule: str) -> set[str]:
    """The rules that need what a rule makes, however indirectly."""
    graph = snakemake(study, "--rulegraph")
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', graph, re.M))
    edges = re.findall(r"^\s*(\d+) -> (\d+)$", graph, re.M)
    found, todo = set(), [rule]
    while todo:
        at = todo.pop()
        new = {names[b] for a, b in edges if names[a] == at} - found
        found |= new
        todo += new
    return found


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "study", symlinks=True)
    return tmp_path / "study"


def test_the_first_declaration_comes_before_every_result_that_bears_on_the_verdict(finished: Path) -> None:
    assert rules_after(finished, "declare_initial") >= BEARING.keys()
    results = finished / "results/tiny"
    declared = (results / "declared.json").stat().st_mtime_ns
    for pattern in BEARING.values():
        found = list(results.glob(pattern))
        assert found and all(path.stat().st_mtime_ns > declared for path in found), pattern


@pytest.mark.parametrize("deleted", [(), ("candidates", "candidates.parquet")])
def test_a_later_declaration_says_what_was_known(study: Path, deleted: tuple[str, ...]) -> None:
    for name in deleted:
        path = study / "results/tiny" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_config(study, with_min_effect(0.3))
    snakemake(study, "--cores", "2", "verdicts")
    second = json.loads((study / "results/tiny/preregistrations/001.json").read_text())
    # No feature was confirmed, so none was edited.
    assert second["known"] == "confirmations" and second["changed"] == ["thresholds.min_effect: 0.2 to 0.3"]
    found = json.loads((study / "results/tiny/verdict.json").read_text())["preregistration"]
    assert found["intact"] and [entry["known"] for entry in found["declarations"]] == ["nothing", "confirmations"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("preregistrations/000.json", "declaration 1 was changed after it was written"),
        ("preregistration.json", "preregistration.json is not the last declaration"),
        ("declared.json", "declared.json is not the first declaration"),
    ],
)
def test_a_declaration_that_was_altered_by_hand_shows(study: Path, name: str, problem: str) -> None:
    path = study / "results/tiny" / name
    altered = json.loads(path.read_text())
    altered["thresholds"]["min_effect"] = 0.01
    path.write_text(json.dumps(altered))
    snakemake(study, "--cores", "2", "--forcerun", "verdict")
    found = json.loads((study / "results/tiny/verdict.json").read_text())["preregistration"]
    assert not found["intact"] and any(text.startswith(problem) for text in found["problems"]), found["problems"]
    page = (study / "results/report/index.html").read_text()
    assert "The declaration was changed after it was written." in page and problem in page
