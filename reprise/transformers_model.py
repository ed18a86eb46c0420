"""MusicGen as Hugging Face transformers loads it: a directory with `config.json`, its weights as safetensors and a
tokenizer. audiocraft is not needed, nor imported."""

from pathlib import Path

import torch

import reprise.torchaudio_setup  # noqa: F401
from reprise.musicgen import Model, weights_digest
from reprise.transformer import Attention, Layer, Transformer
from transformers import AutoTokenizer, MusicgenForConditionalGeneration
from transformers.models.musicgen.modeling_musicgen import MusicgenAttention
from transformers.utils.logging import disable_progress_bar

# The files of this form do not say how long the clips of its training were. All published models had 30 s.
MAX_DURATION_S = 30.0
# Of the sinusoidal positions, fixed in transformers.
MAX_PERIOD = 10_000.0


def load(name_or_path: str, *, dtype: str, device: str) -> Model:
    """Load a model; see `reprise.musicgen.load_model`."""
    if Path(name_or_path).is_dir() and not (Path(name_or_path) / "config.json").is_file():
        raise FileNotFoundError(f"model: {name_or_path} has no config.json; a directory of this backend holds one")
    disable_progress_bar()  # a job has its own
    whole = MusicgenForConditionalGeneration.from_pretrained(name_or_path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    check_supported(whole, name_or_path)
    digest = weights_digest(whole)
    lm, text_encoder, codec = whole.decoder, whole.text_encoder.to(device), whole.audio_encoder.to(device)
    lm.to(device, getattr(torch, dtype))
    # Not there where the text encoder is as wide as the decoder.
    projection = getattr(whole, "enc_to_dec_proj", torch.nn.Identity()).to(device, getattr(torch, dtype))

    def embed_text(prompt: str | None) -> torch.Tensor:
        inputs = tokenizer([prompt or ""], return_tensors="pt").to(device)
        hidden = text_encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        embedded = projection(hidden.to(getattr(torch, dtype)))[0]
        # As audiocraft has it, to which transformers adds nothing: no text is no word, not the end of one.
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
        card=lm.config.vocab_size,
        n_layers=len(decoder.layers),
        d_model=lm.config.hidden_size,
        max_duration_s=MAX_DURATION_S,
    )


def check_supported(whole: MusicgenForConditionalGeneration, name: str) -> None:
    """Raise ValueError naming the setting when a model uses a variant that `reprise/decoding.py` does not run."""
    decoder, codec = whole.config.decoder, whole.config.audio_encoder
    found = {
        "decoder.audio_channels": (decoder.audio_channels, 1),
        "decoder.scale_embedding": (decoder.scale_embedding, False),
        "audio_encoder.audio_channels": (codec.audio_channels, 1),
        "audio_encoder.normalize": (codec.normalize, False),
        "audio_encoder.chunk_length_s": (codec.chunk_length_s, None),
        "audio_encoder.num_quantizers": (codec.num_quantizers, decoder.num_codebooks),
    }
    for key, (value, supported) in found.items():
        if value != supported:
            raise ValueError(f"model: {name}: {key} is {value!r}; supported: {supported!r}")


def transformer_of(lm: torch.nn.Module) -> Transformer:
    """The weights of a `MusicgenForCausalLM`. Queries, keys and values are put together; what they were before is let
    go."""

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
        for layer in lm.model.decoder.layers
    ]
    return Transformer(
        embeddings=list(lm.model.decoder.embed_tokens),
        layers=layers,
        out_norm=lm.model.decoder.layer_norm,
        heads=list(lm.lm_heads),
        positional_scale=1.0,
        max_period=MAX_PERIOD,
    )
