"""MusicGen as audiocraft loads it: a directory with `state_dict.bin` and `compression_state_dict.bin`."""

from pathlib import Path

import torch

import reprise.audiocraft_setup  # noqa: F401
from audiocraft.models import MusicGen
from audiocraft.models.encodec import CompressionModel
from audiocraft.models.lm import LMModel
from audiocraft.modules.conditioners import ConditioningAttributes
from audiocraft.modules.transformer import StreamingMultiheadAttention
from reprise.musicgen import MODEL_FILES, Model, weights_digest
from reprise.transformer import Attention, Layer, Transformer


def load(name_or_path: str, *, dtype: str, device: str) -> Model:
    """Load a model; see `reprise.musicgen.load_model`."""
    folder = Path(name_or_path)
    if folder.is_dir():
        for file in MODEL_FILES["audiocraft"]:
            if not (folder / file).is_file():
                raise FileNotFoundError(
                    f"model: {folder} has no {file}; a model directory holds both checkpoint files"
                )
    # Onto the processor first: on a GPU audiocraft would round the weights to float16, unasked.
    musicgen = MusicGen.get_pretrained(name_or_path, device="cpu")
    lm, codec = musicgen.lm.eval(), musicgen.compression_model.eval()
    check_supported(lm, name_or_path)
    digest = weights_digest(lm, codec)
    lm.to(device, getattr(torch, dtype))
    lm.condition_provider.device = device
    for conditioner in lm.condition_provider.conditioners.values():
        # T5 is hidden from `to`, as it is from the checkpoint.
        if (t5 := vars(conditioner).get("t5")) is not None:
            t5.to(device)
            conditioner.device = device
    return as_model(
        lm,
        codec.to(device),
        digest=digest,
        frame_rate_hz=float(musicgen.frame_rate),
        sample_rate_hz=int(musicgen.sample_rate),
        max_duration_s=float(musicgen.max_duration),
    )


def check_supported(lm: LMModel, name: str) -> None:
    """Raise ValueError naming the setting when a model uses a variant that `reprise/decoding.py` does not run."""
    pattern, cfg = lm.cfg.codebooks_pattern.modeling, lm.cfg.transformer_lm
    if pattern != "delay":
        raise ValueError(f"model: {name} uses the {pattern!r} pattern; valid: 'delay'")
    required = {
        "norm_first": True,
        "positional_embedding": "sin",
        "qk_layer_norm": False,
        "qk_layer_norm_cross": False,
    }
    optional = {"layer_scale": None, "past_context": None, "kv_repeat": 1}
    for key, value in {**required, **optional}.items():
        if cfg.get(key, value) != value:
            raise ValueError(f"model: transformer_lm.{key} is {cfg.get(key)!r}; supported: {value!r}")


def as_model(
    lm: LMModel,
    codec: CompressionModel | None,
    *,
    digest: str,
    frame_rate_hz: float,
    sample_rate_hz: int,
    max_duration_s: float,
) -> Model:
    """audiocraft's modules as the stages take a model. Without a codec nothing can be encoded or decoded."""

    def embed_text(prompt: str | None) -> torch.Tensor:
        attributes = [ConditioningAttributes(text={"description": prompt})]
        return lm.condition_provider(lm.condition_provider.tokenize(attributes))["description"][0][0]

    return Model(
        transformer=transformer_of(lm),
        embed_text=embed_text,
        audio_to_tokens=lambda audio: codec.encode(audio)[0],
        tokens_to_audio=lambda tokens: codec.decode(tokens),
        lm=lm,
        codec=codec,
        weights_digest=digest,
        frame_rate_hz=frame_rate_hz,
        sample_rate_hz=sample_rate_hz,
        n_codebooks=lm.n_q,
        card=lm.card,
        n_layers=len(lm.transformer.layers),
        d_model=lm.dim,
        max_duration_s=max_duration_s,
    )


def transformer_of(lm: LMModel) -> Transformer:
    """The weights of audiocraft's language model; no tensor is copied."""

    def attention(module: StreamingMultiheadAttention) -> Attention:
        return Attention(module.in_proj_weight, module.in_proj_bias, module.out_proj, module.num_heads)

    layers = [
        Layer(
            norm1=layer.norm1,
            self_attention=attention(layer.self_attn),
            norm_cross=layer.norm_cross,
            cross_attention=attention(layer.cross_attention),
            norm2=layer.norm2,
            linear1=layer.linear1,
            activation=layer.activation,
            linear2=layer.linear2,
        )
        for layer in lm.transformer.layers
    ]
    return Transformer(
        embeddings=list(lm.emb),
        layers=layers,
        out_norm=lm.out_norm,
        heads=list(lm.linears),
        positional_scale=lm.transformer.positional_scale,
        max_period=lm.transformer.max_period,
    )
