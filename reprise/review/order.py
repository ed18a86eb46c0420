"""Which events does a reviewer see, and which of them first?

All candidates compete, those that the tests accepted and those that they rejected. First come the uncertain ones. Each
test gives a margin: how far its number lies from the threshold, as a share of the way to the end of the number's
range, positive where it passes and negative where it fails, within -1..1 (the ends: `candidate_score` and 1 for the
score; 1 and the smallest p-value that the surrogates allow; no gap and a gap of twice the threshold; score less timbre
score from -1 to 1). An event is accepted if all its margins are positive, so that its worst margin says what would
have to change for the decision to be another one, and the events are sorted by the worst margin's distance from 0.
There is room for `max_events`: those that the tests accepted come before the others, since with `labels.reviewed_only`
nothing else counts, and of each kind the uncertain ones, where a reviewer's time changes most.

Degenerate input: events of equal content (clips of equal audio) are shown once.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def margins(events: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """How far each number lies from its threshold, -1..1, below 0 where the test fails: columns score, p_value,
    p_others (where the events have it; NaN where it was not tested), gap and timbre.

    thresholds: the event settings.
    """

    def share(value: pd.Series, threshold: float, worst: float, best: float) -> np.ndarray:
        beyond = (value - threshold).to_numpy(dtype=np.float64) * np.sign(best - worst)
        up, down = abs(best - threshold), abs(threshold - worst)
        # Where there is no way to the end, the number is at it.
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
    """The events for the page in its order, uncertain ones first; see the module. `events` with event_id."""
    distance = margins(events, thresholds).min(axis=1).abs()
    order = events.assign(distance=distance).sort_values(["distance", "clip_id", "onset_s"], kind="stable")
    order = order.drop_duplicates("event_id").drop(columns="distance")
    rejected = ~order["accepted"].astype(bool)
    chosen = rejected.sort_values(kind="stable").index[:max_events]
    return order[order.index.isin(chosen)].reset_index(drop=True)
