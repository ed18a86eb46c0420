"""The one adapter to MusicGen: load a model, encode prompts, decode audio.

`load_model` takes anything `audiocraft.models.MusicGen.get_pretrained` takes: a hub name such as
`facebook/musicgen-small`, or a directory with `state_dict.bin` and `compression_state_dict.bin`. The embedded
organisms are such directories. The forward passes live in `reprise/decoding.py`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import reprise.audiocraft_setup  # noqa: F401
from audiocraft.models import MusicGen
from audiocraft.models.encodec import CompressionModel
from audiocraft.models.lm import LMModel
from audiocraft.modules.conditioners import ConditioningAttributes


class Model(NamedTuple):
    """A loaded music model and the few facts the stages ask of it."""

    lm: LMModel
    codec: CompressionModel
    weights_digest: str
    frame_rate_hz: float
    sample_rate_hz: int
    n_codebooks: int
    card: int
    n_layers: int
    d_model: int
    max_duration_s: float

    @property
    def device(self) -> torch.device:
        return next(self.lm.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm.emb[0].weight.dtype


class TextConditions(NamedTuple):
    """Encoded prompts: `embeddings` `[row, word, d_model]` and `mask` `[row, word]` bool (True: a word).

    An unconditional row has no word at all; its one column is a zero embedding, as audiocraft has it.
    """

    embeddings: torch.Tensor
    mask: torch.Tensor


def load_model(name_or_path: str, *, dtype: str = "float32", device: str = "cpu") -> Model:
    """Load a MusicGen model for inference, its language model in `dtype` (float32, float16 or bfloat16).

    The weights' digest is that of the file, whatever they are rounded to. The codec and a text encoder of its own
    stay in float32.

    Raises FileNotFoundError when `name_or_path` is a directory that lacks one of the two checkpoint files.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        for file in ("state_dict.bin", "compression_state_dict.bin"):
            if not (folder / file).is_file():
                raise FileNotFoundError(
                    f"model: {folder} has no {file}; a model directory holds both checkpoint files"
                )
    # Onto the processor first: on a GPU audiocraft would round the weights to float16, unasked.
    musicgen = MusicGen.get_pretrained(name_or_path, device="cpu")
    lm = musicgen.lm.eval()
    if lm.cfg.codebooks_pattern.modeling != "delay":
        raise ValueError(
            f"model: {name_or_path} uses the {lm.cfg.codebooks_pattern.modeling!r} pattern; valid: 'delay'"
        )
    codec = musicgen.compression_model.eval()
    digest = weights_digest(lm, codec)
    lm.to(device, getattr(torch, dtype))
    lm.condition_provider.device = device
    for conditioner in lm.condition_provider.conditioners.values():
        # T5 is hidden from `to`, as it is from the checkpoint.
        if (t5 := vars(conditioner).get("t5")) is not None:
            t5.to(device)
            conditioner.device = device
    return Model(
        lm=lm,
        codec=codec.to(device),
        weights_digest=digest,
        frame_rate_hz=float(musicgen.frame_rate),
        sample_rate_hz=int(musicgen.sample_rate),
        n_codebooks=lm.n_q,
        card=lm.card,
        n_layers=len(lm.transformer.layers),
        d_model=lm.dim,
        max_duration_s=float(musicgen.max_duration),
    )


def load_identified(settings: Mapping[str, Any], identity: Mapping[str, object], *, device: str = "cpu") -> Model:
    """Load the model that `identify_model` wrote down, by a study's settings `name` and `dtype`; RuntimeError when the
    weights are not those any more."""
    model = load_model(settings["name"], dtype=settings["dtype"], device=device)
    if model.weights_digest != identity["weights_digest"]:
        raise RuntimeError(
            f"model: the weights of {settings['name']} have digest {model.weights_digest}, but this study was made "
            f"with {identity['weights_digest']}; run snakemake again so that it notices"
        )
    return model


def check_fits(model: Model, *, name: str, study: str, layers: Sequence[int], duration_s: float) -> None:
    """Check what only the loaded model can tell: that a study's hooks exist and that its clips are not too long.

    name, study: for the message. Raises ValueError with every problem, one a line.
    """
    problems = [
        f"studies.{study}.saes: layer {layer} is not in {name}; valid: 0 to {model.n_layers - 1} (0-based: some "
        f"papers count the same layer as {layer + 1})"
        for layer in layers
        if not 0 <= layer < model.n_layers
    ]
    if duration_s > model.max_duration_s:
        problems.append(
            f"studies.{study}.generation.duration_s: got {duration_s:g}; valid: at most {model.max_duration_s:g}, "
            f"which {name} can see at once"
        )
    if problems:
        raise ValueError("\n".join(problems))


