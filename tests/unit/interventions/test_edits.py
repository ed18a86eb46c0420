"""Edits by difference: exact where they act, absent to the last bit where they do not."""

import numpy as np
import pandas as pd
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.conditions import KINDS, RANDOM_KINDS, UNEDITED
from reprise.interventions.edits import edit_function, row_edits, write_directions
from reprise.interventions.subspace import coordinates
from reprise.saes.sae import decode, encode, write_scale
from tests.unit.interventions.small_study import (
    FEATURE,
    LAYER,
    N_KINDS,
    REFERENCES,
    SUBSPACES,
    D,
    donations,
    edit_of,
    edited,
    edits_with,
    one_of_each,
    table_of,
    with_donors,
)


def noise(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, D, generator=torch.Generator().manual_seed(seed))


def read(sae, x: torch.Tensor, name: str) -> np.ndarray:
    """Coordinates of a named subspace at every position of `[position, d_model]`, worked out apart from the edits."""
    subspace = SUBSPACES[name]
    if not subspace.latents:
        return coordinates(subspace, x.numpy())
    values, indices = encode(sae, x)
    return np.stack([((indices == j) * values).sum(-1).numpy() for j in subspace.latents], axis=-1)


def test_an_edit_moves_the_coordinates_along_the_write_directions(clips, sae):
    x, table = noise(N_KINDS, 16), one_of_each(clips).assign(dose=0.5)
    change = (edited(sae, table, x) - x).numpy()
    assert table.index.tolist() == list(KINDS)
    for row, (kind, name, what) in enumerate(zip(table["kind"], table["edit"], table["reference"], strict=True)):
        if kind in UNEDITED:
            assert not change[row].any()
            continue
        by = 0.5 * (read(sae, x[row], name) - REFERENCES[name, what])
        assert np.abs(by).max() > 0.1
        directions = write_directions(SUBSPACES[name], sae)
        if kind in RANDOM_KINDS:
            # As long as the edit of the candidate, somewhere else.
            np.testing.assert_allclose(
                np.linalg.norm(change[row], axis=-1), np.linalg.norm(by @ directions, axis=-1), rtol=1e-4
            )
            assert np.abs(change[row] - by @ directions).max() > 0.1
        else:
            np.testing.assert_allclose(change[row], -by @ directions, atol=1e-4)


def test_an_edit_of_a_latent_keeps_what_the_sae_does_not_explain(clips, sae):
    x, table = noise(N_KINDS, 16), one_of_each(clips)
    row = table.index.get_loc("target")
    moved = edited(sae, table, x)[row]
    values, indices = encode(sae, x)
    error = (x - decode(sae, values, indices, x))[row]
    without = decode(sae, torch.where(indices == FEATURE, 0.0, values), indices, x)[row]
    torch.testing.assert_close(moved - without, error, atol=1e-4, rtol=0)


def test_dose_1_sets_the_coordinates_of_a_linear_subspace(clips, sae):
    x, table = noise(N_KINDS, 16), one_of_each(clips).assign(reference="without")
    row = table.index.get_loc("swapped_fit")
    found = coordinates(SUBSPACES["swapped_fit0"], edited(sae, table, x)[row].numpy())
    np.testing.assert_allclose(found, 0.25, atol=1e-4)


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale"])
def test_an_edit_is_stretched_as_the_sae_stretches_what_it_writes(clips, sae, normalisation):
    x, table = 3 * noise(N_KINDS, 16, seed=6), one_of_each(clips)
    normed = sae._replace(normalize_activations=normalisation)
    change = dict(zip(table.index, edited(normed, table, x) - x, strict=True))
    row = {kind: i for i, kind in enumerate(table.index)}
    values, indices = encode(normed, x)
    z, scale, i = ((indices == FEATURE) * values).sum(-1, keepdim=True), write_scale(normed, x), row["target"]
    torch.testing.assert_close(change["target"], -(z * scale)[i] * sae.W_dec[FEATURE], atol=1e-4, rtol=0)
    # The feature's part of the reconstruction is gone, and nothing else is.
    without = decode(normed, torch.where(indices == FEATURE, 0.0, values), indices, x)[i]
    torch.testing.assert_close(change["target"], without - decode(normed, values, indices, x)[i], atol=1e-4, rtol=0)
    j = row["random_subspace"]
    norm = (z * scale)[j, :, 0] * sae.W_dec[FEATURE].norm()
    torch.testing.assert_close(change["random_subspace"].norm(dim=-1), norm)
    # What is read from the stream is written into it as it is.
    k = row["swapped_fit"]
    moved = (x[k] + change["swapped_fit"]).numpy()
    np.testing.assert_allclose(coordinates(SUBSPACES["swapped_fit0"], moved), 0, atol=1e-3)


