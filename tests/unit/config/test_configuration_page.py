"""The generated reference page of all settings."""

import re

from reprise.config.docs import configuration_text
from reprise.config.schema import Study
from reprise.targets.registry import BUILT_IN, target_of
from tests.places import ROOT


def test_the_configuration_page_is_up_to_date() -> None:
    committed = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert committed == configuration_text(), "docs/reference/configuration.md is out of date: run make docs"


def test_the_configuration_page_has_every_field_once() -> None:
    named = re.findall(r"^\| `([\w.]+)` \|", configuration_text(), re.MULTILINE)
    expected = ["report.title"]
    # A study has the fields of one target.
    expected += [f"events.{field}" for name in BUILT_IN for field in target_of(name).settings.model_fields]
    for name, value in Study.model_validate({"model": {"name": "a"}, "saes": {0: "b"}}).model_dump().items():
        if name == "events":
            continue
        nested = isinstance(value, dict) and name not in ("saes", "horizons")
        expected += [f"{name}.{field}" for field in value] if nested else [name]
    assert sorted(named) == sorted(expected)


def test_every_row_of_the_configuration_page_has_its_four_cells() -> None:
    rows = [line for line in configuration_text().splitlines() if line.startswith("|")]
    assert rows and all(len(re.split(r"(?<!\\)\|", row)) == 6 for row in rows)
