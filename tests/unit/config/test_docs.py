"""The files that are generated, and those that are shipped, in config/ and docs/."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from reprise.config.docs import default_yaml_text, schema_text, staleness_text
from reprise.config.fields import Settings
from reprise.config.schema import Study
from reprise.config.validation import load_config, validate
from tests.places import ROOT

PRESETS = sorted((ROOT / "config" / "presets").glob("*.yaml"))


@pytest.mark.parametrize("name, text", [("schema.json", schema_text), ("config.default.yaml", default_yaml_text)])
def test_generated_files_are_up_to_date(name: str, text: object) -> None:
    committed = (ROOT / "config" / name).read_text(encoding="utf-8")
    assert committed == text(), f"config/{name} is out of date: run python -m reprise.config.docs"  # type: ignore[operator]


def test_the_page_on_staleness_names_what_uses_each_module() -> None:
    page = (ROOT / "docs" / "staleness.md").read_text(encoding="utf-8")
    assert page == staleness_text(page), "docs/staleness.md is out of date: run python -m reprise.config.docs"
    assert (
        "| `reprise/targets/labels.py` |" in page
        and "| `reprise/probing/folds.py` | baseline, candidates, fit_das, probe" in page
    )


def test_the_default_file_states_every_field_at_its_default() -> None:
    raw = yaml.safe_load(default_yaml_text())
    assert validate(raw, check_files=False).studies["planner"] == Study.model_validate(raw["studies"]["planner"])
    merged = {**raw["defaults"], **raw["studies"]["planner"]}
    merged["model"] = {**raw["defaults"]["model"], **raw["studies"]["planner"]["model"]}
    for name, field in Study.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            assert set(merged[name]) == set(field.annotation.model_fields)
        else:
            assert name in merged


def test_every_field_is_described() -> None:
    schema = json.loads(schema_text())
    for owner, group in schema["$defs"].items():
        assert group["description"], owner
        for name, field in group["properties"].items():
            assert {"$ref", "anyOf"} & field.keys() or field["description"].endswith("."), f"{owner}.{name}"
            assert not name.endswith("_s") or field["unit"] == "s", f"{owner}.{name}"


@pytest.mark.parametrize(
    "path", [*(ROOT / "config" / f"{name}.yaml" for name in ("config", "wild")), *PRESETS], ids=lambda p: p.name
)
def test_shipped_configs_validate_by_model_and_by_schema(path: Path) -> None:
    load_config(path, base_dir=ROOT, check_files=False)
    raw = json.loads(json.dumps(yaml.safe_load(path.read_text())))  # JSON has text keys
    jsonschema.validate(raw, json.loads(schema_text()), cls=jsonschema.Draft202012Validator)
    raw["studies"][next(iter(raw["studies"]))]["sead"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, json.loads(schema_text()), cls=jsonschema.Draft202012Validator)
