"""Load MusicGen and AudioGen with audiocraft, from `state_dict.bin` and `compression_state_dict.bin` in a directory.

AudioGen is the same language model with another codec (16 kHz), another text encoder and clips of 10 s. In a stereo
MusicGen the codebooks of the left and the right channel alternate, with delays in pairs. Its codec is a mono codec
that is used twice.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.builders import get_wrapped_compression_model
from audiocraft.models.encodec import CompressionModel, HFEncodecCompressionModel
from audiocraft.models.lm import LMModel
from audiocraft.models.loaders import load_compression_model, load_lm_model
from audiocraft.modules.conditioners import ConditioningAttributes
from audiocraft.modules.transformer import StreamingMultiheadAttention
from reprise.checkpoints.contents import CODEC_FILE, LM_FILE
from reprise.checkpoints.hub import Place, cache_folder, fetched_folder
from reprise.checkpoints.variants import UnsupportedModelError, read_checkpoint, unsupported
from reprise.checkpoints.weight_names import is_benign, is_of_t5_decoder
from reprise.models.adapter import Model
from reprise.models.transformer import Attention, Layer, Transformer
from reprise.models.weight_checks import check_finite_weights, check_names, weights_digest


def load(folder: Path, *, dtype: str, device: str) -> Model:
    """Load a model from its directory; see `reprise.models.loading.load_model`. Raises UnsupportedModelError and
    WeightsError."""
    # Checked before anything is built: a melody model would load a network for source separation.
    if problems := unsupported(read_checkpoint(folder / LM_FILE).config):
        raise UnsupportedModelError(", ".join(problems))
    # On the CPU first: on a GPU audiocraft would round the weights to float16.
    lm = load_lm_model(str(folder), device="cpu").eval()
    if problems := unsupported(lm.cfg):
        raise UnsupportedModelError(", ".join(problems))
    plain_codec = load_compression_model(str(folder), device="cpu")
    # As in audiocraft: the configuration sets the numbers of channels and of codebooks.
    codec = get_wrapped_compression_model(plain_codec, lm.cfg).eval()
    if problems := codec_problems(codec, lm):
        raise UnsupportedModelError(", ".join(problems))
    # audiocraft does not register T5 as a submodule. So `to`, `state_dict` and the checkpoint do not include it.
    of_t5 = [c for c in lm.condition_provider.conditioners.values() if vars(c).get("t5") is not None]
    for conditioner in of_t5:
        _check_of_hub(conditioner.name, conditioner.t5, allowed=is_of_t5_decoder)
    if isinstance(plain_codec, HFEncodecCompressionModel):
        _check_of_hub(str(read_checkpoint(folder / CODEC_FILE).pretrained), plain_codec.model)
    check_finite_weights(
        {LM_FILE: lm, CODEC_FILE: codec, **{conditioner.name: conditioner.t5 for conditioner in of_t5}}
    )
    digest = weights_digest(lm, codec, *(conditioner.t5 for conditioner in of_t5))
    lm.to(device, getattr(torch, dtype))
    check_finite_weights({LM_FILE: lm}, dtype=dtype)
    lm.condition_provider.device = device
    for conditioner in of_t5:
        conditioner.t5.to(device)
        conditioner.device = device
    return as_model(
        lm,
        codec.to(device),
        digest=digest,
        frame_rate_hz=float(codec.frame_rate),
        sample_rate_hz=int(codec.sample_rate),
        max_duration_s=float(lm.cfg.dataset.segment_duration),
    )


def codec_problems(codec: CompressionModel, lm: LMModel) -> list[str]:
    """Mismatches between a codec's tokens and those that a language model reads, one text each; [] if they match."""
    fields = [("codebooks", codec.num_codebooks, lm.n_q), ("tokens in a codebook", codec.cardinality, lm.card)]
    return [f"the codec has {got} {what} (supported: the language model's {n})" for what, got, n in fields if got != n]


def _check_of_hub(name: str, module: torch.nn.Module, *, allowed: Callable[[str], bool] = is_benign) -> None:
    """Raise WeightsError unless the hub's files of this name contain exactly a module's weights.

    audiocraft does not check this.
    """
    folder = fetched_folder(Place(name, None), cache_folder()) or Path(name)
    if folder.is_dir():
        check_names(folder, module, what=f"{name}: ", allowed=allowed)


def as_model(
    lm: LMModel,
    codec: CompressionModel | None,
    *,
    digest: str,
    frame_rate_hz: float,
    sample_rate_hz: int,
    max_duration_s: float,
) -> Model:
    """Make a `Model` from audiocraft's modules.

    Parameters
    ----------
    codec
        None: the model can't encode or decode audio.
    digest
        Digest of the weights.
    frame_rate_hz
        Token frames per second.
    sample_rate_hz
        Sample rate of the codec.
    max_duration_s
        Length of the longest clip, in seconds.
    """
    codec_module = cast("Any", codec)

    def embed_text(prompt: str | None) -> torch.Tensor:
        attributes = [ConditioningAttributes(text={"description": prompt})]
        return lm.condition_provider(lm.condition_provider.tokenize(attributes))["description"][0][0]

    def audio_to_tokens(audio: torch.Tensor) -> torch.Tensor:
        # As in audiocraft, a stereo model gets the mono audio in both channels.
        tokens, scale = codec_module.encode(audio.expand(-1, codec_module.channels, -1))
        if scale is not None:
            raise ValueError(
                "model: its codec scales clips by their loudness; valid: a codec that does not, such as MusicGen's"
            )
        return tokens

    return Model(
        transformer=transformer_of(lm),
        embed_text=embed_text,
        audio_to_tokens=audio_to_tokens,
        tokens_to_audio=lambda tokens: codec_module.decode(tokens),
        lm=lm,
        codec=codec_module,
        weights_digest=digest,
        frame_rate_hz=frame_rate_hz,
        sample_rate_hz=sample_rate_hz,
        n_codebooks=lm.n_q,
        delays=tuple(int(delay) for delay in cast("Any", lm.pattern_provider).delays),
        codebook_size=lm.card,
        n_layers=len(lm.transformer.layers),
        d_model=lm.dim,
        max_duration_s=max_duration_s,
    )


def transformer_of(lm: LMModel) -> Transformer:
    """The weights of audiocraft's language model; no tensor is copied."""
    # torch's types do not describe what a module contains.
    modules = cast("Any", lm)

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
        for layer in modules.transformer.layers
    ]
    return Transformer(
        embeddings=list(modules.emb),
        layers=layers,
        out_norm=modules.out_norm,
        heads=list(modules.linears),
        positional_scale=modules.transformer.positional_scale,
        max_period=modules.transformer.max_period,
    )
