"""The stores of a study's batches: which arrays they hold, and how to read all batches as one.

Clips always come in the same order. Arrays can be read at chosen positions only.

The functions that read take the paths of the manifests (`.../b00.manifest.json`), as the rules list them. They check
each store's file sizes against its manifest before they read.

Degenerate input: a batch may have no clips, if all of its recordings were excluded. It is an error if no batch has
any.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import zarr

from reprise.storage.files import read_manifest
from reprise.storage.stores import ArraySpec, read_store

# Size of 16-bit FLAC files of music, relative to the uncompressed samples.
FLAC_RATIO = 0.65


def token_arrays(n_clips: int, *, n_codebooks: int, n_frames: int) -> dict[str, ArraySpec]:
    """The arrays of a token store: `tokens` `[clip, codebook, frame]`, uint16."""
    return {"tokens": ArraySpec((n_clips, n_codebooks, n_frames), "uint16")}


def activation_arrays(n_clips: int, *, n_positions: int, d_model: int) -> dict[str, ArraySpec]:
    """The arrays of a store of one hook's activations: `resid_post` `[clip, position, d_model]`, float16."""
    return {"resid_post": ArraySpec((n_clips, n_positions, d_model), "float16")}


def audio_bytes(n_clips: int, *, n_samples: int) -> float:
    """The approximate size of the clips' FLAC files, in bytes."""
    return n_clips * n_samples * 2 * FLAC_RATIO


def hook_layer(hook: str) -> int:
    """The layer of a hook, from its name: -1 for "embedding", 11 for "layer11" and "random-layer11"."""
    return -1 if hook == "embedding" else int(hook.removeprefix("random-").removeprefix("layer"))


def store_of(manifest: str) -> Path:
    """The path of the store that a manifest belongs to."""
    return Path(manifest.removesuffix(".manifest.json"))


def with_clips(manifests: Sequence[str]) -> list[str]:
    """The manifests whose stores hold clips. Raises ValueError if there is none."""
    found = [m for m in manifests if read_manifest(store_of(m))["meta"]["clips"]]
    if not found:
        kind = store_of(manifests[0]).parent
        raise ValueError(
            f"{kind}: no usable clips: all recordings were excluded; the manifests of the token stores say why"
        )
    return found


def read_clips(manifests: Sequence[str]) -> pd.DataFrame:
    """The clips of all batches, one row per clip.

    Columns: clip_id, prompt_id, prompt ("" for none), seed, and duration_s if the manifests have it. With recordings
    there are also the columns that `reprise.identity.clip_seed` reads. Raises ValueError if there are no clips.
    """
    metas = [read_manifest(store_of(m))["meta"] for m in with_clips(manifests)]
    extra = [{"duration_s": meta["duration_s"]} if "duration_s" in meta else {} for meta in metas]
    return pd.DataFrame(
        list(chain.from_iterable([clip | e for clip in m["clips"]] for m, e in zip(metas, extra, strict=True)))
    )


def read_meta(manifests: Sequence[str]) -> dict[str, Any]:
    """The `meta` of the first manifest that has clips, for facts that are the same in all batches."""
    return read_manifest(store_of(with_clips(manifests)[0]))["meta"]


def read_reference_ends_s(clip_summaries: Sequence[str], clip_ids: pd.Series, *, otherwise_s: float) -> np.ndarray:
    """From when on each clip can have an event: the end of the first passage that one can refer to.

    Parameters
    ----------
    clip_summaries
        Paths of the tables with one row per clip (`events/<batch>.clips.parquet`).
    clip_ids
        The clips, in the order of the result.
    otherwise_s
        The value for clips without such a passage, in seconds. None can end before this time.

    Returns
    -------
    numpy.ndarray
        Times in seconds, float64 `[clip]`; NaN for unusable clips.

    Raises
    ------
    KeyError
        If a clip is in none of the tables.
    """
    table = pd.concat([pd.read_parquet(path) for path in clip_summaries]).set_index("clip_id").loc[clip_ids]
    return table["reference_end_s"].fillna(otherwise_s).where(table["usable"]).to_numpy()


def read_array(manifests: Sequence[str], name: str, positions: Sequence[int] | None = None) -> np.ndarray:
    """Read one array of all batches.

    Parameters
    ----------
    manifests
        Paths of the stores' manifests.
    name
        The array's name, such as "tokens" or "resid_post".
    positions
        Indices along axis 1 to read; None for all.

    Returns
    -------
    numpy.ndarray
        The array `[clip, ...]`, or `[clip, len(positions), ...]` with `positions`, in the stored dtype.

    Raises
    ------
    StoreError
        If a store does not match its manifest.
    ValueError
        If no store has clips.
    """
    parts = []
    for manifest in with_clips(manifests):
        array = cast(zarr.Array, read_store(store_of(manifest))[name])
        if positions is None:
            parts.append(cast(np.ndarray, array[:]))
            continue
        # One file at a time, so that memory holds only the chosen positions and the clips of one file.
        n = (array.shards or array.chunks)[0]
        files = (cast(np.ndarray, array[first : first + n]) for first in range(0, array.shape[0], n))
        parts += [clips[:, positions] for clips in files]
    return np.concatenate(parts)
