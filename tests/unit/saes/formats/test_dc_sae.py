"""DC-SAE's format: two latents side by side."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.saes.loading import load_sae
from tests.unit.saes.formats.random_sae import D_SAE, dense, hidden, reconstructed, top, weights


def test_dcsae_has_two_codes_side_by_side(tmp_path: Path) -> None:
    w, half = weights(), D_SAE // 2
    sides = {"i": slice(0, half), "j": slice(half, D_SAE)}
    tensors = {f"W_enc_{c}": w["W_enc"][:, s].contiguous() for c, s in sides.items()}
    tensors |= {f"b_enc_{c}": w["b_enc"][s].clone() for c, s in sides.items()}
    tensors |= {f"W_dec_{c}": w["W_dec"][s].clone() for c, s in sides.items()} | {"b_dec": w["b_dec"]}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps({"k": 3, "corpus": "jazz", "step": 15000}))
    sae = load_sae(tmp_path)
    assert (sae.k, sae.n_groups, sae.d_sae) == (6, 2, D_SAE)
    latents = torch.cat([top(hidden()[:, s], 3) for s in sides.values()], dim=-1)
    torch.testing.assert_close(dense(sae), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reconstructed(sae), latents @ w["W_dec"] + w["b_dec"], atol=1e-4, rtol=1e-5)
