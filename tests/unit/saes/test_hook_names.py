"""Which layer an SAE's description says it is of, and which hooks are no residual stream."""

import pytest

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.checkpoints.weights import sae_problems
from reprise.saes.certificate import disagreements
from reprise.saes.errors import SaeError
from reprise.saes.hook_names import hook_layer, hook_problem
from reprise.saes.loading import load_sae
from tests.unit.saes.refusals import SAE, described, refused


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
    why = " (blocks.3.hook_resid_pre is the input of layer 3, so the output of the layer below)"
    assert sae_problems(str(folder), 3) == [
        f'"{folder}" is described as an SAE of layer 2{why}; valid: the SAE of layer 3 (layers are 0-based)'
    ]
    assert disagreements(sae.declared, {"hook_layer": 2, "d_model": 128}) == {}
    assert disagreements(sae.declared, {"hook_layer": 3, "d_model": 128}) == {
        "hook": f"the SAE declares hook layer 2{why}, the activations are of layer 3"
    }


def test_a_name_and_a_number_that_disagree(tmp_path):
    folder = described(tmp_path / "sae", hook_name="blocks.3.hook_resid_pre", hook_layer=2)
    with pytest.raises(SaeError, match=r"hook_layer is 2, but hook_name is 'blocks\.3\.hook_resid_pre'; they must"):
        load_sae(folder)


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
    assert refused(folder).startswith(f"cfg.json: hook_name is '{name}', which is not a residual stream; valid: ")


def test_the_input_embedding_is_no_layers_output(tmp_path):
    folder = described(tmp_path / "sae", hook_name="blocks.0.hook_resid_pre", hook_layer=0)
    text = refused(folder)
    assert "'blocks.0.hook_resid_pre', the input embedding, which is not the output of a layer; valid: " in text
