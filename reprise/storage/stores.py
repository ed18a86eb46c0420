"""Arrays on disk: zarr v3 stores, written clip by clip and checked against their manifests before they are read.

Arrays are `[clip, ...]`, with one chunk per clip and `clips_per_shard` clips per file. They are not compressed: zstd
halves the speed and saves only 9% on activations. A one-dimensional array is a single chunk. If its length is not
known beforehand, it grows in chunks of `ENTRIES_PER_CHUNK`. zarr silently reads a missing shard as zeros. This is why
`read_store` first compares the files with the manifest (reprise/storage/files.py).

Degenerate input: an array of no clips gives an array without shards.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
import zarr

from reprise.storage.errors import StoreError
from reprise.storage.files import read_manifest, write_folder

Item = TypeVar("Item")
ENTRIES_PER_CHUNK = 2**20
FLOAT16_LIMIT = 65520.0  # the smallest float32 that rounds to infinity in float16


class ArraySpec(NamedTuple):
    """One array of a store.

    Attributes
    ----------
    shape
        Shape `[clip, ...]`. `(None,)` is a one-dimensional array that grows as entries are appended.
    dtype
        Name of the numpy dtype.
    clips_per_shard
        Number of clips in one shard file.
    """

    shape: tuple[int | None, ...]
    dtype: str
    clips_per_shard: int = 16


def stored_bytes(arrays: Mapping[str, ArraySpec], *, n_entries: int = 0) -> int:
    """The size of a store of these arrays in bytes, with `n_entries` in each growing array (rounded up to chunks)."""
    grown = -(-n_entries // ENTRIES_PER_CHUNK) * ENTRIES_PER_CHUNK
    n_values = {name: math.prod(grown if n is None else n for n in spec.shape) for name, spec in arrays.items()}
    return sum(n * np.dtype(arrays[name].dtype).itemsize for name, n in n_values.items())


class StoreWriter:
    """Fills the arrays of a store in clip order. Created by `write_store`.

    Clips are collected until a shard is full, because writing one clip into a shard rewrites the whole shard. So the
    writer needs memory for one shard per array, regardless of the number of clips.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, ArraySpec]) -> None:
        self._folder = folder
        self._specs = dict(arrays)
        self._group = zarr.open_group(folder, mode="w", zarr_format=3)
        self._arrays = {name: _create(self._group, name, spec) for name, spec in sorted(self._specs.items())}
        self._waiting: dict[str, list[np.ndarray]] = {name: [] for name in arrays}
        self._written = dict.fromkeys(arrays, 0)

    def append(self, name: str, clips: np.ndarray) -> None:
        """Add clips to an array, after those already added.

        Floats for a float16 array are converted with `to_float16_checked`. If a value does not fit, the whole array
        becomes float32.

        Parameters
        ----------
        name
            The array's name.
        clips
            The values `[n, ...]`.

        Raises
        ------
        StoreError
            If the name is unknown, the shape is wrong, there are too many clips, a float for a float16 array is NaN
            or infinite, or integers do not fit the array's dtype.
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
        """Convert a float16 array to float32, with the values written so far."""
        narrow, temporary = self._arrays[name], f"{name}.float32"
        self._specs[name] = self._specs[name]._replace(dtype="float32")
        wide = _create(self._group, temporary, self._specs[name])
        for start in range(0, self._written[name], self._shard_length(name)):
            stop = min(start + self._shard_length(name), self._written[name])
            wide[start:stop] = cast(np.ndarray, narrow[start:stop]).astype(np.float32)
        shutil.rmtree(self._folder / name)
        os.rename(self._folder / temporary, self._folder / name)
        self._arrays[name] = cast(zarr.Array, self._group[name])
        self._waiting[name] = [clips.astype(np.float32) for clips in self._waiting[name]]

    def finish(self) -> None:
        """Write the clips that are still in memory. Raises StoreError if an array did not get all its clips."""
        for name, spec in sorted(self._specs.items()):
            self._flush(name, whole_shards=False)
            if spec.shape[0] is not None and self._written[name] != spec.shape[0]:
                raise StoreError(f"array {name!r} got {self._written[name]} of its {spec.shape[0]} clips")


@contextmanager
def write_store(path: Path, arrays: Mapping[str, ArraySpec], *, meta: dict[str, Any]) -> Iterator[StoreWriter]:
    """Write a zarr v3 store. The store and its manifest appear at `path` when the block ends; see `write_folder`.

    Parameters
    ----------
    path
        The store's folder.
    arrays
        The arrays, by name.
    meta
        Information for the manifest. The block may add to it.

    Yields
    ------
    StoreWriter
        Append the clips of each array to it, in order.

    Raises
    ------
    StoreError
        If an array did not get all its clips by the end of the block.
    """
    with write_folder(path, meta=meta) as folder:
        writer = StoreWriter(folder, arrays)
        yield writer
        writer.finish()


def write_behind(items: Iterable[Item], write: Callable[[Item], None]) -> None:
    """Write each item in a thread while the next one is computed. Exceptions of `write` are raised here.

    At most one item waits to be written, so memory holds two.
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
    """Open a zarr store for reading, after checking it against its manifest. Arrays are read lazily.

    `verify` is as in `read_manifest`. Raises StoreError if the store does not match its manifest.
    """
    read_manifest(path, verify=verify)
    return zarr.open_group(Path(path), mode="r", zarr_format=3)


def to_float16_checked(x: np.ndarray, *, what: str = "values") -> np.ndarray:
    """Convert to float16, or to float32 if a value is too large for float16 (65,520 and up). Never gives infinity.

    `what` names the values in error messages. Raises StoreError if `x` contains NaN or infinity.
    """
    x = np.asarray(x)
    if x.dtype == np.float16:
        # numpy compares float16 values one by one. Comparing their bits is thirty times faster, and the largest bits
        # without the sign belong to the largest value, NaN or infinity.
        bits = np.ascontiguousarray(x).view(np.uint16) & 0x7FFF
        largest = float(bits.max(initial=0).astype(np.uint16).view(np.float16))
    else:
        # min and max detect both NaN and infinity, at a tenth of the cost of the conversion.
        largest = max(-float(x.min()), float(x.max())) if x.size else 0.0
    if not math.isfinite(largest):
        raise StoreError(f"{what}: not all values are finite; valid: finite numbers")
    return x.astype(np.float16 if largest < FLOAT16_LIMIT else np.float32)


def _create(group: zarr.Group, name: str, spec: ArraySpec) -> zarr.Array:
    chunk: tuple[int, ...]
    shards: tuple[int, ...] | None
    if len(spec.shape) > 1:
        chunk = (1, *(max(1, n or 0) for n in spec.shape[1:]))
        shards = (spec.clips_per_shard, *chunk[1:])
    else:
        chunk, shards = (ENTRIES_PER_CHUNK if spec.shape[0] is None else max(1, spec.shape[0]),), None
    # Chunks of zeros are written too, so that a missing shard always means that it was never written.
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
            raise StoreError(f"array {name!r}: values are {clips.dtype}; valid: integers, for dtype {dtype}")
        if int(clips.min()) < limits.min or int(clips.max()) > limits.max:
            raise StoreError(
                f"array {name!r}: values {clips.min()}..{clips.max()} do not fit {dtype} ({limits.min}..{limits.max})"
            )
    return clips.astype(dtype)


def _commas(shape: tuple[int | None, ...]) -> str:
    return ", ".join(map(str, shape))
