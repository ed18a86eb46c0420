"""The cache is read as huggingface_hub reads it, and models are loaded from it by name, without a network."""

import os
import runpy
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError
from omegaconf import OmegaConf

from reprise.checkpoints.hub import (
    HubError,
    Place,
    cache_folder,
    fetch_command,
    fetched_folder,
    model_folder,
    model_place,
    sae_folder,
    sae_place,
)
from reprise.checkpoints.weights import model_problems
from reprise.models.loading import load_identified, load_model
from reprise.models.prompts import encode_prompts
from reprise.organisms.lm import lm_config
from tests.conftest import put_on_hub

A, B = "a" * 40, "b" * 40


def test_names_of_models(tmp_path):
    assert model_place("facebook/musicgen-small") == Place("facebook/musicgen-small", None)
    assert model_place(f"facebook/musicgen-small@{A}") == Place("facebook/musicgen-small", A)
    assert model_place("medium") == Place("facebook/musicgen-medium", None)
    for path in ("./small", "/models/small", "~/small", "models/of/mine"):
        assert model_place(path) is None
    (tmp_path / "facebook").mkdir()
    assert model_place("facebook/musicgen-small", base_dir=tmp_path) is None


def test_names_of_saes():
    assert sae_place("resources/planner/sae/layer2") is None
    assert sae_place(f"hf://a/b@{A}") == Place("a/b", A)
    assert sae_place(f"hf://a/b/sae-32/facebook/musicgen-small@{A}") == Place(
        "a/b", A, "sae-32/facebook/musicgen-small"
    )


PINNED = "the 40 hexadecimal digits of a commit (a branch can change, and results would change with it)"


