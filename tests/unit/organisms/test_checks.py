"""Brute-force checks: their edits set what they say, and gates judge by what was fixed."""

import numpy as np
import pytest
import torch

from reprise.organisms.checks import AT_LEAST, GATES, judged, set_directions
from reprise.organisms.planting import D_MODEL, PLAN_FROM_POSITION, PLAN_SCALE, PLANT_LAYER, carriers
from reprise.organisms.truth import GROUND_TRUTH

N = 405


def test_an_edit_sets_a_direction_where_it_is_active_and_nothing_else() -> None:
    found, value = carriers("ensemble", N), np.array([1, 0])
    x = torch.randn(2, 50, D_MODEL, generator=torch.Generator().manual_seed(0))
    edit, start = set_directions(found, [1, 2], value), 20
    out = edit(PLANT_LAYER, start, x)
    at = torch.arange(start, start + 50)
    for k in range(4):
        before, after = x @ found.directions[k], out @ found.directions[k]
        if k in (1, 2):
            expected = PLAN_SCALE * torch.tensor([1.0, 0.0])[:, None] * found.active[k, at]
            late = at >= PLAN_FROM_POSITION
            torch.testing.assert_close(after[:, late], expected[:, late], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(after[:, ~late], before[:, ~late])
        else:
            torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert edit(PLANT_LAYER + 1, start, x) is x


def test_gates_are_of_organisms_and_judge_both_ways() -> None:
    assert GATES.keys() <= GROUND_TRUTH.keys()
    figures = {name: 0.5 for gates in GATES.values() for name, _, _ in gates}
    figures |= {"return_rate_when_cued": 0.9, "return_rate_when_not_cued": 0.05, "obeys_other_all": float("nan")}
    found = {gate["figure"]: gate for gate in judged("planner", figures)}
    assert found["return_rate_when_cued"]["passed"] and found["return_rate_when_not_cued"]["passed"]
    # What is not known is not passed.
    assert not found["obeys_other_all"]["passed"] and found["obeys_other_all"]["needed"] == AT_LEAST
    (cue,) = (gate for gate in judged("improviser", figures) if gate["figure"] == "cue_difference")
    assert cue["value"] == pytest.approx(0.85) and not cue["passed"]
    assert judged("loop", figures) == []
