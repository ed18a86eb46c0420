"""What a study names is there, and fits it; counts are checked against it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from reprise.config.errors import ConfigError
from reprise.config.validation import validate
from tests.conftest import put_on_hub
from tests.places import ROOT


def project(folder: Path, n_prompts: int = 6) -> dict:
    """A folder with everything a study names, and the study."""
    planner = ROOT / "resources" / "planner"
    shutil.copytree(planner, folder / "models" / "tiny", ignore=shutil.ignore_patterns("sae"))
    shutil.copytree(planner / "sae" / "layer2", folder / "sae")
    rows = "".join(f"p{i}\tmusic {i}\n" for i in range(n_prompts))
    (folder / "prompts.tsv").write_text(f"prompt_id\tprompt\n{rows}")
    return {"model": {"name": "models/tiny"}, "saes": {2: "sae"}, "prompts": "prompts.tsv"}


def file_problems(folder: Path, study: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate({"studies": {"a": study}}, base_dir=folder, source="c.yaml")
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


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
    assert "no prompt in prompts.tsv has a group" in line


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
        "c.yaml: studies.a.generation.duration_s: got 25; valid: at most 20, the longest clip that models/tiny "
        "supports",
        'c.yaml: studies.a.saes.6: "sae" is described as an SAE of layer 2; valid: the SAE of layer 6 (layers are '
        "0-based)",
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
        "state_dict.bin and compression_state_dict.bin, all complete"
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
    assert found.trained_layers == (4,) and found.sae_layers == (2, 4)
    study["certificate"] = {"n_clips": 25}
    assert file_problems(tmp_path, study) == [
        "c.yaml: studies.a.certificate.n_clips: got 25, and these clips are not used to train the SAE; valid: "
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


def test_a_direction_is_there_and_of_a_layer_of_the_study(tmp_path: Path) -> None:
    study = {**project(tmp_path), "candidates": {"directions": ["plan.safetensors", "other.safetensors"]}}
    save_file({"direction": np.ones(64, "float32")}, tmp_path / "plan.safetensors")
    (tmp_path / "plan.json").write_text('{"layer": 4}')
    assert file_problems(tmp_path, study) == [
        'c.yaml: studies.a.candidates.directions.0: "plan.safetensors" is of layer 4; '
        "valid: one of the study's layers, 2",
        "c.yaml: studies.a.candidates.directions.1: other.safetensors: missing; "
        "valid: other.safetensors and other.json in one folder",
    ]
    (tmp_path / "plan.json").write_text('{"layer": 2}')
    # The report calls a direction by its file's name.
    twice = {**study, "candidates": {"directions": ["plan.safetensors", "./plan.safetensors"]}}
    (problem,) = file_problems(tmp_path, twice)
    assert problem.endswith("has the name of another direction, plan; valid: a name of its own")
    validate({"studies": {"a": {**study, "candidates": {"directions": ["plan.safetensors"]}}}}, base_dir=tmp_path)
