"""sparsify's format: top-k and groupmax by their plain definitions, read strictly."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.saes.errors import SaeError
from reprise.saes.loading import load_sae
from reprise.saes.sae import encode
from tests.unit.saes.formats.random_sae import D_IN, D_SAE, X, dense, hidden, linear, top, weights
from tests.unit.saes.refusals import SAE, refused


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_sparsify(tmp_path: Path, activation: str) -> None:
    k = 5
    tensors = linear({"encoder.weight": "W_enc", "encoder.bias": "b_enc", "b_dec": "b_dec"})
    save_file({**tensors, "W_dec": weights()["W_dec"]}, tmp_path / "sae.safetensors")
    cfg = {"activation": activation, "d_in": D_IN, "num_latents": D_SAE, "k": k, "expansion_factor": 32}
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "skip_connection": False, "transcode": False}))
    sae = load_sae(tmp_path)
    latents = top(hidden(), k)
    if activation == "groupmax":
        groups = hidden().relu().unflatten(-1, (k, -1))
        best, place = groups.max(dim=-1, keepdim=True)
        latents = torch.zeros_like(groups).scatter(-1, place, best).flatten(-2)
    torch.testing.assert_close(dense(sae), latents, atol=1e-5, rtol=1e-5)
    values, indices = encode(sae, X)
    assert bool((values[:, :-1] >= values[:, 1:]).all()) and bool((indices[values == 0] == 0).all())
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "transcode": True}))
    with pytest.raises(SaeError, match="transcode is True: a transcoder reads one hook and reconstructs another"):
        load_sae(tmp_path)
    for field, value, said in (("signed", True, "latents below 0"), ("num_latents", "256", "a positive integer")):
        (tmp_path / "cfg.json").write_text(json.dumps({**cfg, field: value}))
        with pytest.raises(SaeError, match=f"{field} is {value!r}; valid: .*{said}"):
            load_sae(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "hidden_trick": 1}))
    with pytest.raises(SaeError, match="unknown field hidden_trick"):
        load_sae(tmp_path)


@pytest.mark.parametrize("field", ["transcode", "skip_connection"])
def test_transcoders_of_sparsify(tmp_path, field):
    (tmp_path / "cfg.json").write_text(json.dumps({"d_in": 128, "num_latents": 256, "k": 8, field: True}))
    shutil.copy(SAE / "sae_weights.safetensors", tmp_path / "sae.safetensors")
    assert refused(tmp_path).startswith(f"cfg.json: {field} is True: a transcoder reads one hook")
