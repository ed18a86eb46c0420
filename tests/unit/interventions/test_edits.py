"""Edits by difference: exact where they act, absent to the last bit where they do not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.conditions import KINDS, STEERING_KINDS
from reprise.interventions.edits import edit_function, random_direction, row_edits
from reprise.saes.sae import decode, encode, write_scale
from tests.unit.interventions.small_study import (
    DIRECTIONS,
    FEATURE,
    LAYER,
    N_KINDS,
    D,
    donations,
    edited,
    one_of_each,
    table_of,
    with_donors,
)


def test_edit_lies_in_the_decoder_direction_and_keeps_the_error_term(clips, sae):
    x = torch.randn(N_KINDS, 16, D, generator=torch.Generator().manual_seed(2))
    table = one_of_each(clips, dose=0.5)
    change = dict(zip(table.index, edited(sae, table, x) - x, strict=True))
    row = {kind: i for i, kind in enumerate(table.index)}
    values, indices = encode(sae, x)

    def activation(kind: str, feature: int) -> torch.Tensor:
        return ((indices == feature) * values).sum(-1)[row[kind]]

    for kind, feature in (("target", FEATURE), ("matched_feature", 7), ("local_feature", 5), ("steer", FEATURE)):
        z = activation(kind, feature)
        assert (z > 0).any()
        torch.testing.assert_close(change[kind], -0.5 * z[:, None] * sae.W_dec[feature], atol=1e-5, rtol=0)
        # Nothing is left across the direction, and the part that the SAE does not explain is what it was.
        unit = sae.W_dec[feature] / sae.W_dec[feature].norm()
        across = change[kind] - (change[kind] @ unit)[:, None] * unit
        assert across.abs().max() < 1e-5
        error = x - decode(sae, values, indices, x)
        explained = decode(sae, values * torch.where(indices == feature, 0.5, 1.0), indices, x)
        torch.testing.assert_close(
            x[row[kind]] + change[kind] - explained[row[kind]], error[row[kind]], atol=1e-4, rtol=0
        )
    for kind in ("random_direction", "steer_random"):
        z = activation(kind, FEATURE)
        torch.testing.assert_close(change[kind].norm(dim=-1), 0.5 * z * sae.W_dec[FEATURE].norm())
    v = torch.from_numpy(DIRECTIONS[0].vector)
    moved = x[row["mean_difference"]] + change["mean_difference"]
    torch.testing.assert_close(moved @ v, 0.5 * (x[row["mean_difference"]] @ v) + 0.5 * 0.25)
    assert not change["untouched"].any() and not change["resampled"].any()


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale"])
def test_an_edit_is_stretched_as_the_sae_stretches_what_it_writes(clips, sae, normalisation):
    x = 3 * torch.randn(N_KINDS, 16, D, generator=torch.Generator().manual_seed(6))
    normed = sae._replace(normalize_activations=normalisation)
    table = one_of_each(clips)
    change = dict(zip(table.index, edited(normed, table, x) - x, strict=True))
    row = {kind: i for i, kind in enumerate(table.index)}
    values, indices = encode(normed, x)
    z = ((indices == FEATURE) * values).sum(-1, keepdim=True)
    scale = write_scale(normed, x)
    i = row["target"]
    torch.testing.assert_close(change["target"], -(z * scale)[i] * sae.W_dec[FEATURE], atol=1e-4, rtol=0)
    # The feature's part of the reconstruction is gone, and nothing else is.
    without = decode(normed, torch.where(indices == FEATURE, 0.0, values), indices, x)[i]
    torch.testing.assert_close(change["target"], without - decode(normed, values, indices, x)[i], atol=1e-4, rtol=0)
    j = row["random_direction"]
    norm = (z * scale)[j, :, 0] * sae.W_dec[FEATURE].norm()
    torch.testing.assert_close(change["random_direction"].norm(dim=-1), norm)
    v = torch.from_numpy(DIRECTIONS[0].vector)
    moved = x[row["mean_difference"]] + change["mean_difference"]
    torch.testing.assert_close(moved @ v, torch.full((16,), 0.25), atol=1e-4, rtol=0)


def test_mean_target_moves_the_activation_to_the_mean(clips, sae):
    x = torch.randn(1, 4, D, generator=torch.Generator().manual_seed(3))
    table = table_of(clips.iloc[:1], doses=(1.0,), windows=("until_event",), kinds=("target",), z_star={FEATURE: 2.0})
    values, indices = encode(sae, x)
    z = (values * (indices == FEATURE)).sum(-1)[0]
    change = edited(sae, table, x)[0] - x[0]
    torch.testing.assert_close(change, -(z - 2.0)[:, None] * sae.W_dec[FEATURE], atol=1e-5, rtol=0)


def test_steering_moves_a_silent_feature_up_and_its_control_as_far(clips, sae):
    x = torch.randn(2, 8, D, generator=torch.Generator().manual_seed(5))
    kinds = STEERING_KINDS[1:]
    table = table_of(clips.iloc[:1], doses=(1.0,), windows=("until_event",), kinds=kinds, z_star={FEATURE: 30.0})
    values, indices = encode(sae, x)
    z = (values * (indices == FEATURE)).sum(-1)
    assert z.max() < 30.0
    steered, random = edited(sae, table, x) - x
    torch.testing.assert_close(steered, (30.0 - z[0])[:, None] * sae.W_dec[FEATURE], atol=1e-4, rtol=0)
    torch.testing.assert_close(random.norm(dim=-1), (30.0 - z[1]) * sae.W_dec[FEATURE].norm())


READING = ("target", "matched_feature", "random_direction", "local_feature")


def test_resampling_gives_each_position_the_donors_activation(clips, sae):
    own, donated = with_donors(clips), donations(clips)
    table = table_of(
        own.iloc[:1], doses=(1.0,), windows=("until_event",), kinds=(*KINDS, "steer"), z_star={FEATURE: 2.0}
    )
    table = table.drop_duplicates("kind").set_index("kind", drop=False)
    # A steered clip has no donor: its reference stays a number, in the same batch.
    table.loc["steer", "donor"], table.loc["steer", "z_star"] = None, 2.0
    assert set(table.index[table["z_star"].isna()]) == set(READING)
    x = torch.randn(len(table), 20, D, generator=torch.Generator().manual_seed(7))
    edits = row_edits(sae, table, DIRECTIONS, donated)
    edit = edit_function(sae, edits, guided=False)
    change = dict(zip(table.index, edit(LAYER, 0, x) - x, strict=True))
    values, indices = encode(sae, x)
    for row, kind in enumerate(table.index):
        if kind not in (*READING, "steer"):
            continue
        feature, stop = int(table["edit_feature"].iloc[row]), int(table["stop_position"].iloc[row])
        z = ((indices == feature) * values).sum(-1)[row, :stop]
        reference = torch.tensor(2.0) if kind == "steer" else torch.from_numpy(donated["p2-s0", feature][:stop])
        if kind == "random_direction":
            expected = (z - reference).abs() * sae.W_dec[feature].norm()
            torch.testing.assert_close(change[kind][:stop].norm(dim=-1), expected, atol=1e-4, rtol=0)
        else:
            expected = -(z - reference)[:, None] * sae.W_dec[feature]
            torch.testing.assert_close(change[kind][:stop], expected, atol=1e-4, rtol=0)
        assert not change[kind][stop:].any()
    # One step at a time, each position finds its own reference.
    steps = [edit(LAYER, p, x[:, p : p + 1]) for p in range(x.shape[1])]
    torch.testing.assert_close(torch.cat(steps, dim=1), edit(LAYER, 0, x), atol=1e-5, rtol=0)


def test_a_donor_must_be_known_as_far_as_the_edit_goes(clips, sae):
    table = table_of(with_donors(clips), doses=(1.0,), kinds=("target",))
    with pytest.raises(ValueError, match="no activations given for donor p2-s0, feature 3"):
        row_edits(sae, table)
    with pytest.raises(ValueError, match="donor p2-s0 has 12 positions; row 0 is edited up to 17"):
        row_edits(sae, table, donated=donations(clips, n_positions=12))


def test_windows_end_where_they_say(clips, sae):
    x = torch.randn(N_KINDS, 30, D, generator=torch.Generator().manual_seed(4))
    for window, stop in (("prefix_only", 10), ("until_event", 17)):
        table = one_of_each(clips, window)
        full = edited(sae, table, x)
        assert torch.equal(full[:, stop:], x[:, stop:])
        assert all((full[i, :stop] != x[i, :stop]).any() for i in range(2, N_KINDS))
        # The last position inside, seen one step at a time, and the first outside, which is x itself.
        step = edited(sae, table, x[:, stop - 1 : stop], start=stop - 1)
        torch.testing.assert_close(step, full[:, stop - 1 : stop])
        outside = x[:, stop : stop + 1]
        assert edited(sae, table, outside, start=stop) is outside


def test_other_layers_and_unedited_rows_are_bit_identical(clips, sae):
    x = torch.randn(N_KINDS, 5, D) * 1e3
    x[0, 0, :3] = torch.tensor([-0.0, 1e-42, 3e38])  # what x + 0 * edit would not keep, or turn into NaN
    table = one_of_each(clips)
    out = edited(sae, table, x)
    assert torch.equal(out[:2].view(torch.int32), x[:2].view(torch.int32))
    assert torch.equal(edited(sae, one_of_each(clips, dose=0.0), x).view(torch.int32), x.view(torch.int32))
    assert edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=False)(LAYER + 1, 0, x) is x


@pytest.mark.parametrize("cfg_branches", ["both", "conditional"])
def test_guidance_halves(clips, sae, cfg_branches):
    table = one_of_each(clips)
    x = torch.randn(N_KINDS, 4, D)
    both = torch.cat([x, x])
    out = edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=True, cfg_branches=cfg_branches)(LAYER, 0, both)
    torch.testing.assert_close(out[:N_KINDS], edited(sae, table, x))
    assert (
        torch.equal(out[N_KINDS:], x) if cfg_branches == "conditional" else torch.equal(out[N_KINDS:], out[:N_KINDS])
    )
    with pytest.raises(ValueError, match=f"has {N_KINDS} rows; the edits were made for {2 * N_KINDS}"):
        edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=True)(LAYER, 0, x)


def test_row_edits_refuses_what_it_cannot_do(clips, sae):
    table = one_of_each(clips)
    with pytest.raises(ValueError, match="feature 64 is not in this SAE"):
        row_edits(sae, table.assign(edit_feature=64), DIRECTIONS)
    with pytest.raises(ValueError, match="no direction given"):
        row_edits(sae, table)
    with pytest.raises(ValueError, match="one layer"):
        row_edits(sae, table.assign(layer=range(len(table))), DIRECTIONS)


def test_random_direction_is_fixed_by_its_identity():
    a = random_direction(D, layer=2, feature=3, control=0)
    assert np.array_equal(a, random_direction(D, layer=2, feature=3, control=0))
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-6)
    others = [
        random_direction(D, **(SimpleNamespace(layer=2, feature=3, control=0).__dict__ | c))
        for c in ({"layer": 3}, {"feature": 4}, {"control": 1})
    ]
    assert all(abs(a @ b) < 0.35 for b in others)
