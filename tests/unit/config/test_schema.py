"""The config model: bad input gives one readable line each; generated files match; batches are stable."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.config.clips import ClipRow, assign_batches, clips_table
from reprise.config.corpora import corpus_name
from reprise.config.cross_checks import MAX_SEED
from reprise.config.docs import default_yaml_text, schema_text, staleness_text
from reprise.config.errors import ConfigError, not_one_line
from reprise.config.fields import Settings
from reprise.config.horizons import horizon_name, parse_horizon_name
from reprise.config.prompts import MAX_ID, Prompt, as_models_read, read_prompts
from reprise.config.reading import check_command_line, told_by
from reprise.config.schema import Config, Study, VerdictSettings
from reprise.config.validation import load_config, validate
from reprise.organisms import score
from reprise.targets.recurrence.events import EventSettings
from reprise.verdict.preregistration import Thresholds
from tests.conftest import put_on_hub
from tests.places import ROOT

PRESETS = sorted((ROOT / "config" / "presets").glob("*.yaml"))
STUDY = {"model": {"name": "facebook/musicgen-small"}, "saes": {2: "sae"}}


def checked(*, defaults: dict | None = None, **study: object) -> Config:
    raw = {"studies": {"planner": {**copy.deepcopy(STUDY), **study}}, **({"defaults": defaults} if defaults else {})}
    return validate(raw, source="config.yaml", check_files=False)


def problems(*, defaults: dict | None = None, **study: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        checked(defaults=defaults, **study)
    return caught.value.problems


def test_defaults_fill_a_study_that_states_only_what_it_must() -> None:
    study = checked().studies["planner"]
    assert study.generation.duration_s == 16.0
    assert study.seeds == (0, 1, 2, 3)
    assert study.horizons == {"local": (0.5, 2.0), "medium": (2.0, 4.0), "long": (4.0, 8.0)}
    assert study.longer_roles == ("medium", "long")
    assert study.layers == (2,)


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


def test_a_validated_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        checked().studies["planner"].generation.top_k = 3  # type: ignore[misc]


# Each: what a study states, and the one line expected (without the file's name).
BAD_FIELDS = {
    "unknown field": (
        {"generation": {"topk": 5}},
        "studies.planner.generation.topk: unknown field 'topk'; did you mean 'top_k'? valid: duration_s, temperature, "
        "top_k, top_p, cfg_coef, n_batches, rows",
    ),
    "field of another group": (
        {"generation": {"context_s": 2}},
        "studies.planner.generation.context_s: unknown field 'context_s'; did you mean 'descriptors.context_s'? "
        "valid: duration_s, temperature, top_k, top_p, cfg_coef, n_batches, rows",
    ),
    "negative": (
        {"generation": {"temperature": -1}},
        "studies.planner.generation.temperature: got -1; valid: a number > 0",
    ),
    "no learning rate": (
        {"sae_training": {"learning_rate": 0}},
        "studies.planner.sae_training.learning_rate: got 0; valid: a number > 0, or null",
    ),
    "two of a kind": (
        {"generation": {"top_p": 0.9}},
        "studies.planner.generation.top_p: got 0.9 beside top_k 100; valid: one of the two, the other 0",
    ),
    "zero": ({"labels": {"step_s": 0}}, "studies.planner.labels.step_s: got 0; valid: seconds >= 0.01 and <= 600"),
    "text": (
        {"generation": {"rows": "many"}},
        'studies.planner.generation.rows: got "many"; valid: a whole number >= 1',
    ),
    "fraction": (
        {"generation": {"n_batches": 1.5}},
        "studies.planner.generation.n_batches: got 1.5; valid: a whole number >= 1",
    ),
    "truth value": (
        {"probes": {"n_folds": True}},
        "studies.planner.probes.n_folds: got true; valid: a whole number >= 2",
    ),
    "not a number": (
        {"generation": {"cfg_coef": float("nan")}},
        "studies.planner.generation.cfg_coef: got NaN; valid: a number >= 1",
    ),
    "empty": (
        {"events": {"max_p_value": None}},
        "studies.planner.events.max_p_value: missing; valid: a number > 0 and < 1",
    ),
    "percent": (
        {"screen": {"max_active": 60}},
        "studies.planner.screen.max_active: got 60; valid: a share, not percent, >= 0 and <= 1",
    ),
    "milliseconds": (
        {"generation": {"duration_s": 16000}},
        "studies.planner.generation.duration_s: got 16000 (is this in seconds? it looks like milliseconds or "
        "samples); valid: seconds >= 1 and <= 600",
    ),
    "a choice": (
        {"model": {"name": "a/b", "device": "gpu"}},
        'studies.planner.model.device: got "gpu"; valid: one of auto, cpu, cuda',
    ),
    "a choice in a list": (
        {"probes": {"representations": ["resid", "saes"]}},
        'studies.planner.probes.representations.1: got "saes"; '
        "valid: one of resid, sae, embedding, random_dictionary, random_model",
    ),
    "a repeated seed": (
        {"seeds": [1, 1]},
        "studies.planner.seeds: got [1, 1]: 1 is there twice; valid: a list, each a whole number >= 0",
    ),
    "a negative seed": ({"seeds": [-1]}, "studies.planner.seeds.0: got -1; valid: a whole number >= 0"),
    "no seeds": ({"seeds": []}, "studies.planner.seeds: got []; valid: a list, each a whole number >= 0"),
    "a group that is none": (
        {"labels": 0.5},
        "studies.planner.labels: got 0.5; valid: a group with the fields step_s, reviewed_only",
    ),
    "no model": (
        {"model": {}},
        "studies.planner.model.name: missing; valid: a hub id such as facebook/musicgen-small, or a directory such as "
        "resources/planner",
    ),
    "no SAE": (
        {"saes": {}},
        "studies.planner.saes: got {}; valid: layer: directory, place on the hub or train, such as 2: "
        "resources/planner/sae/layer2, 2: hf://owner/name/folder@<commit> or 2: train",
    ),
    "a layer's name": (
        {"saes": {"layer2": "sae"}},
        'studies.planner.saes.layer2: got "layer2"; valid: layer: directory, place on the hub or train, such as 2: '
        "resources/planner/sae/layer2, 2: hf://owner/name/folder@<commit> or 2: train",
    ),
    "a return window that leaves nothing else": (
        {"ablation": {"return_window_s": [0, 6]}},
        "studies.planner.ablation.return_window_s: got [0, 6], which leaves 0 s of a continuation of 8 s; valid: "
        "[from, to] that leave 1 s or more before and after a return, to measure damage in",
    ),
    "half a horizon": (
        {"horizons": {"local": [0.5], "long": [4, 8]}},
        "studies.planner.horizons.local.1: missing; valid: one named local and a longer one, [from, to] in seconds "
        "with 0 <= from < to, such as {local: [0.5, 2], long: [4, 8]}",
    ),
}


@pytest.mark.parametrize("study, expected", BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_bad_field_gives_one_line_with_file_field_value_and_what_is_valid(study: dict, expected: str) -> None:
    assert problems(**study) == (f"config.yaml: {expected}",)


BAD_TOGETHER = {
    "beyond the clip": (
        {"horizons": {"local": [0.5, 2], "long": [4, 10]}},
        "studies.planner.horizons.long: got [4, 10] does not fit: motif end 4 s + context_s 3 s + 10 s = 17 s, and a "
        "clip has 16 s; valid: an end of at most 9 (is it in seconds?)",
    ),
    "no whole return": (
        {"horizons": {"local": [0.5, 2], "long": [7.5, 8]}},
        "studies.planner.horizons.long: got [7.5, 8] can never hold a whole return of 2 s: motif end 4 s + "
        "context_s 3 s + 7.5 s, and a clip has 16 s; valid: a start of at most 7",
    ),
    "backwards": (
        {"horizons": {"local": [0.5, 2], "long": [4, 3]}},
        "studies.planner.horizons.long: got [4, 3]; valid: [from, to] in seconds with from < to",
    ),
    "twice the same": (
        {"horizons": {"local": [0.5, 2], "long": [4, 8], "longer": [4, 8.0]}},
        "studies.planner.horizons.longer: got [4, 8], the same as long; valid: a different horizon for each role",
    ),
    "too fine for a name": (
        {"horizons": {"local": [0.5, 2], "long": [4, 7.1234567]}},
        "studies.planner.horizons.long: got [4.0, 7.1234567]; valid: at most six digits, since they name a directory",
    ),
    "no local": (
        {"horizons": {"near": [0.5, 2], "long": [4, 8]}},
        "studies.planner.horizons: no horizon named 'local' among near, long; valid: one named local and a longer one",
    ),
    "none longer": (
        {"horizons": {"local": [0.5, 2], "long": [1, 8]}},
        "studies.planner.horizons: none is longer than local; valid: at least one that begins at 2 s, where local "
        "ends, or later",
    ),
    "no room for the motif": (
        {"generation": {"duration_s": 7}},
        "studies.planner.events.motif_duration_s: motif end 4 s + context_s 3 s is 7 s, and a clip has 7 s; valid: a "
        "motif and a context that leave room in the clip (are these in seconds?)",
    ),
    "prefix too long": (
        {"ablation": {"prefix_s": 12}},
        "studies.planner.ablation.prefix_s: got 12; valid: 7 (motif end + context_s) to 8 (clip less the longest "
        "horizon)",
    ),
    "too few surrogates": (
        {"events": {"n_surrogates": 18}},
        "studies.planner.events.n_surrogates: got 18, too few for any p-value to reach events.max_p_value 0.05; "
        "valid: at least 19",
    ),
    "too few swaps": (
        {"probes": {"alpha": 0.01, "n_swaps": 398}},
        "studies.planner.probes.n_swaps: got 398, too few for any p-value to reach probes.alpha 0.01 / 4 tests "
        "(layers x representations x shorter horizons); valid: at least 399",
    ),
    "no random model": (
        {"probes": {"representations": ["resid", "sae"]}},
        "studies.planner.probes.representations: got resid, sae; valid: also random_model, which the learned gain is "
        "judged by",
    ),
    "more candidates than tried": (
        {"screen": {"max_tried": 1}},
        "studies.planner.screen.max_candidates: got 2, the default; valid: at most max_tried, 1",
    ),
    "damage beyond what is counted": (
        {"verdict": {"max_damage": 1.5}},
        "studies.planner.verdict.max_damage: got 1.5; valid: a number (nats per token) > 0 and < 1",
    ),
    "no evidence": (
        {"probes": {"representations": ["embedding"]}},
        "studies.planner.probes.representations: got embedding; valid: at least one of resid, sae, on which the "
        "verdict rests",
    ),
    "no dose of 1": (
        {"ablation": {"doses": [0.5, 2]}},
        "studies.planner.ablation.doses: got [0.5, 2.0]; valid: a list with 1 in it, on which the verdict rests",
    ),
    "not until the event": (
        {"ablation": {"windows": ["prefix_only"]}},
        'studies.planner.ablation.windows: got ["prefix_only"]; valid: a list with until_event in it, on which the '
        "verdict rests",
    ),
    "candidates above events": (
        {"events": {"min_score": 0.3}},
        "studies.planner.events.candidate_score: got 0.4; valid: at most events.min_score, 0.3",
    ),
    "an empty band": (
        {"screen": {"min_active": 0.7}},
        "studies.planner.screen.min_active: got 0.7; valid: below screen.max_active, 0.6",
    ),
}


@pytest.mark.parametrize("study, expected", BAD_TOGETHER.values(), ids=BAD_TOGETHER.keys())
def test_fields_that_do_not_go_together(study: dict, expected: str) -> None:
    assert problems(**study) == (f"config.yaml: {expected}",)


def test_a_horizon_may_end_exactly_with_the_clip() -> None:
    study = checked(horizons={"local": [0.5, 2], "long": [4, 9]}, ablation={"prefix_s": 7}).studies["planner"]
    assert study.horizons["long"] == (4.0, 9.0)
    # 2 + 2 + 3.1 + 8.9 is not 16 in floating point.
    checked(descriptors={"context_s": 3.1}, horizons={"local": [0.5, 2], "long": [4, 8.9]}, ablation={"prefix_s": 7.1})


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
    "studies:\n  a: {}\n  a: {}": "c.yaml (line 2): 'a' is there twice; valid: a YAML file",
    "": "c.yaml: got null; valid: a mapping with 'studies'",
    "studies:": "c.yaml: studies: missing; valid: at least one study, name: fields",
    "studies: [a]": 'c.yaml: studies: got ["a"]; valid: at least one study, name: fields',
    "studies: {a: here}": 'c.yaml: studies.a: got "here"; valid: a mapping of study fields',
    "studies: {a: {model: {name: x}, saes: {0: y}}}\ndefault: {}": "c.yaml: unknown field 'default'; did you mean "
    "'defaults'? valid: studies, defaults, report, organisms",
    "studies: {a: {model: {name: x}, saes: {0: y}}}\nseeds: [1]": "c.yaml: unknown field 'seeds'; it is a field of a "
    "study: did you mean defaults.seeds? valid: studies, defaults, report, organisms",
    "studies: {a: {model: {name: x}, saes: {0: y}}}\nreport: {titel: x}": "c.yaml: report.titel: unknown field "
    "'titel'; did you mean 'title'? valid: title",
    "studies: {a: {model: {name: x}, saes: {0: y}}}\ndefaults: 3": "c.yaml: defaults: got 3; valid: a mapping",
    "studies: {report: {model: {name: x}, saes: {0: y}}}": 'c.yaml: studies: got the name "report"; valid: a',
    "studies: {'a b': {model: {name: x}, saes: {0: y}}}": 'c.yaml: studies: got the name "a b"; valid: a directory',
}


@pytest.mark.parametrize("text, expected", BAD_FILES.items())
def test_a_bad_file_gives_one_line(text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config("c.yaml", check_files=False)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(expected)


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
        "--config: studies: 'a' is there twice; valid: each key once",
    )


# --- files a study names ---


def project(folder: Path, n_prompts: int = 6) -> dict:
    """A folder with everything a study names, and the study."""
    planner = ROOT / "resources" / "planner"
    shutil.copytree(planner, folder / "models" / "tiny", ignore=shutil.ignore_patterns("sae"))
    shutil.copytree(planner / "sae" / "layer2", folder / "sae")
    rows = "".join(f"p{i}\tmusic {i}\n" for i in range(n_prompts))
    (folder / "prompts.tsv").write_text(f"prompt_id\tprompt\n{rows}")
    return {"model": {"name": "models/tiny"}, "saes": {2: "sae"}, "prompts": "prompts.tsv"}


def test_an_sae_directory_without_its_files_is_named(tmp_path: Path) -> None:
    study = project(tmp_path)
    (tmp_path / "sae" / "sae_weights.safetensors").unlink()
    assert file_problems(tmp_path, study) == [
        'c.yaml: studies.a.saes.2: "sae" has only cfg.json; valid: SAELens: cfg.json and sae_weights.safetensors; '
        "sparsify: cfg.json and sae.safetensors; dictionary_learning: config.json and ae.pt; "
        "DC-SAE: model.json and model.safetensors"
    ]


def test_groups_are_needed_where_they_are_asked_for(tmp_path: Path) -> None:
    study = {**project(tmp_path), "events": {"others": ["group"]}}
    (line,) = [line for line in file_problems(tmp_path, study) if "events.others" in line]
    assert "prompts.tsv has no column group" in line


def test_a_truth_value_inside_a_horizon_is_none() -> None:
    (line,) = problems(horizons={"local": [True, 2], "long": [4, 8]})
    assert "horizons" in line and "true" in line


@pytest.mark.parametrize("name", ["report", "logs", "benchmarks", "organisms"])
def test_a_study_is_not_named_like_another_folder_of_the_results(name: str) -> None:
    with pytest.raises(ConfigError, match="other than report, logs, benchmarks, corpora, organisms"):
        validate({"studies": {name: STUDY}}, check_files=False)


def file_problems(folder: Path, study: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate({"studies": {"a": study}}, base_dir=folder, source="c.yaml")
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


def test_files_that_are_there_pass(tmp_path: Path) -> None:
    validate({"studies": {"a": project(tmp_path)}}, base_dir=tmp_path)


def test_what_was_not_fetched_is_named_with_its_field(tmp_path: Path, hub_cache: Path) -> None:
    """Each with its cache and the command; the texts are those of reprise/checkpoints/weights.py."""
    commit = "a" * 40
    study = {**project(tmp_path), "model": {"name": "facebook/musicgen-small"}, "saes": {2: f"hf://a/b/c@{commit}"}}
    model, encoder, sae = file_problems(tmp_path, study)
    assert model.startswith("c.yaml: studies.a.model.name: facebook/musicgen-small is not in the cache hub; ")
    assert model.endswith("run hf download facebook/musicgen-small state_dict.bin compression_state_dict.bin")
    assert encoder.startswith('c.yaml: studies.a.model.name: "facebook/musicgen-small" reads prompts with t5-base, ')
    assert sae.startswith(f"c.yaml: studies.a.saes.2: hf://a/b/c@{commit} is not in the cache hub; ")
    assert sae.endswith(f"run hf download a/b --revision {commit} --include 'c/*'")
    # They are fetched: nothing is missing.
    planner = ROOT / "resources" / "planner"
    checkpoints = {name: planner / name for name in ("state_dict.bin", "compression_state_dict.bin")}
    put_on_hub(hub_cache, "facebook/musicgen-small", checkpoints)
    files = {f"c/{path.name}": path for path in (planner / "sae" / "layer2").iterdir()}
    put_on_hub(hub_cache, "a/b", files, commit=commit, main=False)
    validate({"studies": {"a": study}}, base_dir=tmp_path)


def test_what_the_model_does_not_have_is_said_before_it_is_loaded(tmp_path: Path) -> None:
    study = {**project(tmp_path), "saes": {2: "sae", 6: "sae"}, "generation": {"duration_s": 25}}
    assert file_problems(tmp_path, study) == [
        "c.yaml: studies.a.saes: layer 6 is not in models/tiny; valid: 0 to 5 (0-based: some papers count the same "
        "layer as 7)",
        "c.yaml: studies.a.generation.duration_s: got 25; valid: at most 20, which models/tiny can see at once",
        'c.yaml: studies.a.saes.6: "sae" says that it is of layer 2; valid: the SAE of layer 6 (layers are 0-based)',
    ]


def test_files_that_are_missing_are_all_named(tmp_path: Path) -> None:
    study = {**project(tmp_path), "saes": {2: "sae", 4: "sae4"}, "prompts": "none.tsv", "model": {"name": "models/x"}}
    assert file_problems(tmp_path, study) == [
        'c.yaml: studies.a.model.name: there is no directory "models/x"; valid: a hub id, or a directory with '
        "state_dict.bin and compression_state_dict.bin",
        'c.yaml: studies.a.saes.4: there is no directory "sae4"; valid: the directory of layer 4\'s SAE',
        "c.yaml: studies.a.prompts: none.tsv: cannot be read (No such file or directory); valid: a readable text file",
    ]


def test_a_model_directory_needs_both_files(tmp_path: Path) -> None:
    study = project(tmp_path)
    (tmp_path / "models/tiny/state_dict.bin").unlink()
    assert file_problems(tmp_path, study) == [
        'c.yaml: studies.a.model.name: "models/tiny": state_dict.bin is missing; valid: a directory with '
        "state_dict.bin and compression_state_dict.bin, whole"
    ]


def test_counts_are_checked_against_the_prompts(tmp_path: Path) -> None:
    study = {**project(tmp_path, 4), "seeds": [0, 1], "certificate": {"n_clips": 8}}
    assert file_problems(tmp_path, study) == [
        "c.yaml: studies.a.ablation.n_clips: got 24, the default; valid: at most the study's 8 clips "
        "(4 prompts x 2 seeds)",
        "c.yaml: studies.a.probes.n_folds: got 5; valid: at most the study's 4 prompts",
    ]


def test_an_sae_to_be_trained_needs_no_directory_but_clips_to_spare(tmp_path: Path) -> None:
    study = {**project(tmp_path, 12), "saes": {2: "sae", 4: "train"}, "certificate": {"n_clips": 24}}
    found = validate({"studies": {"a": study}}, base_dir=tmp_path).studies["a"]
    assert found.trained_layers == (4,) and found.layers == (2, 4)
    study["certificate"] = {"n_clips": 25}
    assert file_problems(tmp_path, study) == [
        "c.yaml: studies.a.certificate.n_clips: got 25, and these clips are kept out of the SAE's training; valid: "
        "at most half of the study's 48 clips (12 prompts x 4 seeds)"
    ]
    validate({"studies": {"a": study | {"saes": {2: "sae"}}}}, base_dir=tmp_path)


def test_a_bad_prompts_file_shared_by_studies_is_reported_once(tmp_path: Path) -> None:
    study = project(tmp_path)
    (tmp_path / "prompts.tsv").write_text("prompt_id\tprompt\na b\tmusic\n")
    with pytest.raises(ConfigError) as caught:
        validate({"studies": {"a": study, "b": study}}, base_dir=tmp_path)
    expected = f'{tmp_path}/prompts.tsv: line 2: prompt_id "a b"; valid: letters, digits and hyphens'
    assert caught.value.problems == (expected,)


@pytest.mark.parametrize("recipe", ["organisms", "calibration"])
def test_overrides_of_a_recipe_are_left_to_it(recipe: str) -> None:
    for overrides in (None, {"runs": 5}):
        validate({"studies": {"planner": STUDY}, recipe: overrides}, check_files=False)


# --- prompts and clips ---


def prompt_problems(folder: Path, text: str) -> list[str]:
    (folder / "p.tsv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_prompts(folder / "p.tsv")
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


def test_prompts_are_read_in_order_with_commas_quotes_and_byte_order_mark(tmp_path: Path) -> None:
    text = '\ufeffprompt_id\tprompt\r\nb-1\t"slow, sad ""waltz"""\r\n\r\na\t café \r\n'
    (tmp_path / "p.tsv").write_text(text, encoding="utf-8")
    assert read_prompts(tmp_path / "p.tsv") == [Prompt("b-1", 'slow, sad "waltz"'), Prompt("a", "café")]


