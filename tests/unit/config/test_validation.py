"""Studies are merged with the defaults, and all problems are listed at once, each where it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

from reprise.config.errors import ConfigError
from reprise.config.validation import load_config, validate
from tests.places import ROOT
from tests.unit.config.studies import STUDY, checked, problems


def test_groups_merge_field_by_field_and_the_rest_is_replaced() -> None:
    study = checked(
        defaults={
            "generation": {"temperature": 0.5, "top_k": 7},
            "seeds": [5],
            "horizons": {"local": [0, 1], "far": [1, 2], "farther": [2, 3]},
            "saes": {9: "other"},
            "events": None,
        },
        generation={"top_k": 8},
        horizons={"local": [0, 1], "far": [3, 5]},
    ).studies["planner"]
    assert (study.generation.temperature, study.generation.top_k) == (0.5, 8)
    assert study.seeds == (5,)
    assert study.horizons == {"local": (0.0, 1.0), "far": (3.0, 5.0)}
    assert study.saes == {2: "sae"}


def test_all_problems_are_listed_at_once_and_checks_on_unsound_fields_are_left_out() -> None:
    found = problems(
        generation={"temperature": 0, "duration_s": 16000},
        horizons={"local": [0.5, 2], "long": [4, 100]},
        probes={"n_swaps": 3},
    )
    places = [line.split(": ")[1].removeprefix("studies.planner.") for line in found]
    # The horizon is not measured against a duration that is itself wrong.
    assert places == ["generation.duration_s", "generation.temperature", "probes.n_swaps"]


def test_a_fault_in_the_defaults_is_named_there_and_once() -> None:
    raw = {
        "defaults": {"generation": {"temperature": -1}, "model": {"name": "a/b"}, "saes": {0: "sae"}, "hirozons": {}},
        "studies": {"one": None, "two": {"generation": {"top_k": -1}}},
    }
    with pytest.raises(ConfigError) as caught:
        validate(raw, source="c.yaml", check_files=False)
    assert sorted(line.split(";")[0] for line in caught.value.problems) == [
        "c.yaml: defaults.generation.temperature: got -1",
        "c.yaml: defaults.hirozons: unknown field 'hirozons'",
        "c.yaml: studies.two.generation.top_k: got -1",
    ]
    assert "did you mean 'horizons'?" in str(caught.value)


def test_a_group_of_the_defaults_that_is_none_is_named_there() -> None:
    expected = "config.yaml: defaults.labels: got 0; valid: a group with the fields step_s, reviewed_only"
    assert problems(defaults={"labels": 0}, labels={"step_s": 1}) == (expected,)


BAD_FILES = {
    "studies: [": "c.yaml (line 1): expected the node content, but found '<stream end>'; valid: a YAML file",
    "studies:\n  a: {}\n  a: {}": "c.yaml (line 2): 'a' is given twice; valid: a YAML file",
    "": "c.yaml: got null; valid: a mapping with 'studies'",
    "studies:": "c.yaml: studies: missing; valid: at least one study, name: fields",
    "studies: [a]": 'c.yaml: studies: got ["a"]; valid: at least one study, name: fields',
    "studies: {a: here}": 'c.yaml: studies.a: got "here"; valid: a mapping of study fields',
    "studies: {a: {model: {name: x}, saes: {0: y}}}\ndefault: {}": "c.yaml: unknown field 'default'; did you mean "
    "'defaults'? valid: studies, defaults, report, organisms",
    "studies: {a: {model: {name: x}, saes: {0: y}}}\nseeds: [1]": "c.yaml: unknown field 'seeds'; it belongs to a "
    "study: did you mean defaults.seeds? valid: studies, defaults, report, organisms",
    "studies: {a: {model: {name: x}, saes: {0: y}}}\nreport: {titel: x}": "c.yaml: report.titel: unknown field "
    "'titel'; did you mean 'title'? valid: title",
    "studies: {a: {model: {name: x}, saes: {0: y}}}\ndefaults: 3": "c.yaml: defaults: got 3; valid: a mapping",
    "studies: {report: {model: {name: x}, saes: {0: y}}}": 'c.yaml: studies: got the name "report"; valid: a',
    "studies: {'a b': {model: {name: x}, saes: {0: y}}}": 'c.yaml: studies: got the name "a b"; valid: at most 60 '
    "lower-case letters",
}


@pytest.mark.parametrize("text, expected", BAD_FILES.items())
def test_a_bad_file_gives_one_line(text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", check_files=False)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("name", ["report", "logs", "benchmarks", "organisms"])
def test_a_study_is_not_named_like_another_folder_of_the_results(name: str) -> None:
    with pytest.raises(ConfigError, match="other than report, logs, benchmarks, corpora, organisms"):
        validate({"studies": {name: STUDY}}, check_files=False)


def test_a_study_with_a_name_too_long_for_files_is_refused() -> None:
    with pytest.raises(ConfigError, match="valid: at most 60 lower-case letters, digits, - and _ "):
        validate({"studies": {"a" * 61: STUDY}}, check_files=False)


@pytest.mark.parametrize("recipe", ["organisms", "calibration"])
def test_overrides_of_a_recipe_are_left_to_it(recipe: str) -> None:
    for overrides in (None, {"runs": 5}):
        validate({"studies": {"planner": STUDY}, recipe: overrides}, check_files=False)


def test_importing_the_config_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pandas", "audiocraft", "librosa", "huggingface_hub", "transformers")
    modules = "reprise.config.clips, reprise.config.corpora, reprise.config.reading, reprise.config.validation"
    code = f"import sys, {modules}; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
