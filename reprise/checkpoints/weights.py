"""Whether the files of a model or an SAE are there and whole, asked before any job.

What is asked costs milliseconds and reads no weights: a file is there, is not empty, is not the pointer that Git LFS
leaves in its place, and ends where its own form says it ends (a zip archive, as torch writes them, has its directory
at the end; safetensors say at the beginning how long they are; JSON ends in a brace). That tells an interrupted
download or copy; a flipped bit in the middle shows when the file is read.

Problems are texts, with what is valid or the command that fetches what is lacking; none: nothing shows.
The Snakefile imports this at every parse, so it imports nothing heavy.
"""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from reprise.checkpoints.contents import adapters, safetensors_header, shards
from reprise.checkpoints.hub import (
    SHARDS,
    HubError,
    Place,
    cache_folder,
    fetch_command,
    fetched_folder,
    model_place,
    repository_folder,
    sae_place,
)
from reprise.models.families.family import Family
from reprise.models.families.registry import BUILT_IN, family_of
from reprise.saes.errors import SaeError
from reprise.saes.formats.registry import description_problem, format_of, missing_files, sae_files, said_layer

MISSING = "is missing"
_LFS = b"version https://git-lfs.github.com/spec/"


def file_problem(path: Path) -> str | None:
    """What is wrong with a file of weights, or one that describes them; None where nothing shows."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(len(_LFS))
            file.seek(max(0, size - 64))
            tail = file.read()
    except OSError as error:
        return MISSING if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    if size == 0:
        return "is empty"
    if head == _LFS:
        return "is a pointer of Git LFS, not the file itself (`git lfs pull` fetches it)"
    if path.suffix == ".safetensors":
        expected = _safetensors_size(path)
        if expected is None:
            return "does not begin as safetensors do"
        return None if size == expected else f"has {size:,} bytes of {expected:,}: it was cut off"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"was cut off at {size:,} bytes"
    if path.suffix == ".json" and not tail.rstrip().endswith(b"}"):
        return f"was cut off at {size:,} bytes"
    return None


def needed_files(folder: Path, needed: Iterable[Sequence[str]]) -> list[str]:
    """The files that a folder is read from: of each of `needed` the first that is there (else the first of all), and
    the shards that they are the index of."""
    files = [next((name for name in names if (folder / name).is_file()), names[0]) for names in needed]
    return [*files, *shards(folder)] if SHARDS in files else files


def folder_problems(folder: Path, needed: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """(file, what is wrong with it) for the files that a folder is read from."""
    files = needed_files(folder, needed)
    problems = [(name, problem) for name in files if (problem := file_problem(folder / name))]
    if SHARDS in files and not problems and not shards(folder):
        return [(SHARDS, "does not say which file holds which weight")]
    return problems


def model_problems(name: str, *, backend: str = "audiocraft", base_dir: Path = Path()) -> list[str]:
    """Why a model cannot be used as it lies here: its files, its kind, its text encoder's files."""
    try:
        place = model_place(name, base_dir=base_dir)
    except HubError as error:
        return [str(error)]
    family, cache = family_of(backend), cache_folder(backend)
    needed = family.files
    if place is None:
        folder = base_dir / name
        if folder.is_dir() and adapters(folder):
            # Often all that a folder has.
            return _wrong_kind(name, folder, family)
        problems = _directory_problems(name, folder, needed)
        others = (other for other in BUILT_IN if other != backend)
        other = next((b for b in others if not folder_problems(folder, BUILT_IN[b].files)), None)
        if problems and other:
            return [f'"{name}" holds a model in the form of {other}; valid: model.backend {other} for it']
    elif family.hub_refused(place.repository):
        return [f"{place.repository} cannot be run; valid: {family.supported}"]
    else:
        folder = fetched_folder(place, cache) or cache
        problems = [f"{place.repository} {text}" for text in _lacking(place, cache, needed)]
    if not problems and folder.is_dir() and not (problems := _wrong_kind(name, folder, family)):
        problems = [f'"{name}": {text}' for text in family.names_problems(folder)]
        parts = family.parts(folder, None)
    else:
        parts = family.parts(None, place.repository) if place else []
    for part in parts:
        cache = cache_folder()
        wrong = [f"which {text}" for text in _lacking(part.place, cache, part.needed)]
        if not wrong and (fetched := fetched_folder(part.place, cache)):
            wrong = [f"whose {text}" for text in part.problems(fetched)]
        problems += [f'"{name}" {part.does} {part.place.repository}, {text}' for text in wrong]
    return problems


