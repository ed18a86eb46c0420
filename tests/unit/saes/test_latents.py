"""SAE latents in stores: what goes in comes out, with a k and without."""

from pathlib import Path

import numpy as np
import pytest

from reprise.saes.latents import append_latents, clip_latents, latent_arrays, latent_batches, read_latents, sae_size
from reprise.storage.artifacts import read_array, read_clips
from reprise.storage.stores import write_store

N_CLIPS, N_POSITIONS, D_SAE = 20, 7, 30


def drawn(k: int) -> np.ndarray:
    """Dense latents `[clip, position, d_sae]` with up to k active features a position; some positions have none."""
    rng = np.random.default_rng(k)
    order = np.argsort(rng.random((N_CLIPS, N_POSITIONS, D_SAE)), axis=-1)
    n_active = rng.integers(0, k + 1, (N_CLIPS, N_POSITIONS, 1))
    return (rng.random(order.shape) * (order < n_active)).astype(np.float32)


def sparse(dense: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    indices = np.argsort(-dense, axis=-1, kind="stable")[..., :n]
    values = np.take_along_axis(dense, indices, -1)
    return values, np.where(values > 0, indices, 0).astype(np.int32)


def written(folder: Path, dense: np.ndarray, k: int | None, *, name: str = "b00", at_once: int = 6) -> str:
    """A store of latents, appended in pieces that are each as wide as they need to be."""
    arrays = latent_arrays(len(dense), N_POSITIONS, d_sae=D_SAE, k=k)
    clips = [{"clip_id": f"c{i}"} for i in range(len(dense))]
    with write_store(folder / name, arrays, meta={"d_sae": D_SAE, "clips": clips}) as store:
        for first in range(0, len(dense), at_once):
            piece = dense[first : first + at_once]
            append_latents(store, *sparse(piece, k or max(1, int((piece > 0).sum(-1).max()))), k=k)
    return str(folder / f"{name}.manifest.json")


@pytest.mark.parametrize("k", [4, None])
def test_codes_come_out_as_they_went_in(tmp_path: Path, k: int | None) -> None:
    dense = drawn(4)
    manifests = [written(tmp_path, dense[:17], k), written(tmp_path, dense[17:], k, name="b01")]
    back = []
    for values, indices in latent_batches(manifests):
        piece = np.zeros((*values.shape[:2], D_SAE), np.float32)
        np.put_along_axis(piece, np.where(values > 0, indices, D_SAE - 1).astype(int), values, axis=-1)
        back.append(piece)
        assert (values[..., :-1] >= values[..., 1:]).all() and (indices[values == 0] == 0).all()
    kept = np.concatenate(back)
    # The last feature stands in for unused slots above.
    np.testing.assert_array_equal(kept[..., :-1], dense[..., :-1])
    positions = [1, 3, 6]
    np.testing.assert_array_equal(read_latents(manifests, positions).toarray(), dense[:, positions].reshape(-1, D_SAE))
    values, indices = clip_latents(manifests[1], 2)
    row = np.zeros((N_POSITIONS, D_SAE), np.float32)
    np.add.at(row, (np.arange(N_POSITIONS)[:, None], indices.astype(int)), values)
    np.testing.assert_array_equal(row, dense[19])


def test_how_many_are_active_is_known_without_a_k(tmp_path: Path) -> None:
    dense = drawn(9)
    assert sae_size([written(tmp_path, dense, 9)]) == (D_SAE, 9)
    mean = (dense > 0).sum(-1).mean()
    assert sae_size([written(tmp_path, dense, None, name="b01")]) == (D_SAE, round(mean))


def test_nothing_active_at_all(tmp_path: Path) -> None:
    manifest = written(tmp_path, np.zeros((3, N_POSITIONS, D_SAE), np.float32), None)
    assert read_latents([manifest], [0, 5]).nnz == 0 and sae_size([manifest]) == (D_SAE, 1)


@pytest.mark.parametrize("k", [4, None])
def test_a_batch_without_a_clip_is_passed_over_and_a_study_without_one_is_an_error(
    tmp_path: Path, k: int | None
) -> None:
    dense = drawn(4)
    empty, full = written(tmp_path, dense[:0], k), written(tmp_path, dense, k, name="b01")
    latents = read_latents([empty, full], [1, 3])
    np.testing.assert_array_equal(latents.toarray(), dense[:, [1, 3]].reshape(-1, D_SAE))
    assert sae_size([empty, full]) == sae_size([full])
    assert len(read_clips([empty, full])) == len(dense) == len(read_array([empty, full], "values" if k else "counts"))
    with pytest.raises(ValueError, match="no usable clips: all recordings were excluded"):
        read_clips([empty])


def test_indices_take_two_bytes_where_they_fit() -> None:
    assert latent_arrays(1, 1, d_sae=2**16, k=3)["indices"].dtype == "uint16"
    assert latent_arrays(1, 1, d_sae=2**16 + 1, k=None)["indices"].dtype == "uint32"


def test_pieces_change_no_byte(tmp_path: Path) -> None:
    dense = drawn(4)
    one, other = (Path(written(tmp_path, dense, None, name=f"b0{n}", at_once=n)).read_text() for n in (3, 7))
    assert one == other
