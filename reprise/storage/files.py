"""Write and read the files of stages: folders with manifests, JSON, text and Parquet.

Every file or folder is either complete or absent.

Conventions. A store is a folder. Its manifest, `<folder name>.manifest.json`, lies next to it. It lists every file of
the store with size and SHA-256, one `digest` over all of them, and information from the writer (`meta`). It contains
no times and no absolute paths, so the same content gives the same manifest. The manifest is written last: a store is
finished when its manifest exists. Rules name the manifest as their input.

A store is written to the sibling folder `.<folder name>.partial`, which is renamed when complete. If the writer is
killed, at most this folder is left, and the next writer of the same store removes it. A store has only one writer at
a time.

Foreign files in a store do not make it invalid. Files that could be mistaken for the store's own must be deleted;
others are ignored. The arrays of a store are described in reprise/storage/stores.py.

Degenerate input: an empty table is written as an empty table.
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
# Maximum number of files that a message lists.
MAX_LISTED = 3
_CHUNK = re.compile(r"(^|/)c(/\d+)*$")
_DATA = (".json", ".npy", ".npz", ".parquet", ".flac", ".safetensors", ".pt", ".pth", ".bin", ".zarr")
_BYSTANDERS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
log = logging.getLogger("reprise")


def manifest_path(path: Path) -> Path:
    """The path of the manifest of the store at `path`: `<path>.manifest.json`."""
    return Path(path).with_name(f"{Path(path).name}.manifest.json")


@contextmanager
def write_folder(path: Path, *, meta: dict[str, Any]) -> Iterator[Path]:
    """Write a folder of any files. Yields a temporary folder, which becomes `path` if the block succeeds.

    `meta` is written to the manifest at the end of the block, so the block may add to it. If the block raises, its
    files are removed, and an earlier finished store at `path` is left unchanged.
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
    # Remove the old manifest first, so that it never lies next to new files.
    manifest_path(path).unlink(missing_ok=True)
    _remove(path)
    os.rename(partial, path)
    write_json(manifest_path(path), manifest)


def read_manifest(path: Path, *, verify: Literal["sizes", "content"] = "sizes") -> dict[str, Any]:
    """Check a store against its manifest, and return the manifest.

    Parameters
    ----------
    path
        The store's folder.
    verify
        "sizes": every file exists with the right size, there are no foreign files that could be read by mistake, and
        the descriptions of the arrays (`zarr.json`) are unchanged. "content": also check the SHA-256 of every file.

    Returns
    -------
    dict
        The manifest, with `digest`, `files`, `format` and `meta`.

    Raises
    ------
    StoreError
        If the store does not match its manifest. The message names the store, the first bad file, and the command
        that makes the store again. If the only problem is foreign files, it names these files instead. Foreign files
        that nothing reads only give a warning in the log.
    ValueError
        If `verify` is unknown.
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
            raise _broken(path, f"file {name} was altered: its SHA-256 differs from the manifest's")
    foreign = foreign_files(path, manifest)
    if read := [name for name in foreign if _would_be_read(name)]:
        listed = ", ".join(shlex.quote((path / name).as_posix()) for name in read[:MAX_LISTED])
        more = f" and {len(read) - MAX_LISTED} more" if len(read) > MAX_LISTED else ""
        text = f"file {read[0]} is not in the manifest; the store itself is complete"
        raise StoreError(f"store {path}: {text}; only delete the foreign files: {listed}{more}")
    if foreign:
        log.warning("store %s: %s", path, foreign_in_words(foreign))
    return manifest


def foreign_files(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files in the store at `path` that are not in its manifest: from a file manager, an editor or a user."""
    return sorted(set(_files(Path(path))) - {file["path"] for file in manifest["files"]})


def foreign_in_words(foreign: Sequence[str]) -> str:
    """A message about foreign files that nothing reads."""
    more = f" and {len(foreign) - MAX_LISTED} more" if len(foreign) > MAX_LISTED else ""
    return f"{', '.join(foreign[:MAX_LISTED])}{more}: foreign files that nothing reads; they can be deleted"


def _would_be_read(name: str) -> bool:
    """Whether a foreign file with this name could be read as part of a store.

    zarr looks up chunks and descriptions by name (and reads a missing chunk as zeros). Other readers list the folder.
    """
    return bool(_CHUNK.search(name)) or Path(name).suffix.lower() in _DATA


def _is_bystander(name: str) -> bool:
    """Whether file managers and editors create files of this name in any folder. They never belong to a store."""
    name = name.rpartition("/")[2]
    return name.casefold() in _BYSTANDERS or name.endswith(("~", ".swp", ".swo"))


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, two-space indent and UTF-8. The file is either complete or absent.

    The same value gives the same bytes. numpy scalars, arrays and tuples are written as numbers and lists. NaN is
    written as null. Raises StoreError that names the place of an infinity or of a value that JSON cannot hold.
    """
    text = json.dumps(_plain(value, "$"), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_records(paths: Sequence[Path | str]) -> pd.DataFrame:
    """Read JSON objects written by `write_json`, one row per file. null becomes NaN, also in columns of nulls only."""
    records = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    return pd.DataFrame([{k: math.nan if v is None else v for k, v in record.items()} for record in records])


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file. It is either complete or absent."""
    with _replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet (zstd). The file is either complete or absent.

    The index is dropped. The order of the columns is kept.
    """
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
    """All files below `folder`, as sorted relative POSIX paths.

    Hidden files are left out, because network file systems create some.
    """
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
    return StoreError(f"store {path}: {what}; make it again with: {command} (and your --configfile after that)")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _plain(value: Any, where: str) -> Any:
    """Convert `value` to types that JSON has. `where` is its place, for error messages."""
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
