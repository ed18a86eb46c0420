"""SAE latents in stores: sparse on disk, and read as such.

Where an SAE has a k, a store holds `values` float32 and `indices` `[clip, position, k]`. Where it has none, as many
features are active as there are, and the store holds `counts` int32 `[clip, position]` and, one after the other, the
`values` and `indices` of all positions, `[entry]`. Indices are uint16 where the SAE is small enough for that, which
it mostly is: that saves a quarter of all bytes.

What is read looks alike: `[clip, position, n]`, by falling value, unused slots (0, 0) at the end (`reprise.saes.sae`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import zarr
from scipy.sparse import csr_matrix, vstack

from reprise.storage.artifacts import read_meta, store_of, with_clips
from reprise.storage.stores import ArraySpec, StoreWriter, read_store

CLIPS_AT_ONCE = 16


def latent_arrays(n_clips: int, n_positions: int, *, d_sae: int, k: int | None) -> dict[str, ArraySpec]:
    """The arrays of a store of latents."""
    index = "uint16" if d_sae <= 2**16 else "uint32"
    if k is not None:
        shape = (n_clips, n_positions, k)
        return {"values": ArraySpec(shape, "float32"), "indices": ArraySpec(shape, index)}
    counts = ArraySpec((n_clips, n_positions), "int32")
    return {"counts": counts, "values": ArraySpec((None,), "float32"), "indices": ArraySpec((None,), index)}


def append_latents(store: StoreWriter, values: np.ndarray, indices: np.ndarray, *, k: int | None) -> None:
    """Add the latents `[clip, position, n]` of some clips."""
    if k is None:
        used = values > 0
        store.append("counts", used.sum(axis=-1))
        values, indices = values[used], indices[used]
    store.append("values", values)
    store.append("indices", indices)


def latent_batches(manifests: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All latents, some clips at a time in their stable order: `values` and `indices` `[clip, position, n]`."""
    for manifest in manifests:
        store = read_store(store_of(manifest))
        array = store["counts"] if "counts" in store else store["values"]
        for first in range(0, array.shape[0], CLIPS_AT_ONCE):
            yield _clip_latents(store, first, min(first + CLIPS_AT_ONCE, array.shape[0]))


def clip_latents(manifest: str, i: int) -> tuple[np.ndarray, np.ndarray]:
    """The code of clip number `i` of a store: `values` and `indices` `[position, n]`."""
    values, indices = _clip_latents(read_store(store_of(manifest)), i, i + 1)
    return values[0], indices[0]


def read_latents(manifests: Sequence[str], positions: Sequence[int]) -> csr_matrix:
    """SAE latents at chosen positions as CSR float32 `[clip * time, d_sae]`, clip-major."""
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
    """(d_sae, k) of the SAE that made these latents; where it has no k, the mean of what is active, at least 1."""
    stores = [read_store(store_of(manifest)) for manifest in with_clips(manifests)]
    d_sae = read_meta(manifests)["d_sae"]
    if "counts" not in stores[0]:
        return d_sae, stores[0]["values"].shape[-1]
    n_active = np.concatenate([store["counts"][:].ravel() for store in stores])
    return d_sae, max(1, round(float(n_active.mean())))


def _clip_latents(store: zarr.Group, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents of clips first..stop - 1, `[clip, position, n]`; n is what the fullest position of them has."""
    if "counts" not in store:
        return store["values"][first:stop], store["indices"][first:stop]
    counts = store["counts"][:stop].astype(np.int64)
    before, counts = int(counts[:first].sum()), counts[first:stop]
    until = before + int(counts.sum())
    used = np.arange(max(1, int(counts.max(initial=0)))) < counts[..., None]
    values, indices = np.zeros(used.shape, np.float32), np.zeros(used.shape, store["indices"].dtype)
    values[used], indices[used] = store["values"][before:until], store["indices"][before:until]
    return values, indices
