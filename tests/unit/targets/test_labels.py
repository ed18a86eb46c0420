"""Labels against cases worked out by hand."""

import pandas as pd
import pytest

from reprise.targets.labels import horizon_labels, label_grid, without_local

CLIPS = pd.DataFrame(
    {"clip_id": ["a-s0", "b-s0"], "prompt_id": ["a", "b"], "duration_s": 16.0, "reference_end_s": 4.0}
)


def table(events, horizon=(4.0, 8.0), clips=CLIPS, **recorded):
    columns = ["clip_id", "onset_s", "duration_s", "accepted", "reference_end_s"][: len(events[0]) if events else 4]
    labels = horizon_labels(
        pd.DataFrame(events, columns=columns),
        clips,
        horizon,
        frame_rate_hz=25.0,
        context_s=3.0,
        step_s=0.5,
        **recorded,
    )
    return labels.set_index(["clip_id", "time_s"])


def test_a_return_counts_when_it_begins_inside_the_horizon():
    labels = table([("a-s0", 12.0, 2.0, True)])
    # (t + 4, t + 8] holds 12 for t in [4, 8).
    assert labels.loc[("a-s0", 7.0), "y"] == 1 and labels.loc[("a-s0", 7.5), "y"] == 1
    assert labels.loc[("a-s0", 8.0), "y"] == 0
    assert labels.loc["b-s0"]["y"].sum() == 0


def test_the_ends_of_a_horizon():
    labels = table([("a-s0", 11.0, 2.0, True)], horizon=(1.0, 2.0))
    assert [labels.loc[("a-s0", t), "y"] for t in (8.5, 9.0, 9.5, 10.0)] == [0, 1, 1, 0]


def test_a_rejected_event_is_no_return():
    assert table([("a-s0", 12.0, 2.0, False)])["y"].sum() == 0


def test_censored_whether_or_not_a_return_was_seen():
    labels = table([("a-s0", 14.0, 2.0, True)])
    for clip in ("a-s0", "b-s0"):
        reasons = labels.loc[clip]["reason"]
        assert reasons[8.0] == "" and reasons[8.5] == "censored" and reasons[16.0] == "censored"
    assert labels.loc[("a-s0", 8.5), "y"] == 1 and labels.loc[("a-s0", 8.5), "censored"]


def test_left_out_before_the_motif_its_echo_and_while_sounding():
    reasons = table([("a-s0", 10.0, 2.0, True)], horizon=(0.5, 2.0)).loc["a-s0"]["reason"]
    assert (
        reasons[3.5] == "before_reference_end"
        and reasons[4.0] == "before_context"
        and reasons[6.5] == "before_context"
    )
    assert reasons[7.0] == "" and reasons[9.5] == ""
    assert [reasons[t] for t in (10.0, 11.5)] == ["sounding"] * 2 and reasons[12.0] == ""


def test_what_is_recorded_is_not_the_models_to_plan():
    reasons = table([("a-s0", 12.0, 2.0, True)], played_from_s=7.6).loc["a-s0"]["reason"]
    assert reasons[3.5] == "before_reference_end" and reasons[4.0] == reasons[7.5] == "recorded" and reasons[8.0] == ""
    # What is not yet out of hearing is not asked either.
    reasons = table([], played_from_s=5.0).loc["a-s0"]["reason"]
    assert reasons[4.5] == "recorded" and reasons[5.0] == reasons[6.5] == "before_context" and reasons[7.0] == ""


def test_a_recording_is_read_where_its_tokens_know_nothing_after_the_time():
    events = [("a-s0", 12.0, 2.0, True)]
    plain, early = (table(events, lookahead_positions=n).reset_index() for n in (0, 4))
    assert (early["position"] == plain["position"] - 4).all()
    assert early.drop(columns="position").equals(plain.drop(columns="position"))
    # Where tokens would know of the first time asked from the start, there is no position to read.
    with pytest.raises(
        ValueError, match=r"lookahead_positions: is 176, 7\.04 s; valid: less than the first usable time"
    ):
        table(events, lookahead_positions=176)


