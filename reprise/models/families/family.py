"""What a model family provides: how its files are recognised or refused, what they say, and how they are loaded.

To add a family: write a module with a `FAMILY` (here beside `audiocraft_family.py`, or in a package of one's own) and
register it, by a line in `registry.py` or by an entry point of the group `reprise.model_families`.
docs/how-to/add-a-model-family.md shows both.

Conventions. Everything but `load` is asked at every parse of the Snakefile, so a family's module imports nothing
heavy at its top: `load` imports the library itself. Problems are texts, each with what is valid; none: nothing shows.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from reprise.checkpoints.hub import Place

if TYPE_CHECKING:
    from reprise.models.adapter import Model


class Part(NamedTuple):
    """What a model takes from the hub beside its own files, by name: what it `does` with it, the files that are
    `needed` (of each group one), and what is wrong with them in a folder."""

    does: str
    place: Place
    needed: tuple[tuple[str, ...], ...]
    problems: Callable[[Path], list[str]]


class Load(Protocol):
    """Load the model in a folder for inference, its language model in `dtype` (float32, float16 or bfloat16) on
    `device`. Raises UnsupportedModelError for a kind that does not run, and WeightsError."""

    def __call__(self, folder: Path, *, dtype: str, device: str) -> "Model": ...


def nothing(folder: Path) -> list[str]:
    """No problem, and nothing to say."""
    return []


def no_part(folder: Path | None, repository: str | None) -> list[Part]:
    """Nothing but the model's own files."""
    return []


class Family(NamedTuple):
    """A model family.

    name: what `model.backend` says. library: the Python package that `load` imports. files: those of a model's folder;
    of each group one will do. supported: which models run, in words, after "valid:". refusals: which settings in a
    folder's files are of a model that does not run, a text each. facts: what the files say of `n_layers`, `d_model`,
    `n_codebooks`, `codebook_size`, `max_duration_s`, `sample_rate_hz` and `frame_rate_hz`, as far as they do.

    content_problems: why the files are no exported model at all. names_problems: where the weights in them are not
    those that their configuration describes. hub_refused: whether a repository of the hub is known not to run. parts:
    what is taken from the hub beside, by the folder, or by the repository where nothing was fetched yet. notes: what
    the doctor says of a model, in words.

    version: of all code that decides what `load` makes, such as a package's version or `source_digest`. A family from
    outside this package must have one: its code cannot be followed, so a change of it shows by this text alone.
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
    """The first name of each group of files of which a folder has none."""
    return [names[0] for names in files if not any((folder / name).is_file() for name in names)]


def source_digest(folder: Path) -> str:
    """Digest (12 hex digits) of every Python file below a folder, by path and content: a `version` that changes with
    each edit."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
