"""Which events a reviewer sees, and in which order.

The review page can show events that the tests accepted and events that they rejected. The most uncertain ones come
first.

Each test has a margin from -1 to 1: the distance of its value from the threshold, divided by the distance of the
threshold from the end of the value's range. It is positive if the event passes the test and negative if it fails. The
ranges are: from `candidate_score` to 1 for the score; from 1 to the smallest possible p-value; from no gap to a gap of
twice the threshold; and from -1 to 1 for the score minus the timbre score. An event is accepted if all its margins are
positive. So its smallest margin decides, and events are sorted by that margin's distance from 0.

At most `max_events` are shown. Accepted events are chosen first, because with `labels.reviewed_only` only accepted
events count. Within each group the uncertain ones are chosen first, because there a review is most likely to change
the decision.

Degenerate input: equal events in clips with equal audio are shown once.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def margins(events: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """The margin of each test, from -1 to 1, negative where the test fails. `thresholds` are the event settings.

    The columns are score, p_value, p_others (if the events have it; NaN where it was not tested), gap and timbre.
    """

    def share(value: pd.Series, threshold: float, worst: float, best: float) -> np.ndarray:
        beyond = (value - threshold).to_numpy(dtype=np.float64) * np.sign(best - worst)
        up, down = abs(best - threshold), abs(threshold - worst)
        # If the threshold is at the end of the range, the value is there too.
        passing, failing = beyond / up if up > 0 else 1.0, beyond / down if down > 0 else -1.0
        return np.clip(np.where(beyond >= 0, passing, failing), -1, 1)

    t = thresholds
    least_p = 1 / (1 + t["n_surrogates"])
    found = {
        "score": share(events["score"], t["min_score"], t["candidate_score"], 1.0),
        "p_value": share(events["p_value"], t["max_p_value"], 1.0, least_p),
        "gap": share(events["gap_s"], t["min_gap_s"], 0.0, 2 * t["min_gap_s"]),
        "timbre": share(events["score"] - events["timbre_score"], t["timbre_margin"], -1.0, 1.0),
    }
    if "p_others" in events:
        found["p_others"] = share(events["p_others"], t["max_p_value"], 1.0, 0.0)
    return pd.DataFrame(found, index=events.index)


def to_review(events: pd.DataFrame, thresholds: Mapping[str, float], *, max_events: int) -> pd.DataFrame:
    """Choose and sort the events for the review page.

    Parameters
    ----------
    events
        The events table with the column event_id.
    thresholds
        The event settings.
    max_events
        Maximum number of events.

    Returns
    -------
    pandas.DataFrame
        The chosen rows of `events`, uncertain ones first.
    """
    distance = margins(events, thresholds).min(axis=1).abs()
    order = events.assign(distance=distance).sort_values(["distance", "clip_id", "onset_s"], kind="stable")
    order = order.drop_duplicates("event_id").drop(columns="distance")
    rejected = ~order["accepted"].astype(bool)
    chosen = rejected.sort_values(kind="stable").index[:max_events]
    return order[order.index.isin(chosen)].reset_index(drop=True)
