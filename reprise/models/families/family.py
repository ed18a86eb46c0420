"""What a model family provides: how its files are recognised or refused, which facts they contain, and how they are
loaded.

To add a family, write a module with a `FAMILY` (next to `audiocraft_family.py`, or in your own package). Register it
with a line in `registry.py` or with an entry point of the group `reprise.model_families`.
docs/how-to/add-a-model-family.md shows both.

Conventions. Everything except `load` is called at every parse of the Snakefile. So a family's module imports nothing
heavy at its top, and `load` imports the library itself. Problems are texts, each with what is valid. An empty list
means that no problem was found.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from reprise.checkpoints.hub import Place

if TYPE_CHECKING:
    from reprise.models.adapter import Model


class Part(NamedTuple):
    """Something that a model loads from the hub by name, in addition to its own files.

    does: what the model does with it, for messages. place: where it is on the hub. needed: groups of files; one file
    of each group is needed. problems: what is wrong with the files in a folder.
    """

    does: str
    place: Place
    needed: tuple[tuple[str, ...], ...]
    problems: Callable[[Path], list[str]]


class Load(Protocol):
    """Load the model in a folder for inference, its language model in `dtype` (float32, float16 or bfloat16) on
    `device`. Raises UnsupportedModelError if the kind of model is not supported, and WeightsError."""

    def __call__(self, folder: Path, *, dtype: str, device: str) -> "Model": ...


def nothing(folder: Path) -> list[str]:
    """No problems and no notes."""
    return []


def no_part(folder: Path | None, repository: str | None) -> list[Part]:
    """The model needs only its own files."""
    return []


class Family(NamedTuple):
    """A model family.

    name: the value of `model.backend`. library: the Python package that `load` imports. files: groups of files in a
    model's folder; one file of each group is needed. supported: the supported models in words, shown after "valid:".
    refusals: settings in a folder's files that are not supported, one text each. facts: the values of `n_layers`,
    `d_model`, `n_codebooks`, `codebook_size`, `max_duration_s`, `sample_rate_hz` and `frame_rate_hz`, as far as the
    files contain them.

    content_problems: why the files are not an exported model. names_problems: where the names of the weights differ
    from those that the configuration describes. hub_refused: whether a hub repository is known to be unsupported.
    parts: what else is loaded from the hub, given the folder, or the repository if nothing was downloaded yet. notes:
    texts about the model that the doctor shows.

    version: version of all code that affects the result of `load`, such as a package's version or `source_digest`. A
    family from outside this package must have one. Its code is not tracked, so only this text shows that it changed.
    """

    name: str
    library: str
    files: tuple[tuple[str, ...], ...]
    supported: str
    refusals: Callable[[Path], list[str]]
    facts: Callable[[Path], dict[str, Any]]
    load: Load
    version: str = ""
    content_problems: Callable[[Path], list[str]] = nothing
    names_problems: Callable[[Path], list[str]] = nothing
    hub_refused: Callable[[str], bool] = lambda repository: False
    parts: Callable[[Path | None, str | None], list[Part]] = no_part
    notes: Callable[[Path], list[str]] = nothing


def lacking_files(folder: Path, files: Iterable[Sequence[str]]) -> list[str]:
    """The first name of each group of files from which the folder has no file."""
    return [names[0] for names in files if not any((folder / name).is_file() for name in names)]


def source_digest(folder: Path) -> str:
    """Digest (12 hex digits) of every Python file below a folder, by path and content: a `version` that changes with
    each edit."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
