"""Files that stages leave behind: zarr v3 stores with manifests, JSON and Parquet, whole or not there at all.

Conventions. A store is a folder. Beside it lies its manifest, `<folder name>.manifest.json`: every file of the
store with size and SHA-256, one `digest` over them all, and what the writer said about it (`meta`). No times, no
absolute paths: the same content gives the same manifest. A store is finished when its manifest exists; the
manifest is written last, and consumers name it as their input.

A store is written in a sibling `.<folder name>.partial` and renamed when complete. A killed writer leaves that
sibling at most, and the next writer of the same store removes it. One writer per store.

Arrays are `[clip, ...]`: one chunk a clip, `clips_per_shard` clips a file, no compression (zstd halves the speed
and saves 9% on activations). A one-dimensional array is one chunk, or, where its length is not known beforehand, grows
in chunks of `ENTRIES_PER_CHUNK`. zarr reads a missing shard as zeros, without a
word: that is why `read_store` compares the files with the manifest first. Files that are not the store's never cost
it: what could be mistaken for the store's is to be deleted, the rest is let be.

Degenerate input: an array of no clips gives an array without shards; an empty table is written as one.
"""

import hashlib
import json
import logging
import math
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import zarr

FORMAT = "reprise store 1"
Item = TypeVar("Item")
ENTRIES_PER_CHUNK = 2**20
# More files than these in one line help nobody.
MAX_TOLD = 3
_CHUNK = re.compile(r"(^|/)c(/\d+)*$")
_DATA = (".json", ".npy", ".npz", ".parquet", ".flac", ".safetensors", ".pt", ".pth", ".bin", ".zarr")
_BYSTANDERS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
log = logging.getLogger("reprise")
FLOAT16_LIMIT = 65520.0  # the least float32 that rounds to infinity in float16


class StoreError(ValueError):
    """A store that cannot be trusted or written: names the store, the file or array, and what to do."""


class ArraySpec(NamedTuple):
    """One array of a store: `shape` `[clip, ...]`, numpy `dtype` name, clips in one shard file. The shape `(None,)`
    is that of an array which holds as many entries as are appended to it."""

    shape: tuple[int | None, ...]
    dtype: str
    clips_per_shard: int = 16


