"""Files that hold another model than the one that was meant are refused before any job, and when they are loaded."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from reprise.checkpoints.contents import CODEC_FILE, LM_FILE
from reprise.checkpoints.weights import model_problems
from reprise.models.loading import load_model
from tests.conftest import put_on_hub
from tests.places import PLANNER

MERGED = "valid: the adapter merged into the model with PEFT's merge_and_unload(), then "


def refused(folder, backend="audiocraft"):
    """The one problem of a model, before any job; its loading says the same."""
    (line,) = model_problems(str(folder), backend=backend)
    text = line.removeprefix(f'"{folder}": ')
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_model(str(folder), backend=backend)
    if not isinstance(caught.value, FileNotFoundError):
        assert str(caught.value) == f"model: {folder}: {text}"
    return text


# --- adapters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["audiocraft", "transformers"])
@pytest.mark.parametrize("place", ["", "style", "checkpoint-500"])
@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.bin", "pytorch_lora_weights.safetensors"])
def test_an_adapter_beside_its_base(model, place, file, backend):
    (model / place).mkdir(exist_ok=True)
    (model / place / file).write_text("{}")
    text = refused(model, backend)
    saved = 'its state_dict() saved as "best_state" of state_dict.bin'
    if backend == "transformers":
        saved = "the result saved with save_pretrained()"
    assert text == (
        f"{Path(place, file)}: an adapter, which would not be applied to the base model; {MERGED}{saved}, in a "
        "folder without the adapter's files"
    )


def test_an_adapter_without_its_base(tmp_path):
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / file).write_text("{}")
    text = refused(tmp_path, "transformers")
    assert text.startswith("adapter_config.json, adapter_model.safetensors: an adapter, which ")


def test_an_adapter_on_the_hub(hub_cache, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    files = {name: PLANNER / name for name in (LM_FILE, CODEC_FILE)}
    put_on_hub(hub_cache, "owner/tuned", {**files, "adapter_config.json": tmp_path / "adapter_config.json"})
    (line,) = model_problems("owner/tuned")
    assert line.startswith('"owner/tuned": adapter_config.json: an adapter, which ')


# --- checkpoints that were not exported -----------------------------------------------------------------------


def run(text):
    """Follow the advice of a problem: a command of Python's that writes what is valid."""
    python, option, program = shlex.split(re.search(r"what (python -c .*) writes", text)[1])
    assert (python, option) == ("python", "-c")
    exec(program)


def solver_checkpoint(file):
    """What audiocraft's solvers save: also an optimiser, a history, and the configuration as an object."""
    package = torch.load(PLANNER / file)
    state = package["best_state"]
    return {
        "best_state": {"model": state},
        "fsdp_best_state": {},
        "model": state,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.95)}]},
        "history": [{"train": {"ce": 3.2}, "valid": {"ce": 3.4}}],
        "xp.cfg": OmegaConf.create(package["xp.cfg"]),
        "xp.sig": "a1b2c3d4",
    }


@pytest.mark.parametrize("file, function", [(LM_FILE, "export_lm"), (CODEC_FILE, "export_encodec")])
def test_a_checkpoint_of_a_solver_is_exported_by_the_command_that_is_given(model, file, function):
    torch.save(solver_checkpoint(file), model / file)
    text = refused(model)
    assert text.startswith(
        f"{file} is a training checkpoint of audiocraft, not an exported one; valid: what python -c "
    )
    assert f"import {function}; " in text
    run(text)
    shutil.move(model / "exported" / file, model / file)
    assert model_problems(str(model)) == []
    assert load_model(str(model)).weights_digest == load_model(str(PLANNER)).weights_digest


def test_an_older_checkpoint_of_a_solver(model):
    package = solver_checkpoint(LM_FILE)
    del package["fsdp_best_state"]
    torch.save(package, model / LM_FILE)
    assert "not an exported one; valid: the language model as audiocraft.utils.export.export_lm writes it" in refused(
        model
    )


LIGHTNING = {"epoch": 3, "global_step": 100, "pytorch-lightning_version": "2.2.0", "loops": {}, "callbacks": {}}


@pytest.mark.parametrize(
    "make, text",
    [
        (
            lambda p: LIGHTNING | {"state_dict": {f"model.{n}": w for n, w in p["best_state"].items()}},
            'is a checkpoint of PyTorch Lightning, with the prefix "model." in the names of its weights; valid: the '
            "language model as audiocraft.utils.export.export_lm writes it",
        ),
        (
            lambda p: {"model_state_dict": p["best_state"], "optimizer_state_dict": {"state": {}}, "epoch": 3},
            "is a training checkpoint of another program (epoch, model_state_dict, optimizer_state_dict); valid: the ",
        ),
        (lambda p: p["best_state"], "contains only weights, without the model's configuration; valid: the l"),
        (
            lambda p: {f"decoder.model.decoder.layers.0.{n}.weight": torch.zeros(1) for n in "ab"},
            "contains only weights in transformers format, without the model's configuration",
        ),
        (
            lambda p: {"best_state": p["best_state"]},
            "does not contain the model's configuration (xp.cfg); valid: the language model",
        ),
        (lambda p: [1, 2], "contains a pickled list; valid: the language model as "),
        (
            lambda p: {"pretrained": "facebook/musicgen-small"},
            'only names another model, "facebook/musicgen-small"; v',
        ),
        (
            lambda p: torch.load(PLANNER / CODEC_FILE),
            "contains a codec, not a language model; valid: the language model",
        ),
    ],
)
def test_a_file_that_is_no_exported_language_model(model, make, text):
    torch.save(make(torch.load(PLANNER / LM_FILE)), model / LM_FILE)
    assert refused(model).startswith(f"{LM_FILE} {text}")


def test_a_language_model_in_the_codecs_file(model):
    shutil.copy(model / LM_FILE, model / CODEC_FILE)
    assert refused(model) == (
        f"{CODEC_FILE} contains a language model, not a codec; valid: the codec's exported checkpoint"
    )


def test_swapped_files(model):
    for mine, other in ((LM_FILE, CODEC_FILE), (CODEC_FILE, LM_FILE)):
        shutil.copy(PLANNER / other, model / mine)
    assert refused(model) == (
        f"{LM_FILE} contains a codec and {CODEC_FILE} a language model: they are swapped; valid: each under the "
        "other's name"
    )


def test_a_codec_named_as_in_a_training(model, hub_cache):
    torch.save({"pretrained": "//pretrained/facebook/encodec_32khz", "exported": True}, model / CODEC_FILE)
    text = refused(model)
    assert 'is not a hub id (the hub id is "facebook/encodec_32khz"); valid: what python -c ' in text
    run(text)
    (line,) = model_problems(str(model))
    assert "decodes with facebook/encodec_32khz, which is not in the cache" in line
    for name in ("//sig/a1b2c3d4", "/data/codec.th", "a b", 7):
        torch.save({"pretrained": name, "exported": True}, model / CODEC_FILE)
        assert f'names its codec as "{name}", which is not a hub id; valid: ' in refused(model)
