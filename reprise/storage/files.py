"""Files that stages leave behind, whole or not there at all: folders with manifests, JSON, text and Parquet.

Conventions. A store is a folder. Beside it lies its manifest, `<folder name>.manifest.json`: every file of the
store with size and SHA-256, one `digest` over them all, and what the writer said about it (`meta`). No times, no
absolute paths: the same content gives the same manifest. A store is finished when its manifest exists; the
manifest is written last, and consumers name it as their input.

A store is written in a sibling `.<folder name>.partial` and renamed when complete. A killed writer leaves that
sibling at most, and the next writer of the same store removes it. One writer per store.

Files that are not the store's never cost it: what could be mistaken for the store's is to be deleted, the rest is let
be. What arrays lie in a store: reprise/storage/stores.py.

Degenerate input: an empty table is written as one.
"""

import hashlib
import json
import logging
import math
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from reprise.storage.errors import StoreError

FORMAT = "reprise store 1"
# More files than these in one line help nobody.
MAX_TOLD = 3
_CHUNK = re.compile(r"(^|/)c(/\d+)*$")
_DATA = (".json", ".npy", ".npz", ".parquet", ".flac", ".safetensors", ".pt", ".pth", ".bin", ".zarr")
_BYSTANDERS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
log = logging.getLogger("reprise")


def manifest_path(path: Path) -> Path:
    """Where the manifest of the store at `path` lies: `<path>.manifest.json`."""
    return Path(path).with_name(f"{Path(path).name}.manifest.json")


@contextmanager
def write_folder(path: Path, *, meta: dict[str, Any]) -> Iterator[Path]:
    """Write a folder of any files: yields a temporary folder that becomes `path` when the block ends well.

    `meta` goes into the manifest as it is at the end of the block, so that the block may add to it. When the
    block raises, nothing of it stays and an earlier finished store at `path` is left as it was.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        manifest = _manifest(partial, meta)
    except BaseException:
        _remove(partial)
        raise
    # Unfinished from here until the new manifest is there: never an old manifest beside new files.
    manifest_path(path).unlink(missing_ok=True)
    _remove(path)
    os.rename(partial, path)
    write_json(manifest_path(path), manifest)


def read_manifest(path: Path, *, verify: Literal["sizes", "content"] = "sizes") -> dict[str, Any]:
    """The manifest of the store at `path` (`digest`, `files`, `format`, `meta`), after checking the store by it.

    `sizes`: every file is there with its size, none is there beside them that would be read, and the arrays' own
    descriptions (`zarr.json`) are unaltered. `content`: the SHA-256 of every file too.
    Raises StoreError naming the store, the first bad file and the command that makes the store anew, or, where only
    files are there that are not the store's, these. Of such files that nothing reads the log has a warning.
    """
    if verify not in ("sizes", "content"):
        raise ValueError(f"verify: {verify!r} is unknown; valid: 'sizes', 'content'")
    path, beside = Path(path), manifest_path(path)
    if not beside.is_file():
        raise _broken(path, f"its manifest {beside.name} is missing, so the store was never finished")
    try:
        manifest = json.loads(beside.read_text(encoding="utf-8"))
        expected = {file["path"]: (file["size"], file["sha256"]) for file in manifest["files"]}
        if manifest["format"] != FORMAT or manifest["digest"] != _digest(manifest["files"]):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise _broken(path, f"its manifest {beside.name} is damaged") from None
    if not path.is_dir():
        raise _broken(path, "the folder is missing")
    for name, (size, sha256) in expected.items():
        file = path / name
        if not file.is_file():
            raise _broken(path, f"file {name} is missing")
        if file.stat().st_size != size:
            raise _broken(path, f"file {name} has {file.stat().st_size} bytes; the manifest says {size}")
        if (verify == "content" or file.name == "zarr.json") and digest_file(file) != sha256:
            raise _broken(path, f"file {name} was altered: its SHA-256 is not the manifest's")
    foreign = foreign_files(path, manifest)
    if read := [name for name in foreign if _would_be_read(name)]:
        told = ", ".join(shlex.quote((path / name).as_posix()) for name in read[:MAX_TOLD])
        more = f" and {len(read) - MAX_TOLD} more" if len(read) > MAX_TOLD else ""
        text = f"file {read[0]} is not in the manifest, so it is not the store's, of which nothing is lacking"
        raise StoreError(f"store {path}: {text}; delete what is foreign, that is enough: {told}{more}")
    if foreign:
        log.warning("store %s: %s", path, foreign_in_words(foreign))
    return manifest


def foreign_files(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files in the store at `path` that its manifest lacks: put there by a file manager, an editor or by hand."""
    return sorted(set(_files(Path(path))) - {file["path"] for file in manifest["files"]})


