"""Which SAEs in SAELens' format are of no use: transcoders, and those of a training, with the way out."""

import re
import shlex

import pytest
import torch

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.checkpoints.weights import sae_problems
from reprise.saes.loading import load_sae
from reprise.saes.sae import encode, to_dense
from tests.unit.saes.refusals import described, refused


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"architecture": "skip_transcoder"}, "architecture is 'skip_transcoder': a transcoder reads one hook"),
        ({"architecture": "jumprelu_transcoder", "d_out": 128}, "architecture is 'jumprelu_transcoder': a transcoder"),
        ({"hook_name_out": "blocks.2.hook_mlp_out"}, "hook_name_out is 'blocks.2.hook_mlp_out', and hook_name "),
        ({"hook_layer_out": 3}, "hook_layer_out is 3, and hook_layer 2: a transcoder"),
        ({"d_out": 64}, "d_out is 64, and d_in 128: a transcoder"),
    ],
)
def test_transcoders(tmp_path, changes, text):
    assert refused(described(tmp_path / "sae", **changes)).startswith(f"cfg.json: {text}")


ARCHITECTURES = ("standard", "gated", "topk", "jumprelu", "batchtopk", "matryoshka_batchtopk")


def in_training(architecture, **settings):
    from sae_lens.registry import get_sae_training_class

    sae_class, config_class = get_sae_training_class(architecture)
    extra = {"matryoshka_widths": [10, 40]} if architecture.startswith("matryoshka") else {}
    if "topk" in architecture:
        extra["k"] = 6
    torch.manual_seed(0)
    return sae_class(config_class(d_in=12, d_sae=40, **extra, **settings))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_sae_of_a_training_is_saved_for_use_by_the_command_that_is_given(tmp_path, monkeypatch, architecture):
    saving = in_training(architecture)
    if hasattr(saving, "topk_threshold"):
        saving.topk_threshold.fill_(0.5)
    saving.save_model(tmp_path / "sae")
    text = refused(tmp_path / "sae")
    assert " show that SAELens saved it in its training form (save_model); valid: the SAE that is written by " in text
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(re.search(r"written by (python -c .*)$", text)[1])[2])
    assert sae_problems("sae-for-use", 2, base_dir=tmp_path) == []
    saving.save_inference_model(tmp_path / "directly")
    assert load_sae(tmp_path / "sae-for-use").digest == load_sae(tmp_path / "directly").digest


def test_a_factor_of_the_training_is_folded_in(tmp_path, monkeypatch):
    saving = in_training("topk", normalize_activations="expected_average_only_in", rescale_acts_by_decoder_norm=False)
    saving.save_model(tmp_path / "sae")
    assert refused(tmp_path / "sae").endswith(" (first copy the training's activation_scaler.json into the folder)")
    (tmp_path / "sae" / "activation_scaler.json").write_text('{"scaling_factor": 0.25}')
    text = refused(tmp_path / "sae")
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(re.search(r"written by (python -c .*)$", text)[1])[2])
    x = torch.randn(20, 12)
    with torch.no_grad():
        expected = saving.encode(x * 0.25)
    sae = load_sae(tmp_path / "sae-for-use")
    torch.testing.assert_close(to_dense(*encode(sae, x), sae.d_sae), expected, atol=1e-5, rtol=1e-4)
