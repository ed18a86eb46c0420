"""Benchmarks run by hand and rarely: what they import must still be there, and the docs must show what they found."""

import importlib
from pathlib import Path

import pytest

import benchmarks
import reprise.models.audiocraft_setup  # noqa: F401
from benchmarks import gpu
from benchmarks.tables import all_tables, calibration_methods_table, calibration_table, with_tables
from benchmarks.true_size import study_config
from reprise.config.validation import validate
from tests.places import ROOT

NAMES = sorted(path.stem for path in Path(benchmarks.__file__).parent.glob("*.py") if path.stem[0] != "_")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_what_it_measures(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


def test_the_tables_of_the_docs_show_the_committed_records() -> None:
    tables = all_tables(ROOT / "benchmarks")
    shown = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        assert page == with_tables(page, tables), f"{path.name} is out of date: run python -m benchmarks tables"
        shown |= {name for name in tables if f"<!-- /{name} -->" in page}
    assert shown == tables.keys(), "a table that no page shows"


def test_the_study_of_a_true_size_is_a_valid_configuration(tmp_path: Path) -> None:
    (study,) = validate(study_config(tmp_path), check_files=False).studies.values()
    assert study.generation.batch_size > 1


def test_a_calibration_has_a_row_for_each_organism() -> None:
    table = calibration_table({"planner": {"foresight": 9, "none": 1}, "improviser": {"none": 10}})
    assert "| planner | foresight | 10 | foresight 9, none 1 | 90% (55 to 100) | 90% (55 to 100) |" in table
    assert "| improviser | none | 10 | none 10 | 100% (69 to 100) | 0% (0 to 31) |" in table


def test_methods_are_counted_against_the_truth_of_each_organism() -> None:
    of_verdict = {"planner": {"foresight": 9, "unresolved": 1}, "improviser": {"none": 10}}
    of_probe = {"planner": {"foresight": 10}, "improviser": {"foresight": 4, "none": 6}}
    table = calibration_methods_table({"verdict": of_verdict, "raw probe": of_probe})
    assert "| method | planner (`foresight`) | improviser (`none`) | false `foresight` |" in table
    assert "| verdict | 9 of 10 | 10 of 10 | 0 of 10 (0% to 31%) |" in table
    assert "| raw probe | 10 of 10 | 6 of 10 | 4 of 10 (12% to 74%) |" in table


def test_markers_of_a_table_that_is_not_known_are_an_error() -> None:
    with pytest.raises(ValueError, match="table: sped unknown; valid: speed"):
        with_tables("<!-- sped: x -->\n<!-- /sped -->\n", {"speed": ""})


def test_a_record_that_is_missing_leaves_a_page_that_says_so(tmp_path: Path) -> None:
    assert all_tables(tmp_path)["seeds"] == "Not measured yet.\n"


def test_the_gpu_script_runs_without_a_gpu() -> None:
    plan = gpu.Plan("cpu", {"tiny": gpu.TINY}, (1, 2), 20)
    found = gpu.tokens(plan)
    assert found["as_on_the_processor"] == 1.0 and found["as_transformers"] > 0.98
    assert gpu.dose_0(plan) == {"unchanged_tokens": 1.0, "changed_at_dose_4": 1.0, "streams_equal": True}
    speeds = list(gpu.generation(plan))[-1]["tiny"]
    assert speeds.keys() == {"ours", "transformers", "audiocraft"}
    assert all(of.keys() == {"1", "2"} and min(of.values()) > 0 for of in speeds.values())
