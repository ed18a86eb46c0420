"""The table of conditions: one row each, with the positions it edits."""

import numpy as np
import pytest

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.conditions import KINDS
from tests.unit.interventions.small_study import NAMES, table_of, with_donors


def test_condition_table_has_one_row_a_condition_and_its_stops(clips):
    table = table_of(clips)
    # Two unedited; five subspaces at three doses; the second target and the local feature at dose 1; and the candidate
    # in the prefix.
    assert len(table) == 3 * (2 + 5 * 3 + 2 + 1)
    assert not table.duplicated(["clip_id", "condition"]).any()
    stops = table.groupby("window")["stop_position"].unique()
    assert stops["none"].tolist() == [0] and stops["prefix_only"].tolist() == [10]
    # The window's end at 0.64 s is frame 16; position 16 chooses it and is edited.
    assert stops["until_event"].tolist() == [17, 19, 21]
    edits = {kind: set(rows["edit"]) for kind, rows in table.groupby("kind")}
    assert edits == {
        **{kind: set(names) for kind, names in NAMES.items()},
        "random_subspace": {"target"},
        "second_target": {"target"},
        "untouched": {""},
        "resampled": {""},
    }
    assert set(table.loc[table["window"] == "prefix_only", "kind"]) == {"target"}
    assert set(table.loc[table["kind"] == "second_target", "reference"]) == {"without"}
    assert set(table_of(clips, second_reference="")["kind"]) == set(KINDS) - {"second_target"}
    assert table_of(clips.iloc[:0]).empty
    assert set(table_of(clips, doses=())["kind"]) == {"untouched", "resampled"}


def test_a_donor_takes_the_place_of_the_first_reference_only(clips):
    table = table_of(with_donors(clips))
    none = table["donor"].isna()
    assert set(table.loc[none, "kind"]) == {"untouched", "resampled", "second_target"}
    assert (table.loc[~none, "donor"] != table.loc[~none, "clip_id"]).all()


@pytest.mark.parametrize(
    ("names", "changes", "text"),
    [
        ({"targt": ["target"]}, {}, "'targt'; valid: untouched"),
        (None, {"windows": ("until",)}, "'until'; valid: until_"),
    ],
)
def test_condition_table_names_what_is_valid(clips, names, changes, text):
    with pytest.raises(ValueError, match=text):
        table_of(clips, names, **changes)


def test_a_target_window_that_does_not_follow_the_prefix_is_refused(clips):
    with pytest.raises(
        ValueError, match=r"clip p0-s0 has the target window 0.48-0.64 s; valid: after the prefix of 0.5"
    ):
        table_of(clips, prefix_s=0.5)
    with pytest.raises(ValueError, match=r"target window 0.48-nan"):
        table_of(clips.assign(target_stop_s=np.nan))
