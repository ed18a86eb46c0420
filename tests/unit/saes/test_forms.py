"""Which layer an SAE's description says it is of, and which SAEs are of no use: before any job, and at loading."""

import json
import re
import shlex
import shutil

import pytest
import torch

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.checkpoints.weights import sae_problems
from reprise.saes.certificate import disagreements
from reprise.saes.hooks import hook_layer, hook_problem
from reprise.saes.loading import load_sae
from reprise.saes.sae import SaeError, encode, to_dense
from tests.places import PLANNER

SAE = PLANNER / "sae" / "layer2"


def described(folder, *, file="cfg.json", **changes):
    """A copy of the planner's SAE of layer 2 with another description: fields of `metadata`, unless it has them."""
    shutil.copytree(SAE, folder)
    cfg = json.loads((folder / "cfg.json").read_text())
    metadata = {name: value for name, value in changes.items() if name.startswith("hook_")}
    cfg["metadata"] |= metadata
    cfg |= {name: value for name, value in changes.items() if name not in metadata}
    (folder / file).write_text(json.dumps(cfg))
    return folder


def refused(folder, layer=2):
    """The one problem of an SAE, before any job; its loading says the same."""
    (line,) = sae_problems(str(folder), layer)
    text = line.removeprefix(f'"{folder}": ')
    with pytest.raises(SaeError) as caught:
        load_sae(folder)
    assert str(caught.value) == f"{folder}/{text}"
    return text


# --- which layer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, layer, of",
    [
        ("hook_layers.11", None, 11),
        ("blocks.5.hook_resid_post", 5, 5),
        ("blocks.5.hook_resid_pre", 5, 4),
        ("blocks.5.hook_resid_pre", None, 4),
        ("transformer.layers.11", 11, 11),
        ("decoder.model.decoder.layers.7", None, 7),
        ("model.layers.3.resid_post", None, 3),
        ("", 6, 6),
        (None, None, None),
        ("blocks.1.part.2", None, None),
    ],
)
def test_the_layer_of_a_hook(name, layer, of):
    assert hook_layer({"hook_name": name, "hook_layer": layer}) == of
    assert hook_problem(name) is None


def test_what_comes_into_a_layer_is_the_stream_of_the_one_below(tmp_path):
    folder = described(tmp_path / "sae", hook_name="blocks.3.hook_resid_pre", hook_layer=3)
    assert sae_problems(str(folder), 2) == []
    sae = load_sae(folder)
    assert sae.hook_layer == sae.declared["hook_layer"] == 2 and sae.digest == load_sae(SAE).digest
    why = " (blocks.3.hook_resid_pre is what comes into layer 3, so the output of the layer below)"
    assert sae_problems(str(folder), 3) == [
        f'"{folder}" says that it is of layer 2{why}; valid: the SAE of layer 3 (layers are 0-based)'
    ]
    assert disagreements(sae.declared, {"hook_layer": 2, "d_model": 128}) == {}
    assert disagreements(sae.declared, {"hook_layer": 3, "d_model": 128}) == {
        "hook": f"the SAE declares hook layer 2{why}, the activations are of layer 3"
    }


def test_a_name_and_a_number_that_disagree(tmp_path):
    folder = described(tmp_path / "sae", hook_name="blocks.3.hook_resid_pre", hook_layer=2)
    with pytest.raises(SaeError, match=r"hook_layer is 2, but hook_name is 'blocks\.3\.hook_resid_pre'; they must"):
        load_sae(folder)


# --- no residual stream ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(f"blocks.2.{hook}" for hook in ("hook_resid_mid", "hook_attn_out", "hook_mlp_out", "hook_mlp_in")),
        *("blocks.2.attn.hook_z", "blocks.2.mlp.hook_post", "blocks.2.ln1.hook_normalized", "blocks.2.hook_q_input"),
        *("transformer.layers.2.self_attn", "transformer.layers.2.cross_attention", "transformer.layers.2.linear2"),
        *("decoder.model.decoder.layers.2.fc2", "decoder.model.decoder.layers.2.encoder_attn.out_proj"),
        *("model.layers.2.mlp", "model.layers.2.input_layernorm", "transformer.layers.2.norm_cross"),
        *("hook_embed", "hook_pos_embed", "emb.2", "lm_heads.2", "linears.2", "transformer.out_norm", "ln_final"),
    ],
)
def test_hooks_that_are_no_residual_stream(tmp_path, name):
    folder = described(tmp_path / "sae", hook_name=name, hook_layer=2)
    assert refused(folder).startswith(f"cfg.json: hook_name is '{name}', which is no residual stream; valid: ")


def test_the_input_embedding_is_no_layers_output(tmp_path):
    folder = described(tmp_path / "sae", hook_name="blocks.0.hook_resid_pre", hook_layer=0)
    assert "'blocks.0.hook_resid_pre', the input embedding, which is no layer's output; valid: " in refused(folder)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"architecture": "skip_transcoder"}, "architecture is 'skip_transcoder': a transcoder reconstructs another"),
        ({"architecture": "jumprelu_transcoder", "d_out": 128}, "architecture is 'jumprelu_transcoder': a transcoder"),
        ({"hook_name_out": "blocks.2.hook_mlp_out"}, "hook_name_out is 'blocks.2.hook_mlp_out', and hook_name "),
        ({"hook_layer_out": 3}, "hook_layer_out is 3, and hook_layer 2: a transcoder"),
        ({"d_out": 64}, "d_out is 64, and d_in 128: a transcoder"),
    ],
)
def test_transcoders(tmp_path, changes, text):
    assert refused(described(tmp_path / "sae", **changes)).startswith(f"cfg.json: {text}")


@pytest.mark.parametrize("field", ["transcode", "skip_connection"])
def test_transcoders_of_sparsify(tmp_path, field):
    (tmp_path / "cfg.json").write_text(json.dumps({"d_in": 128, "num_latents": 256, "k": 8, field: True}))
    shutil.copy(SAE / "sae_weights.safetensors", tmp_path / "sae.safetensors")
    assert refused(tmp_path).startswith(f"cfg.json: {field} is True: a transcoder reconstructs another hook")


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


# --- saved in the course of a training ------------------------------------------------------------------------


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
    assert " say that SAELens saved it for its training (save_model); valid: what python -c " in text
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(re.search(r"what (python -c .*) writes$", text)[1])[2])
    assert sae_problems("sae-for-use", 2, base_dir=tmp_path) == []
    saving.save_inference_model(tmp_path / "directly")
    assert load_sae(tmp_path / "sae-for-use").digest == load_sae(tmp_path / "directly").digest


def test_a_factor_of_the_training_is_folded_in(tmp_path, monkeypatch):
    saving = in_training("topk", normalize_activations="expected_average_only_in", rescale_acts_by_decoder_norm=False)
    saving.save_model(tmp_path / "sae")
    assert refused(tmp_path / "sae").endswith(" writes, with activation_scaler.json of the training beside it")
    (tmp_path / "sae" / "activation_scaler.json").write_text('{"scaling_factor": 0.25}')
    text = refused(tmp_path / "sae")
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(re.search(r"what (python -c .*) writes$", text)[1])[2])
    x = torch.randn(20, 12)
    with torch.no_grad():
        expected = saving.encode(x * 0.25)
    sae = load_sae(tmp_path / "sae-for-use")
    torch.testing.assert_close(to_dense(*encode(sae, x), sae.d_sae), expected, atol=1e-5, rtol=1e-4)