def randomly_initialised(model: Model, *, seed: int) -> Model:
    """The model with its LM's weights drawn anew, in place: what its architecture alone makes of the same tokens.

    Matrices are normal with variance 1 / fan-in, biases 0 and norms 1. What encodes the prompt stays.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.lm.named_parameters()):
            if name.startswith("condition_provider."):
                continue
            if weight.ndim >= 2:
                drawn = torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5
                weight.copy_(drawn)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
    return model


def weights_digest(*modules: torch.nn.Module) -> str:
    """SHA-256 (first 16 hex digits) over names, shapes and values of all weights, independent of the file form."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def encode_prompts(model: Model, prompts: list[str | None]) -> TextConditions:
    """Encode prompts, each exactly as it would be encoded alone (None or no text: unconditional).

    audiocraft pads a batch of prompts with zero vectors that cross-attention then attends to, so that a clip
    depends on its neighbours' prompts. Here padding is masked out instead.
    """
    unique = list(dict.fromkeys(prompts))
    encoded = []
    for prompt in unique:
        attributes = [ConditioningAttributes(text={"description": prompt or None})]
        embedding, mask = model.lm.condition_provider(model.lm.condition_provider.tokenize(attributes))["description"]
        if not prompt:
            embedding, mask = torch.zeros_like(embedding[:, :1]), torch.zeros_like(mask[:, :1])
        encoded.append((embedding[0], mask[0].bool()))
    width = max(e.shape[0] for e, _ in encoded)
    embeddings = torch.zeros(len(prompts), width, model.d_model, device=model.device, dtype=model.dtype)
    # An unconditional row attends to its single zero column; a padded column is never attended to.
    attended = torch.zeros(len(prompts), width, dtype=torch.bool, device=model.device)
    for row, prompt in enumerate(prompts):
        embedding, mask = encoded[unique.index(prompt)]
        embeddings[row, : len(embedding)] = embedding
        attended[row, : len(embedding)] = True
    return TextConditions(embeddings, attended)


@torch.no_grad()
def decode_audio(model: Model, tokens: np.ndarray) -> np.ndarray:
    """Audio of one clip: tokens int `[codebook, frame]` to mono float32 `[sample]` in [-1, 1]."""
    codes = torch.from_numpy(tokens.astype(np.int64))[None].to(model.device)
    audio = model.codec.decode(codes)[0].mean(dim=0)
    n_samples = round(tokens.shape[1] / model.frame_rate_hz * model.sample_rate_hz)
    return audio[:n_samples].clamp(-1, 1).float().cpu().numpy()


def codec_lookahead_s(model: Model) -> float:
    """How far into the future of a moment the codec's decoder looks, in seconds.

    MusicGen's codec is not causal: the audio just before t depends on tokens at and after t. What is called known
    at t must therefore end this much earlier. Measured by changing every token from a frame on.
    """
    n_frames = 100
    tokens = np.random.default_rng(0).integers(model.card, size=(2, model.n_codebooks, n_frames))
    tokens[1, :, : n_frames // 2] = tokens[0, :, : n_frames // 2]
    before, after = (decode_audio(model, t) for t in tokens)
    first_s = float(np.flatnonzero(before != after)[0]) / model.sample_rate_hz
    return max(0.0, n_frames / 2 / model.frame_rate_hz - first_s)


def encoder_lookahead_s(model: Model) -> float:
    """How far into the future of a moment the codec's encoder looks, in seconds.

    Tokens of a recording are not causal: those before position p know the audio until this much after p, with
    MusicGen's codec 4 frames (80 ms). What is known at t must be read that much earlier. Measured by noise that is a
    thousand times louder from a frame's start on, so that whatever reaches an earlier token changes it; a whole number
    of frames.
    """
    n_frames, n_draws = 100, 3
    rng = np.random.default_rng(0)
    audio = rng.normal(scale=0.1, size=(1 + n_draws, n_frames * round(model.sample_rate_hz / model.frame_rate_hz)))
    half = audio.shape[1] // 2
    audio[1:, :half] = audio[0, :half]
    audio[1:, half:] *= 1000
    quiet, *loud = (encode_audio(model, a.astype(np.float32)) for a in audio)
    first = min(np.flatnonzero((tokens != quiet).any(axis=0))[0] for tokens in loud)
    return max(0.0, (n_frames / 2 - float(first)) / model.frame_rate_hz)


@torch.no_grad()
def encode_audio(model: Model, audio: np.ndarray) -> np.ndarray:
    """Tokens uint16 `[codebook, frame]` of mono audio float32 `[sample]` at the model's sample rate.

    Raises ValueError for a codec that scales a clip by its loudness as a whole: every token would know all of it.
    """
    codes, scale = model.codec.encode(torch.from_numpy(audio)[None, None].to(model.device))
    if scale is not None:
        raise ValueError("model: its codec scales clips by their loudness; valid: one that does not, as MusicGen's")
    return codes[0].cpu().numpy().astype(np.uint16)
