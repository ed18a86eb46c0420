"""Steering: rates of returns, and their intervals over prompts."""

import numpy as np
import pandas as pd
import pytest

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.steering import steering_summary


def steered_study(returned: dict[str, list[float]], *, clips_a_prompt: int = 1) -> pd.DataFrame:
    """Found returns of each kind, one number a prompt, in the arm of steering."""
    rows = []
    for kind, found in returned.items():
        for prompt, value in enumerate(found):
            for clip in range(clips_a_prompt):
                row = {"arm": "steer", "layer": 2, "feature": 5, "kind": kind, "control": 0}
                row |= {"prompt_id": f"p{prompt}", "clip_id": f"p{prompt}-s{clip}", "found": value}
                rows.append(row | {"damage_nats": 0.0 if kind == "untouched" else 0.1 * prompt})
    return pd.DataFrame(rows)


SOME = {"untouched": [0, 0, 0, 1.0], "steer": [1, 1, 0, 1.0], "steer_random": [0, 0, 0, 1.0]}


def test_steering_summary_by_hand():
    table = steered_study(SOME)
    # The ablation's rows are no part of it.
    table = pd.concat([table, table.assign(arm="ablate", found=1.0)])
    (row,) = steering_summary(table).itertuples()
    assert (row.layer, row.feature, row.n_clips, row.n_prompts) == (2, 5, 4, 4)
    assert (row.rate_untouched, row.rate_steered, row.rate_random) == (0.25, 0.75, 0.25)
    assert row.difference == row.difference_random == 0.5
    # Four prompts say little.
    assert row.difference_low < 0 < row.difference_high and row.rate_steered_low < 0.3
    assert row.damage_steered == row.damage_random == pytest.approx(0.15)


def test_steering_intervals_are_of_prompts():
    few, many = (steering_summary(steered_study(SOME, clips_a_prompt=n)) for n in (1, 10))
    assert many["n_clips"].item() == 40
    ends = [c for c in few if c.endswith(("_low", "_high"))]
    np.testing.assert_allclose(few[ends].to_numpy(), many[ends].to_numpy())
    always = steering_summary(steered_study(SOME | {"steer": [1, 1, 1, 1.0]}))
    assert always["rate_steered_low"].item() == pytest.approx(0.025 ** (1 / 4))


def test_no_steered_clips_give_an_empty_summary_with_its_columns():
    table = steered_study(SOME)
    empty = steering_summary(table.assign(arm="ablate"))
    assert empty.empty and list(empty) == list(steering_summary(table))
    # Where nothing lies outside the return, damage is unknown and the rates are not.
    unknown = steering_summary(table.assign(damage_nats=np.nan))
    assert np.isnan(unknown["damage_steered"].item()) and unknown["rate_steered"].item() == 0.75
