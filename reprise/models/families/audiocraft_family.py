"""MusicGen (mono and stereo) and AudioGen, from files in audiocraft's own format."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.checkpoints.contents import CODEC_FILE, LM_FILE, model_content_problems
from reprise.checkpoints.hub import MODEL_FILES, Place
from reprise.checkpoints.name_checks import codec_problems, model_names_problems, text_encoder_problems
from reprise.checkpoints.variants import SUPPORTED, read_checkpoint, read_facts, text_encoders, unsupported
from reprise.models.families.family import Family, Part

if TYPE_CHECKING:
    from reprise.models.adapter import Model

# If the tokenizer's file is missing, transformers silently makes a tokenizer of four words.
TEXT_ENCODER_FILES = (("config.json",), ("model.safetensors", "pytorch_model.bin"), ("tokenizer.json", "spiece.model"))
CODEC_FILES = (("config.json",), ("model.safetensors", "pytorch_model.bin"))
# Text encoders of the published models. For other models, their checkpoint names it.
_PUBLISHED = (
    (re.compile(r"facebook/musicgen-(stereo-)?(small|medium|large)"), "t5-base"),
    (re.compile(r"facebook/audiogen-medium"), "t5-large"),
)
_REFUSED = re.compile(r"facebook/(musicgen-(stereo-)?(melody|style)|(audio-)?magnet|jasco)")


def load(folder: Path, *, dtype: str, device: str) -> "Model":
    """See `reprise.models.families.family.Load`."""
    from reprise.models.audiocraft import load

    return load(folder, dtype=dtype, device=device)


def hub_refused(repository: str) -> bool:
    """Whether the model in a hub repository is not supported."""
    return bool(_REFUSED.match(repository))


def parts(folder: Path | None, repository: str | None) -> list[Part]:
    """The text encoder, and the codec if the checkpoint only contains its name."""
    if folder is None:
        encoders = [encoder for name, encoder in _PUBLISHED if repository and name.fullmatch(repository)]
        return [_reads_with(encoder) for encoder in encoders]
    encoders = text_encoders(_config(folder))
    codec = read_checkpoint(folder / CODEC_FILE).pretrained
    # Names with this prefix are not hub ids, but models of descript-audio-codec.
    named = codec and not codec.startswith("dac_")
    decodes = [Part("decodes with", Place(codec, None), CODEC_FILES, codec_problems)] if codec and named else []
    return [*map(_reads_with, encoders), *decodes]


def notes(folder: Path) -> list[str]:
    """The kind of model, if it is not a mono MusicGen, and its text encoders."""
    config = _config(folder)
    kind, encoders = kind_text(config), text_encoders(config)
    return ([kind] if kind else []) + ([f"prompts read with {', '.join(encoders)}"] if encoders else [])


def kind_text(config: Mapping[str, Any]) -> str:
    """The kind of model of a configuration (`xp.cfg`), in words; "" for a mono MusicGen."""
    stereo = (config.get("interleave_stereo_codebooks") or {}).get("use")
    channels = "stereo, left and right alternate" if stereo is True else ""
    kind = "AudioGen" if config.get("solver") == "audiogen" else ""
    return ", ".join(text for text in (kind, channels) if text)


def _config(folder: Path) -> dict[str, Any]:
    return read_checkpoint(folder / LM_FILE).config


def _reads_with(encoder: str) -> Part:
    return Part("reads prompts with", Place(encoder, None), TEXT_ENCODER_FILES, text_encoder_problems)


FAMILY = Family(
    name="audiocraft",
    library="audiocraft",
    files=MODEL_FILES["audiocraft"],
    supported=SUPPORTED,
    refusals=lambda folder: unsupported(_config(folder)),
    facts=lambda folder: read_facts(folder, backend="audiocraft"),
    load=load,
    content_problems=lambda folder: model_content_problems(folder, backend="audiocraft"),
    names_problems=lambda folder: model_names_problems(folder, backend="audiocraft"),
    hub_refused=hub_refused,
    parts=parts,
    notes=notes,
)
