"""`reprise.open_study`: what it shows is what the stages wrote, and only what is asked for is read."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import reprise
from reprise.saes.latents import append_latents, latent_arrays
from reprise.storage.errors import StoreError
from reprise.storage.files import write_json
from reprise.storage.stores import ArraySpec, write_store

N_FRAMES, D_MODEL, D_SAE, K = 20, 8, 300, 4
CLIPS = {"b00": ["ant-s0", "ant-s1", "bee-s0"], "b03": ["cat-s0"]}
RATE_HZ = 10.0


def write_study(folder: Path, *, ragged: bool) -> dict[str, np.ndarray]:
    """Random stores in the pipeline's form; returns what they hold, all batches together."""
    corpus = folder / "corpora" / "m-0a"
    uses = {"batches": list(CLIPS), "hooks": ["embedding", "layer2"], "sae_hooks": ["layer2"]}
    write_json(folder / "clips.json", {"corpus": "corpora/m-0a"} | uses)
    rng = np.random.default_rng(0)
    held: dict[str, list[np.ndarray]] = {"tokens": [], "embedding": [], "layer2": [], "values": [], "indices": []}
    for batch, names in CLIPS.items():
        clips = [{"clip_id": n, "prompt_id": n[:3], "prompt": f"a {n[:3]}", "seed": int(n[-1])} for n in names]
        meta = {"clips": clips, "model": {"frame_rate_hz": RATE_HZ}, "d_sae": D_SAE}
        tokens = rng.integers(9, size=(len(names), 2, N_FRAMES)).astype(np.uint16)
        with write_store(corpus / "tokens" / batch, {"tokens": ArraySpec(tokens.shape, "uint16")}, meta=meta) as store:
            store.append("tokens", tokens)
        held["tokens"].append(tokens)
        for hook in ("embedding", "layer2"):
            x = rng.normal(size=(len(names), N_FRAMES + 1, D_MODEL)).astype(np.float16)
            path = corpus / "activations" / hook / batch
            with write_store(path, {"resid_post": ArraySpec(x.shape, "float16")}, meta=meta) as store:
                store.append("resid_post", x)
            held[hook].append(x)
        values = -np.sort(-rng.uniform(0.1, 1, (len(names), N_FRAMES + 1, K)).astype(np.float32))
        values[:, ::2, 2:] = 0
        indices = np.where(values > 0, rng.integers(D_SAE, size=values.shape), 0)
        k = None if ragged else K
        arrays = latent_arrays(len(names), N_FRAMES + 1, d_sae=D_SAE, k=k)
        with write_store(folder / "latents" / "layer2" / batch, arrays, meta=meta) as store:
            append_latents(store, values, indices, k=k)
        held["values"].append(values)
        held["indices"].append(indices)
    return {name: np.concatenate(parts) for name, parts in held.items()}


@pytest.mark.parametrize("ragged", [False, True])
def test_it_shows_what_was_written(tmp_path: Path, ragged: bool) -> None:
    held = write_study(tmp_path, ragged=ragged)
    study = reprise.open_study(tmp_path)
    assert study.clips["clip_id"].tolist() == [*CLIPS["b00"], *CLIPS["b03"]] and study.unfinished == ()
    np.testing.assert_array_equal(study.tokens, held["tokens"])
    assert study.resid_post.dims == ("layer", "clip", "seconds", "d_model")
    for layer, hook in ((-1, "embedding"), (2, "layer2")):
        np.testing.assert_array_equal(study.resid_post.sel(layer=layer), held[hook])
    np.testing.assert_array_equal(study.latents.activation.sel(layer=2), held["values"])
    np.testing.assert_array_equal(study.latents.feature.sel(layer=2), held["indices"])
    # Position 5 is at 0.5 s; both ends of a slice belong to it.
    part = study.resid_post.sel(layer=2, clip=["cat-s0", "ant-s1"], seconds=slice(0.5, 1.2))
    np.testing.assert_array_equal(part, held["layer2"][[3, 1], 5:13])


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    held = write_study(tmp_path, ragged=True)
    study = reprise.open_study(tmp_path)
    for folder in (tmp_path / "corpora" / "m-0a" / "activations", tmp_path / "latents"):
        shutil.rmtree(folder / "layer2" / "b03")
    np.testing.assert_array_equal(study.resid_post.sel(layer=2, clip="bee-s0"), held["layer2"][2])
    np.testing.assert_array_equal(study.latents.activation.sel(layer=2, clip="bee-s0"), held["values"][2])
    with pytest.raises(StoreError, match="the folder is missing"):
        study.latents.activation.sel(layer=2, clip="cat-s0").compute()


def test_what_is_not_finished_is_named(tmp_path: Path) -> None:
    write_study(tmp_path, ragged=False)
    (tmp_path / "latents" / "layer2" / "b03.manifest.json").unlink()
    study = reprise.open_study(tmp_path)
    assert study.unfinished == ("latents/layer2",) and not study.latents
    shutil.rmtree(tmp_path / "corpora" / "m-0a" / "activations")
    with pytest.raises(StoreError, match="no activations of any hook are finished"):
        reprise.open_study(tmp_path)
    with pytest.raises(StoreError, match=r"not a study; valid: a folder with clips\.json"):
        reprise.open_study(tmp_path / "elsewhere")
