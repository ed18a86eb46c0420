"""The names of a model's weights, as its configuration alone tells them, are those of the modules that the libraries
build."""

import pytest
from omegaconf import OmegaConf

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.builders import get_compression_model, get_lm_model
from reprise.checkpoints.weight_names import codec_names, decoder_names, encodec_names, lm_names, plain, t5_names
from reprise.organisms.codec import codec_config
from reprise.organisms.lm import lm_config
from transformers import (
    EncodecConfig,
    EncodecModel,
    MusicgenDecoderConfig,
    MusicgenForCausalLM,
    T5Config,
    T5EncoderModel,
)


def names_of(module):
    return {plain(name) for name in module.state_dict()}


@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
def test_a_t5_encoder(kind):
    sizes = {"vocab_size": 20, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    config = T5Config(**sizes, feed_forward_proj=kind)
    assert t5_names(config.to_dict()) == names_of(T5EncoderModel(config))
    assert t5_names({"model_type": "umt5"}) is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"norm_type": "time_group_norm"},
        {"num_residual_layers": 2, "use_conv_shortcut": False, "num_lstm_layers": 1},
        # As MusicGen's.
        {"upsampling_ratios": [8, 5, 4, 4], "sampling_rate": 32000, "target_bandwidths": [2.2], "codebook_size": 2048},
    ],
)
def test_a_codec_in_the_form_of_transformers(fields):
    config = EncodecConfig(num_filters=2, hidden_size=4, **fields)
    assert encodec_names(config.to_dict()) == names_of(EncodecModel(config))
    assert encodec_names({"model_type": "dac"}) is None


def test_a_language_model_in_the_form_of_transformers():
    sizes = {"vocab_size": 20, "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MusicgenDecoderConfig(**sizes, pad_token_id=20, bos_token_id=20)
    assert decoder_names(config.to_dict()) == names_of(MusicgenForCausalLM(config))


@pytest.mark.parametrize("biased", [False, True])
def test_a_language_model_in_the_form_of_audiocraft(biased):
    config = lm_config()
    config["transformer_lm"] |= dict.fromkeys(("bias_ff", "bias_attn", "bias_proj"), biased)
    config["transformer_lm"] |= {"num_layers": 2, "dim": 16}
    found = names_of(get_lm_model(OmegaConf.create(config)))
    assert lm_names(config) == {name for name in found if not name.startswith("condition_provider.")}
    assert lm_names({}) is None


@pytest.mark.parametrize("fields", [{}, {"lstm": 2}, {"true_skip": False, "n_residual_layers": 2}])
def test_a_codec_in_the_form_of_audiocraft(fields):
    config = codec_config()
    config["seanet"] |= {"n_filters": 2, "dimension": 4, **fields}
    assert codec_names(config) == names_of(get_compression_model(OmegaConf.create(config)))
    config["seanet"]["disable_norm_outer_blocks"] = 1
    assert codec_names(config) is None and codec_names({}) is None
