"""Which clips a certificate is measured on. An SAE that the study trains never sees these clips.

Training and measurement use the same function, because an FVU on training clips shows nothing. Clips are in their
stable order: batch by batch, as the stores list them.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reprise.storage.files import read_manifest


class StoredClip(NamedTuple):
    """A clip and its place: number `i` in the arrays of the store at `store`."""

    store: Path
    i: int
    clip_id: str
    prompt_id: str
    prompt: str


def stored_clips(manifests: Sequence[str]) -> list[StoredClip]:
    """Every clip of some stores in the stable order. manifests: those of the stores (`.../b00.manifest.json`).

    Raises ValueError if there is none.
    """
    metas = {
        store: read_manifest(store)["meta"]
        for store in (Path(manifest.removesuffix(".manifest.json")) for manifest in manifests)
    }
    clips = [
        StoredClip(store, i, clip["clip_id"], clip["prompt_id"], clip["prompt"])
        for store, meta in metas.items()
        for i, clip in enumerate(meta["clips"])
    ]
    if not clips:
        gone = [left["reason"].partition(":")[0] for meta in metas.values() for left in meta.get("left_out", [])]
        why = ", ".join(f"{kind} {n}" for kind, n in Counter(gone).most_common())
        folder = next(iter(metas)).parent
        raise ValueError(f"{folder}: no usable clips: all recordings were excluded{why and f' ({why})'}")
    return clips


def measured_clips(clips: Sequence[StoredClip], n: int) -> list[StoredClip]:
    """The clips that reconstruction is measured on: `n` clips spread evenly over all, or all if there are fewer."""
    return [clips[i] for i in np.linspace(0, len(clips) - 1, min(n, len(clips))).astype(int)]


def training_clips(clips: Sequence[StoredClip], n: int) -> list[StoredClip]:
    """The clips that an SAE may be trained on if `n` clips are measured.

    These are the clips of prompts without a measured clip, if they are at least half of all clips. Otherwise they are
    all clips that are not measured.
    """
    measured = measured_clips(clips, n)
    prompts, ids = {clip.prompt_id for clip in measured}, {clip.clip_id for clip in measured}
    apart = [clip for clip in clips if clip.prompt_id not in prompts]
    return apart if 2 * len(apart) >= len(clips) else [clip for clip in clips if clip.clip_id not in ids]
