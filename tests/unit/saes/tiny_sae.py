"""An SAE of four features by hand, and SAELens' descriptions of it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from reprise.saes.sae import Sae, make_sae

# Two inputs, four features: +x, +y, -x and x + y.
TINY = {
    "W_enc": torch.tensor([[1.0, 0.0, -1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]),
    "b_enc": torch.tensor([0.0, 0.5, 0.0, -1.0]),
    "W_dec": torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.5, 0.5]]),
    "b_dec": torch.tensor([1.0, -1.0]),
}
# Field by field what Singh, Cherep & Maes published (SAELens 5.3.2), at another size.
V5 = {
    "architecture": "standard",
    "activation_fn": "topk",
    "activation_fn_kwargs": {"k": 2},
    "d_in": 2,
    "d_sae": 4,
    "dtype": "float32",
    "device": "cuda",
    "apply_b_dec_to_input": True,
    "finetuning_scaling_factor": False,
    "normalize_activations": "none",
    "context_size": 501,
    "prepend_bos": True,
    "hook_name": "hook_layers.11",
    "hook_layer": 11,
    "hook_head_index": None,
    "model_name": "facebook/musicgen-small",
    "dataset_path": "ManzhenWei/MusicSet",
    "dataset_trust_remote_code": True,
    "sae_lens_training_version": "5.3.2",
    "model_from_pretrained_kwargs": {},
    "seqpos_slice": [None],
    "neuronpedia_id": None,
}
V6 = {
    "architecture": "topk",
    "k": 2,
    "rescale_acts_by_decoder_norm": False,
    "d_in": 2,
    "d_sae": 4,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {
        "sae_lens_version": "6.54.12",
        "model_name": "planner",
        "model_digest": "0123456789abcdef",
        "hook_name": "transformer.layers.2",
        "context_size": 401,
    },
}


def tiny(**changes: Any) -> Sae:
    return make_sae(**{**TINY, "k": 2, "declared": {}, **changes})


def on_disk(folder: Path, cfg: dict[str, Any], weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps({**cfg, **changes}))
    save_file(TINY if weights is None else weights, folder / "sae_weights.safetensors")
    return folder


# x - b_dec = (2, 1): hidden (2, 1.5, -2, 2). x - b_dec = (-3, 0): (-3, 0.5, 3, -4). x - b_dec = (0.2, -1): all of
# (0.2, -0.5, -0.2, -1.8) but the first below zero.
X = torch.tensor([[3.0, 0.0], [-2.0, -1.0], [1.2, -2.0]])
VALUES = torch.tensor([[2.0, 2.0], [3.0, 0.5], [0.2, 0.0]])
INDICES = torch.tensor([[0, 3], [2, 1], [0, 0]], dtype=torch.int32)
RECONSTRUCTED = torch.tensor([[1 + 2 + 1.0, -1 + 1.0], [1 - 3.0, -1 + 0.5], [1.2, -1.0]])