@pytest.mark.parametrize(
    "place, name, valid",
    [
        (model_place, "a/b@main", f"a/b, or a/b@ and {PINNED}"),
        (model_place, "a b", "a hub id such as facebook/musicgen-small, or a directory such as resources/planner"),
        (sae_place, "hf://a/b/c", f"hf://a/b/c@ and {PINNED}"),
        (sae_place, "hf://a/b/c@main", f"hf://a/b/c@ and {PINNED}"),
        (sae_place, f"hf://a/b/c@{A[:12]}", f"hf://a/b/c@ and {PINNED}"),
        (sae_place, f"hf://a@{A}", "hf://owner/name/folder@<commit>"),
        (sae_place, f"hf://a/b/../c@{A}", "hf://owner/name/folder@<commit>"),
    ],
)
def test_a_name_that_is_none_says_what_is_valid(place, name, valid):
    with pytest.raises(HubError) as caught:
        place(name)
    assert str(caught.value) == f'got "{name}"; valid: {valid}'


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "/data/hf"},
        {"HF_HOME": "~/hf", "XDG_CACHE_HOME": "/xdg"},
        {"XDG_CACHE_HOME": "/xdg"},
        {"HF_HUB_CACHE": "$HOME/hub", "HF_HOME": "/data/hf"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/data/hf"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"},
    ],
)
def test_the_cache_lies_where_huggingface_hub_has_it(variables, monkeypatch):
    for name in ("HF_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "AUDIOCRAFT_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    theirs = runpy.run_path(huggingface_hub.constants.__file__)["HF_HUB_CACHE"]
    assert str(cache_folder()) == str(cache_folder("audiocraft")) == theirs
    monkeypatch.setenv("AUDIOCRAFT_CACHE_DIR", "/audiocraft")
    assert str(cache_folder()) == theirs and str(cache_folder("audiocraft")) == "/audiocraft"


def test_what_was_fetched_is_found_as_huggingface_hub_finds_it(hub_cache, tmp_path):
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    put_on_hub(hub_cache, "owner/moved", {"f": tmp_path / "one"}, commit=A)
    put_on_hub(hub_cache, "owner/moved", {"f": tmp_path / "two"}, commit=B)
    put_on_hub(hub_cache, "owner/pinned", {"folder/f": tmp_path / "one"}, commit=A, main=False)
    put_on_hub(hub_cache, "gone", {"f": tmp_path / "one"}, commit=A)
    (hub_cache / "models--gone/refs/main").write_text(B)
    for repository in ("owner/moved", "owner/pinned", "gone", "owner/never"):
        for commit in (None, A, B):
            ours = fetched_folder(Place(repository, commit), hub_cache)
            for file in ("f", "folder/f", "other"):
                theirs = try_to_load_from_cache(repository, file, cache_dir=hub_cache, revision=commit)
                assert (str(ours / file) if ours and (ours / file).is_file() else None) == theirs
            try:
                theirs = snapshot_download(repository, revision=commit, cache_dir=hub_cache, local_files_only=True)
            except LocalEntryNotFoundError:
                theirs = None
            assert (str(ours) if ours else None) == theirs
    folder = fetched_folder(Place("owner/pinned", A, "folder"), hub_cache)
    assert folder is not None and (folder / "f").read_text() == "1"
    assert sae_folder(f"hf://owner/pinned/folder@{A}") == folder
    assert fetched_folder(Place("owner/pinned", A, "other"), hub_cache) is None


def test_commands_are_those_of_hf(hub_cache, tmp_path):
    """What they fetch is here already, so that `hf` answers without a network."""
    (tmp_path / "f").write_text("1")
    snapshot = put_on_hub(tmp_path, "a/b", {"c d/f": tmp_path / "f"}, commit=A)
    commands = [
        fetch_command(Place("a/b", A, "c d"), patterns=["c d/*"], cache=tmp_path),
        fetch_command(Place("a/b", None), ["c d/f"], cache=tmp_path),
    ]
    assert commands == [
        f"hf download a/b --revision {A} --include 'c d/*' --cache-dir {tmp_path}",
        f"hf download a/b 'c d/f' --cache-dir {tmp_path}",
    ]
    for command, fetched in zip(commands, (snapshot, snapshot / "c d/f"), strict=True):
        program, *words = shlex.split(command)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        done = subprocess.run(
            [Path(sys.executable).parent / program, *words, "--quiet"], capture_output=True, text=True, env=environment
        )
        assert done.stdout.strip() == str(fetched), done.stderr
    # Into the cache that is taken anyhow, and what is there already too.
    anew = fetch_command(Place("t5-base", None), ["f"], anew=True, cache=hub_cache)
    assert anew == "hf download t5-base f --force-download"


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach another machine is an error, and is written down."""
    attempts = []

    def refuse(*arguments, **_):
        attempts.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


def test_a_model_is_loaded_by_its_hub_id_without_a_network(random_model_dir, hub_cache, no_network, random_model):
    files = {name: random_model_dir / name for name in ("state_dict.bin", "compression_state_dict.bin")}
    snapshot = put_on_hub(hub_cache, "owner/tiny", files, commit=A, main=False)
    assert model_problems(f"owner/tiny@{A}") == [] and model_folder(f"owner/tiny@{A}") == snapshot
    assert load_model(f"owner/tiny@{A}").weights_digest == random_model.weights_digest
    with pytest.raises(FileNotFoundError, match=f"owner/tiny is not in the cache {hub_cache}"):
        load_model("owner/tiny")
    assert no_network == []


def test_a_checkpoint_that_torch_cannot_read_is_one_clear_error(random_model_dir, tmp_path):
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        content = bytearray((random_model_dir / name).read_bytes())
        # The archive's end is whole, what it lists is not.
        content[1000:9000] = bytes(8000)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(
        RuntimeError, match=rf"model: {tmp_path} cannot be loaded from {tmp_path} \(\w+: .+\); valid: "
    ):
        load_model(str(tmp_path))


def test_a_configuration_kept_as_an_object_is_let_through(random_model_dir, random_model, tmp_path):
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        package = torch.load(random_model_dir / name)
        torch.save({**package, "xp.cfg": OmegaConf.create(package["xp.cfg"])}, tmp_path / name)
    assert load_model(str(tmp_path)).weights_digest == random_model.weights_digest


@pytest.fixture(scope="module")
def t5_files(tmp_path_factory):
    """A one-layer T5 encoder of t5-base's width and a tokenizer of a few words, as transformers saves them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from transformers import T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("t5")
    words = ["<pad>", "</s>", "<unk>", "▁", "▁piano", "▁in", "▁c", "▁amber", "▁theme"]
    tokenizer = Tokenizer(models.Unigram([(word, -float(i)) for i, word in enumerate(words)], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(words[:3])
    tokenizer.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(words), d_model=768, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
    T5EncoderModel(config).save_pretrained(folder)
    return {name: folder / name for name in ("config.json", "model.safetensors", "tokenizer.json")}


@pytest.fixture(scope="module")
def t5_model_dir(random_model_dir, tmp_path_factory, t5_files):
    """A model like the random one that reads prompts with t5-base, as the published ones do."""
    import huggingface_hub.constants

    import reprise.models.audiocraft_setup  # noqa: F401
    from audiocraft.models.builders import get_lm_model

    folder = tmp_path_factory.mktemp("model")
    config = lm_config()
    t5 = {"name": "t5-base", "finetune": False, "word_dropout": 0.3, "normalize_text": False}
    config["conditioners"] = {"description": {"model": "t5", "t5": t5}}
    with pytest.MonkeyPatch.context() as patch:
        cache = folder / "hub"
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        put_on_hub(cache, "t5-base", t5_files)
        torch.manual_seed(0)
        lm = get_lm_model(OmegaConf.create(config))
    torch.save({"best_state": lm.state_dict(), "xp.cfg": OmegaConf.to_yaml(config)}, folder / "state_dict.bin")
    (folder / "compression_state_dict.bin").symlink_to(random_model_dir / "compression_state_dict.bin")
    return folder


def test_the_text_encoder_comes_from_the_cache_too(t5_model_dir, t5_files, hub_cache, no_network, tmp_path):
    name = str(t5_model_dir)
    command = "hf download t5-base config.json model.safetensors tokenizer.json"
    assert model_problems(name) == [
        f'"{name}" reads prompts with t5-base, which is not in the cache {hub_cache}; jobs download nothing: on '
        f"a machine with network, run {command}"
    ]
    with pytest.raises(RuntimeError, match="cannot be loaded"):
        load_model(name)

    # Without its tokenizer's file transformers would make a vocabulary up, and say nothing.
    put_on_hub(hub_cache, "t5-base", {f: p for f, p in t5_files.items() if f != "tokenizer.json"}, commit=A)
    assert model_problems(name) == [
        f'"{name}" reads prompts with t5-base, which is not complete in the cache {hub_cache}: tokenizer.json is '
        "missing; jobs download nothing: on a machine with network, run hf download t5-base tokenizer.json"
    ]

    put_on_hub(hub_cache, "t5-base", t5_files, commit=A)
    assert model_problems(name) == []
    model = load_model(name)
    text = encode_prompts(model, ["piano in c", None])
    assert text.mask.sum(dim=1).tolist() == [4, 1] and text.embeddings[0].any() and not text.embeddings[1].any()

    # Another text encoder is another model.
    from safetensors.torch import load_file, save_file

    weights = load_file(t5_files["model.safetensors"])
    weights["shared.weight"] += 1
    save_file(weights, tmp_path / "other.safetensors", metadata={"format": "pt"})
    put_on_hub(hub_cache, "t5-base", {**t5_files, "model.safetensors": tmp_path / "other.safetensors"}, commit=B)
    with pytest.raises(RuntimeError) as caught:
        load_identified(
            {"name": name, "backend": "audiocraft", "dtype": "float32"}, {"weights_digest": model.weights_digest}
        )
    assert f"the weights of {name} have digest" in str(caught.value)
    assert "a hub id can be pinned, owner/name@<commit>" in str(caught.value)
    assert no_network == []
