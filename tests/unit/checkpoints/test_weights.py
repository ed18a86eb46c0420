"""Files that are missing or cut off are told apart from whole ones before anything loads them, with what to do."""

import json
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from reprise.checkpoints.hub import SHARDS
from reprise.checkpoints.variants import SUPPORTED
from reprise.checkpoints.weights import file_problem, folder_problems, model_problems, sae_problems
from reprise.organisms.lm import lm_config
from tests.conftest import put_on_hub
from tests.places import ROOT

PLANNER = ROOT / "resources" / "planner"
SAE = PLANNER / "sae" / "layer2"
A = "a" * 40
CHECKPOINTS = {name: PLANNER / name for name in ("state_dict.bin", "compression_state_dict.bin")}


@pytest.mark.parametrize("path", sorted(p for p in PLANNER.rglob("*") if p.is_file()), ids=lambda p: p.name)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_off_anywhere_is_noticed(path, share, tmp_path):
    assert file_problem(path) is None
    content = path.read_bytes()
    cut = tmp_path / path.name
    cut.write_bytes(content[: int(share * len(content))])
    problem = file_problem(cut)
    assert problem == "is empty" if share == 0 else "cut off" in problem


def test_other_faults_of_a_file(tmp_path):
    path = tmp_path / "state_dict.bin"
    assert file_problem(path) == "is missing"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 841000000\n")
    assert file_problem(path) == "is a Git LFS pointer, not the file itself (`git lfs pull` downloads it)"
    weights = tmp_path / "model.safetensors"
    shutil.copy(SAE / "sae_weights.safetensors", weights)
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-100])
    assert file_problem(weights) == f"has {size - 100:,} bytes of {size:,}: it was cut off"
    weights.write_bytes(b"not at all" * 10)
    assert file_problem(weights) == "does not begin with a safetensors header"
    # As torch wrote them before 1.6: nothing to tell their end by.
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    assert file_problem(path) is None


def test_every_shard_is_looked_at(tmp_path):
    needed = (("config.json",), ("model.safetensors", SHARDS))
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (tmp_path / "config.json").write_text("{}")
    index = {"weight_map": {"a": shards[0], "b": shards[1], "c": shards[1]}}
    (tmp_path / SHARDS).write_text(json.dumps(index))
    for shard in shards:
        save_file({"a": torch.zeros(8)}, tmp_path / shard)
    assert folder_problems(tmp_path, needed) == []
    (tmp_path / shards[0]).unlink()
    (tmp_path / shards[1]).write_bytes((tmp_path / shards[1]).read_bytes()[:-1])
    (first, missing), (second, cut) = folder_problems(tmp_path, needed)
    assert (first, missing) == (shards[0], "is missing") and second == shards[1] and "cut off" in cut
    (tmp_path / SHARDS).write_text("{}")
    assert folder_problems(tmp_path, needed) == [(SHARDS, "does not list the file of each weight")]
    # One file in place of the shards.
    save_file({"a": torch.zeros(8)}, tmp_path / "model.safetensors")
    assert folder_problems(tmp_path, needed) == []


TO_DO = "jobs download nothing: on a machine with network, run"


def test_a_model_that_was_never_fetched(hub_cache):
    """Both commands at once, though the text encoder shows only in the checkpoint."""
    assert model_problems("small") == [
        f"facebook/musicgen-small is not in the cache {hub_cache}; {TO_DO} hf download facebook/musicgen-small "
        "state_dict.bin compression_state_dict.bin",
        f'"small" reads prompts with t5-base, which is not in the cache {hub_cache}; {TO_DO} hf download t5-base '
        "config.json model.safetensors tokenizer.json",
    ]
    assert model_problems(f"owner/own@{A}") == [
        f"owner/own is not in the cache {hub_cache}; {TO_DO} hf download owner/own state_dict.bin "
        f"compression_state_dict.bin --revision {A}"
    ]