def test_resampling_gives_each_position_the_donors_coordinates(clips, sae):
    donated = donations(clips)
    table = table_of(with_donors(clips).iloc[:1], doses=(1.0,), windows=("until_event",))
    table = table.drop_duplicates("kind").set_index("kind", drop=False)
    # The second target and unedited rows have no donor.
    assert set(table.index[table["donor"].isna()]) == {"untouched", "resampled", "second_target"}
    x = noise(len(table), 20, seed=7)
    edit = edit_of(sae, table, donated)
    change = (edit(LAYER, 0, x) - x).numpy()
    for row, (kind, name, donor, stop) in enumerate(
        table[["kind", "edit", "donor", "stop_position"]].itertuples(index=False)
    ):
        if pd.isna(donor) or kind in RANDOM_KINDS:
            continue
        by = (read(sae, x[row], name) - donated["p2-s0", name][:20])[:stop]
        np.testing.assert_allclose(change[row, :stop], -by @ write_directions(SUBSPACES[name], sae), atol=1e-4)
        assert not change[row, stop:].any()
    # One step at a time, each position finds its own reference.
    steps = [edit(LAYER, p, x[:, p : p + 1]) for p in range(x.shape[1])]
    torch.testing.assert_close(torch.cat(steps, dim=1), edit(LAYER, 0, x), atol=1e-5, rtol=0)


def test_a_donor_must_be_known_as_far_as_the_edit_goes(clips, sae):
    table = table_of(with_donors(clips), {"target": ["target"]}, doses=(1.0,), second_reference="")
    with pytest.raises(ValueError, match="no coordinates are given of the donor p2-s0 for target"):
        edit_of(sae, table)
    with pytest.raises(ValueError, match="the donor p2-s0 has 12 positions; the edit ends at 17"):
        edit_of(sae, table, donations(clips, n_positions=12))


def test_windows_end_where_they_say(clips, sae):
    table = table_of(clips.iloc[:1], {"target": ["target"]}, doses=(1.0,), second_reference="")
    x = noise(len(table), 30, seed=4)
    full = edited(sae, table, x)
    for row, (window, stop) in enumerate(table[["window", "stop_position"]].itertuples(index=False)):
        assert stop == {"none": 0, "until_event": 17, "prefix_only": 10}[window]
        assert torch.equal(full[row, stop:], x[row, stop:])
        assert stop == 0 or (full[row, :stop] != x[row, :stop]).any()
    # The last position inside, seen one step at a time, and the first outside, which is x itself.
    torch.testing.assert_close(edited(sae, table, x[:, 16:17], start=16), full[:, 16:17])
    outside = x[:, 17:18]
    assert edited(sae, table, outside, start=17) is outside


def test_other_layers_and_unedited_rows_are_bit_identical(clips, sae):
    x, table = torch.randn(N_KINDS, 5, D) * 1e3, one_of_each(clips)
    x[0, 0, :3] = torch.tensor([-0.0, 1e-42, 3e38])  # what x + 0 * edit would not keep, or turn into NaN
    out = edited(sae, table, x)
    assert torch.equal(out[:2].view(torch.int32), x[:2].view(torch.int32))
    assert torch.equal(edited(sae, table.assign(dose=0.0), x).view(torch.int32), x.view(torch.int32))
    assert edit_of(sae, table)(LAYER + 1, 0, x) is x


@pytest.mark.parametrize("cfg_branches", ["both", "conditional"])
def test_guidance_halves(clips, sae, cfg_branches):
    table, x = one_of_each(clips), torch.randn(N_KINDS, 4, D)
    both = torch.cat([x, x])
    out = edit_of(sae, table, guided=True, cfg_branches=cfg_branches)(LAYER, 0, both)
    torch.testing.assert_close(out[:N_KINDS], edited(sae, table, x))
    other = x if cfg_branches == "conditional" else out[:N_KINDS]
    assert torch.equal(out[N_KINDS:], other)
    with pytest.raises(ValueError, match=f"has {N_KINDS} rows; the edits were made for {2 * N_KINDS}"):
        edit_of(sae, table, guided=True)(LAYER, 0, x)


def test_without_an_sae_directions_are_edited_and_latents_are_refused(clips, sae):
    linear = table_of(clips.iloc[:1], {"target": ["swapped_fit0"]}, doses=(1.0,), windows=("until_event",))
    x = noise(len(linear), 8)
    assert torch.equal(edit_of(None, linear)(LAYER, 0, x), edit_of(sae, linear)(LAYER, 0, x))
    with pytest.raises(ValueError, match=r"latents \[3\] are read through an SAE, and there is none"):
        edit_of(None, one_of_each(clips))


def test_row_edits_refuses_what_it_cannot_do(clips, sae):
    table = one_of_each(clips)
    with pytest.raises(ValueError, match="no subspace is called 'other'; valid: target, "):
        edit_of(sae, table.assign(edit="other"))
    with pytest.raises(ValueError, match="target has no reference 'with'"):
        edit_of(sae, table.assign(reference="with"))
    with pytest.raises(ValueError, match="one layer"):
        edit_of(sae, table.assign(layer=range(len(table))))
    with pytest.raises(ValueError, match="directions of width 128; valid: 64"):
        row_edits(table, edits_with(sae), d_model=64, device="cpu")
    few = sae._replace(d_sae=3)
    with pytest.raises(ValueError, match="latent 3; valid: below d_sae, 3"):
        edit_of(few, table)
    of_rows = row_edits(table, edits_with(sae), d_model=D, device="cpu")
    with pytest.raises(ValueError, match="cfg_branches is 'none'"):
        edit_function(of_rows, sae, guided=True, cfg_branches="none")
    with pytest.raises(ValueError, match="there is no SAE"):
        edit_function(of_rows, None, guided=False)
