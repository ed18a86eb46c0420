"""Clips of an ablation: worked out by hand, and in an order that others do not change."""

import numpy as np
import pandas as pd

from reprise.candidates.clips import (
    classed_clips,
    clips_to_continue,
    donors,
    plan_times,
    reference_before,
    reference_of_event,
    with_event,
)

CLIPS = pd.DataFrame({"clip_id": [f"c{i}" for i in range(6)], "prompt_id": list("aabbcc")})


def test_a_clip_has_an_event_when_an_accepted_one_begins_in_the_window():
    events = pd.DataFrame(
        [("c0", 10.0, True), ("c1", 10.0, False), ("c2", 5.0, True), ("c3", 12.0, True)],
        columns=["clip_id", "onset_s", "accepted"],
    )
    assert with_event(events, CLIPS["clip_id"], start_s=9.0, stop_s=12.0).tolist() == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]


def test_the_clips_chosen_stay_when_others_come():
    returns, confirmation_clips = np.array([1, 1, 1, 1, 1, 0], bool), np.array([1, 1, 1, 1, 0, 1], bool)
    few = clips_to_continue(CLIPS[:3], returns[:3], confirmation_clips[:3], 4)["clip_id"].tolist()
    assert few == ["c0", "c1", "c2"]
    more = clips_to_continue(CLIPS, returns, confirmation_clips, 4)["clip_id"].tolist()
    assert more == ["c0", "c1", "c2", "c3"]
    assert len(clips_to_continue(CLIPS, returns, confirmation_clips, 2)) == 2


def test_a_donor_is_an_eligible_clip_of_another_prompt_whatever_the_order():
    clips = pd.DataFrame({"clip_id": [f"c{i}" for i in range(12)], "prompt_id": list("aabbccddeeff")})
    eligible = np.arange(12) % 2 == 1
    continued = clips.iloc[[0, 2, 4, 6]]
    found = dict(zip(continued["clip_id"], donors(continued, clips, eligible), strict=True))
    prompt = dict(zip(clips["clip_id"], clips["prompt_id"], strict=True))
    allowed = set(clips["clip_id"][eligible])
    assert all(donor in allowed and prompt[donor] != prompt[clip] for clip, donor in found.items())
    order = np.random.default_rng(0).permutation(12)
    shuffled = clips.iloc[order].reset_index(drop=True)
    backwards = continued.iloc[::-1]
    again = dict(zip(backwards["clip_id"], donors(backwards, shuffled, eligible[order]), strict=True))
    assert again == found
    # Not one donor for all, and a clip that goes takes only its own receivers with it.
    assert len(set(found.values())) > 1
    gone = found["c0"]
    fewer = dict(
        zip(continued["clip_id"], donors(continued, clips, eligible & (clips["clip_id"] != gone)), strict=True)
    )
    assert fewer["c0"] != gone and all(fewer[c] == found[c] for c in found if found[c] != gone)


def test_a_clip_without_anyone_to_donate_has_none():
    assert donors(CLIPS.iloc[[0]], CLIPS, np.array([False, True, False, False, False, False])) == [None]


def test_the_motif_of_clips_without_an_event():
    ends_s = np.array([4.0, np.nan, 9.0, 1.5, 8.0, 6.5])
    table = reference_before(CLIPS["clip_id"], ends_s, duration_s=2.0, prefix_s=8.0)
    # Unknown in c1, not over in c2; the one that ends early is cut at the clip's start.
    assert table["clip_id"].tolist() == ["c0", "c3", "c4", "c5"]
    assert table["reference_start_s"].tolist() == [2.0, 0.0, 6.0, 4.5]
    assert table["reference_duration_s"].tolist() == [2.0, 1.5, 2.0, 2.0]


def test_a_plan_can_be_held_after_the_window_of_the_baseline_and_before_the_continuation():
    ends_s = np.array([4.0, 2.0, np.nan, 7.0])
    how = {"context_s": 3.0, "prefix_s": 8.0, "frame_rate_hz": 2.0}
    positions, could_plan = plan_times(ends_s, **how, lookahead_positions=0)
    assert positions.tolist() == [10, 11, 12, 13, 14, 15]
    assert could_plan.sum(axis=1).tolist() == [2, 6, 0, 0]
    # The tokens of a recording know what follows, so all of it lies earlier.
    earlier, same = plan_times(ends_s, **how, lookahead_positions=1)
    assert (earlier == positions - 1).all() and (same == could_plan).all()
    assert plan_times(np.full(2, np.nan), **how, lookahead_positions=0).could_plan.shape == (2, 0)


def test_clips_whose_event_is_not_known_or_refers_to_later_are_in_no_class():
    events = pd.DataFrame(
        [("c0", 10.0, 2.0, True, False), ("c1", 10.0, 9.0, True, False), ("c2", 10.0, 2.0, False, True)],
        columns=["clip_id", "onset_s", "reference_start_s", "accepted", "unknown"],
    ).assign(reference_duration_s=2.0)
    ids, window = CLIPS["clip_id"], {"start_s": 9.0, "stop_s": 12.0}
    references = reference_of_event(events, ids, **window, prefix_s=8.0)
    assert references["clip_id"].tolist() == ["c0"]
    could_plan = np.ones((6, 3), bool)
    could_plan[5] = False
    found = classed_clips(events, ids, references, could_plan, **window)
    assert found.has_event.tolist() == [True, False, False, False, False, False]
    assert found.without_event.tolist() == [False, False, False, True, True, False]
    # Candidates are fitted on known clips, so a clip in no class must not be among them.
    assert found.known.tolist() == [True, False, False, True, True, False]