def test_a_model_that_was_half_fetched(hub_cache, monkeypatch):
    blobs = hub_cache / "models--owner--own" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "1234.incomplete").touch()
    assert model_problems("owner/own")[0].startswith(f"owner/own is not completely in the cache {hub_cache}; ")

    snapshot = put_on_hub(hub_cache, "owner/own", {"state_dict.bin": CHECKPOINTS["state_dict.bin"]}, commit=A)
    assert model_problems("owner/own") == [
        f"owner/own is not complete in the cache {hub_cache}: compression_state_dict.bin is missing; {TO_DO} hf "
        "download owner/own compression_state_dict.bin"
    ]
    put_on_hub(hub_cache, "owner/own", CHECKPOINTS, commit=A)
    assert model_problems("owner/own") == []

    # What is there, but not whole, is fetched only if told to.
    blob = (snapshot / "state_dict.bin").resolve()
    blob.write_bytes(blob.read_bytes()[:4000])
    (line,) = model_problems("owner/own")
    assert line == (
        f"owner/own is not complete in the cache {hub_cache}: state_dict.bin was cut off at 4,000 bytes; {TO_DO} hf "
        "download owner/own state_dict.bin --force-download"
    )
    # The cache's file is gone, its link is not.
    blob.unlink()
    assert "state_dict.bin is missing" in model_problems("owner/own")[0]

    monkeypatch.setenv("AUDIOCRAFT_CACHE_DIR", "/audiocraft")
    (line,) = model_problems("owner/own")
    assert line.endswith("compression_state_dict.bin --cache-dir /audiocraft")


def test_a_model_in_the_form_of_transformers(hub_cache, tmp_path):
    (line,) = model_problems("facebook/musicgen-small", backend="transformers")
    assert line == (
        f"facebook/musicgen-small is not in the cache {hub_cache}; {TO_DO} hf download facebook/musicgen-small "
        "--include '*.json' --include 'model*.safetensors' --include spiece.model"
    )
    (tmp_path / "config.json").write_text('{"model_type": "musicgen"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    save_file({"a": torch.zeros(8)}, tmp_path / "model.safetensors")
    put_on_hub(hub_cache, "a/b", {path.name: path for path in tmp_path.iterdir() if path.is_file()}, commit=A)
    of_hub, of_directory = (model_problems(name, backend="transformers", base_dir=tmp_path) for name in ("a/b", "."))
    assert [line.removeprefix('"a/b"') for line in of_hub] == [line.removeprefix('"."') for line in of_directory]


def test_a_model_in_a_directory(tmp_path):
    folder = tmp_path / "models" / "tiny"
    shutil.copytree(PLANNER, folder, ignore=shutil.ignore_patterns("sae"))
    assert model_problems("models/tiny", base_dir=tmp_path) == []
    (folder / "compression_state_dict.bin").write_bytes(b"")
    (folder / "state_dict.bin").unlink()
    assert model_problems("models/tiny", base_dir=tmp_path) == [
        '"models/tiny": state_dict.bin is missing, compression_state_dict.bin is empty; valid: a directory with '
        "state_dict.bin and compression_state_dict.bin, all complete"
    ]
    assert model_problems("models/none", base_dir=tmp_path) == [
        'there is no directory "models/none"; valid: a hub id, or a directory with state_dict.bin and '
        "compression_state_dict.bin"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "melody",
        "facebook/musicgen-stereo-melody",
        "facebook/musicgen-style",
        "facebook/magnet-small-10secs",
        "facebook/audio-magnet-small",
    ],
)
def test_a_published_model_of_another_kind_is_refused_before_it_is_fetched(name, hub_cache):
    (line,) = model_problems(name)
    assert "cannot be run; valid: a model with only text conditioning, such as facebook/musicgen-small" in line


@pytest.mark.parametrize(
    "name, encoder", [("facebook/musicgen-stereo-small", "t5-base"), ("facebook/audiogen-medium", "t5-large")]
)
def test_a_published_model_and_its_text_encoder_are_named_with_what_fetches_them(name, encoder, hub_cache):
    files = "state_dict.bin compression_state_dict.bin"
    whole, part = model_problems(name)
    assert whole == f"{name} is not in the cache {hub_cache}; {TO_DO} hf download {name} {files}"
    assert part.startswith(f'"{name}" reads prompts with {encoder}, which is not in the cache')


