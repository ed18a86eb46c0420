"""An SAE saved as SAELens 6 does."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from reprise.saes.loading import load_sae
from reprise.saes.saving import save_saelens_v6
from tests.unit.saes.tiny_sae import V6, tiny


def test_saved_v6_loads_the_same_and_has_every_field(tmp_path: Path) -> None:
    sae = tiny(apply_b_dec_to_input=False)
    metadata = {"hook_name": "transformer.layers.2", "hook_layer": 2, "model_name": "planner", "context_size": 401}
    save_saelens_v6(tmp_path / "sae", sae, metadata=metadata)
    loaded = load_sae(tmp_path / "sae")
    assert loaded.digest == sae.digest and loaded.hook_layer == 2 and loaded.declared["model_name"] == "planner"
    cfg = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert cfg.keys() == V6.keys() and cfg["metadata"]["sae_lens_version"].startswith("6.")
    assert sorted(p.name for p in (tmp_path / "sae").iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    save_saelens_v6(tmp_path / "half", sae, metadata=metadata, dtype="float16")
    assert load_file(tmp_path / "half" / "sae_weights.safetensors")["W_enc"].dtype == torch.float16
    assert load_sae(tmp_path / "half").digest == sae.digest  # these few values are exact in float16
