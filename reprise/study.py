"""Open a finished study: activations and SAE latents of all batches as one dataset, read on demand.

    study = reprise.open_study("results/planner")
    study.resid_post.sel(layer=4, clip="amber-piano-s0", seconds=slice(4, 8)).values
    latents = study.latents.sel(layer=4, seconds=slice(4, 8))
    latents.activation.where(latents.feature == 17, 0).sum("slot").values  # what feature 17 does, [clip, position]
    study.edit("amber-piano-s0", "layer4-f17-0a1b2c3d").audio  # the clip without what the candidate says

The arrays are xarray arrays over dask arrays. `sel` and arithmetic read nothing; `.values` and `.compute()` read one
clip at a time. Seconds are those of the audio: position p is computed from sound before p / frame_rate_hz, and
predicts the sound after it. Each store is checked against its manifest when it is opened.

Degenerate input: a hook or layer with missing batches (an unfinished study) is left out and named in `unfinished`. A
folder that is not a study is an error, and so are missing batches of tokens.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dask
import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from reprise.saes.latents import clip_latents
from reprise.storage.artifacts import hook_layer, read_clips, read_meta, store_of
from reprise.storage.errors import StoreError
from reprise.storage.files import read_manifest
from reprise.storage.stores import read_store

if TYPE_CHECKING:
    from reprise.edit_clip import EditedClip
    from reprise.interventions.direction_files import DirectionFile


class Study(NamedTuple):
    """An open study.

    clips: one row per clip. tokens: uint16 `(clip, codebook, frame)`. resid_post: float `(layer, clip, seconds,
    d_model)`; layer -1 is the input embedding. latents: `activation` (float32) and `feature`, both `(layer, clip,
    seconds, slot)`; a slot with activation 0 is unused. unfinished: folders with missing batches. path: the study's
    folder.
    """

    path: Path
    clips: pd.DataFrame
    tokens: xr.DataArray
    resid_post: xr.DataArray
    latents: xr.Dataset
    unfinished: tuple[str, ...]

    def edit(self, clip_id: str, direction: "str | Path | DirectionFile", **how: Any) -> "EditedClip":
        """Continue a clip with an edit and without it: see `reprise.edit_clip.edit_clip`."""
        # It loads torch and the model.
        from reprise.edit_clip import edit_clip

        return edit_clip(self.path, clip_id, direction, **how)


def open_study(path: str | Path) -> Study:
    """Open the study with results in `path`, such as `results/planner`.

    Raises StoreError if there is no study, if no activations are finished, or if a store does not match its manifest.
    """
    path = Path(path)
    corpus, batches, hooks, sae_hooks = _what_it_uses(path)
    tokens = _manifests(corpus / "tokens", batches)
    clips = read_clips(tokens)
    rate_hz = read_meta(tokens)["model"]["frame_rate_hz"]
    coordinates = {"clip": clips["clip_id"].to_numpy()}

    found: dict[str, dict[int, list[str]]] = {"activations": {}, "latents": {}}
    unfinished = []
    for kind, where, of_kind in (("activations", corpus, hooks), ("latents", path, sae_hooks)):
        for hook in of_kind:
            manifests = _manifests(where / kind / hook, batches)
            if all(Path(manifest).is_file() for manifest in manifests):
                found[kind][hook_layer(hook)] = manifests
            else:
                unfinished.append(f"{kind}/{hook}")
    if not found["activations"]:
        raise StoreError(f"{path}: no activations of any hook are finished; run snakemake on it first")

    def stacked(
        hooks: dict[int, list[str]], dims: Sequence[str], read: Callable[[Sequence[str]], da.Array]
    ) -> xr.DataArray:
        layers = sorted(hooks)
        array = da.stack([read(hooks[layer]) for layer in layers])
        seconds = np.arange(array.shape[2]) / rate_hz
        return xr.DataArray(array, dims=dims, coords={"layer": layers, **coordinates, "seconds": seconds})

    latents = xr.Dataset()
    if found["latents"]:
        dims = ("layer", "clip", "seconds", "slot")
        n_slots = max(_n_slots(manifests) for manifests in found["latents"].values())
        for name, which in (("activation", 0), ("feature", 1)):
            latents[name] = stacked(found["latents"], dims, lambda m, which=which: _latents(m, which, n_slots))
    return Study(
        path=path,
        clips=clips,
        tokens=xr.DataArray(_whole(tokens, "tokens"), dims=("clip", "codebook", "frame"), coords=coordinates),
        resid_post=stacked(
            found["activations"], ("layer", "clip", "seconds", "d_model"), lambda m: _whole(m, "resid_post")
        ),
        latents=latents,
        unfinished=tuple(unfinished),
    )


def _what_it_uses(path: Path) -> tuple[Path, list[str], list[str], list[str]]:
    """The corpus of the study at `path`; the batches and hooks that the study uses; and the hooks with an SAE."""
    file = path / "clips.json"
    if not file.is_file():
        raise StoreError(f"{path}: not a study; valid: a folder with clips.json, such as results/planner")
    said = json.loads(file.read_text(encoding="utf-8"))
    return path / said["corpus"], said["batches"], said["hooks"], said["sae_hooks"]


def _manifests(folder: Path, batches: Sequence[str]) -> list[str]:
    return [str(folder / f"{batch}.manifest.json") for batch in batches]


def _whole(manifests: Sequence[str], name: str) -> da.Array:
    """Array `name` of all batches, `[clip, ...]`, with one clip per chunk."""
    return da.concatenate([_lazy(m, name) for m in manifests])


def _lazy(manifest: str, name: str) -> da.Array:
    array = read_store(store_of(manifest))[name]
    # The name contains the manifest's digest. Without a name, dask would read the whole array to hash it.
    digest = read_manifest(store_of(manifest))["digest"]
    return da.from_array(array, chunks=(1, *array.shape[1:]), name=f"{name}-{digest}")


def _n_slots(manifests: Sequence[str]) -> int:
    stores = [read_store(store_of(m)) for m in manifests]
    return max(int(s["counts"][:].max(initial=1)) if "counts" in s else s["values"].shape[2] for s in stores)


def _latents(manifests: Sequence[str], which: int, n_slots: int) -> da.Array:
    """Values (`which` 0) or indices (1) of all batches, `[clip, position, n_slots]`, with unused slots at the end."""
    parts = []
    for manifest in manifests:
        store, name = read_store(store_of(manifest)), ("values", "indices")[which]
        if "counts" not in store:
            array = _lazy(manifest, name)
            parts.append(da.pad(array, ((0, 0), (0, 0), (0, n_slots - array.shape[2]))))
            continue
        n_positions = store["counts"].shape[1]

        def read(i: int, manifest: str = manifest) -> np.ndarray:
            code = clip_latents(manifest, i)[which]
            return np.pad(code, ((0, 0), (0, n_slots - code.shape[1])))[None]

        parts += [
            da.from_delayed(dask.delayed(read)(i), (1, n_positions, n_slots), store[name].dtype)
            for i in range(len(read_manifest(store_of(manifest))["meta"]["clips"]))
        ]
    return da.concatenate(parts)