def test_a_stereo_model_runs_from_audiocrafts_files_alone(hub_cache):
    (line,) = model_problems("facebook/musicgen-stereo-small", backend="transformers")
    assert "facebook/musicgen-stereo-small cannot be run; valid: a model with only text conditioning" in line
    assert "with audiocraft also facebook/musicgen-stereo-small" in line


def test_a_model_of_another_kind_is_refused_by_what_it_says(hub_cache, tmp_path):
    config = lm_config()
    config["fuser"] |= {"cross": [], "prepend": ["self_wav", "description"]}
    config["conditioners"]["self_wav"] = {"model": "chroma_stem", "chroma_stem": {}}
    torch.save({"best_state": {}, "xp.cfg": OmegaConf.to_yaml(config)}, tmp_path / "state_dict.bin")
    put_on_hub(hub_cache, "owner/own", {**CHECKPOINTS, "state_dict.bin": tmp_path / "state_dict.bin"})
    assert model_problems("owner/own") == [
        "\"owner/own\" cannot be run: conditioners is ['description', 'self_wav'] (supported: ['description']), "
        "fuser.cross is [] (supported: ['description']), fuser.prepend is ['self_wav', 'description'] (supported: "
        f"[]); valid: {SUPPORTED}"
    ]


def test_a_codec_that_is_only_named_is_looked_for(hub_cache, tmp_path):
    """As `audiocraft.utils.export` writes a model of one's own."""
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True}, tmp_path / "compression_state_dict.bin")
    shutil.copy(CHECKPOINTS["state_dict.bin"], tmp_path)
    assert model_problems(str(tmp_path)) == [
        f'"{tmp_path}" decodes with facebook/encodec_32khz, which is not in the cache {hub_cache}; {TO_DO} hf '
        "download facebook/encodec_32khz config.json model.safetensors"
    ]


def test_saes_of_the_hub(hub_cache):
    name = f"hf://owner/saes/layers/layer2@{A}"
    fetch = f"{TO_DO} hf download owner/saes --revision {A} --include 'layers/layer2/*'"
    assert sae_problems(name, 2) == [f"{name} is not in the cache {hub_cache}; {fetch}"]
    files = {f"layers/layer2/{path.name}": path for path in SAE.iterdir()}
    snapshot = put_on_hub(hub_cache, "owner/saes", files, commit=A, main=False)
    assert sae_problems(name, 2) == []
    blob = (snapshot / "layers/layer2/sae_weights.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-8])
    (line,) = sae_problems(name, 2)
    assert line.startswith(f"{name} in the cache {hub_cache}: sae_weights.safetensors has ")
    assert line.endswith(f"it was cut off; {fetch} --force-download")
    blob.unlink()
    (line,) = sae_problems(name, 2)
    assert f"{name} in the cache {hub_cache} has only cfg.json; valid: " in line and line.endswith(fetch)
    assert sae_problems("hf://owner/saes@main", 2)[0].startswith(
        'got "hf://owner/saes@main"; valid: hf://owner/saes@ '
    )


def test_saes_of_a_directory(tmp_path):
    shutil.copytree(SAE, tmp_path / "sae")
    assert sae_problems("sae", 2, base_dir=tmp_path) == []
    (tmp_path / "sae" / "cfg.json").write_text('{"d_in": 128, "d_sa')
    assert sae_problems("sae", 2, base_dir=tmp_path) == [
        '"sae": cfg.json was cut off at 19 bytes; valid: complete files'
    ]
    (tmp_path / "sae" / "cfg.json").unlink()
    assert sae_problems("sae", 2, base_dir=tmp_path)[0].startswith('"sae" has only sae_weights.safetensors; valid: ')
    assert sae_problems("none", 2, base_dir=tmp_path) == [
        'there is no directory "none"; valid: the directory of layer 2\'s SAE'
    ]
