"""Load MusicGen with Hugging Face transformers, from a directory with `config.json`, weights as safetensors and a
tokenizer. audiocraft is neither needed nor imported."""

from pathlib import Path
from typing import Any, cast

import torch

import reprise.models.library_setup  # noqa: F401
from reprise.checkpoints.contents import PARTS
from reprise.checkpoints.variants import (
    TRANSFORMERS_MAX_DURATION_S,
    UnsupportedModelError,
    read_transformers_config,
    unsupported_in_transformers,
)
from reprise.models.adapter import Model
from reprise.models.transformer import Attention, Layer, Transformer
from reprise.models.weight_checks import check_finite_weights, check_names, weights_digest
from transformers import AutoTokenizer, MusicgenConfig, MusicgenForConditionalGeneration
from transformers.models.musicgen.modeling_musicgen import MusicgenAttention
from transformers.utils.logging import disable_progress_bar

# Of the sinusoidal positions. transformers has this value in its code.
MAX_PERIOD = 10_000.0


def load(folder: Path, *, dtype: str, device: str) -> Model:
    """Load a model from its directory; see `reprise.models.loading.load_model`. Raises UnsupportedModelError and
    WeightsError."""
    disable_progress_bar()  # jobs show their own
    if problems := unsupported_in_transformers(read_transformers_config(folder)):
        raise UnsupportedModelError(", ".join(problems))
    # transformers' types do not describe the model's attributes.
    whole: Any = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    check_names(folder, whole, parts=PARTS)
    whole.eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if problems := unsupported(whole.config):
        raise UnsupportedModelError(", ".join(problems))
    check_finite_weights({"the weights": whole})
    digest = weights_digest(whole)
    lm, text_encoder, codec = whole.decoder, whole.text_encoder.to(device), whole.audio_encoder.to(device)
    lm.to(device, getattr(torch, dtype))
    # Missing if the text encoder is as wide as the decoder.
    projection = getattr(whole, "enc_to_dec_proj", torch.nn.Identity()).to(device, getattr(torch, dtype))
    check_finite_weights({"decoder": lm, "enc_to_dec_proj": projection}, dtype=dtype)

    def embed_text(prompt: str | None) -> torch.Tensor:
        inputs = tokenizer([prompt or ""], return_tensors="pt").to(device)
        hidden = text_encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        embedded = projection(hidden.to(getattr(torch, dtype)))[0]
        # As in audiocraft: without text there is no word. transformers would encode an end-of-sequence token.
        return embedded if prompt else torch.zeros_like(embedded)

    decoder = lm.model.decoder
    return Model(
        transformer=transformer_of(lm),
        embed_text=embed_text,
        audio_to_tokens=lambda audio: codec.encode(audio, bandwidth=codec.config.target_bandwidths[-1]).audio_codes[0],
        tokens_to_audio=lambda tokens: codec.decode(tokens[None], [None]).audio_values,
        lm=lm,
        codec=codec,
        weights_digest=digest,
        frame_rate_hz=codec.config.sampling_rate / codec.config.hop_length,
        sample_rate_hz=codec.config.sampling_rate,
        n_codebooks=lm.config.num_codebooks,
        delays=tuple(range(lm.config.num_codebooks)),
        codebook_size=lm.config.vocab_size,
        n_layers=len(decoder.layers),
        d_model=lm.config.hidden_size,
        max_duration_s=TRANSFORMERS_MAX_DURATION_S,
    )


def unsupported(config: MusicgenConfig) -> list[str]:
    """Fields of a configuration that `reprise/models/forward.py` does not support, one text each; [] if none."""
    decoder, codec = cast("Any", config.decoder), cast("Any", config.audio_encoder)
    fields = [
        ("decoder.audio_channels", decoder.audio_channels, 1),
        ("decoder.scale_embedding", decoder.scale_embedding, False),
        ("audio_encoder.audio_channels", codec.audio_channels, 1),
        ("audio_encoder.normalize", codec.normalize, False),
        ("audio_encoder.chunk_length_s", codec.chunk_length_s, None),
        ("audio_encoder.num_quantizers", codec.num_quantizers, decoder.num_codebooks),
    ]
    return [f"{name} is {value!r} (supported: {runs!r})" for name, value, runs in fields if value != runs]


def transformer_of(lm: torch.nn.Module) -> Transformer:
    """The weights of a `MusicgenForCausalLM`.

    The projections to queries, keys and values are joined in one matrix. The library's modules then share its memory.
    """
    modules = cast("Any", lm)

    def attention(module: MusicgenAttention) -> Attention:
        parts = (module.q_proj, module.k_proj, module.v_proj)
        together = torch.cat([part.weight for part in parts])
        for part, weight in zip(parts, together.chunk(3), strict=True):
            part.weight.data = weight
        return Attention(together, None, module.out_proj, module.num_heads)

    layers = [
        Layer(
            norm1=layer.self_attn_layer_norm,
            self_attention=attention(layer.self_attn),
            norm_cross=layer.encoder_attn_layer_norm,
            cross_attention=attention(layer.encoder_attn),
            norm2=layer.final_layer_norm,
            linear1=layer.fc1,
            activation=layer.activation_fn,
            linear2=layer.fc2,
        )
        for layer in modules.model.decoder.layers
    ]
    return Transformer(
        embeddings=list(modules.model.decoder.embed_tokens),
        layers=layers,
        out_norm=modules.model.decoder.layer_norm,
        heads=list(modules.lm_heads),
        positional_scale=1.0,
        max_period=MAX_PERIOD,
    )