def test_prompts_may_have_a_group(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("prompt_id\tprompt\tgroup\na\tone\tpiano\nb\ttwo\t\n")
    assert read_prompts(tmp_path / "p.tsv") == [Prompt("a", "one", "piano"), Prompt("b", "two", "")]
    assert prompt_problems(tmp_path, "prompt_id\tprompt\tgroup\na\tone\n") == [
        "p.tsv: line 2: 2 cells; valid: prompt_id, prompt and group, separated by one tab"
    ]


def test_every_bad_prompt_is_named_with_its_line(tmp_path: Path) -> None:
    text = "prompt_id\tprompt\na\tone\nA\ttwo\nb_c\tthree\nd\t\ne\tONE\nf\n\tfour\n"
    assert prompt_problems(tmp_path, text) == [
        'p.tsv: line 3: prompt_id "A" is on line 2 already; valid: each only once',
        'p.tsv: line 4: prompt_id "b_c"; valid: letters, digits and hyphens',
        'p.tsv: line 5: prompt "d" is empty; valid: some text',
        'p.tsv: line 6: prompt "e" is to a model the same as "a" on line 2, "ONE"; valid: each text once, '
        "under one id",
        "p.tsv: line 7: 1 cells; valid: prompt_id and prompt, separated by one tab",
        'p.tsv: line 8: prompt_id ""; valid: letters, digits and hyphens',
    ]


@pytest.mark.parametrize("one", ["\n", "\r\n", "\u2028", "\x0b", "\x85"], ids=["LF", "CR LF", "LS", "VT", "NEL"])
def test_a_prompt_with_a_line_break_in_it_is_refused_and_never_read_as_one_word(one: str, tmp_path: Path) -> None:
    text = f'prompt_id\tprompt\na\t"warm piano{one}slow tempo"\nb_\tcalm organ\n'
    (tmp_path / "p.tsv").write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        read_prompts(tmp_path / "p.tsv")
    first, second = caught.value.problems
    assert first.startswith(f'{tmp_path}/p.tsv: line 2: prompt "a" is "warm piano')
    assert first.endswith("; valid: one line of text") and "holds a line break (U+" in first
    # Lines are still those that an editor shows.
    assert second.startswith(f"{tmp_path}/p.tsv: line {4 if one.endswith(chr(10)) else 3}: prompt_id")


def test_nul_and_its_like_are_refused_and_a_tab_in_quotes_is_a_space(tmp_path: Path) -> None:
    (line,) = prompt_problems(tmp_path, "prompt_id\tprompt\na\tpia\x00no\n")
    assert "holds a control character (U+0000)" in line
    (tmp_path / "p.tsv").write_text('prompt_id\tprompt\na\t"warm\tpiano"\n')
    assert read_prompts(tmp_path / "p.tsv") == [Prompt("a", "warm\tpiano")]


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    assert prompt_problems(tmp_path, "prompt_id\tprompt\tprompt\na\tpiano\torgan\n") == [
        "p.tsv: line 1: the header has prompt twice; valid: each column once"
    ]


@pytest.mark.parametrize(
    "one, other",
    [
        ("piano theme", "piano  theme"),
        ("piano theme", "piano\u00a0theme"),
        ("piano theme", "piano\u200btheme"),
        ("piano theme", "piano\ttheme"),
        ("café piano", "cafe\u0301 piano"),
        ("fine piano", "\ufb01ne piano"),
        ("piano 4/4", "piano ４/4"),
    ],
)
def test_prompts_that_are_the_same_to_a_model_are_refused_as_a_pair(one: str, other: str, tmp_path: Path) -> None:
    assert prompt_problems(tmp_path, f'prompt_id\tprompt\na\t{one}\nx\torgan\nb\t"{other}"\n') == [
        f'p.tsv: line 4: prompt "b" is to a model the same as "a" on line 2, {json.dumps(other, ensure_ascii=False)}; '
        "valid: each text once, under one id"
    ]


def test_one_text_under_two_ids_is_refused_and_what_a_model_tells_apart_is_not(tmp_path: Path) -> None:
    (line,) = prompt_problems(tmp_path, "prompt_id\tprompt\na\tpiano\nb\tpiano\n")
    assert line.startswith('p.tsv: line 3: prompt "b" is the same as "a" on line 2, "piano"; valid: each text once')
    (tmp_path / "p.tsv").write_text("prompt_id\tprompt\na\tpiano, slow\nb\tpiano slow\nc\tcafé\nd\tcafe\n")
    assert len(read_prompts(tmp_path / "p.tsv")) == 4


def test_texts_are_the_same_where_t5s_tokenizer_says_so() -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    t5 = sentencepiece.SentencePieceNormalizer(
        rule_name="nmt_nfkc", remove_extra_whitespaces=True, add_dummy_prefix=False, escape_whitespaces=False
    )
    for code in [*range(0x20, 0x7F), *range(0xA0, 0x1200), *range(0x2000, 0x2600), *range(0xFB00, 0xFB50), 0xFEFF]:
        text = f"a{chr(code)}B  c "
        if not_one_line(text) or code == 0x344:  # one combining mark, which Unicode takes for two
            continue
        assert as_models_read(text) == as_models_read(t5.Normalize(text)), hex(code)


def test_a_name_too_long_for_files_is_refused_beforehand(tmp_path: Path) -> None:
    assert prompt_problems(tmp_path, f"prompt_id\tprompt\n{'a' * 250}\tpiano\n") == [
        f'p.tsv: line 2: prompt_id "{"a" * 56}... has 250 characters; valid: at most {MAX_ID}, since it names files'
    ]
    # With the largest seed, and with what is played of a candidate's conditions.
    longest = f"{'a' * MAX_ID}-s{MAX_SEED}--random_direction-prefix_only-d1.flac"
    assert len(longest) <= 143
    (line,) = problems(seeds=[1, 10**40])
    assert line == f"config.yaml: studies.planner.seeds.1: got a number of 41 digits; valid: at most {MAX_SEED}, " + (
        "as tables hold it"
    )
    with pytest.raises(ConfigError, match="a directory's name of at most 60 lower-case letters"):
        validate({"studies": {"a" * 61: STUDY}}, check_files=False)
    long_name = Study.model_validate({"model": {"name": "m" * 250}, "saes": {2: "sae"}})
    assert len(corpus_name(long_name)) <= 143


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "p.tsv: no prompts; valid: a header and at least one prompt"),
        ("prompt_id\tprompt\n", "p.tsv: no prompts; valid: a header and at least one prompt"),
        (
            "id\tprompt\na\tb\n",
            'p.tsv: line 1: the header is ["id", "prompt"]; valid: the columns prompt_id, prompt',
        ),
        ("prompt_id,prompt\na,b\n", 'p.tsv: line 1: the header is ["prompt_id,prompt"]; valid: the columns'),
        ('prompt_id\tprompt\na\t"b" c\n', "p.tsv: line 2: '\t' expected after '\"'; valid: cells separated by a tab"),
    ],
)
def test_a_prompts_file_that_is_none(text: str, expected: str, tmp_path: Path) -> None:
    found = prompt_problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(expected)


