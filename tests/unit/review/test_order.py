"""Which events are shown first."""

import numpy as np
import pandas as pd
import pytest

from reprise.review.event_ids import event_ids
from reprise.review.order import margins, to_review
from reprise.targets.recurrence.view import VIEW
from tests.unit.review.given import DIGESTS, THRESHOLDS, event, table


def test_the_event_nearest_to_its_threshold_comes_first() -> None:
    events = table(
        event(onset_s=5.0, score=0.95),  # passes all by far
        event(onset_s=6.0, score=0.45, reason="score"),  # fails by far
        event(onset_s=7.0, score=0.76),  # just passes
        event(onset_s=8.0, score=0.73, reason="score"),  # just fails
        event(onset_s=9.0, gap_s=1.9, reason="gap"),  # just fails another test
        event(onset_s=10.0, score=0.74, p_value=0.9, reason="score, p_value"),  # one test near, the other far
    )
    events["event_id"] = event_ids(events, DIGESTS)
    order = to_review(events, VIEW.shares(events, THRESHOLDS), max_events=6)["onset_s"].tolist()
    # Distances: 0.01/0.25, 0.1/2, 0.02/0.35, then the worst margin of what is far.
    assert order[:3] == [7.0, 9.0, 8.0] and set(order[-2:]) == {6.0, 10.0}
    # What the tests accepted comes before what they rejected, however uncertain that is.
    assert to_review(events, VIEW.shares(events, THRESHOLDS), max_events=2)["onset_s"].tolist() == [7.0, 5.0]
    assert to_review(events, VIEW.shares(events, THRESHOLDS), max_events=3)["onset_s"].tolist() == [7.0, 9.0, 5.0]


def test_margins_are_signed_shares_of_the_way_to_the_end() -> None:
    def found_in(events: pd.DataFrame, **changed: float) -> pd.DataFrame:
        return margins(VIEW.shares(events, {**THRESHOLDS, **changed}))

    found = found_in(table(event(score=1.0, gap_s=9.0, p_value=0.01), event(score=0.575, p_value=0.525, gap_s=0.0)))
    assert found["score"].tolist() == pytest.approx([1.0, -0.5])
    assert found["p_value"].tolist() == pytest.approx([1.0, -0.5])
    assert found["gap"].tolist() == [1.0, -1.0]
    assert found["timbre"].tolist() == pytest.approx([0.7 / 0.9, 0.275 / 0.9])
    # A test that cannot fail leaves nothing uncertain, and one that was not made says nothing.
    assert found_in(table(event()), min_gap_s=0.0)["gap"].tolist() == [1.0]
    assert np.isnan(found_in(table(event(p_others=np.nan)))["p_others"]).all()
