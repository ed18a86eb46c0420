"""Small models in audiocraft's own checkpoint form, and a cache of the Hugging Face hub, shared by tests."""

import hashlib
import os
import shutil

import pytest
import torch

from tests.places import ROOT

# Unit tests that build or load a model are marked `model`: those of these folders, and those that use these fixtures.
FOLDERS_WITH_MODELS = ("interventions", "models", "organisms", "saes")
FIXTURES_WITH_MODELS = {"random_model", "random_model_dir"}


def pytest_collection_modifyitems(items):
    # Whole files go to test processes in this order: the long ones first, so that no process waits for one at the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, "unit" in item.path.parts))
    for item in items:
        kind, folder, *_ = (*item.path.relative_to(ROOT / "tests").parts, "")
        if kind == "unit" and (folder in FOLDERS_WITH_MODELS or FIXTURES_WITH_MODELS & set(item.fixturenames)):
            item.add_marker(pytest.mark.model)


def put_on_hub(cache, repository, files, *, commit="0" * 40, main=True):
    """Lay files (path in the repository: local path) into a cache as huggingface_hub lays them after a download.

    The snapshot's files are links to blobs, named by content. Returns the snapshot's folder.
    """
    folder = cache / f"models--{repository.replace('/', '--')}"
    for name in ("blobs", f"snapshots/{commit}", "refs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        blob = folder / "blobs" / hashlib.sha256(source.read_bytes()).hexdigest()
        shutil.copyfile(source, blob)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if main:
        (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache that this process, huggingface_hub and transformers take as theirs."""
    import huggingface_hub.constants

    for name in ("AUDIOCRAFT_CACHE_DIR", "HF_HOME", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture(scope="session")
def random_model_dir(tmp_path_factory):
    """A randomly initialised organism saved as MusicGen saves itself: what `load_model` takes."""
    from reprise.organisms.codec import build_codec
    from reprise.organisms.export import save_audiocraft_checkpoint
    from reprise.organisms.lm import build_lm

    torch.manual_seed(0)
    lm, codec = build_lm(), build_codec()
    # Codebooks that were never trained are zero, and all clips would sound the same.
    for name, codebook in codec.named_buffers():
        if name.endswith("_codebook.embed"):
            codebook.normal_()
    # Larger weights than at initialisation, so that attention and positions matter.
    for parameter in lm.parameters():
        parameter.data *= 2
    folder = tmp_path_factory.mktemp("model")
    save_audiocraft_checkpoint(folder, lm=lm, codec=codec)
    return folder


@pytest.fixture(scope="session")
def random_model(random_model_dir):
    from reprise.models.loading import load_model

    return load_model(str(random_model_dir))
