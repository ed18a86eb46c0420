"""Check, before any job, that the files of a model or an SAE exist and are complete.

The checks take milliseconds and read no weights. A file must exist, must not be empty, must not be a Git LFS pointer,
and must end where its format requires it. (A zip archive, as written by torch, has its directory at the end.
safetensors have their length at the beginning. JSON ends with a brace.) This finds an interrupted download or copy. A
flipped bit in the middle is found only when the file is read.

Problems are texts, with what is valid or the command that downloads missing files; [] if no problem was found.
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
    """What is wrong with a file of weights or of a configuration; None if no problem was found."""
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
        return "is a Git LFS pointer, not the file itself (`git lfs pull` downloads it)"
    if path.suffix == ".safetensors":
        expected = _safetensors_size(path)
        if expected is None:
            return "does not begin with a safetensors header"
        return None if size == expected else f"has {size:,} bytes of {expected:,}: it was cut off"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"was cut off at {size:,} bytes"
    if path.suffix == ".json" and not tail.rstrip().endswith(b"}"):
        return f"was cut off at {size:,} bytes"
    return None


def needed_files(folder: Path, needed: Iterable[Sequence[str]]) -> list[str]:
    """The files that are read from a folder: from each group in `needed` the first that exists (or the first of the
    group if none exists), and the shards if one of them is an index."""
    files = [next((name for name in names if (folder / name).is_file()), names[0]) for names in needed]
    return [*files, *shards(folder)] if SHARDS in files else files


def folder_problems(folder: Path, needed: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """(file, what is wrong with it) for the files that are read from a folder."""
    files = needed_files(folder, needed)
    problems = [(name, problem) for name in files if (problem := file_problem(folder / name))]
    if SHARDS in files and not problems and not shards(folder):
        return [(SHARDS, "does not list the file of each weight")]
    return problems


def model_problems(name: str, *, backend: str = "audiocraft", base_dir: Path = Path()) -> list[str]:
    """Why a model cannot be used: problems of its files, its kind, or its text encoder's files.

    Parameters
    ----------
    name
        Hub id or directory.
    backend
        Name of the model family.
    base_dir
        Directory to which a relative path refers.
    """
    try:
        place = model_place(name, base_dir=base_dir)
    except HubError as error:
        return [str(error)]
    family, cache = family_of(backend), cache_folder(backend)
    needed = family.files
    if place is None:
        folder = base_dir / name
        if folder.is_dir() and adapters(folder):
            # Often the folder contains only the adapter.
            return _wrong_kind(name, folder, family)
        problems = _directory_problems(name, folder, needed)
        others = (other for other in BUILT_IN if other != backend)
        other = next((b for b in others if not folder_problems(folder, BUILT_IN[b].files)), None)
        if problems and other:
            return [f'"{name}" contains a model in {other} format; valid: model.backend {other} for it']
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
    """Why the SAE of a layer (0-based) cannot be used. `name`: a hub address, or a path relative to `base_dir`."""
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
        anew = "valid: complete files"
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
            f"{said} is described as an SAE of layer {of_layer}{why}; valid: the SAE of layer {layer} (layers are "
            "0-based)"
        ]
    return []


def _wrong_kind(name: str, folder: Path, family: Family) -> list[str]:
    """Why the files in a folder can't be run: they are not an exported model, or its kind is not supported."""
    if wrong := family.content_problems(folder):
        return [f'"{name}": {text}' for text in wrong]
    refused = family.refusals(folder)
    return [f'"{name}" cannot be run: {", ".join(refused)}; valid: {family.supported}'] if refused else []


def _directory_problems(name: str, folder: Path, needed: Sequence[Sequence[str]]) -> list[str]:
    """Missing or damaged files of a model's directory; at most one text."""
    valid = f"a directory with {' and '.join(' or '.join(names) for names in needed)}"
    if not folder.is_dir():
        return [f'there is no directory "{name}"; valid: a hub id, or {valid}']
    broken = folder_problems(folder, needed)
    return [f'"{name}": {_listed(broken)}; valid: {valid}, all complete'] if broken else []


def _lacking(place: Place, cache: Path, needed: Sequence[Sequence[str]]) -> list[str]:
    """Missing or damaged files of a hub repository in the cache, with the command that downloads them; at most one
    text."""
    folder = fetched_folder(place, cache)
    broken = folder_problems(folder or cache / "nowhere", needed)
    if not broken:
        return []
    names, patterns = [name for name, _ in broken], []
    if any(SHARDS in alternatives for alternatives in needed):
        # The names of the shards are in the index, which may be missing too.
        names, patterns = [], ["*.json", "model*.safetensors", "spiece.model"]
    damaged = any(problem != MISSING for _, problem in broken)
    fetch = _to_do(fetch_command(place, names, patterns=patterns, anew=damaged, cache=cache))
    if folder is not None:
        return [f"is not complete in the cache {cache}: {_listed(broken)}; {fetch}"]
    begun = any((repository_folder(place, cache) / "blobs").glob("*.incomplete"))
    return [f"is not {'completely ' if begun else ''}in the cache {cache}; {fetch}"]


def _listed(broken: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {problem}" for name, problem in broken)


def _to_do(fetch: str) -> str:
    return f"jobs download nothing: on a machine with network, run {fetch}"


def _safetensors_size(path: Path) -> int | None:
    """Size of a safetensors file in bytes, by its own header; None if the header is not valid."""
    found = safetensors_header(path)
    if found is None:
        return None
    start, header = found
    if header is None:
        return start  # the smallest possible size
    try:
        ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
        return start + max(ends, default=0)
    except (KeyError, TypeError, IndexError):
        return None
