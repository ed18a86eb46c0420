"""Mono MusicGen from files in the format of Hugging Face transformers."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from reprise.checkpoints.contents import model_content_problems
from reprise.checkpoints.hub import MODEL_FILES
from reprise.checkpoints.name_checks import model_names_problems
from reprise.checkpoints.variants import (
    SUPPORTED,
    read_facts,
    read_transformers_config,
    unsupported_in_transformers,
)
from reprise.models.families.family import Family

if TYPE_CHECKING:
    from reprise.models.adapter import Model

_REFUSED = re.compile(r"facebook/(musicgen-(stereo|melody|style)|(audio-)?magnet|jasco)")


def load(folder: Path, *, dtype: str, device: str) -> "Model":
    """See `reprise.models.families.family.Load`."""
    from reprise.models.huggingface import load

    return load(folder, dtype=dtype, device=device)


def hub_refused(repository: str) -> bool:
    """Whether the model in a hub repository is not supported."""
    return bool(_REFUSED.match(repository))


FAMILY = Family(
    name="transformers",
    library="transformers",
    files=MODEL_FILES["transformers"],
    supported=SUPPORTED,
    refusals=lambda folder: unsupported_in_transformers(read_transformers_config(folder)),
    facts=lambda folder: read_facts(folder, backend="transformers"),
    load=load,
    content_problems=lambda folder: model_content_problems(folder, backend="transformers"),
    names_problems=lambda folder: model_names_problems(folder, backend="transformers"),
    hub_refused=hub_refused,
)
