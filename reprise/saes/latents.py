"""SAE latents in stores: sparse on disk, and sparse when they are read.

If the SAE has a k, a store holds `values` float32 and `indices`, both `[clip, position, k]`. Without a k the number of
active features varies. Then the store holds `counts` int32 `[clip, position]`, and the `values` and `indices` of all
positions, one after the other, `[entry]`. Indices are uint16 if d_sae is at most 2^16, as it mostly is, else uint32.
With uint16 a store is a quarter smaller.

Latents are read in the same form in both cases: `[clip, position, n]`, sorted by decreasing value, with unused slots
(0, 0) at the end (see `reprise.saes.sae`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import zarr
from scipy.sparse import csr_matrix, vstack

from reprise.storage.artifacts import read_meta, store_of, with_clips
from reprise.storage.stores import ArraySpec, StoreWriter, read_store

CLIPS_AT_ONCE = 16


def latent_arrays(n_clips: int, n_positions: int, *, d_sae: int, k: int | None) -> dict[str, ArraySpec]:
    """The arrays of a store of latents.

    Parameters
    ----------
    n_clips, n_positions : int
        Number of clips, and of positions in each clip.
    d_sae : int
        Number of features of the SAE.
    k : int or None
        k of the SAE; None if it has none.

    Returns
    -------
    dict of ArraySpec
        `values` and `indices`; without a k also `counts`.
    """
    index = "uint16" if d_sae <= 2**16 else "uint32"
    if k is not None:
        shape = (n_clips, n_positions, k)
        return {"values": ArraySpec(shape, "float32"), "indices": ArraySpec(shape, index)}
    counts = ArraySpec((n_clips, n_positions), "int32")
    return {"counts": counts, "values": ArraySpec((None,), "float32"), "indices": ArraySpec((None,), index)}


def append_latents(store: StoreWriter, values: np.ndarray, indices: np.ndarray, *, k: int | None) -> None:
    """Append the latents of some clips to a store.

    Parameters
    ----------
    store : StoreWriter
        Has the arrays of `latent_arrays`.
    values, indices : arrays `[clip, position, n]`
        The latents; n is k if there is one.
    k : int or None
        k of the SAE; None if it has none.
    """
    if k is None:
        used = values > 0
        store.append("counts", used.sum(axis=-1))
        values, indices = values[used], indices[used]
    store.append("values", values)
    store.append("indices", indices)


def latent_batches(manifests: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All latents in the clips' stable order, a few clips at a time: `values` and `indices` `[clip, position, n]`."""
    for manifest in manifests:
        store = read_store(store_of(manifest))
        array = store["counts"] if "counts" in store else store["values"]
        for first in range(0, array.shape[0], CLIPS_AT_ONCE):
            yield _clip_latents(store, first, min(first + CLIPS_AT_ONCE, array.shape[0]))


def clip_latents(manifest: str, i: int) -> tuple[np.ndarray, np.ndarray]:
    """The latents of clip number `i` of a store: `values` and `indices` `[position, n]`."""
    values, indices = _clip_latents(read_store(store_of(manifest)), i, i + 1)
    return values[0], indices[0]


def read_latents(manifests: Sequence[str], positions: Sequence[int]) -> csr_matrix:
    """SAE latents at the given positions as CSR float32 `[clip * time, d_sae]`, clip-major."""
    d_sae, parts = read_meta(manifests)["d_sae"], []
    for values, indices in latent_batches(manifests):
        values, indices = values[:, positions], indices[:, positions]
        rows, n = values.shape[0] * values.shape[1], values.shape[-1]
        # An unused slot holds value 0 and index 0, which adds nothing.
        starts = np.arange(0, rows * n + 1, n) if n else np.zeros(rows + 1, int)
        latents = csr_matrix((values.ravel(), indices.ravel().astype(np.int32), starts), shape=(rows, d_sae))
        latents.sum_duplicates()
        latents.eliminate_zeros()
        parts.append(latents)
    return vstack(parts, format="csr")


def sae_size(manifests: Sequence[str]) -> tuple[int, int]:
    """(d_sae, k) of the SAE that made these latents. Without a k: the mean number of active features, at least 1.

    Raises ValueError if the stores hold no clips.
    """
    stores = [read_store(store_of(manifest)) for manifest in with_clips(manifests)]
    d_sae = read_meta(manifests)["d_sae"]
    if "counts" not in stores[0]:
        return d_sae, stores[0]["values"].shape[-1]
    n_active = np.concatenate([store["counts"][:].ravel() for store in stores])
    return d_sae, max(1, round(float(n_active.mean())))


def _clip_latents(store: zarr.Group, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents of clips first..stop - 1, `[clip, position, n]`.

    n is k. Without a k it is the largest number of active features at a position of these clips, at least 1.
    """
    if "counts" not in store:
        return store["values"][first:stop], store["indices"][first:stop]
    counts = store["counts"][:stop].astype(np.int64)
    before, counts = int(counts[:first].sum()), counts[first:stop]
    until = before + int(counts.sum())
    used = np.arange(max(1, int(counts.max(initial=0)))) < counts[..., None]
    values, indices = np.zeros(used.shape, np.float32), np.zeros(used.shape, store["indices"].dtype)
    values[used], indices[used] = store["values"][before:until], store["indices"][before:until]
    return values, indices
