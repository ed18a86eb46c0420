"""The table of conditions: a row each, with the positions it edits."""

import numpy as np
import pytest

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.conditions import KINDS, condition_table
from tests.unit.interventions.small_study import CANDIDATE, PREFIX_S, RATE_HZ, table_of


def test_condition_table_has_one_row_a_condition_and_its_stops(clips):
    table = table_of(clips)
    # Two unedited; two windows of seven edited kinds, one of them with two features, at three doses.
    assert len(table) == 3 * (2 + 2 * (7 + 1) * 3)
    assert not table.duplicated(["clip_id", "condition"]).any()
    stops = table.groupby("window")["stop_position"].unique()
    assert stops["none"].tolist() == [0] and stops["prefix_only"].tolist() == [10]
    # The window's end at 0.64 s is frame 16; position 16 chooses it and is edited.
    assert stops["until_event"].tolist() == [17, 19, 21]
    assert set(table.loc[table["kind"] == "matched_feature", "edit_feature"]) == {7, 11}
    assert set(table.loc[table["kind"] == "local_feature", "edit_feature"]) == {5}
    no_local = condition_table(
        CANDIDATE._replace(local_feature=None),
        clips,
        (1.0,),
        ("until_event",),
        KINDS,
        prefix_s=PREFIX_S,
        frame_rate_hz=RATE_HZ,
    )
    assert set(no_local["kind"]) == set(KINDS) - {"local_feature"}
    assert table_of(clips.iloc[:0]).empty
    assert table_of(clips, doses=(), kinds=("target",)).empty


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"kinds": ("targt",)}, "'targt'; valid: untouched"), ({"windows": ("until",)}, "'until'; valid: until_event")],
)
def test_condition_table_names_what_is_valid(clips, changes, text):
    with pytest.raises(ValueError, match=text):
        table_of(clips, **changes)


def test_a_target_window_that_does_not_follow_the_prefix_is_refused(clips):
    with pytest.raises(
        ValueError, match=r"clip p0-s0 has the target window 0.48-0.64 s; valid: after the prefix of 0.5"
    ):
        table_of(clips, prefix_s=0.5)
    with pytest.raises(ValueError, match=r"target window 0.48-nan"):
        table_of(clips.assign(target_stop_s=np.nan))
