"""Sufficiency: rates of events, and their intervals over prompts."""

import numpy as np
import pandas as pd
import pytest

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.sufficiency import sufficiency_summary


def study(found_of: dict[str, list[float]], *, clips_per_prompt: int = 1) -> pd.DataFrame:
    """Events found under each kind, one number per prompt, in clips that had none."""
    rows = []
    for kind, found in found_of.items():
        for prompt, value in enumerate(found):
            for clip in range(clips_per_prompt):
                row = {"arm": "sufficiency", "kind": kind, "control": 0, "found": value}
                row |= {"prompt_id": f"p{prompt}", "clip_id": f"p{prompt}-s{clip}"}
                rows.append(row | {"damage_nats": 0.0 if kind == "untouched" else 0.1 * prompt})
    return pd.DataFrame(rows)


SOME = {
    "untouched": [0, 0, 0, 1.0],
    "target": [1, 1, 0, 1.0],
    "random_subspace": [0, 0, 0, 1.0],
    "swapped_fit": [0, 1, 0, 1.0],
}


def test_the_summary_by_hand():
    table = study(SOME)
    # Rows of the other arm are no part of it.
    (row,) = sufficiency_summary(pd.concat([table, table.assign(arm="necessity", found=1.0)])).itertuples()
    assert (row.n_clips, row.n_prompts, row.strongest_control) == (4, 4, "swapped_fit0")
    assert (row.rate_untouched, row.rate_edited, row.gained, row.more_than_controls) == (0.25, 0.75, 0.5, 0.25)
    # Four prompts say little.
    assert row.gained_low < 0 < row.gained_high and row.rate_edited_low < 0.3
    assert row.damage == pytest.approx(0.15)


def test_intervals_are_of_prompts():
    few, many = (sufficiency_summary(study(SOME, clips_per_prompt=n)) for n in (1, 10))
    assert many["n_clips"].item() == 40
    ends = [c for c in few if c.endswith(("_low", "_high"))]
    np.testing.assert_allclose(few[ends].to_numpy(), many[ends].to_numpy())
    always = sufficiency_summary(study(SOME | {"target": [1, 1, 1, 1.0]}))
    assert always["rate_edited_low"].item() == pytest.approx(0.025 ** (1 / 4))


def test_no_clips_give_an_empty_summary_and_no_controls_an_unknown_one():
    table = study(SOME)
    empty = sufficiency_summary(table.assign(arm="necessity"))
    assert empty.empty and list(empty) == list(sufficiency_summary(table))
    alone = sufficiency_summary(study({kind: SOME[kind] for kind in ("untouched", "target")}))
    assert np.isnan(alone["more_than_controls"].item()) and alone["gained"].item() == 0.5
    # Where nothing lies outside the event, damage is unknown and the rates are not.
    unknown = sufficiency_summary(table.assign(damage_nats=np.nan))
    assert np.isnan(unknown["damage"].item()) and unknown["rate_edited"].item() == 0.75


def test_the_smallest_of_several_differences_has_a_higher_upper_end():
    """Of three equal controls one is below its own interval more often than a single one."""
    found = {"untouched": [0.0] * 12, "target": [1.0] * 6 + [0.0] * 6}
    same = [1.0, 0.0] * 2 + [0.0] * 8
    (one,) = sufficiency_summary(study(found | {"swapped_fit": same})).itertuples()
    three = study(found | dict.fromkeys(("swapped_fit", "matched_feature", "random_subspace"), same))
    (several,) = sufficiency_summary(three).itertuples()
    assert several.more_than_controls == one.more_than_controls
    assert several.more_than_controls_low == one.more_than_controls_low
    assert several.more_than_controls_high > one.more_than_controls_high
