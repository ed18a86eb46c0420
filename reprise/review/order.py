"""Which events a reviewer sees, and in which order.

The review page can show events that the tests accepted and events that they rejected. The most uncertain ones come
first.

Each test has a margin from -1 to 1: the distance of its value from the threshold, divided by the distance of the
threshold from the end of the value's range (the `shares` of the target's view, reprise/targets/view.py). It is
positive if the event passes the test and negative if it fails. An event is accepted if all its margins are positive.
So its smallest margin decides, and events are sorted by that margin's distance from 0.

At most `max_events` are shown. Accepted events are chosen first, because with `labels.reviewed_only` only accepted
events count. Within each group the uncertain ones are chosen first, because there a review is most likely to change
the decision.

Degenerate input: equal events in clips with equal audio are shown once.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from reprise.targets.view import Share


def margins(shares: Mapping[str, Share]) -> pd.DataFrame:
    """The margin of each test, from -1 to 1, negative where the test fails, NaN where it was not made.

    One row per event and one column per test.
    """

    def margin(share: Share) -> np.ndarray:
        value, threshold, worst, best = share
        beyond = (value - threshold).to_numpy(dtype=np.float64) * np.sign(best - worst)
        up, down = abs(best - threshold), abs(threshold - worst)
        # If the threshold is at the end of the range, the value is there too.
        passing, failing = beyond / up if up > 0 else 1.0, beyond / down if down > 0 else -1.0
        return np.clip(np.where(beyond >= 0, passing, failing), -1, 1)

    return pd.DataFrame({name: margin(share) for name, share in shares.items()})


def to_review(events: pd.DataFrame, shares: Mapping[str, Share], *, max_events: int) -> pd.DataFrame:
    """Choose and sort the events for the review page.

    Parameters
    ----------
    events
        The events table with the column event_id.
    shares
        The range of each test, from the target's view.
    max_events
        Maximum number of events.

    Returns
    -------
    pandas.DataFrame
        The chosen rows of `events`, uncertain ones first.
    """
    distance = margins(shares).set_axis(events.index).min(axis=1).abs()
    order = events.assign(distance=distance).sort_values(["distance", "clip_id", "onset_s"], kind="stable")
    order = order.drop_duplicates("event_id").drop(columns="distance")
    rejected = ~order["accepted"].astype(bool)
    chosen = rejected.sort_values(kind="stable").index[:max_events]
    return order[order.index.isin(chosen)].reset_index(drop=True)
