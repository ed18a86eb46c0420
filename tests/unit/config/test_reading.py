"""Files and the command line: what can't be read, what is said twice, and who is named."""

import copy
from pathlib import Path

import pytest

from reprise.config.errors import ConfigError
from reprise.config.reading import check_command_line, told_by
from reprise.config.validation import load_config, validate
from tests.unit.config.studies import STUDY


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("title: Réprise".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 at byte 8"):
        load_config(tmp_path / "latin.yaml")


def test_what_the_command_line_gives_is_not_blamed_on_a_file() -> None:
    file = {
        "studies": {"planner": STUDY, "other": STUDY | {"sead": 1}},
        "defaults": {"generation": {"temperature": 1}},
    }
    # As Snakemake reads it: numbers are text.
    given = {
        "studies": {"planner": {"seeds": ["-1"]}, "mine": {"seedz": ["1"]}},
        "defaults": {"generation": {"duration_s": "6"}, "labels": "3"},
        "report": {"titel": "x"},
        "foo": "1",
    }
    merged = copy.deepcopy(file)
    merged["studies"]["planner"] = STUDY | given["studies"]["planner"]
    merged["studies"]["mine"] = given["studies"]["mine"]
    merged["defaults"] = {"generation": {"temperature": 1, "duration_s": "6"}, "labels": "3"}
    merged |= {name: given[name] for name in ("report", "foo")}
    with pytest.raises(ConfigError) as caught:
        validate(merged, source=told_by({"c.yaml": file}, given), check_files=False)
    said = [line.split(";")[0] for line in caught.value.problems]
    for line in (
        "--config: unknown field 'foo'",
        "--config: report.titel: unknown field 'titel'",
        '--config: defaults.labels: got "3"',
        '--config: studies.planner.seeds.0: got "-1"',
        "--config: studies.mine.model.name: missing",
        "--config: studies.mine.seedz: unknown field 'seedz'",
        "c.yaml: studies.other.sead: unknown field 'sead'",
    ):
        assert any(found.startswith(line) for found in said), (line, said)
    # What is in the file does not fit what the command line gives.
    assert any(found.startswith("c.yaml, --config: studies.planner.events.motif_duration_s: ") for found in said)
    with pytest.raises(ConfigError, match=r"^--config: studies: missing; valid: at least one study"):
        validate({}, source=told_by({}, {"report": {}}))


def test_what_the_command_line_says_twice_is_refused() -> None:
    check_command_line(["--config", "studies={a: {seeds: [1]}, b: {}}", "seeds", "other={a: 1, a: 2}", "report={"])
    with pytest.raises(ConfigError) as caught:
        check_command_line(["-C", "studies={'a': {}, 'a': {}}", "report={}", "report={}"])
    assert caught.value.problems == (
        "--config: report is given twice; valid: once",
        "--config: studies: 'a' is given twice; valid: each key once",
    )
