"""Directions as files: what is written is read, what others write is read, and what cannot be used is one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from reprise.interventions.direction_files import DirectionError, read_direction, write_direction
from reprise.interventions.subspace import coordinates, linear, of_latents

D_MODEL = 16


def files(folder: Path, tensors: dict, **about: object) -> Path:
    save_file({name: np.asarray(value, np.float32) for name, value in tensors.items()}, folder / "v.safetensors")
    (folder / "v.json").write_text(json.dumps({"layer": 2} | about))
    return folder / "v.safetensors"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    read, free = rng.standard_normal((2, D_MODEL)), rng.standard_normal((2, D_MODEL))
    subspace = linear("leace", read, np.linalg.solve(free @ read.T, free), mean=rng.normal(size=D_MODEL))
    write_direction(tmp_path / "v", subspace, layer=5, about={"model": "resources/planner"})
    found = read_direction(tmp_path / "v.safetensors")
    assert found.layer == 5 and found.about["model"] == "resources/planner" and found.about["kind"] == "leace"
    assert found.subspace.kind == "given" and found.subspace.rank == 2
    x = rng.standard_normal((3, D_MODEL))
    np.testing.assert_array_equal(coordinates(found.subspace, x), coordinates(subspace, x))
    with pytest.raises(ValueError, match="belong to an SAE"):
        write_direction(tmp_path / "w", of_latents("feature", [3]), layer=5, about={})


def test_one_vector_is_enough(tmp_path: Path) -> None:
    vector, mean = np.arange(1.0, D_MODEL + 1), np.full(D_MODEL, 0.5)
    subspace = read_direction(files(tmp_path, {"direction": vector, "mean": mean}, hook="resid_post")).subspace
    assert subspace.rank == 1 and coordinates(subspace, mean[None]).item() == pytest.approx(0, abs=1e-4)
    # It is projected on, however long it is.
    np.testing.assert_allclose(
        subspace.write.T @ subspace.read, np.outer(vector, vector) / (vector @ vector), atol=1e-6
    )


@pytest.mark.parametrize(
    ("tensors", "about", "said"),
    [
        ({"direction": np.ones(4)}, {"layer": "2"}, "v.json: layer is '2'; valid: a whole number from 0"),
        ({"direction": np.ones(4)}, {"hook": "mlp_out"}, "v.json: hook is 'mlp_out'; valid: 'resid_post'"),
        ({"vector": np.ones(4)}, {}, "v.safetensors: has the tensors vector; valid: direction (and mean), or read"),
        ({"direction": np.full(4, np.nan)}, {}, "v.safetensors: subspace: read is not finite"),
        ({"read": np.eye(2), "write": 2 * np.eye(2), "offset": [0, 0]}, {}, "differs from the identity by 1"),
        ({"read": np.eye(2), "write": np.eye(2), "offset": [0]}, {}, "offset has shape (1,); valid: [rank], finite"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, tensors: dict, about: dict, said: str) -> None:
    path = files(tmp_path, tensors, **about)
    with pytest.raises(DirectionError) as caught:
        read_direction(path)
    assert said in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    path = files(tmp_path, {"direction": np.ones(4)})
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DirectionError, match=r"v\.safetensors: cannot be read"):
        read_direction(path)
    (tmp_path / "v.json").write_text("[1]")
    with pytest.raises(DirectionError, match=r"v\.json: holds a list; valid: an object of fields"):
        read_direction(path)
    (tmp_path / "v.json").unlink()
    with pytest.raises(DirectionError, match=r"v\.json: missing; valid: v\.safetensors and v\.json in one folder"):
        read_direction(path)


def test_latents_are_written_as_what_they_write(tmp_path: Path) -> None:
    decoder = np.random.default_rng(1).standard_normal((5, D_MODEL)).astype(np.float32)
    write_direction(tmp_path / "v", of_latents("feature_set", [3, 1]), layer=2, about={}, decoder=decoder)
    found = read_direction(tmp_path / "v")
    assert found.about["latents"] == [3, 1] and found.about["kind"] == "feature_set" and found.subspace.rank == 2
    # The projection onto both: it leaves them as they are, and takes out all else.
    x = np.vstack([decoder[[1, 3]], np.linalg.svd(decoder[[1, 3]])[2][2:]])
    projected = coordinates(found.subspace, x) @ found.subspace.write
    np.testing.assert_allclose(projected, [*decoder[[1, 3]], *np.zeros((D_MODEL - 2, D_MODEL))], atol=1e-5)
