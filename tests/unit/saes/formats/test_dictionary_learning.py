"""dictionary_learning's format: every class by its plain definition, read strictly."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.saes.errors import SaeError
from reprise.saes.loading import load_sae
from tests.unit.saes.formats.random_sae import (
    D_IN,
    D_SAE,
    ENCODER,
    K,
    X,
    dense,
    hidden,
    linear,
    reconstructed,
    top,
    weights,
)
from tests.unit.saes.refusals import refused
from tests.unit.saes.tiny_sae import TINY


def dictionary(folder: Path, kind: str, tensors: dict[str, torch.Tensor], **trainer: Any) -> Path:
    folder.mkdir(exist_ok=True)
    about = {"dict_class": kind, "activation_dim": D_IN, "dict_size": D_SAE, "layer": 16, "lm_name": "a/b", **trainer}
    (folder / "config.json").write_text(json.dumps({"trainer": about}))
    torch.save(tensors, folder / "ae.pt")
    return folder


def gated() -> torch.Tensor:
    w = weights()
    x_enc = (X - w["b_dec"]) @ w["W_enc"]
    return (x_enc + w["b_enc"] > 0) * (w["r_mag"].exp() * x_enc + w["b_mag"]).relu()


DICTIONARIES = {
    "AutoEncoder": (linear({**ENCODER, "bias": "b_dec"}), hidden().relu()),
    "AutoEncoderNew": (linear({**ENCODER, "decoder.bias": "b_dec"}), hidden(subtract=False).relu()),
    "AutoEncoderTopK": (
        linear({**ENCODER, "b_dec": "b_dec"}) | {"k": torch.tensor(K), "threshold": torch.tensor(-1.0)},
        top(hidden(), K),
    ),
    "BatchTopKSAE": (
        linear({**ENCODER, "b_dec": "b_dec"}) | {"k": torch.tensor(K), "threshold": torch.tensor(0.9)},
        hidden().relu() * (hidden() > 0.9),
    ),
    "MatryoshkaBatchTopKSAE": (
        {name: weights()[name] for name in TINY}
        | {"k": torch.tensor(K), "threshold": torch.tensor(0.9), "group_sizes": torch.tensor([10, 30])},
        hidden().relu() * (hidden() > 0.9),
    ),
    "JumpReluAutoEncoder": (
        {name: weights()[name] for name in [*TINY, "threshold"]},
        hidden(subtract=False).relu() * (hidden(subtract=False) > weights()["threshold"]),
    ),
    "GatedAutoEncoder": (
        linear(
            {
                "encoder.weight": "W_enc",
                "decoder.weight": "W_dec",
                "decoder_bias": "b_dec",
                "gate_bias": "b_enc",
                "mag_bias": "b_mag",
                "r_mag": "r_mag",
            }
        ),
        gated(),
    ),
}


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_learning(tmp_path: Path, kind: str) -> None:
    tensors, latents = DICTIONARIES[kind]
    sae = load_sae(dictionary(tmp_path, kind, tensors, **({"k": K} if "k" in tensors else {})))
    torch.testing.assert_close(dense(sae), latents, atol=1e-5, rtol=1e-5)
    w = weights()
    torch.testing.assert_close(reconstructed(sae), latents @ w["W_dec"] + w["b_dec"], atol=1e-4, rtol=1e-5)
    # Whether its 16 counts from 0 nobody says, so it is not held against any layer.
    assert sae.hook_layer is None and sae.declared["hook_name"] == "layer 16"


def test_a_topk_dictionary_of_an_older_version_has_no_threshold(tmp_path: Path) -> None:
    tensors, latents = DICTIONARIES["AutoEncoderTopK"]
    tensors = {name: tensor for name, tensor in tensors.items() if name != "threshold"}
    sae = load_sae(dictionary(tmp_path, "AutoEncoderTopK", tensors))
    torch.testing.assert_close(dense(sae), latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("trainer", "tensors", "message"),
    [
        ({"dict_class": "CrossCoder"}, {}, r"trainer\.dict_class is 'CrossCoder': a transcoder "),
        ({"dict_class": "Novel"}, {}, r"trainer\.dict_class is 'Novel'; valid: AutoEncoder, "),
        ({"submodule_name": "mlp_layer_16"}, {}, r"trainer\.submodule_name is 'mlp_layer_16', which is not a "),
        ({"dict_size": 41}, {}, r"encoder\.weight has shape \(40, 12\); its description says \(41, 12\)"),
        ({"k": 7}, {}, r"trainer\.k is 7; valid: 6, as ae\.pt says"),
        ({}, {"threshold": torch.zeros(3)}, r"the shape of threshold is \(3,\); valid: \(\), \(1,\), \(40,\)"),
        ({}, {"k": torch.zeros(2)}, r"the shape of k is \(2,\); valid: \(\), \(1,\)"),
        ({}, {"extra": torch.zeros(1)}, "holds .*extra.*; valid: exactly encoder.weight"),
        ({}, {"b_dec": torch.full((D_IN,), torch.inf)}, "b_dec is not all finite"),
        ({}, {"ae": {"b_dec": torch.zeros(1)}}, "contains more than tensors: a training checkpoint"),
    ],
)
def test_dictionaries_are_read_strictly(tmp_path: Path, trainer: dict, tensors: dict, message: str) -> None:
    good = DICTIONARIES["AutoEncoderTopK"][0]
    folder = dictionary(tmp_path, **{"kind": "AutoEncoderTopK", "tensors": good | tensors})
    about = json.loads((folder / "config.json").read_text())["trainer"]
    (folder / "config.json").write_text(json.dumps({"trainer": {**about, **trainer}}))
    with pytest.raises(SaeError, match=message):
        load_sae(folder)


@pytest.mark.parametrize(
    "about, text",
    [
        ({"trainer": {"dict_class": "CrossCoder"}}, "trainer.dict_class is 'CrossCoder': a transcoder "),
        (
            {"trainer": {"submodule_name": "attn_out_layer8"}},
            "trainer.submodule_name is 'attn_out_layer8', which is n",
        ),
        ({"trainer": {}, "buffer": {"io": "in_and_out"}}, "buffer.io is 'in_and_out': a transcoder "),
    ],
)
def test_dictionaries_of_another_hook(tmp_path, about, text):
    (tmp_path / "config.json").write_text(json.dumps(about))
    torch.save({}, tmp_path / "ae.pt")
    assert refused(tmp_path).startswith(f"config.json: {text}")
