"""Check that the names of the weights in a model's files are those that its configuration describes.

This is checked in the files' headers, before any job. `reprise/checkpoints/contents.py` reads the stored names and
reports differences. `reprise/checkpoints/weight_names.py` gives the names that a configuration describes. A kind of
model that is not known there is not checked here.
The Snakefile imports this at every parse, so it imports nothing heavy.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reprise.checkpoints.contents import (
    CODEC_FILE,
    LM_FILE,
    PARTS,
    is_of_adapter,
    names_problems,
    stored_names,
    weights_files,
)
from reprise.checkpoints.hub import SHARDS
from reprise.checkpoints.variants import read_checkpoint, read_transformers_config
from reprise.checkpoints.weight_names import (
    codec_names,
    decoder_names,
    encodec_names,
    has_projection,
    is_benign,
    is_of_t5_decoder,
    lm_names,
    t5_names,
)


def model_names_problems(folder: Path, *, backend: str) -> list[str]:
    """Differences between the weights in a model's files and those that its configuration describes."""
    if backend != "audiocraft":
        return _transformers_problems(folder)
    problems = []
    for file, expected_of in ((LM_FILE, lm_names), (CODEC_FILE, codec_names)):
        names, config = stored_names(folder, [file]), read_checkpoint(folder / file).config
        if names is None or read_checkpoint(folder / file).pretrained:
            continue
        if any(map(is_of_adapter, names)):
            problems += names_problems(names, names, file=file, backend=backend)
        elif (expected := expected_of(config)) is not None:
            problems += names_problems(
                [name for name in names if not _conditions(name, config)], expected, file=file, backend=backend
            )
    return problems


def text_encoder_problems(folder: Path) -> list[str]:
    """The same for a T5 model of the hub, of which only the encoder is used."""
    return _part_problems(folder, t5_names, allowed=is_of_t5_decoder)


def codec_problems(folder: Path) -> list[str]:
    """The same for a codec of the hub."""
    return _part_problems(folder, encodec_names)


def _conditions(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a weight belongs to a conditioner of a language model. Their names are not checked."""
    conditioners = config.get("conditioners") or {}
    return any(name.startswith(f"condition_provider.conditioners.{conditioner}.") for conditioner in conditioners)


def _transformers_problems(folder: Path) -> list[str]:
    files, config = weights_files(folder), read_transformers_config(folder)
    names = stored_names(folder, files)
    if names is None or not files or not config:
        return []
    text_encoder, codec, decoder = (config.get(part) or {} for part in ("text_encoder", "audio_encoder", "decoder"))
    needed: set[str] = set()
    unknown = []
    for prefix, expected in (
        ("text_encoder.", t5_names(text_encoder)),
        ("audio_encoder.", encodec_names(codec)),
        ("decoder.", decoder_names(decoder)),
    ):
        if expected is None:
            unknown.append(prefix)
            # The names of this kind are not known. There must be at least one weight.
            needed |= set() if any(name.startswith(prefix) for name in names) else {f"{prefix}*"}
        else:
            needed |= {prefix + name for name in expected}
    projection = has_projection(text_encoder, decoder)
    if projection:
        needed |= {"enc_to_dec_proj.weight", "enc_to_dec_proj.bias"}
    elif projection is None:
        unknown.append("enc_to_dec_proj.")
    file = files[0] if len(files) == 1 else SHARDS
    known = [name for name in names if is_of_adapter(name) or not name.startswith(tuple(unknown))]
    return names_problems(known, needed, file=file, backend="transformers", parts=PARTS)


def _part_problems(
    folder: Path,
    expected_of: Callable[[Mapping[str, Any]], set[str] | None],
    allowed: Callable[[str], bool] = is_benign,
) -> list[str]:
    files = weights_files(folder)
    expected, names = expected_of(read_transformers_config(folder)), stored_names(folder, files)
    if expected is None or names is None or not files:
        return []
    return names_problems(names, expected, file=files[0], backend="transformers", allowed=allowed)