def test_position_has_heard_nothing_after_its_time():
    labels = table([]).reset_index()
    assert (labels["position"] / 25.0 <= labels["time_s"] + 1e-9).all()
    assert labels.loc[labels["time_s"] == 7.5, "position"].tolist() == [187, 187]


def test_a_clip_too_short_keeps_its_rows_with_reasons():
    labels = table([], clips=CLIPS.assign(duration_s=6.0))
    assert len(labels) == 26 and (labels["reason"] != "").all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"horizon: \[8, 4\]"):
        table([], horizon=(8.0, 4.0))
    with pytest.raises(ValueError, match="clip 'c-s0' is not among"):
        table([("c-s0", 12.0, 2.0, True)])


def test_each_clip_has_its_own_motif_and_an_unusable_one_has_no_usable_time():
    clips = CLIPS.assign(reference_end_s=[6.0, float("nan")])
    labels = table([("a-s0", 12.0, 2.0, True)], clips=clips)
    assert labels.loc[("a-s0", 5.5), "reason"] == "before_reference_end" and labels.loc[("a-s0", 5.5), "y"] == 0
    assert labels.loc[("a-s0", 6.0), "reason"] == "before_context"
    assert (labels.loc["b-s0"]["reason"] == "unusable").all() and labels.loc["b-s0"]["y"].sum() == 0


def test_a_second_motif_counts_once_it_has_been_heard_and_its_echo_is_over():
    # The clip's first motif ended at 4 s; the one that returns at 15 s ended at 9 s, its echo at 12 s.
    labels = table([("a-s0", 15.0, 1.0, True, 9.0)], horizon=(2.0, 8.0), clips=CLIPS.assign(duration_s=24.0))
    assert labels.loc[("a-s0", 8.5), "y"] == 0 and labels.loc[("a-s0", 8.5), "reason"] == ""
    assert labels.loc[("a-s0", 9.0), "y"] == 1 and labels.loc[("a-s0", 9.0), "reason"] == "before_context"
    assert labels.loc[("a-s0", 11.5), "reason"] == "before_context"
    assert labels.loc[("a-s0", 12.0), "y"] == 1 and labels.loc[("a-s0", 12.0), "reason"] == ""


def test_label_grid() -> None:
    labels = pd.DataFrame(
        [
            ("a-s0", 50, 2.0, 1, ""),
            ("a-s0", 75, 3.0, 0, "sounding"),
            ("b-s0", 25, 1.0, 0, "before_reference_end"),
            ("b-s0", 75, 3.0, 0, ""),
            ("c-s0", 100, 4.0, 1, ""),
        ],
        columns=["clip_id", "position", "time_s", "y", "reason"],
    )
    grid = label_grid(labels, ["b-s0", "a-s0"])
    assert grid.positions.tolist() == [50, 75] and grid.times_s.tolist() == [2.0, 3.0]
    assert grid.usable.tolist() == [[False, True], [True, False]]
    assert grid.y.tolist() == [[0, 0], [1, 0]]
    with pytest.raises(ValueError, match="occurs twice"):
        label_grid(pd.concat([labels, labels]), ["a-s0"])


def test_a_longer_horizon_is_not_asked_where_a_return_is_near() -> None:
    rows = {"clip_id": ["a"] * 4, "position": [0, 25, 50, 75], "time_s": [0.0, 1.0, 2.0, 3.0]}
    far = pd.DataFrame(rows | {"y": [1, 1, 0, 0], "reason": ["", "", "", "sounding"]})
    near = pd.DataFrame(rows | {"y": [0, 1, 1, 1], "reason": [""] * 4})
    assert without_local(far, near)["reason"].tolist() == ["", "local_return", "local_return", "sounding"]
    assert far["reason"].tolist() == ["", "", "", "sounding"]
    with pytest.raises(ValueError, match="different clips or times"):
        without_local(far, near.assign(position=[0, 25, 50, 76]))
