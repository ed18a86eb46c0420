"""What a review overrules, and what labels make of it."""

import pandas as pd

from reprise.candidates.clips import with_event
from reprise.review.apply import apply_reviews
from reprise.review.decisions import import_reviews
from reprise.review.event_ids import event_ids
from reprise.targets.labels import horizon_labels
from tests.unit.review.given import DIGESTS, event, reviews, table

CLIPS = pd.DataFrame({"clip_id": ["a-s0", "b-s0"], "prompt_id": ["a", "b"], "duration_s": [16.0, 16.0]})
FAILED = event(onset_s=8.0, score=0.6, reason="score, p_value")


def overruled(decisions: list[str | None], *events: dict, reviewed_only: bool = False) -> pd.DataFrame:
    found = table(*events)
    given = {i: d for i, d in zip(event_ids(found, DIGESTS), decisions, strict=True) if d}
    joined, _ = import_reviews(found, DIGESTS, reviews(given), study="s")
    return apply_reviews(found, joined, reviewed_only=reviewed_only)


def test_a_review_overrules_the_tests() -> None:
    events = overruled(["reject", "accept", "unsure", None], event(), FAILED, event("b-s0"), event("b-s0", 8.0))
    assert events["accepted"].tolist() == [False, True, True, True]
    assert events["reason"].tolist() == ["review", "", "", ""]
    assert events["review"].tolist() == ["reject", "accept", "undecided", ""] and not events["unknown"].any()


def test_only_reviewed_events_count_and_what_the_tests_alone_accepted_is_unknown() -> None:
    given = [event(), event("b-s0"), event("b-s0", 8.0), FAILED]
    events = overruled(["accept", "unsure", None, None], *given, reviewed_only=True)
    assert events["accepted"].tolist() == [True, False, False, False]
    assert events["unknown"].tolist() == [False, True, True, False]
    assert events["reason"].tolist() == ["", "unreviewed", "unreviewed", "score, p_value"]
    # A clip whose return nobody reviewed neither returns nor fails to.
    clips = CLIPS["clip_id"]
    assert with_event(events, clips, start_s=7.0, stop_s=9.0).tolist() == [False, False]
    assert with_event(events, clips, start_s=7.0, stop_s=9.0, which="unknown").tolist() == [False, True]


def test_without_reviews_the_tests_decide() -> None:
    events = apply_reviews(table(event(), FAILED), None, reviewed_only=False)
    assert events["accepted"].tolist() == [True, False] and events["reason"].tolist() == ["", "score, p_value"]
    assert (events["review"] == "").all() and not events["unknown"].any()


def labels(events: pd.DataFrame, horizon: tuple[float, float] = (1.0, 3.0)) -> pd.DataFrame:
    found = horizon_labels(
        events, CLIPS.assign(reference_end_s=4.0), horizon, frame_rate_hz=25.0, context_s=1.0, step_s=0.5
    ).set_index(["clip_id", "time_s"])
    return found.loc["a-s0"]


def test_labels_follow_the_review() -> None:
    assert labels(overruled(["reject"], event()))["y"].sum() == 0
    found = labels(overruled(["accept"], FAILED))
    # (t + 1, t + 3] holds 8 for t in [5, 7), and it sounds from 8 to 10.
    assert found.index[found["y"] == 1].tolist() == [5.0, 5.5, 6.0, 6.5]
    assert (found.loc[8.0:9.5, "reason"] == "sounding").all()


def test_times_that_hang_on_an_unreviewed_event_are_left_out() -> None:
    found = labels(overruled([None], event(onset_s=10.0), reviewed_only=True))
    # It begins in (t + 1, t + 3] for t in [7, 9), and sounds from 10 to 12.
    left_out = found.index[found["reason"] == "unreviewed"].tolist()
    assert left_out == [7.0, 7.5, 8.0, 8.5, 10.0, 10.5, 11.0, 11.5]
    assert found["y"].sum() == 0 and found.loc[9.0, "reason"] == found.loc[12.0, "reason"] == ""
    plain = labels(overruled([None], event(onset_s=10.0)))
    assert plain.loc[[7.0, 7.5, 8.0, 8.5], "y"].tolist() == [1] * 4 and "unreviewed" not in set(plain["reason"])


def test_a_reviewed_return_decides_where_an_unreviewed_one_would_too() -> None:
    found = labels(
        overruled(["accept", None], event(onset_s=9.0), event(onset_s=11.0), reviewed_only=True), (1.0, 4.0)
    )
    # t = 7.5: 9 lies in (8.5, 11.5], and so does 11: a return follows whatever becomes of the other.
    assert found.loc[7.5, "y"] == 1 and found.loc[7.5, "reason"] == ""
    # t = 8.5: only 11 lies in (9.5, 12.5].
    assert found.loc[8.5, "y"] == 0 and found.loc[8.5, "reason"] == "unreviewed"
    assert found.loc[9.5, "reason"] == "sounding" and found.loc[11.0, "reason"] == "unreviewed"
