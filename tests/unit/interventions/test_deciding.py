"""Heads that decide an event: what attribution says of them is what patching measures, and where they look."""

import numpy as np
import torch

from reprise.interventions.deciding import Deciding, attribute_deciding, deciding_table, patched_deciding
from reprise.interventions.heads import HeadClips
from reprise.models.adapter import Model
from reprise.models.prompts import encode_prompts

N_FRAMES, ONSET = 60, 40


def clips_of(model: Model, differs_at: int | slice, *, event: bool = True) -> HeadClips:
    """Two clips. Their donors play something else at some frames, and another event."""
    rng = np.random.default_rng(1)
    own = torch.from_numpy(rng.integers(0, model.codebook_size, (2, model.n_codebooks, N_FRAMES)))
    donor = own.clone()
    donor[..., differs_at] = (donor[..., differs_at] + 7) % model.codebook_size
    if event:
        donor[..., ONSET - 5 :] = torch.from_numpy(
            rng.integers(0, model.codebook_size, (2, model.n_codebooks, N_FRAMES - ONSET + 5))
        )
    return HeadClips(
        own, donor, np.array([ONSET, ONSET + 3]), np.zeros((2, 2), int), encode_prompts(model, ["a", "b"])
    )


def all_heads(model: Model) -> list[tuple[int, int]]:
    n_heads = model.transformer.layers[0].self_attention.n_heads
    return [(layer, head) for layer in range(model.n_layers) for head in range(n_heads)]


def test_a_head_that_hears_nothing_else_in_the_donor_has_no_part(random_model: Model) -> None:
    """The donor differs only in what follows the deciding positions."""
    clips = clips_of(random_model, slice(0, 0), event=False)
    late = clips.edited.clone()
    late[..., ONSET + 3 :] = 5
    clips = clips._replace(edited=late)
    found = attribute_deciding(random_model, clips)
    assert np.abs(found.attribution).max() < 1e-6 and np.abs(found.total).max() < 1e-6
    assert np.abs(patched_deciding(random_model, clips, all_heads(random_model))).max() < 1e-6


def test_what_is_attributed_is_what_patching_measures(random_model: Model) -> None:
    clips = clips_of(random_model, 12)
    found = attribute_deciding(random_model, clips)
    measured = patched_deciding(random_model, clips, all_heads(random_model)).reshape(found.attribution.shape)
    assert np.abs(measured).max() > 1e-4
    for row in range(2):
        assert np.corrcoef(found.attribution[row].ravel(), measured[row].ravel())[0, 1] > 0.9
    # All heads together change it too, and not by the sum.
    assert np.abs(found.total).max() > 1e-4


def test_attention_is_told_by_second_and_adds_up(random_model: Model) -> None:
    clips = clips_of(random_model, 12)
    found = attribute_deciding(random_model, clips).attention
    n_heads = random_model.transformer.layers[0].self_attention.n_heads
    # 60 frames are 2.4 s at 25 frames a second.
    assert found.shape == (2, random_model.n_layers, n_heads, 3)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert (found >= 0).all()


def test_no_head_gives_no_effect(random_model: Model) -> None:
    assert patched_deciding(random_model, clips_of(random_model, 12), []).shape == (2, 0)


def test_the_table_has_a_row_for_each_head_and_effects_of_those_patched() -> None:
    attribution = np.zeros((2, 2, 2), np.float32)
    attribution[:, 1, 0] = [0.2, 0.4]
    attention = np.zeros((2, 2, 2, 3), np.float32)
    attention[..., 2] = 1
    attention[:, 1, 0] = [0.75, 0.0, 0.25]
    found = [
        Deciding(attribution[:1], attention[:1], np.array([1.0])),
        Deciding(attribution[1:], attention[1:], np.array([3.0])),
    ]
    prompt = np.array(["a", "b"])
    how = {"patched_in": np.array([False, True]), "shape": (2, 2)}
    table = deciding_table(found, [(1, 0)], [np.array([[0.5]])], prompt, **how)
    assert table[["layer", "head"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    row = table.iloc[2]
    assert row["attribution"] == np.float32(0.3) and row["effect"] == 0.5 and np.isnan(row["effect_low"])
    assert row["looks_at_s"] == 0 and row["attention"] == 0.75 and table["looks_at_s"].iloc[0] == 2
    assert table["effect"].isna().sum() == 3 and row["total"] == 2 and row["n_clips"] == 2 and row["n_patched"] == 1
    empty = deciding_table([], [], [], prompt[:0], patched_in=how["patched_in"][:0], shape=(2, 2))
    assert len(empty) == 4 and empty["attribution"].isna().all() and (empty["n_clips"] == 0).all()
