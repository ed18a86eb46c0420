"""Estimate the GPU memory of a stage that runs the model. If it is too little, the stage stops with one error before
its work, and does not crash in the middle.

Conventions. Sizes are in bytes; a GB is 1e9 bytes. A `Need` has three parts: a fixed part, a part for each row of
`generation.batch_size`, and a part that is needed later, after the rows are done. The language model's weights, keys
and values are in its own dtype. Codec and text encoder stay in float32. Counted are: weights (16 d_model^2 per layer:
self-attention, cross-attention, and an MLP four times as wide), the keys and values of every step (twice with
guidance) and of the prompt, logits, and the activations that exist at one time in a teacher-forced pass. Attention
itself is computed in pieces and needs almost no memory. Memory lost to fragmentation is not counted.

`facts` are those of `results/corpora/<corpus>/model.json`: `n_layers`, `d_model`, `n_codebooks`, `codebook_size`,
`frame_rate_hz`, `sample_rate_hz`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from reprise.models.delay_pattern import n_positions, n_steps

ITEMSIZE = {"float32": 4, "float16": 2, "bfloat16": 2}
# MusicGen's EnCodec and t5-base's encoder in float32: 59 and 110 million weights. The embedded models have less;
# AudioGen's t5-large has 225 million more.
CODEC_BYTES, TEXT_ENCODER_BYTES = 0.24e9, 0.44e9
# MusicGen's codec on one clip, measured: its decoder needs 64 channels for every sample, in six copies.
DECODING_BYTES_A_SAMPLE = 1650
TEXT_TOKENS = 64  # of a long prompt
# In one layer of a teacher-forced pass, in units of d_model: the stream before and after attention, queries, keys and
# values, the outputs of both attentions, a norm, and the MLP's inner layer before and after its activation.
ACTIVATIONS_WIDTH = 16
# What each layer keeps for a gradient, in units of d_model: the input of each of its operations. And float32 copies of
# all logits then.
GRADIENT_WIDTH, GRADIENT_COPIES = 16, 4
# float32 copies of a step's logits: two branches, guided, with noise, sorted. And copies of one codebook's logits at
# all positions, when those of two models are compared: both, their logarithms, and a product.
LOGITS_COPIES, COMPARED_COPIES = 6, 5


class Need(NamedTuple):
    """Bytes that a stage needs: always `fixed`, plus first `a_row` per row and later, after the rows, `afterwards`."""

    fixed: float
    a_row: float
    afterwards: float = 0.0

    def of(self, batch_size: int) -> float:
        return self.fixed + max(batch_size * self.a_row, self.afterwards)

    def most_rows(self, free: float) -> int:
        """The largest number of rows that fit in `free` bytes; 0 if not even one fits."""
        return 0 if self.of(1) > free else int((free - self.fixed) // self.a_row)


def transformer_weights(facts: Mapping[str, Any]) -> int:
    """Number of weights of the language model."""
    d, codebook_size = facts["d_model"], facts["codebook_size"]
    return 16 * facts["n_layers"] * d**2 + facts["n_codebooks"] * d * (2 * codebook_size + 1)


def weights_bytes(facts: Mapping[str, Any], *, dtype: str) -> float:
    """Bytes of the weights of language model, codec and text encoder."""
    return transformer_weights(facts) * ITEMSIZE[dtype] + CODEC_BYTES + TEXT_ENCODER_BYTES


def generation_need(facts: Mapping[str, Any], *, n_frames: int, dtype: str, guided: bool) -> Need:
    """The need of `generation.generate` for clips of `n_frames` frames, and of decoding them afterwards.

    `guided`: with classifier-free guidance, so with two sets of keys and values.
    """
    # As if each codebook came one step after the one before. A stereo model needs a few steps fewer.
    steps = n_steps(n_frames, range(facts["n_codebooks"]))
    a_half = 2 * facts["n_layers"] * facts["d_model"] * steps * ITEMSIZE[dtype] + prompt_bytes(facts, dtype=dtype)
    a_half += LOGITS_COPIES * facts["n_codebooks"] * facts["codebook_size"] * 4
    return Need(weights_bytes(facts, dtype=dtype), (1 + guided) * a_half, decoding_bytes(facts, n_frames=n_frames))


def pass_need(facts: Mapping[str, Any], *, n_frames: int, dtype: str, n_hooks: int = 0, n_logits: int = 0) -> Need:
    """The need of a teacher-forced pass over clips of `n_frames` frames.

    Parameters
    ----------
    facts
        Of the model; see the head of this module.
    n_hooks
        Number of layers whose residual stream is kept.
    n_logits
        Number of sets of logits that are compared.
    """
    positions, itemsize = n_positions(n_frames), ITEMSIZE[dtype]
    stream = facts["d_model"] * positions * itemsize
    most = ACTIVATIONS_WIDTH * stream
    if n_logits:
        of_codebook = facts["codebook_size"] * positions
        logits = facts["n_codebooks"] * of_codebook * itemsize
        # Stacking needs two copies. Later one codebook at a time is compared in float32.
        at_a_time = max(2 * logits, logits + COMPARED_COPIES * of_codebook * 4)
        most = (n_logits - 1) * logits + max(most, stream + at_a_time)
    return Need(weights_bytes(facts, dtype=dtype), prompt_bytes(facts, dtype=dtype) + n_hooks * stream + most)


def gradient_need(facts: Mapping[str, Any], *, n_frames: int, dtype: str, layer: int) -> Need:
    """The need of a teacher-forced pass over clips of `n_frames` frames, with the gradient of their tokens' likelihood
    with respect to the output of `layer`."""
    positions, itemsize = n_positions(n_frames), ITEMSIZE[dtype]
    of_layers = (facts["n_layers"] - 1 - layer) * GRADIENT_WIDTH * facts["d_model"] * positions * itemsize
    logits = facts["n_codebooks"] * facts["codebook_size"] * positions * GRADIENT_COPIES * 4
    return Need(weights_bytes(facts, dtype=dtype), prompt_bytes(facts, dtype=dtype) + of_layers + logits)


def prompt_bytes(facts: Mapping[str, Any], *, dtype: str) -> float:
    """Bytes of a prompt's embedding (two copies while it is computed), and of its keys and values in every layer."""
    return (2 * facts["n_layers"] + 4) * facts["d_model"] * TEXT_TOKENS * ITEMSIZE[dtype]