def stored_bytes(arrays: Mapping[str, ArraySpec], *, n_entries: int = 0) -> int:
    """How many bytes a store of these arrays takes, `n_entries` in each that grows (in whole chunks)."""
    grown = -(-n_entries // ENTRIES_PER_CHUNK) * ENTRIES_PER_CHUNK
    n_values = {name: math.prod(grown if n is None else n for n in spec.shape) for name, spec in arrays.items()}
    return sum(n * np.dtype(arrays[name].dtype).itemsize for name, n in n_values.items())


class StoreWriter:
    """Fills the arrays of a store in clip order; made by `write_store`.

    Clips are gathered until a shard is full, because writing one clip into a shard rewrites the whole shard. So
    memory is one shard an array, however many clips there are.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, ArraySpec]) -> None:
        self._folder = folder
        self._specs = dict(arrays)
        self._group = zarr.open_group(folder, mode="w", zarr_format=3)
        self._arrays = {name: _create(self._group, name, spec) for name, spec in sorted(self._specs.items())}
        self._waiting: dict[str, list[np.ndarray]] = {name: [] for name in arrays}
        self._written = dict.fromkeys(arrays, 0)

    def append(self, name: str, clips: np.ndarray) -> None:
        """Add clips `[n, ...]` to array `name`, after those already added.

        Floats for a float16 array are converted with `to_float16_checked`; where a value would not fit, the whole
        array becomes float32. Integers that the array's dtype cannot hold raise StoreError, as do an unknown name, a
        wrong shape and too many clips.
        """
        if name not in self._specs:
            raise StoreError(f"array {name!r} is not in this store; valid: {', '.join(sorted(self._specs))}")
        spec, clips = self._specs[name], np.asarray(clips)
        if clips.ndim != len(spec.shape) or clips.shape[1:] != tuple(spec.shape[1:]):
            raise StoreError(f"array {name!r}: clips have shape {clips.shape}; valid: [n, {_commas(spec.shape[1:])}]")
        n_seen = self._written[name] + sum(map(len, self._waiting[name])) + len(clips)
        if spec.shape[0] is not None and n_seen > spec.shape[0]:
            raise StoreError(f"array {name!r}: {n_seen} clips were added; it was declared with {spec.shape[0]}")
        if self._arrays[name].dtype == np.float16:
            clips = to_float16_checked(clips, what=f"array {name!r}")
            if clips.dtype != np.float16:
                self._widen(name)
        # A copy, since the caller may reuse its buffer before the shard is written.
        self._waiting[name].append(_checked_cast(name, clips, self._arrays[name].dtype))
        self._flush(name, whole_shards=True)

    def _flush(self, name: str, *, whole_shards: bool) -> None:
        waiting, per_shard = self._waiting[name], self._shard_length(name)
        n_waiting = sum(map(len, waiting))
        n = n_waiting // per_shard * per_shard if whole_shards else n_waiting
        if n == 0:
            return
        clips = np.concatenate(waiting)
        if self._specs[name].shape[0] is None:
            self._arrays[name].resize((self._written[name] + n,))
        for start in range(0, n, per_shard):
            stop, offset = min(start + per_shard, n), self._written[name]
            self._arrays[name][offset : offset + stop - start] = clips[start:stop]
            self._written[name] += stop - start
        self._waiting[name] = [clips[n:].copy()] if n < n_waiting else []

    def _shard_length(self, name: str) -> int:
        spec = self._specs[name]
        if spec.shape[0] is None:
            return ENTRIES_PER_CHUNK
        return spec.clips_per_shard if len(spec.shape) > 1 else max(1, spec.shape[0])

    def _widen(self, name: str) -> None:
        """Make a float16 array float32, keeping what it holds."""
        narrow, temporary = self._arrays[name], f"{name}.float32"
        self._specs[name] = self._specs[name]._replace(dtype="float32")
        wide = _create(self._group, temporary, self._specs[name])
        for start in range(0, self._written[name], self._shard_length(name)):
            stop = min(start + self._shard_length(name), self._written[name])
            wide[start:stop] = narrow[start:stop].astype(np.float32)
        shutil.rmtree(self._folder / name)
        os.rename(self._folder / temporary, self._folder / name)
        self._arrays[name] = self._group[name]
        self._waiting[name] = [clips.astype(np.float32) for clips in self._waiting[name]]

    def finish(self) -> None:
        """Write what is waiting; StoreError when an array lacks clips."""
        for name, spec in sorted(self._specs.items()):
            self._flush(name, whole_shards=False)
            if spec.shape[0] is not None and self._written[name] != spec.shape[0]:
                raise StoreError(f"array {name!r} got {self._written[name]} of its {spec.shape[0]} clips")


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


@contextmanager
def write_store(path: Path, arrays: Mapping[str, ArraySpec], *, meta: dict[str, Any]) -> Iterator[StoreWriter]:
    """Write a zarr v3 store: yields a `StoreWriter` to which each array's clips are appended in order.

    The store and its manifest appear at `path` when the block ends and every array is full; see `write_folder`.
    Raises StoreError when an array did not get all its clips.
    """
    with write_folder(path, meta=meta) as folder:
        writer = StoreWriter(folder, arrays)
        yield writer
        writer.finish()


def write_behind(items: Iterable[Item], write: Callable[[Item], None]) -> None:
    """Write each item in a thread while the next is made. What `write` raises is raised here.

    One item at most waits to be written, so memory holds two.
    """
    with ThreadPoolExecutor(1) as thread:
        writing: Future[None] | None = None
        for item in items:
            if writing is not None:
                writing.result()
            writing = thread.submit(write, item)
        if writing is not None:
            writing.result()


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


def read_store(path: Path, *, verify: Literal["sizes", "content"] = "sizes") -> zarr.Group:
    """Open the zarr store at `path` for reading, after `read_manifest` has checked it. Arrays are read lazily."""
    read_manifest(path, verify=verify)
    return zarr.open_group(Path(path), mode="r", zarr_format=3)


def to_float16_checked(x: np.ndarray, *, what: str = "values") -> np.ndarray:
    """`x` as float16, or as float32 where a value is too large for it (65,520 and up): never a silent infinity.

    Raises StoreError when `x` holds a NaN or an infinity to begin with.
    """
    x = np.asarray(x)
    if x.dtype == np.float16:
        # numpy compares these one by one: thirty times slower than their bits, whose exponent says it.
        bits = np.ascontiguousarray(x).view(np.uint16) & 0x7FFF
        largest = float(bits.max(initial=0).astype(np.uint16).view(np.float16))
    else:
        # min and max see both NaN and infinity, at a tenth of the cost of the conversion.
        largest = max(-float(x.min()), float(x.max())) if x.size else 0.0
    if not math.isfinite(largest):
        raise StoreError(f"{what}: not all values are finite; valid: finite numbers")
    return x.astype(np.float16 if largest < FLOAT16_LIMIT else np.float32)


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


def _create(group: zarr.Group, name: str, spec: ArraySpec) -> zarr.Array:
    if len(spec.shape) > 1:
        chunk = (1, *(max(1, n) for n in spec.shape[1:]))
        shards = (spec.clips_per_shard, *chunk[1:])
    else:
        chunk, shards = (ENTRIES_PER_CHUNK if spec.shape[0] is None else max(1, spec.shape[0]),), None
    # Chunks of nothing but zeros are written too: a shard that is not there was never written.
    return group.create_array(
        name,
        shape=[n or 0 for n in spec.shape],
        dtype=spec.dtype,
        chunks=chunk,
        shards=shards,
        compressors=None,
        config={"write_empty_chunks": True},
    )


def _checked_cast(name: str, clips: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if np.issubdtype(dtype, np.integer) and clips.size:
        limits = np.iinfo(dtype)
        if not np.issubdtype(clips.dtype, np.integer):
            raise StoreError(f"array {name!r}: values are {clips.dtype}; valid: integers, it is {dtype}")
        if int(clips.min()) < limits.min or int(clips.max()) > limits.max:
            raise StoreError(
                f"array {name!r}: values {clips.min()}..{clips.max()} do not fit {dtype} ({limits.min}..{limits.max})"
            )
    return clips.astype(dtype)


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


def _commas(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
