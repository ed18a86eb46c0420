"""What the doctor finds is what a run would: SAEs of other layers, too little memory, stores of the estimated size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from reprise.config.schema import Study
from reprise.saes.latents import append_latents, latent_arrays
from reprise.saes.loading import load_sae
from reprise.storage.artifacts import activation_arrays, token_arrays
from reprise.storage.files import write_json
from reprise.storage.stores import write_store
from reprise.workflow import doctor
from reprise.workflow.doctor import (
    bytes_text,
    known_digest,
    look_at_device,
    look_at_disk,
    look_at_model,
    look_at_sae,
    stores_bytes,
)
from tests.places import PLANNER

SAE = {layer: str(PLANNER / "sae" / f"layer{layer}") for layer in (2, 4)}


def study(saes=SAE, **fields):
    model = fields.pop("model", {"name": str(PLANNER)})
    return Study.model_validate({"model": model, "saes": saes, **fields})


def test_a_model_that_is_there():
    finding, facts = look_at_model(study())
    size = sum((PLANNER / f"{part}state_dict.bin").stat().st_size for part in ("", "compression_"))
    assert finding.passed and not finding.remedy and bytes_text(size) == "7.3 MB"
    assert finding.found == f"{PLANNER} (audiocraft, 7.3 MB); 6 layers of width 128, 4 codebooks of 256"
    assert facts["d_model"] == 128 and facts["sample_rate_hz"] == 16000


@pytest.mark.parametrize("backend", ["audiocraft", "transformers"])
def test_the_library_of_the_models_backend_must_be_installed_and_no_other(monkeypatch, backend):
    asked = study(model={"name": str(PLANNER), "backend": backend})
    monkeypatch.setattr("reprise.workflow.doctor.find_spec", lambda name: None if name == backend else name)
    finding, facts = look_at_model(asked)
    assert not finding.passed and facts == {} and f"model.backend: got {backend}, which is not inst" in finding.remedy
    monkeypatch.setattr("reprise.workflow.doctor.find_spec", lambda name: name if name == backend else None)
    assert "not installed" not in look_at_model(asked)[0].remedy


def test_an_sae_that_is_trained_here(monkeypatch) -> None:
    finding, size = look_at_sae(study({2: "train"}), 2, {"d_model": 128}, model_digest=None)
    assert finding.passed and "trained here" in finding.found and size == (512, 32)
    monkeypatch.setattr("reprise.workflow.doctor.find_spec", lambda name: None)
    finding, _ = look_at_sae(study({2: "train"}), 2, {"d_model": 128}, model_digest=None)
    assert not finding.passed and "pip install '.[train]'" in finding.remedy


def test_a_model_that_is_not(hub_cache):
    finding, facts = look_at_model(study(model={"name": "facebook/musicgen-small"}))
    assert not finding.passed and facts == {}
    model, encoder = finding.remedy.splitlines()
    assert "run hf download facebook/musicgen-small" in model and "run hf download t5-base" in encoder


def test_an_sae_of_another_layer_is_seen_before_anything_is_generated():
    _, facts = look_at_model(study())
    right, sae = look_at_sae(study(), 2, facts, model_digest="132b9303fc0b85c7")
    assert right.passed and sae.d_sae == 256
    assert right.found == f"{SAE[2]} (SAELens): hook layer 2, d_in 128, d_sae 256, k 32"
    wrong, _ = look_at_sae(study({3: SAE[2]}), 3, facts, model_digest=None)
    assert not wrong.passed
    assert wrong.remedy.startswith(f'"{SAE[2]}" is described as an SAE of layer 2; valid: the SAE of layer 3')
    other, _ = look_at_sae(study(), 2, {**facts, "d_model": 1024}, model_digest="0" * 16)
    assert "d_in 128, the model's width is 1024; the SAE was trained on model planner" in other.remedy


def test_an_sae_of_another_model_is_seen_by_its_weights_or_else_by_its_name(hub_cache, tmp_path):
    hub_study = study(model={"name": "facebook/musicgen-small"})
    assert look_at_sae(hub_study, 2, {}, model_digest=None)[0].passed, "it names weights, and those are not known yet"
    by_weights, _ = look_at_sae(hub_study, 2, {}, model_digest="0" * 16)
    assert "the SAE was trained on model planner (weights 132b9303fc0b85c7)" in by_weights.remedy
    shutil.copytree(SAE[2], tmp_path / "sae")
    cfg = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    del cfg["metadata"]["model_digest"]
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(cfg))
    named = {2: str(tmp_path / "sae")}
    by_name, _ = look_at_sae(study(named, model={"name": "small"}), 2, {}, model_digest=None)
    assert "trained on model planner, the activations are of model facebook/musicgen-small" in by_name.remedy
    # A directory may have any name.
    assert look_at_sae(study(named), 2, {}, model_digest=None)[0].passed


def test_an_sae_that_cannot_be_read(tmp_path):
    shutil.copytree(SAE[2], tmp_path / "sae")
    (tmp_path / "sae" / "cfg.json").write_text('{"architecture": "novel"}')
    finding, sae = look_at_sae(study({2: str(tmp_path / "sae")}), 2, {}, model_digest=None)
    assert not finding.passed and sae is None and "cfg.json: d_in is None; valid: " in finding.remedy
    (tmp_path / "sae" / "cfg.json").unlink()
    finding, sae = look_at_sae(study({2: str(tmp_path / "sae")}), 2, {}, model_digest=None)
    assert not finding.passed and sae is None and "has only sae_weights.safetensors" in finding.remedy


def test_the_digest_of_an_earlier_run_is_known(tmp_path):
    assert known_digest("planner-1f", tmp_path) is None
    write_json(tmp_path / "corpora" / "planner-1f" / "model.json", {"weights_digest": "132b9303fc0b85c7"})
    assert known_digest("planner-1f", tmp_path) == "132b9303fc0b85c7"


def test_a_gpu_with_too_little_memory(monkeypatch):
    """MusicGen large in float16, clips of 30 s with guidance: 1.23 GB a row beside 7.2."""
    facts = {"n_layers": 48, "d_model": 2048, "n_codebooks": 4, "codebook_size": 2048}
    facts |= {"frame_rate_hz": 50.0, "sample_rate_hz": 32000, "max_duration_s": 30}
    asked = study(
        model={"name": "large", "dtype": "float16"}, generation={"duration_s": 30, "cfg_coef": 3.0, "batch_size": 12}
    )
    monkeypatch.setattr(doctor, "pick_device", lambda wanted: "cuda")
    monkeypatch.setattr(doctor, "free_memory", lambda device: (23_000_000_000, "A GPU"))
    enough = look_at_device(asked, facts)
    assert enough.passed and enough.found == "A GPU: 23.0 GB free, about 22.0 GB needed for 12 rows"
    monkeypatch.setattr(doctor, "free_memory", lambda device: (15_000_000_000, "A GPU"))
    little = look_at_device(asked, facts)
    assert not little.passed and "valid: at most 6" in little.remedy
    assert look_at_device(asked, {}).passed, "what is not known is not wrong"


def test_a_gpu_that_is_asked_for_must_be_here():
    finding = look_at_device(study(model={"name": str(PLANNER), "device": "cuda"}), {})
    assert finding.passed or "torch sees no GPU" in finding.remedy
    assert look_at_device(study(model={"name": str(PLANNER), "device": "cpu"}), {}).found.startswith("cpu (cores: ")


def test_disk_is_what_the_stores_take(tmp_path):
    n_clips, n_frames = 6, 400
    asked = study(generation={"duration_s": 16}, probes={"representations": ["resid", "sae", "random_model"]})
    _, facts = look_at_model(asked)
    saes = [load_sae(Path(folder)) for folder in SAE.values()]
    estimate = stores_bytes(asked, facts, saes, n_clips=n_clips)

    def write(name, arrays):
        with write_store(tmp_path / name, arrays, meta={}) as store:
            for array, spec in arrays.items():
                store.append(array, np.ones(spec.shape, spec.dtype))
        return sum(file.stat().st_size for file in (tmp_path / name).rglob("*") if file.is_file())

    tokens = write("tokens", token_arrays(n_clips, n_codebooks=4, n_frames=n_frames))
    acts = write("activations", activation_arrays(n_clips, n_positions=n_frames + 1, d_model=128))
    latents = write("latents", latent_arrays(n_clips, n_frames + 1, d_sae=256, k=32))
    assert estimate["tokens"] == pytest.approx(tokens, rel=0.1)
    # The input embedding, two layers, and the same two of the model with random weights.
    assert estimate["activations"] == pytest.approx(5 * acts, rel=0.01)
    assert estimate["latents"] == pytest.approx(2 * latents, rel=0.01)
    assert stores_bytes(asked, {}, saes, n_clips=n_clips) == {}

    # Without a k: as many features as are usually active.
    arrays = latent_arrays(n_clips, n_frames + 1, d_sae=256, k=None)
    code = np.zeros((n_clips, n_frames + 1, 256), np.float32)
    code[..., : doctor.USUAL_L0] = 1
    with write_store(tmp_path / "sparse", arrays, meta={}) as store:
        append_latents(store, code, np.broadcast_to(np.arange(256), code.shape), k=None)
    sparse = sum(file.stat().st_size for file in (tmp_path / "sparse").rglob("*") if file.is_file())
    estimate = stores_bytes(asked, facts, [saes[0]._replace(k=None)], n_clips=n_clips)
    assert estimate["latents"] == pytest.approx(sparse, rel=0.01)


def test_a_full_disk_is_found(tmp_path):
    corpora = {"a": "m-0a", "b": "m-0b", "c": "m-0a"}
    lines, whole = look_at_disk({"a": {"tokens": 1e6}, "b": {}}, corpora, tmp_path / "results")
    assert [line.found for line in lines] == ["about 1.0 MB: tokens 1.0 MB", "unknown without the model"]
    assert whole.passed and f"free in {tmp_path}, about 1.0 MB still needed" in whole.found
    tokens = tmp_path / "results" / "corpora" / "m-0a" / "tokens"
    (tokens / "b00" / "c").mkdir(parents=True)
    (tokens / "b00.manifest.json").write_bytes(bytes(100_000))
    (tokens / "b00" / "c" / "0").write_bytes(bytes(500_000))
    lines, whole = look_at_disk({"a": {"tokens": 1e6}}, corpora, tmp_path / "results")
    assert lines[0].found.endswith("0.6 MB there already") and "about 0.4 MB still needed" in whole.found
    # What studies share is needed once.
    needed = {"a": {"tokens": 1e6, "latents": 2e5}, "c": {"tokens": 1e6, "latents": 3e5}}
    lines, whole = look_at_disk(needed, corpora, tmp_path / "results")
    assert "about 0.9 MB still needed" in whole.found
    assert lines[1].found == "about 0.3 MB: latents 0.3 MB; clips and activations are those of a"
    _, whole = look_at_disk({"b": {"tokens": 0}}, corpora, tmp_path / "results")
    assert whole.found.endswith(
        f"can be deleted if no other study needs it: {tmp_path / 'results' / 'corpora' / 'm-0a'} (0.6 MB)"
    )
    _, whole = look_at_disk({"a": {"tokens": 1e6}, "b": {"activations": 1e18}}, corpora, tmp_path / "results")
    assert not whole.passed and "valid: a larger disk" in whole.remedy