def decoding_bytes(facts: Mapping[str, Any], *, n_frames: int) -> float:
    """Bytes that the codec needs to decode a clip of `n_frames` frames."""
    return n_frames / facts["frame_rate_hz"] * facts["sample_rate_hz"] * DECODING_BYTES_A_SAMPLE


def free_memory(device: str) -> tuple[int, str] | None:
    """(free bytes, name) of the GPU; None if `device` is not a GPU."""
    if device != "cuda":
        return None
    import torch  # here, since the Snakefile imports this module at every parse

    return torch.cuda.mem_get_info()[0], torch.cuda.get_device_name()


def rows_that_fit(need: Need, *, wanted: int, least: int, free: tuple[int, str] | None) -> int:
    """How many rows a pass has whose size no setting decides: `wanted`, or as many as fit in `free`.

    Raises RuntimeError if fewer than `least` fit.
    """
    if free is None:
        return wanted
    n_bytes, gpu = free
    if need.of(least) > n_bytes:
        raise RuntimeError(
            f"model: a gradient needs about {need.of(least) / 1e9:.1f} GB, but {gpu} has {n_bytes / 1e9:.1f} GB free; "
            "valid: a GPU with more memory, model.dtype float16, shorter clips, or model.device cpu"
        )
    return min(wanted, need.most_rows(n_bytes))


def check_memory(need: Need, *, batch_size: int, free: tuple[int, str] | None) -> None:
    """Raise RuntimeError if `batch_size` rows do not fit in `free`, as returned by `free_memory`.

    The message says how many rows fit.
    """
    if problem := memory_problem(need, batch_size=batch_size, free=free):
        raise RuntimeError(problem)


def memory_problem(need: Need, *, batch_size: int, free: tuple[int, str] | None) -> str | None:
    """The message of `check_memory`; None if the rows fit."""
    if free is None or need.of(batch_size) <= free[0]:
        return None
    n_bytes, gpu = free
    got = f"{gpu} has {n_bytes / 1e9:.1f} GB free"
    if most := need.most_rows(n_bytes):
        return (
            f"generation.batch_size: {batch_size} needs about {need.of(batch_size) / 1e9:.1f} GB, but {got}; "
            f"valid: at most {most} (the batch size changes the last bits of results: do not change it later)"
        )
    return (
        f"model: batch size 1 needs about {need.of(1) / 1e9:.1f} GB, but {got}; valid: a GPU with more memory, "
        "model.dtype float16, shorter clips, or model.device cpu"
    )
