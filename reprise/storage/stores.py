"""Arrays on disk: zarr v3 stores, written clip by clip and checked by their manifests before they are read.

Arrays are `[clip, ...]`: one chunk a clip, `clips_per_shard` clips a file, no compression (zstd cfg_branches the speed
and saves 9% on activations). A one-dimensional array is one chunk, or, where its length is not known beforehand,
grows in chunks of `ENTRIES_PER_CHUNK`. zarr reads a missing shard as zeros, without a word: that is why `read_store`
compares the files with the manifest first (reprise/storage/files.py).

Degenerate input: an array of no clips gives an array without shards.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import zarr

from reprise.storage.errors import StoreError
from reprise.storage.files import read_manifest, write_folder

Item = TypeVar("Item")
ENTRIES_PER_CHUNK = 2**20
FLOAT16_LIMIT = 65520.0  # the least float32 that rounds to infinity in float16


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


def _commas(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
