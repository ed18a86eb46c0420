"""The final events: the tests' decisions, overridden by reviewers.

All later stages read their events here, so that labels, ablation, the verdict and the report use the same events. A
review changes only its own event. The gaps that later candidates were tested with do not change.

Conventions. `accepted` is final. `reason` is "" exactly for accepted events. For others it has the reasons, separated
by commas: the failed tests, `review` (a reviewer rejected the event) or `unreviewed` (the tests accepted it, but only
reviewed events count and the reviewers made no decision). `review` is "accept", "reject", "undecided" (reviewers
disagree or are unsure) or "" (nobody reviewed it). `unknown` marks the unreviewed events: they count neither as a
return nor as the absence of one.

Degenerate input: without reviews the tests' decisions are final, and the other columns are empty or false.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reprise.review.event_ids import EVENT_KEY, event_keys
from reprise.targets.target import concat_events


def apply_reviews(events: pd.DataFrame, reviews: pd.DataFrame | None, *, reviewed_only: bool) -> pd.DataFrame:
    """Apply the reviewers' decisions to the events.

    Parameters
    ----------
    events
        The events table, one row per event.
    reviews
        The table of `reprise.review.decisions.import_reviews` (columns found, clip_id, `EVENT_KEY`, review), or None.
    reviewed_only
        An event counts only if a reviewer accepted it. Events that the tests accepted and nobody decided about are
        unknown.

    Returns
    -------
    pandas.DataFrame
        `events` with new values of `accepted` and `reason`, and the columns `review` and `unknown`.
    """
    tested = events["accepted"].astype(bool)
    review = pd.Series("", index=events.index, dtype=object)
    if reviews is not None and len(events):
        found = reviews[reviews["found"].astype(bool)].set_index(["clip_id", *EVENT_KEY])["review"]
        place = pd.MultiIndex.from_frame(event_keys(events).assign(clip_id=events["clip_id"])[["clip_id", *EVENT_KEY]])
        review = pd.Series(found.reindex(place).fillna("").to_numpy(dtype=object), index=events.index)
    decided = review.isin(["accept", "reject"])
    accepted = pd.Series(np.where(decided, review == "accept", tested), index=events.index, dtype=bool)
    unknown = accepted & ~decided & reviewed_only
    accepted &= ~unknown
    reasons = [
        ", ".join(filter(None, (because, "review" * (said == "reject"), "unreviewed" * open_)))
        for because, said, open_ in zip(events["reason"], review, unknown, strict=True)
    ]
    reason = pd.Series(reasons, index=events.index, dtype=object).where(~accepted, "")
    return events.assign(accepted=accepted, reason=reason, review=review, unknown=unknown)


def read_events(tables: Sequence[str], reviews: Sequence[str], *, reviewed_only: bool) -> pd.DataFrame:
    """Read the events of all batches of a study, and apply its reviews.

    Parameters
    ----------
    tables
        Paths of the events tables, one per batch.
    reviews
        The path of the reviews table; empty if there are no reviews.
    reviewed_only
        As in `apply_reviews`.

    Returns
    -------
    pandas.DataFrame
        The final events; see `overrule`.
    """
    events = concat_events(map(pd.read_parquet, tables))
    return apply_reviews(events, pd.read_parquet(reviews[0]) if reviews else None, reviewed_only=reviewed_only)
