"""A study's batches: what their stores hold, and all of them read as one, clips in their stable order, arrays at
chosen positions only.

Every function that reads takes the manifests' paths as rules list them (`.../b00.manifest.json`), and checks each
store's sizes against its manifest before reading.

Degenerate input: a batch may hold no clip, where every recording of it was left out; without any clip at all there is
nothing to study, and that is an error.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reprise.storage.files import read_manifest
from reprise.storage.stores import ArraySpec, read_store

# FLAC of music in 16 bits, against the samples as they are.
FLAC_RATIO = 0.65


def token_arrays(n_clips: int, *, n_codebooks: int, n_frames: int) -> dict[str, ArraySpec]:
    """The arrays of a store of tokens."""
    return {"tokens": ArraySpec((n_clips, n_codebooks, n_frames), "uint16")}


def activation_arrays(n_clips: int, *, n_positions: int, d_model: int) -> dict[str, ArraySpec]:
    """The arrays of a store of one hook's activations."""
    return {"resid_post": ArraySpec((n_clips, n_positions, d_model), "float16")}


def audio_bytes(n_clips: int, *, n_samples: int) -> float:
    """About how many bytes the FLAC files of clips take."""
    return n_clips * n_samples * 2 * FLAC_RATIO


def hook_layer(hook: str) -> int:
    """The layer of a hook's name: -1 for "embedding", 11 for "layer11" and "random-layer11"."""
    return -1 if hook == "embedding" else int(hook.removeprefix("random-").removeprefix("layer"))


def store_of(manifest: str) -> Path:
    """The store a manifest lies beside."""
    return Path(manifest.removesuffix(".manifest.json"))


def with_clips(manifests: Sequence[str]) -> list[str]:
    """Those of the manifests whose stores hold clips. Raises ValueError where none does."""
    found = [m for m in manifests if read_manifest(store_of(m))["meta"]["clips"]]
    if not found:
        kind = store_of(manifests[0]).parent
        raise ValueError(f"{kind}: no clip is left, every recording was left out; the manifests of tokens say why")
    return found


def read_clips(manifests: Sequence[str]) -> pd.DataFrame:
    """Clips of all batches: clip_id, prompt_id, prompt ("": none), seed, and duration_s where the manifests say it;
    where recordings are in them, also what `reprise.identity.clip_seed` reads."""
    metas = [read_manifest(store_of(m))["meta"] for m in with_clips(manifests)]
    extra = [{"duration_s": meta["duration_s"]} if "duration_s" in meta else {} for meta in metas]
    return pd.DataFrame(
        list(chain.from_iterable([clip | e for clip in m["clips"]] for m, e in zip(metas, extra, strict=True)))
    )


def read_meta(manifests: Sequence[str]) -> dict[str, Any]:
    """What the first manifest of a batch with clips says, for facts that are the same in all."""
    return read_manifest(store_of(with_clips(manifests)[0]))["meta"]


def read_motif_ends_s(clip_summaries: Sequence[str], clip_ids: pd.Series, *, otherwise_s: float) -> np.ndarray:
    """When each clip's (first) motif has ended, float64 `[clip]`; NaN where the clip is unusable.

    `clip_summaries`: what became of each clip (`events/<batch>.clips.parquet`). Where no motif was found, none can
    have ended before `otherwise_s`.
    """
    table = pd.concat([pd.read_parquet(path) for path in clip_summaries]).set_index("clip_id").loc[clip_ids]
    return table["motif_end_s"].fillna(otherwise_s).where(table["usable"]).to_numpy()


def read_array(manifests: Sequence[str], name: str, positions: Sequence[int] | None = None) -> np.ndarray:
    """Array `name` of all batches, `[clip, ...]`; with `positions` only those of axis 1, `[clip, time, ...]`."""
    parts = []
    for manifest in with_clips(manifests):
        array = read_store(store_of(manifest))[name]
        if positions is None:
            parts.append(array[:])
            continue
        # A file at a time: memory holds what is chosen and one file's clips, not the batch.
        n = (array.shards or array.chunks)[0]
        parts += [array[first : first + n][:, positions] for first in range(0, array.shape[0], n)]
    return np.concatenate(parts)
