"""The names of all weights of a MusicGen, computed from its configuration alone.

Conventions. Names are those of the library that wrote the file, without the prefix of the part ("text_encoder.").
Some weights have several spellings, which `plain` maps to one: weight normalisation as torch wrote it before 2.0
(`weight_g`, `weight_v`), T5's embedding under its tied name, and audiocraft's attention around torch's (`mha.`).

Degenerate input: for an unknown kind of configuration the result is None. Missing weights are then found when the
files are loaded. Tests compare the names with those of the modules that the libraries build.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_SPELLINGS = [
    (re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
    (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"),
    (re.compile(r"(^|\.)encoder\.embed_tokens\.weight$"), r"\1shared.weight"),
    (re.compile(r"\.mha\."), "."),
]
_CODEBOOK = ("inited", "cluster_size", "embed", "embed_avg")
# Entries of complete files that are not needed, and why.
_BENIGN = re.compile(
    # The sinusoidal positions. They are computed, but older versions of transformers saved them.
    r"(decoder\.)?model\.decoder\.embed_positions\.weights"
)
# T5 is published with its decoder, which is not used.
_T5_DECODER = re.compile(r"(decoder\..*|lm_head\.weight)")


def plain(name: str) -> str:
    """The common spelling of a weight's name."""
    for spelling, one in _SPELLINGS:
        name = spelling.sub(one, name)
    return name


def is_benign(name: str) -> bool:
    """Whether a name may be in the file of a complete model although the model does not have this weight."""
    return bool(_BENIGN.fullmatch(name))


def is_of_t5_decoder(name: str) -> bool:
    """Whether a name in a file of T5 belongs to its decoder."""
    return bool(_T5_DECODER.fullmatch(name))


