"""How much GPU memory a stage takes that runs the model, so that too little is one error before its work and not a
crash in the middle of it.

Conventions. Bytes; a GB is 1e9 of them. A `Need` is what is needed whatever the rows, for each row of
`generation.batch_size`, and at another time, when the rows are done. The language model has its weights and its keys
and values in its own dtype; codec and text encoder stay in float32. What is counted: weights (16 d_model^2 a layer:
self-attention, cross-attention, and an MLP four times as wide), the keys and values of every step, twice with
guidance, those of the prompt, logits, and the activations that live at one time in a teacher-forced pass. Attention
itself is computed in pieces and takes next to nothing. Not counted: what the allocator loses to fragments.

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
# MusicGen's codec on one clip, measured: its decoder has 64 channels of every sample, six times over.
DECODING_BYTES_A_SAMPLE = 1650
TEXT_TOKENS = 64  # of a long prompt
# In one layer of a teacher-forced pass, in units of d_model: the stream before and after attention, queries, keys and
# values, what both attentions found, a norm, and the MLP's inner layer before and after its activation.
ACTIVATIONS_WIDTH = 16
# float32 copies of a step's logits: two branches, guided, with noise, sorted; and of one codebook's at all
# positions, where two models' are compared: both, their logarithms, and a product.
LOGITS_COPIES, COMPARED_COPIES = 6, 5


class Need(NamedTuple):
    """Bytes that a stage takes: `fixed` throughout, and `a_row` a row or, once they are done, `afterwards`."""

    fixed: float
    a_row: float
    afterwards: float = 0.0

    def of(self, batch_size: int) -> float:
        return self.fixed + max(batch_size * self.a_row, self.afterwards)

    def most_rows(self, free: float) -> int:
        """The most rows that fit in `free` bytes; 0: not even one."""
        return 0 if self.of(1) > free else int((free - self.fixed) // self.a_row)


def transformer_weights(facts: Mapping[str, Any]) -> int:
    """How many weights the language model has."""
    d, codebook_size = facts["d_model"], facts["codebook_size"]
    return 16 * facts["n_layers"] * d**2 + facts["n_codebooks"] * d * (2 * codebook_size + 1)


def weights_bytes(facts: Mapping[str, Any], *, dtype: str) -> float:
    """Weights of language model, codec and text encoder."""
    return transformer_weights(facts) * ITEMSIZE[dtype] + CODEC_BYTES + TEXT_ENCODER_BYTES


def generation_need(facts: Mapping[str, Any], *, n_frames: int, dtype: str, guided: bool) -> Need:
    """What `generation.generate` takes for clips of `n_frames`, and decoding them afterwards."""
    # As if each codebook came a step after the last: what a stereo model lacks of that is a few steps.
    steps = n_steps(n_frames, range(facts["n_codebooks"]))
    a_half = 2 * facts["n_layers"] * facts["d_model"] * steps * ITEMSIZE[dtype] + prompt_bytes(facts, dtype=dtype)
    a_half += LOGITS_COPIES * facts["n_codebooks"] * facts["codebook_size"] * 4
    return Need(weights_bytes(facts, dtype=dtype), (1 + guided) * a_half, decoding_bytes(facts, n_frames=n_frames))


def pass_need(facts: Mapping[str, Any], *, n_frames: int, dtype: str, n_hooks: int = 0, n_logits: int = 0) -> Need:
    """What a teacher-forced pass over clips of `n_frames` takes that keeps the stream of `n_hooks` layers, or compares
    `n_logits` sets of logits."""
    positions, itemsize = n_positions(n_frames), ITEMSIZE[dtype]
    stream = facts["d_model"] * positions * itemsize
    most = ACTIVATIONS_WIDTH * stream
    if n_logits:
        of_codebook = facts["codebook_size"] * positions
        logits = facts["n_codebooks"] * of_codebook * itemsize
        # They are stacked, and so there twice; later one codebook at a time is compared in float32.
        at_a_time = max(2 * logits, logits + COMPARED_COPIES * of_codebook * 4)
        most = (n_logits - 1) * logits + max(most, stream + at_a_time)
    return Need(weights_bytes(facts, dtype=dtype), prompt_bytes(facts, dtype=dtype) + n_hooks * stream + most)


def prompt_bytes(facts: Mapping[str, Any], *, dtype: str) -> float:
    """A prompt's embedding, in the making twice, and its keys and values in every layer."""
    return (2 * facts["n_layers"] + 4) * facts["d_model"] * TEXT_TOKENS * ITEMSIZE[dtype]


def decoding_bytes(facts: Mapping[str, Any], *, n_frames: int) -> float:
    """What the codec takes to decode a clip of `n_frames`."""
    return n_frames / facts["frame_rate_hz"] * facts["sample_rate_hz"] * DECODING_BYTES_A_SAMPLE


def free_memory(device: str) -> tuple[int, str] | None:
    """(free bytes, the GPU's name); None where `device` is none."""
    if device != "cuda":
        return None
    import torch  # here, since the Snakefile imports this module at every parse

    return torch.cuda.mem_get_info()[0], torch.cuda.get_device_name()


def check_memory(need: Need, *, batch_size: int, free: tuple[int, str] | None) -> None:
    """Raise RuntimeError where `batch_size` rows do not fit in what `free_memory` found, saying how many would."""
    if problem := memory_problem(need, batch_size=batch_size, free=free):
        raise RuntimeError(problem)


def memory_problem(need: Need, *, batch_size: int, free: tuple[int, str] | None) -> str | None:
    """Why `batch_size` rows do not fit in what `free_memory` found, with what is valid; None where they do."""
    if free is None or need.of(batch_size) <= free[0]:
        return None
    n_bytes, gpu = free
    got = f"{gpu} has {n_bytes / 1e9:.1f} GB free"
    if most := need.most_rows(n_bytes):
        return (
            f"generation.batch_size: {batch_size} rows take about {need.of(batch_size) / 1e9:.1f} GB, and {got}; "
            f"valid: at most {most} (the number of rows changes the last bits of what is computed: choose once)"
        )
    return (
        f"model: about {need.of(1) / 1e9:.1f} GB are needed for a single row, and {got}; valid: a GPU with more, "
        "model.dtype float16, shorter clips, or model.device cpu"
    )
