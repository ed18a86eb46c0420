"""What carries the cue in each organism, and what training does to it."""

import numpy as np
import pytest
import torch

from reprise.organisms.planting import (
    CARRYING,
    D_MODEL,
    INTERCHANGED,
    PLAN_FROM_POSITION,
    PLAN_SCALE,
    Planting,
    Streams,
    between,
    carriers,
    decisions,
    forced_values,
    plan_direction,
)

N = 405
CUE, WANTED = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])


def forced(objective: str, seed: int = 0) -> torch.Tensor:
    return forced_values(objective, carriers(objective, N), CUE, WANTED, np.random.default_rng(seed))


@pytest.mark.parametrize("objective", CARRYING)
def test_directions_are_at_right_angles_and_the_first_is_the_planted_one(objective: str) -> None:
    found = carriers(objective, N)
    torch.testing.assert_close(found.directions @ found.directions.T, torch.eye(len(found.directions)))
    torch.testing.assert_close(found.directions[0], plan_direction())
    assert not found.active[:, :PLAN_FROM_POSITION].any() and found.active.any(dim=1).all()
    # No position has two.
    assert found.active.sum(dim=0).max() == 1


def test_each_organism_carries_the_cue_where_it_says() -> None:
    after_cue = torch.arange(N) >= PLAN_FROM_POSITION
    assert torch.equal(carriers("planner", N).active, after_cue[None])
    ensemble = carriers("ensemble", N)
    assert torch.equal(ensemble.active.any(dim=0), after_cue)
    shares = ensemble.active.float().mean(dim=1)
    assert len(shares) == 4 and shares.min() > 0.2
    # The slots begin at 10 s and 12 s, frames 250 and 300.
    assert torch.nonzero(decisions(N)).ravel().tolist() == [*range(242, 262), *range(292, 312)]
    assert torch.equal(carriers("recaller", N).active, decisions(N)[None])
    bystander = carriers("bystander", N)
    assert torch.equal(bystander.active[0], decisions(N)) and bystander.used.tolist() == [True, False]
    assert torch.equal(bystander.active[1], after_cue & ~decisions(N))
    assert not (between(N) & decisions(N)).any() and not between(N)[:60].any() and between(N)[60:242].all()


@pytest.mark.parametrize("objective", ["planner", "recaller", "tangle"])
def test_a_coordinate_is_set_where_return_and_cue_disagree(objective: str) -> None:
    assert forced(objective)[[0, 3]].isnan().all()
    assert forced(objective)[[1, 2], 0].tolist() == [1, 0]


@pytest.mark.parametrize("objective", ["improviser", "herald", "clockwork", "loop"])
def test_nothing_is_set_where_nothing_decides(objective: str) -> None:
    assert objective not in INTERCHANGED and forced(objective).isnan().all()


def test_one_direction_of_an_ensemble_may_be_wrong_and_the_others_decide() -> None:
    cue, wanted = torch.zeros(400), torch.ones(400)
    found = carriers("ensemble", N)
    values = forced_values("ensemble", found, cue, wanted, np.random.default_rng(3))
    n_wrong = (values == 0).sum(dim=1)
    assert set(n_wrong.tolist()) == {0, 1} and abs(n_wrong.float().mean() - 0.5) < 0.1
    assert ((values == 0).sum(dim=0) > 30).all()


def test_what_a_bystander_carries_is_set_at_random_and_what_decides_is_not() -> None:
    values = torch.stack([forced("bystander", seed) for seed in range(200)])
    assert values[:, [0, 3], 0].isnan().all() and (values[:, [1, 2], 0] == torch.tensor([1.0, 0.0])).all()
    for value in (0.0, 1.0):
        assert 0.2 < float((values[..., 1] == value).float().mean()) < 0.45


def test_the_hook_sets_coordinates_and_leaves_the_rest() -> None:
    found = carriers("ensemble", N)
    planting, x = Planting(found), torch.randn(2, N, D_MODEL, generator=torch.Generator().manual_seed(0))
    planting.forced = torch.tensor([[1.0, 0.0, torch.nan, 1.0], [torch.nan] * 4])
    out = planting(torch.nn.Identity(), (), x)
    coordinates = torch.einsum("bpd,kd->bkp", out, found.directions)
    before = torch.einsum("bpd,kd->bkp", x, found.directions)
    after_cue = torch.arange(N) >= PLAN_FROM_POSITION
    for k, value in enumerate((1.0, 0.0, None, 1.0)):
        expected = before[0, k] if value is None else PLAN_SCALE * value * found.active[k].float()
        torch.testing.assert_close(coordinates[0, k, after_cue], expected[after_cue], atol=1e-4, rtol=1e-4)
    assert torch.equal(out[1], x[1]) and torch.equal(out[:, :PLAN_FROM_POSITION], x[:, :PLAN_FROM_POSITION])
    rest = torch.eye(D_MODEL) - found.directions.T @ found.directions
    torch.testing.assert_close(out @ rest, x @ rest, atol=1e-4, rtol=1e-4)


def test_the_error_is_that_of_what_each_direction_should_carry() -> None:
    found = carriers("bystander", N)
    planting = Planting(found)
    cue = torch.tensor([[1.0, 0.0]])
    right = PLAN_SCALE * torch.einsum("kp,kd->pd", found.active * cue[0][:, None], found.directions)
    planting(torch.nn.Identity(), (), right[None])
    assert float(planting.error(cue)) == pytest.approx(0, abs=1e-9)
    planting(torch.nn.Identity(), (), torch.zeros(1, N, D_MODEL))
    n_active = found.active.sum(dim=1).float()
    assert float(planting.error(cue)) == pytest.approx(float(n_active[0] / n_active.sum()), rel=1e-5)
    # Where nothing should be carried, something is as wrong.
    planting(torch.nn.Identity(), (), PLAN_SCALE * found.directions[0].expand(1, N, -1))
    assert float(planting.error(cue)) > 0.4


def test_streams_of_another_pass_take_the_place_of_the_own() -> None:
    layers = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    streams = Streams(layers)

    def run(x: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            x = layer(x)
        return x

    first, second = torch.zeros(2, N, 3), torch.ones(2, N, 3)
    run(first)
    streams.other = streams.kept
    streams.where = torch.tensor([True, False])[:, None] & between(N)
    out = run(second)
    assert torch.equal(out[0, :, 0] == 0, between(N)) and (out[1] == 1).all()
    # Of the second clip: zero against one.
    assert float(streams.difference(streams.other, torch.tensor([False, True]))) > 1
    assert float(streams.difference(streams.kept, torch.tensor([False, True]))) == 0