def t5_names(config: Mapping[str, Any]) -> set[str] | None:
    """Names of the weights of a T5 encoder, by its configuration in transformers' format."""
    if config.get("model_type") != "t5":
        return None
    mlp = ("wi_0", "wi_1", "wo") if str(config.get("feed_forward_proj", "relu")).startswith("gated") else ("wi", "wo")
    names = {"shared.weight", "encoder.final_layer_norm.weight"}
    names.add("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    for i in range(config.get("num_layers", 6)):
        block = f"encoder.block.{i}.layer"
        names |= {f"{block}.{j}.layer_norm.weight" for j in (0, 1)}
        names |= {f"{block}.0.SelfAttention.{part}.weight" for part in "qkvo"}
        names |= {f"{block}.1.DenseReluDense.{part}.weight" for part in mlp}
    return names


def decoder_names(config: Mapping[str, Any]) -> set[str]:
    """Names of the weights of MusicGen's language model in transformers, by its configuration there."""
    n_codebooks = config.get("num_codebooks", 4)
    names = {f"lm_heads.{k}.weight" for k in range(n_codebooks)}
    names |= {f"model.decoder.embed_tokens.{k}.weight" for k in range(n_codebooks)}
    names |= {f"model.decoder.layer_norm.{part}" for part in ("weight", "bias")}
    for i in range(config.get("num_hidden_layers", 24)):
        layer = f"model.decoder.layers.{i}"
        attentions = [f"{layer}.{a}.{p}_proj" for a in ("self_attn", "encoder_attn") for p in ("q", "k", "v", "out")]
        names |= {f"{module}.weight" for module in (*attentions, f"{layer}.fc1", f"{layer}.fc2")}
        norms = (f"{layer}.{a}_layer_norm" for a in ("self_attn", "encoder_attn", "final"))
        names |= {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")}
    return names


def has_projection(text_encoder: Mapping[str, Any], decoder: Mapping[str, Any]) -> bool | None:
    """Whether transformers' MusicGen projects the text encoder's output to its own width; None: not known."""
    width = text_encoder.get("d_model", text_encoder.get("hidden_size"))
    if width is None:
        return None
    return width != decoder.get("hidden_size", 1024) and decoder.get("cross_attention_hidden_size") is None


def encodec_names(config: Mapping[str, Any]) -> set[str] | None:
    """Names of the weights of a codec in transformers, by its configuration there."""
    norm = config.get("norm_type", "weight_norm")
    if config.get("model_type") != "encodec" or norm not in ("weight_norm", "time_group_norm"):
        return None
    ratios = config.get("upsampling_ratios", (8, 5, 4, 2))
    frame_rate_hz = math.ceil(config.get("sampling_rate", 24_000) / math.prod(ratios))
    n_bits = math.ceil(math.log2(config.get("codebook_size", 1024)))
    bandwidth = config.get("target_bandwidths", (24.0,))[-1]
    names = {
        f"quantizer.layers.{k}.codebook.{part}"
        for k in range(int(1000 * bandwidth // (frame_rate_hz * n_bits)))
        for part in _CODEBOOK
    }
    parts: tuple[str, ...] = ("conv.bias", "conv.weight", "norm.weight", "norm.bias")
    if norm == "weight_norm":
        parts = ("conv.bias", *(f"conv.parametrizations.weight.original{i}" for i in (0, 1)))
    for kind, module in _seanet(
        n_ratios=len(ratios),
        n_residual=config.get("num_residual_layers", 1),
        # In transformers there are always recurrent layers.
        has_lstm=True,
        has_shortcut=config.get("use_conv_shortcut", True),
        at="layers",
    ):
        names |= (
            _lstm(module, config.get("num_lstm_layers", 2)) if kind == "lstm" else {f"{module}.{p}" for p in parts}
        )
    return names


def lm_names(config: Mapping[str, Any]) -> set[str] | None:
    """Names of the weights of audiocraft's language model without its conditioners, by its `xp.cfg`."""
    transformer = config.get("transformer_lm") or {}
    n_q, n_layers = transformer.get("n_q"), transformer.get("num_layers")
    if type(n_q) is not int or type(n_layers) is not int:
        return None

    def module(name: str, biased: str, default: bool = True) -> set[str]:
        return {f"{name}.weight"} | ({f"{name}.bias"} if transformer.get(biased, default) else set())

    names = {f"emb.{k}.weight" for k in range(n_q)} | {"out_norm.weight", "out_norm.bias"}
    for k in range(n_q):
        names |= module(f"linears.{k}", "bias_proj")
    for i in range(n_layers):
        layer = f"transformer.layers.{i}"
        for attention in (f"{layer}.self_attn", f"{layer}.cross_attention"):
            names |= module(f"{attention}.out_proj", "bias_attn") | {f"{attention}.in_proj_weight"}
            names |= {f"{attention}.in_proj_bias"} if transformer.get("bias_attn", True) else set()
        for linear in (f"{layer}.linear1", f"{layer}.linear2"):
            names |= module(linear, "bias_ff")
        names |= {f"{layer}.{norm}.{p}" for norm in ("norm1", "norm2", "norm_cross") for p in ("weight", "bias")}
    return names


def codec_names(config: Mapping[str, Any]) -> set[str] | None:
    """Names of the weights of audiocraft's codec, by its `xp.cfg`."""
    seanet, rvq = config.get("seanet") or {}, config.get("rvq") or {}
    about = config.get("encodec") or {}
    ratios, n_q, lstm = seanet.get("ratios"), rvq.get("n_q"), seanet.get("lstm", 0)
    known = (about.get("autoencoder"), about.get("quantizer"), seanet.get("norm")) == ("seanet", "rvq", "weight_norm")
    if not known or not isinstance(ratios, list) or type(n_q) is not int or type(lstm) is not int:
        return None
    own = {*(seanet.get("encoder") or {}), *(seanet.get("decoder") or {})}
    if seanet.get("disable_norm_outer_blocks", 0) or own & {
        "n_residual_layers",
        "ratios",
        "norm",
        "true_skip",
        "lstm",
    }:
        return None
    names = {f"quantizer.vq.layers.{k}._codebook.{part}" for k in range(n_q) for part in _CODEBOOK}
    for kind, module in _seanet(
        n_ratios=len(ratios),
        n_residual=seanet.get("n_residual_layers", 3),
        has_lstm=lstm > 0,
        has_shortcut=not seanet.get("true_skip", True),
        at="model",
    ):
        if kind == "lstm":
            names |= _lstm(module, lstm)
        else:
            inner = f"{module}.{kind}.{kind}"
            names |= {f"{inner}.bias", *(f"{inner}.parametrizations.weight.original{i}" for i in (0, 1))}
    return names


def _seanet(
    *, n_ratios: int, n_residual: int, has_lstm: bool, has_shortcut: bool, at: str
) -> Iterator[tuple[str, str]]:
    """The modules with weights of a SEANet's encoder and decoder: (conv, convtr or lstm, name). Activations between
    them count in the numbering."""

    def residual(name: str) -> Iterator[tuple[str, str]]:
        yield from (("conv", f"{name}.block.{i}") for i in (1, 3))
        if has_shortcut:
            yield "conv", f"{name}.shortcut"

    def modules(part: str, blocks: list[str]) -> Iterator[tuple[str, str]]:
        for i, block in enumerate(blocks):
            name = f"{part}.{at}.{i}"
            if block == "residual":
                yield from residual(name)
            elif block:
                yield block, name

    lstm = ["lstm"] if has_lstm else []
    yield from modules("encoder", ["conv", *(["residual"] * n_residual + ["", "conv"]) * n_ratios, *lstm, "", "conv"])
    yield from modules(
        "decoder", ["conv", *lstm, *(["", "convtr"] + ["residual"] * n_residual) * n_ratios, "", "conv"]
    )


def _lstm(module: str, n_layers: int) -> set[str]:
    return {f"{module}.lstm.{w}_{of}_l{i}" for w in ("weight", "bias") for of in ("ih", "hh") for i in range(n_layers)}