def foreign_in_words(foreign: Sequence[str]) -> str:
    """What to do about foreign files that nothing reads."""
    more = f" and {len(foreign) - MAX_TOLD} more" if len(foreign) > MAX_TOLD else ""
    return f"{', '.join(foreign[:MAX_TOLD])}{more}: not the store's, and read by nothing; to be deleted at leisure"


def _would_be_read(name: str) -> bool:
    """Whether a file of this name may be taken for one of a store's: by zarr, which asks for chunks and descriptions
    by name and takes a chunk that is not there for zeros, or by whoever reads a folder."""
    return bool(_CHUNK.search(name)) or Path(name).suffix.lower() in _DATA


def _is_bystander(name: str) -> bool:
    """Whether a file is one that file managers and editors leave anywhere, and so never a store's."""
    name = name.rpartition("/")[2]
    return name.casefold() in _BYSTANDERS or name.endswith(("~", ".swp", ".swo"))


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON: sorted keys, two-space indent, UTF-8, whole or not at all; the same value gives the same bytes.

    numpy scalars, arrays and tuples are written as numbers and lists; NaN is written as null.
    Raises StoreError naming the place of an infinity or of a value that JSON does not know.
    """
    text = json.dumps(_plain(value, "$"), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_records(paths: Sequence[Path | str]) -> pd.DataFrame:
    """JSON objects as `write_json` wrote them, a row each. null is NaN again, also where a column holds only that."""
    records = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    return pd.DataFrame([{k: math.nan if v is None else v for k, v in record.items()} for record in records])


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with _replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet (zstd), whole or not at all; its index is dropped, its column order kept."""
    with _replacing(path) as partial:
        table.to_parquet(partial, engine="pyarrow", index=False, compression="zstd")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _files(folder: Path) -> list[str]:
    """All files below `folder`, as sorted relative POSIX paths; hidden ones (network file systems) left out."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(parent).relative_to(folder)
        found += [(relative / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def _manifest(folder: Path, meta: dict[str, Any]) -> dict[str, Any]:
    files = [
        {"path": name, "sha256": digest_file(folder / name), "size": (folder / name).stat().st_size}
        for name in _files(folder)
        if not _is_bystander(name)
    ]
    return {"digest": _digest(files), "files": files, "format": FORMAT, "meta": _plain(meta, "meta")}


def _digest(files: list[dict[str, Any]]) -> str:
    lines = "".join(f"{file['sha256']} {file['size']} {file['path']}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _broken(path: Path, what: str) -> StoreError:
    command = f"snakemake --cores 1 --force {shlex.quote(manifest_path(path).as_posix())}"
    return StoreError(f"store {path}: {what}; make it anew with: {command} (and your --configfile after that)")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _plain(value: Any, where: str) -> Any:
    """`value` in JSON's own types; `where` is its place, for the error."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise StoreError(f"{where}: {value} cannot be written as JSON; valid: finite numbers, or NaN for none")
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise StoreError(f"{where}: a {type(value).__name__} cannot be written as JSON; valid: numbers, strings, lists")


def _key(key: Any, where: str) -> str:
    if isinstance(key, np.generic):
        key = key.item()
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise StoreError(f"{where}: key {key!r} cannot be a JSON key; valid: strings, integers")
    return str(key)
