"""The one adapter to MusicGen: load a model, encode prompts, decode audio.

`load_model` takes a hub id such as `facebook/musicgen-small`, whose files were fetched beforehand
(`reprise/checkpoints/hub.py`), or a directory, in the form of either backend: `audiocraft` (`state_dict.bin` and
`compression_state_dict.bin`; the embedded organisms are such directories) or `transformers` (`config.json`,
safetensors and a tokenizer). The forward passes live in `reprise/models/decoding.py` and are the same for both; only
one of the two libraries is ever imported.
"""

import hashlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from reprise.checkpoints.contents import model_content_problems, names_problems, stored_names, weights_files
from reprise.checkpoints.finite import all_finite, check_finite, wider
from reprise.checkpoints.hub import MODEL_FILES, SHARDS, model_folder
from reprise.checkpoints.variants import SUPPORTED, UnsupportedModelError, misfits
from reprise.checkpoints.weight_names import is_benign
from reprise.models.transformer import Transformer, learnt_tensors


class Model(NamedTuple):
    """A loaded music model and the few facts the stages ask of it.

    `embed_text`: a prompt (None: none) to float `[word, d_model]`. `audio_to_tokens`: float32 `[1, 1, sample]` to
    int64 `[1, codebook, frame]`; `tokens_to_audio`: back, to float32 `[1, channel, sample]`. `lm`, `codec`: the
    library's own modules, which hold the weights.
    """

    transformer: Transformer
    embed_text: Callable[[str | None], torch.Tensor]
    audio_to_tokens: Callable[[torch.Tensor], torch.Tensor]
    tokens_to_audio: Callable[[torch.Tensor], torch.Tensor]
    lm: torch.nn.Module
    codec: torch.nn.Module
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
        return self.transformer.embeddings[0].weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.embeddings[0].weight.dtype

    @property
    def facts(self) -> dict[str, str | int | float]:
        """What is written down of it: every field that is text or a number."""
        return {key: value for key, value in self._asdict().items() if isinstance(value, str | int | float)}


class TextConditions(NamedTuple):
    """Encoded prompts: `embeddings` `[row, word, d_model]` and `mask` `[row, word]` bool (True: a word).

    An unconditional row has no word at all; its one column is a zero embedding, as audiocraft has it.
    """

    embeddings: torch.Tensor
    mask: torch.Tensor


def load_model(
    name_or_path: str, *, backend: str = "audiocraft", dtype: str = "float32", device: str = "cpu"
) -> Model:
    """Load a MusicGen model for inference, its language model in `dtype` (float32, float16 or bfloat16).

    The weights' digest is that of the file, whatever they are rounded to. The codec and a text encoder of its own
    stay in float32.

    Raises FileNotFoundError when the model was not fetched, or its directory lacks a file, RuntimeError when it cannot
    be read, and ValueError for a variant of MusicGen that is not run here, files that are no exported model, and
    weights that are not the model's own (lacking, in excess, or not finite).
    """
    if backend == "audiocraft":
        from reprise.models.audiocraft import load
    else:
        from reprise.models.huggingface import load
    folder = model_folder(name_or_path, backend=backend)
    if lacking := [names[0] for names in MODEL_FILES[backend] if not any((folder / name).is_file() for name in names)]:
        raise FileNotFoundError(f"model: {folder} has no {' and no '.join(lacking)}")
    if wrong := model_content_problems(folder, backend=backend):
        raise ValueError("\n".join(f"model: {name_or_path}: {text}" for text in wrong))
    try:
        return load(folder, dtype=dtype, device=device)
    except UnsupportedModelError as error:
        raise ValueError(f"model: {name_or_path}: {error}; valid: {SUPPORTED}") from None
    except WeightsError as error:
        raise ValueError(f"model: {name_or_path}: {error}") from None
    except Exception as error:
        # torch, omegaconf, audiocraft and transformers each raise errors of their own for a damaged file.
        reason = textwrap.shorten(str(error), 400)
        raise RuntimeError(
            f"model: {name_or_path} cannot be loaded from {folder} ({type(error).__name__}: {reason}); valid: a whole "
            f"checkpoint in the form of {backend}, and its text encoder in the hub's cache: `snakemake doctor` looks "
            "at both"
        ) from error


def load_identified(settings: Mapping[str, Any], identity: Mapping[str, object], *, device: str = "cpu") -> Model:
    """Load the model that `identify_model` wrote down, by a study's settings `name`, `backend` and `dtype`;
    RuntimeError when the weights are not those any more."""
    model = load_model(settings["name"], backend=settings["backend"], dtype=settings["dtype"], device=device)
    if model.weights_digest != identity["weights_digest"]:
        raise RuntimeError(
            f"model: the weights of {settings['name']} have digest {model.weights_digest}, but this study was made "
            f"with {identity['weights_digest']}; valid: those weights (a hub id can be pinned, owner/name@<commit>), "
            "or a study made anew: snakemake --forcerun identify_model"
        )
    return model


