"""The events as everything after them sees them: what the tests accepted, overruled by people.

Every consumer reads its events here, so that labels, the clips that are continued, the verdict and the report mean the
same events. A review decides about its event alone: the gaps that later candidates were tested with stay as they were.

Conventions. `accepted` is final. `reason` is "" exactly where it holds, else why not, joined by commas: the failed
tests, `review` (a reviewer rejected it) or `unreviewed` (the tests accepted it, but only reviewed events count and
reviewers did not decide about it). `review` is "accept", "reject", "undecided" (reviewers disagree or are unsure) or
"" (nobody decided about it). `unknown` marks the unreviewed ones: neither returns nor the absence of one.

Degenerate input: without reviews the tests' decisions stand, and every other column is empty or false.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reprise.review.event_ids import EVENT_KEY, event_keys


def overrule(events: pd.DataFrame, reviews: pd.DataFrame | None, *, reviewed_only: bool) -> pd.DataFrame:
    """`events` with `accepted` and `reason` as reviewers decided, and the columns `review` and `unknown`.

    reviews: the table of `reprise.review.decisions.import_reviews` (columns found, clip_id, `EVENT_KEY`, review), or
    None. reviewed_only: an event that the tests accepted counts only with a reviewer's accept; without a decision it
    is unknown.
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
    """A study's events from its batches' tables, overruled by its reviews table, of which there may be none."""
    events = pd.concat([pd.read_parquet(path) for path in tables], ignore_index=True)
    return overrule(events, pd.read_parquet(reviews[0]) if reviews else None, reviewed_only=reviewed_only)