ids = st.lists(st.text("abcXYZ019-", min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(prompt_ids=ids, n_batches=st.integers(1, 12), data=st.data())
def test_a_prompts_batch_depends_on_nothing_else(prompt_ids: list[str], n_batches: int, data: st.DataObject) -> None:
    batches = assign_batches(prompt_ids, n_batches)
    shuffled = data.draw(st.permutations(prompt_ids))
    fewer = shuffled[: data.draw(st.integers(0, len(shuffled)))]
    assert assign_batches(fewer, n_batches) == {i: batches[i] for i in fewer}


def test_batches_are_what_they_were() -> None:
    # Written down once: a change here would regenerate everyone's audio.
    known = {"piano-c-amber": "b00", "organ-eb-heath": "b02", "a": "b00"}
    assert assign_batches(list(known), 4) == known


def test_appending_or_deleting_a_prompt_changes_one_batch_of_the_clips_table() -> None:
    prompts = read_prompts(ROOT / "config" / "prompts.tsv")

    def stores(chosen: list[Prompt]) -> dict[str, list[ClipRow]]:
        rows = clips_table(chosen, seeds=[0, 1], n_batches=4, duration_s=16)
        return {batch: [row for row in rows if row.batch == batch] for batch in ("b00", "b01", "b02", "b03")}

    before = stores(prompts)
    assert all(before.values()), "every batch of the demo has clips"
    assert stores(prompts[::-1]) == before
    for changed in ([*prompts, Prompt("new-one", "a new one")], prompts[1:]):
        after = stores(changed)
        assert sum(after[batch] != before[batch] for batch in before) == 1


def test_clips_are_named_by_prompt_and_seed() -> None:
    rows = clips_table([Prompt("a", "b c")], seeds=[3, 1], n_batches=1, duration_s=16)
    assert rows == [ClipRow("a-s1", "a", "b c", 1, "b00", 16.0), ClipRow("a-s3", "a", "b c", 3, "b00", 16.0)]


def test_a_horizons_name_is_short_and_says_which_it_is() -> None:
    for horizon in ((4.0, 8.0), (0.5, 2.0), (0.0, 12.25)):
        assert parse_horizon_name(horizon_name(*horizon)) == horizon
    with pytest.raises(ValueError, match="got 'h4'; valid: h<from>-<to>"):
        parse_horizon_name("h4")
    assert [horizon_name(*h) for h in ((4.0, 8.0), (0.5, 2.0), (0, 12))] == ["h4-8", "h0.5-2", "h0-12"]


# --- the files in config/ ---


@pytest.mark.parametrize("name, text", [("schema.json", schema_text), ("config.default.yaml", default_yaml_text)])
def test_generated_files_are_up_to_date(name: str, text: object) -> None:
    committed = (ROOT / "config" / name).read_text(encoding="utf-8")
    assert committed == text(), f"config/{name} is out of date: run python -m reprise.config.docs"  # type: ignore[operator]


def test_the_page_on_staleness_names_what_uses_each_module() -> None:
    page = (ROOT / "docs" / "staleness.md").read_text(encoding="utf-8")
    assert page == staleness_text(page), "docs/staleness.md is out of date: run python -m reprise.config.docs"
    assert (
        "| `reprise/targets/labels.py` |" in page
        and "| `reprise/probing/folds.py` | baseline, candidates, probe" in page
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
            assert "$ref" in field or field["description"].endswith("."), f"{owner}.{name}"
            assert not name.endswith("_s") or field["unit"] == "s", f"{owner}.{name}"


@pytest.mark.parametrize("path", [ROOT / "config" / "config.yaml", *PRESETS], ids=lambda p: p.name)
def test_shipped_configs_validate_by_model_and_by_schema(path: Path) -> None:
    load_config(path, base_dir=ROOT, check_files=False)
    raw = json.loads(json.dumps(yaml.safe_load(path.read_text())))  # JSON has text keys
    jsonschema.validate(raw, json.loads(schema_text()), cls=jsonschema.Draft202012Validator)
    raw["studies"][next(iter(raw["studies"]))]["sead"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, json.loads(schema_text()), cls=jsonschema.Draft202012Validator)


def test_the_demo_prompts_are_the_organisms() -> None:
    prompts = read_prompts(ROOT / "config" / "prompts.tsv")
    assert [p.prompt for p in prompts] == score.prompts()
    assert prompts[0].prompt_id == "piano-c-amber"


def test_event_fields_are_those_of_the_detector_with_its_defaults() -> None:
    about_the_motif = {"motif", "motif_start_s", "motif_duration_s", "others"}
    events = checked().studies["planner"].events.model_dump(exclude=about_the_motif)
    assert events == EventSettings()._asdict(), "config.EventSettings and recurrence.EventSettings have drifted apart"


def test_verdict_fields_are_the_thresholds_of_the_gates() -> None:
    assert {*VerdictSettings.model_fields, "alpha"} == set(Thresholds._fields)


def test_importing_the_config_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pandas", "audiocraft", "librosa", "huggingface_hub", "transformers")
    code = f"import sys, reprise.config.schema; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