def check_fits(facts: Mapping[str, Any], *, name: str, corpus: str, layers: Sequence[int], duration_s: float) -> None:
    """Check what only the model can tell: that the hooks asked for exist and that clips are not too long.

    facts: of `results/corpora/<corpus>/model.json`. name, corpus: for the message. Raises ValueError with every
    problem, one a line.
    """
    problems = misfits(facts, name=name, layers=layers, duration_s=duration_s)
    if problems:
        raise ValueError("\n".join(f"{corpus}: {'.'.join(path)}: {text}" for path, text in problems))


def randomly_initialised(model: Model, *, seed: int) -> Model:
    """The model with its LM's weights drawn anew, in place: what its architecture alone makes of the same tokens.

    Matrices are normal with variance 1 / fan-in, biases 0 and norms 1. What encodes the prompt stays.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for kind, tensor in learnt_tensors(model.transformer):
            if kind == "matrix":
                drawn = torch.randn(tensor.shape, generator=generator) / tensor.shape[-1] ** 0.5
                tensor.copy_(drawn)
            else:
                tensor.fill_(1.0 if kind == "norm" else 0.0)
    return model


class WeightsError(ValueError):
    """Weights that are not those of the model: lacking, in excess, or not finite. Names them."""


def check_names(
    folder: Path,
    module: torch.nn.Module,
    *,
    what: str = "",
    allowed: Callable[[str], bool] = is_benign,
    parts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise WeightsError unless transformers' files in a folder hold exactly the weights of a module: what is lacking
    transformers draws at random, and what is in excess it passes over. Neither is reported in full by its own loading
    (a T5 inside has it pass over every name with "decoder" in it)."""
    files = weights_files(folder)
    names = stored_names(folder, files)
    if names is None:
        # As torch wrote files before 1.6: they have to be read as a whole.
        names = [name for file in files for name in torch.load(folder / file, map_location="cpu", weights_only=True)]
    file = what + (files[0] if len(files) == 1 else SHARDS)
    expected = module.state_dict().keys()
    if wrong := names_problems(names, expected, file=file, backend="transformers", allowed=allowed, parts=parts):
        raise WeightsError("; ".join(wrong))


def check_finite_weights(modules: Mapping[str, torch.nn.Module], *, dtype: str | None = None) -> None:
    """Raise WeightsError for a weight that is not finite, naming it: in the file or, given a `dtype`, since it was
    rounded to that. modules: what each is called, with its place in the model's names."""
    for what, module in modules.items():
        for name, value in module.state_dict().items():
            if value.is_floating_point() and not all_finite(value):
                raise WeightsError(
                    f"{what}: {name} is not all finite "
                    + (
                        f"as {dtype}; valid: {wider(dtype)}"
                        if dtype
                        else "in the file; valid: weights that are finite"
                    )
                )


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
    depends on its neighbours' prompts. Here padding is masked out instead. Raises NotFiniteError.
    """
    unique = list(dict.fromkeys(prompts))
    encoded = []
    for prompt in unique:
        embedding = model.embed_text(prompt or None)
        encoded.append(embedding if prompt else torch.zeros_like(embedding[:1]))
    width = max(map(len, encoded))
    embeddings = torch.zeros(len(prompts), width, model.d_model, device=model.device, dtype=model.dtype)
    # An unconditional row attends to its single zero column; a padded column is never attended to.
    attended = torch.zeros(len(prompts), width, dtype=torch.bool, device=model.device)
    for row, prompt in enumerate(prompts):
        embedding = encoded[unique.index(prompt)]
        embeddings[row, : len(embedding)] = embedding
        attended[row, : len(embedding)] = True
    check_finite(embeddings, "the encoded prompts")
    return TextConditions(embeddings, attended)


@torch.no_grad()
def decode_audio(model: Model, tokens: np.ndarray) -> np.ndarray:
    """Audio of one clip: tokens int `[codebook, frame]` to mono float32 `[sample]` in [-1, 1]. Raises
    NotFiniteError."""
    codes = torch.from_numpy(tokens.astype(np.int64))[None].to(model.device)
    audio = model.tokens_to_audio(codes)[0].mean(dim=0)
    check_finite(audio, "the samples that the codec decodes")
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
    codes = model.audio_to_tokens(torch.from_numpy(audio)[None, None].to(model.device))
    return codes[0].cpu().numpy().astype(np.uint16)
