"""A whole study with one backend, in an environment that lacks the other's library."""

import json

import pytest
import torch
from omegaconf import OmegaConf

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.builders import get_compression_model
from reprise.models.loading import load_model
from reprise.organisms.codec import codec_config
from tests.unit.models.test_huggingface import save_as_transformers, save_text_encoder
from tests.workflow.conftest import ROOT, snakemake, tiny_config, write_config

pytestmark = pytest.mark.slow

WITHOUT_AUDIOCRAFT = """
import importlib.metadata, sys
sys.modules["audiocraft"] = None
version = importlib.metadata.version
def without(package):
    if package == "audiocraft":
        raise importlib.metadata.PackageNotFoundError(package)
    return version(package)
importlib.metadata.version = without
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """Where audiocraft is not installed: a study of the planner's language model in the form of transformers, with a
    random text encoder and codec."""
    torch.manual_seed(0)
    for name in ("text", "model", "path"):
        (tmp_path / name).mkdir()
    save_text_encoder(tmp_path / "text")
    config = codec_config()
    config["seanet"]["lstm"] = 2
    lm = load_model(str(ROOT / "resources" / "planner")).lm
    # transformers projects the text encoder's width, which is none of the planner's.
    lm.condition_provider.conditioners = torch.nn.ModuleDict(
        {"description": torch.nn.ModuleDict({"output_proj": torch.nn.Linear(48, 128)})}
    )
    config["rvq"]["kmeans_init"] = False
    codec = get_compression_model(OmegaConf.create(config))
    for buffer in (b for name, b in codec.named_buffers() if name.endswith("_codebook.embed")):
        buffer.normal_()
    save_as_transformers(tmp_path / "model", tmp_path / "text", lm, codec)
    (tmp_path / "path" / "sitecustomize.py").write_text(WITHOUT_AUDIOCRAFT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    prompts = (ROOT / "config" / "prompts.tsv").read_text().splitlines()
    (tmp_path / "prompts.tsv").write_text("\n".join(prompts[:5]) + "\n")
    config = tiny_config()
    config["studies"]["tiny"] = {
        "model": {"name": str(tmp_path / "model"), "backend": "transformers"},
        "saes": {2: "train"},
        "sae_training": {"expansion": 2, "k": 16, "n_steps": 200},
    }
    config["defaults"] |= {"seeds": [0], "generation": {"n_batches": 1, "batch_size": 4}}
    config["defaults"]["certificate"] = {"n_clips": 2, "max_fvu": 0.99, "min_neighbour_ratio": 1.0}
    config["defaults"]["probes"]["representations"] = ["sae", "random_model"]
    write_config(tmp_path, config)
    return tmp_path


def test_a_study_without_audiocraft_runs_to_its_report(directory):
    snakemake(directory, "--cores", "2")
    versions = json.loads((directory / "results" / "tiny" / "verdict.json").read_text())["versions"]
    assert "transformers" in versions and "audiocraft" not in versions
    assert (directory / "results" / "report" / "index.html").is_file()
    # What is asked for and is not there is said before any job.
    config = tiny_config()
    write_config(directory, config)
    output = snakemake(directory, "--cores", "2", "--dry-run", check=False)
    assert "studies.tiny.model.backend: got audiocraft, which is not installed; nothing was run" in output
    assert "Traceback" not in output