def sae_problems(name: str, layer: int, *, base_dir: Path = Path()) -> list[str]:
    """Why a layer's SAE cannot be used as it lies here."""
    try:
        place = sae_place(name)
    except HubError as error:
        return [str(error)]
    if place is not None:
        folder, cache = fetched_folder(place, cache_folder()), cache_folder()
        fetch = fetch_command(place, patterns=[f"{place.folder}/*"] if place.folder else [], cache=cache)
        if folder is None:
            return [f"{name} is not in the cache {cache}; {_to_do(fetch)}"]
        said, anew = f"{name} in the cache {cache}", f"{_to_do(fetch)} --force-download"
    else:
        folder, said, fetch = base_dir / name, f'"{name}"', ""
        if not folder.is_dir():
            return [f'there is no directory "{name}"; valid: the directory of layer {layer}\'s SAE']
        anew = "valid: its files, whole"
    try:
        found = format_of(folder)
    except SaeError as error:
        return [f"{said}: {error}"]
    if found is None:
        return [f"{said} {missing_files(folder)}" + (f"; {_to_do(fetch)}" if fetch else "")]
    broken = folder_problems(folder, [(file,) for file in sae_files(folder)])
    if broken:
        return [f"{said}: {_listed(broken)}; {anew}"]
    if problem := description_problem(folder):
        return [f"{said}: {problem}"]
    of_layer, why = said_layer(folder)
    if of_layer not in (None, layer):
        return [
            f"{said} says that it is of layer {of_layer}{why}; valid: the SAE of layer {layer} (layers are 0-based)"
        ]
    return []


def _wrong_kind(name: str, folder: Path, family: Family) -> list[str]:
    """Why a folder's files are no model that is run: not an exported one, or one of another kind."""
    if wrong := family.content_problems(folder):
        return [f'"{name}": {text}' for text in wrong]
    refused = family.refusals(folder)
    return [f'"{name}" cannot be run: {", ".join(refused)}; valid: {family.supported}'] if refused else []


def _directory_problems(name: str, folder: Path, needed: Sequence[Sequence[str]]) -> list[str]:
    """What a directory lacks as a model's; at most one text."""
    valid = f"a directory with {' and '.join(' or '.join(names) for names in needed)}"
    if not folder.is_dir():
        return [f'there is no directory "{name}"; valid: a hub id, or {valid}']
    broken = folder_problems(folder, needed)
    return [f'"{name}": {_listed(broken)}; valid: {valid}, whole'] if broken else []


def _lacking(place: Place, cache: Path, needed: Sequence[Sequence[str]]) -> list[str]:
    """What a repository of the hub lacks in the cache, with the command that fetches it; at most one text."""
    folder = fetched_folder(place, cache)
    broken = folder_problems(folder or cache / "nowhere", needed)
    if not broken:
        return []
    names, patterns = [name for name, _ in broken], []
    if any(SHARDS in alternatives for alternatives in needed):
        # Which shards there are shows only in a file that may be lacking itself.
        names, patterns = [], ["*.json", "model*.safetensors", "spiece.model"]
    damaged = any(problem != MISSING for _, problem in broken)
    fetch = _to_do(fetch_command(place, names, patterns=patterns, anew=damaged, cache=cache))
    if folder is not None:
        return [f"is not whole in the cache {cache}: {_listed(broken)}; {fetch}"]
    begun = any((repository_folder(place, cache) / "blobs").glob("*.incomplete"))
    return [f"is not {'wholly ' if begun else ''}in the cache {cache}; {fetch}"]


def _listed(broken: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {problem}" for name, problem in broken)


def _to_do(fetch: str) -> str:
    return f"jobs download nothing: where there is network, run {fetch}"


def _safetensors_size(path: Path) -> int | None:
    """How many bytes a safetensors file has by its own header; None where it has none."""
    found = safetensors_header(path)
    if found is None:
        return None
    start, header = found
    if header is None:
        return start  # at the least
    try:
        ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
        return start + max(ends, default=0)
    except (KeyError, TypeError, IndexError):
        return None
