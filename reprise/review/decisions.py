"""The reviewers' decisions: review files (reprise/review/files.py) joined with the current events.

Decisions and events are joined by event id (reprise/review/event_ids.py). A decision about an event that no longer
exists is orphaned: it has no effect, but it is counted and listed.

With several reviewers, an event is accepted or rejected if all who reviewed it agree. It is undecided if they disagree
or are unsure; then the tests' decision is used (see reprise/review/apply.py).

Agreement is Cohen's kappa for each pair of reviewers, over the current events that both reviewed. The three categories
are accept, reject and unsure. 1 is full agreement; 0 is the agreement expected by chance.

Degenerate input: without events all decisions are orphaned. Kappa is None, with a `note`, where it is not meaningful:
if there is no event in common, or if both always made the same decision (chance would agree as often). If only one
reviewer always made the same decision, kappa is 0 by definition, also with a note.

References: Cohen 1960, A coefficient of agreement for nominal scales.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from reprise.review.event_ids import EVENT_KEY, event_ids, event_keys
from reprise.review.files import DECISIONS, Decision, ReviewFile


def import_reviews(
    events: pd.DataFrame, audio_digests: Mapping[str, str], reviews: Sequence[ReviewFile], *, study: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Join reviews with the study's events.

    Parameters
    ----------
    events
        The study's events, one row per event, as the tests decided.
    audio_digests
        SHA-256 of each clip's FLAC file, by clip_id.
    reviews
        The reviewers' files.
    study
        The study's name, for the summary.

    Returns
    -------
    table : pandas.DataFrame
        One row per reviewed event: event_id, clip_id, the columns `EVENT_KEY`, onset_s, tested (whether the tests
        accepted it), review (`accept`, `reject` or `undecided`), n_accept, n_reject, n_unsure, decisions ("name:
        accept; ..."), notes, found. Orphaned events come last, with found False, the clip and onset from the review
        file, tested False and an `EVENT_KEY` of zeros. Clips with equal audio share the decisions of equal events.
    summary : dict
        Numbers of events (n_events, n_reviewed, n_accepted, n_rejected, n_unsure, n_disagreed, and
        n_overruled_accept and n_overruled_reject for decisions against the tests), `reviewers`, `orphaned`
        decisions, `notes` (also those without a decision), and the `agreement` of each pair of reviewers.
    """
    table = events.assign(event_id=event_ids(events, audio_digests), tested=events["accepted"].astype(bool))
    decided = [(review.reviewer, d) for review in reviews for d in review.decisions if d.decision]
    by_event: dict[str, list[tuple[str, Decision]]] = {}
    for reviewer, d in decided:
        by_event.setdefault(d.event_id, []).append((reviewer, d))
    current = set(table["event_id"])
    rows = [
        _joined(by_event[row["event_id"]])
        | {name: row[name] for name in ("event_id", "clip_id", "onset_s", "tested")}
        | dict(zip(EVENT_KEY, key, strict=True))
        | {"found": True}
        for row, key in zip(table.to_dict("records"), event_keys(table).itertuples(index=False), strict=True)
        if row["event_id"] in by_event
    ]
    lost = [
        _joined(given)
        | {"event_id": name, "clip_id": given[0][1].clip_id, "onset_s": given[0][1].onset_s, "tested": False}
        | dict.fromkeys(EVENT_KEY, 0)
        | {"found": False}
        for name, given in sorted(by_event.items())
        if name not in current
    ]
    joined = pd.DataFrame([*rows, *lost], columns=list(_COLUMNS)).astype(_COLUMNS)
    return joined, _summary(joined, reviews, decided, current, n_events=len(events), study=study)


_COLUMNS = {
    "event_id": object,
    "clip_id": object,
    **dict.fromkeys(EVENT_KEY, np.int64),
    "onset_s": float,
    "tested": bool,
    "review": object,
    **dict.fromkeys(("n_accept", "n_reject", "n_unsure"), np.int64),
    "decisions": object,
    "notes": object,
    "found": bool,
}


def _joined(given: Sequence[tuple[str, Decision]]) -> dict[str, Any]:
    """The joint decision of all reviewers of one event."""
    said: list[str | None] = [d.decision for _, d in given]
    together = said[0] if len(set(said)) == 1 and said[0] != "unsure" else "undecided"
    return {
        "review": together,
        **{f"n_{decision}": said.count(decision) for decision in DECISIONS},
        "decisions": "; ".join(f"{who}: {d.decision}" for who, d in given),
        "notes": "; ".join(f"{who}: {d.note}" for who, d in given if d.note),
    }


def _summary(
    joined: pd.DataFrame,
    reviews: Sequence[ReviewFile],
    decided: Sequence[tuple[str, Decision]],
    current: set[str],
    *,
    n_events: int,
    study: str,
) -> dict[str, Any]:
    found = joined[joined["found"]]
    counts = found["review"].value_counts()
    of_current = {
        review.reviewer: {d.event_id: d.decision for d in review.decisions if d.decision and d.event_id in current}
        for review in reviews
    }
    open_ = found[found["review"] == "undecided"]
    n_unsure = int(((open_["n_accept"] + open_["n_reject"]) == 0).sum())
    return {
        "study": study,
        "n_events": n_events,
        "n_reviewed": len(found),
        "n_accepted": int(counts.get("accept", 0)),
        "n_rejected": int(counts.get("reject", 0)),
        "n_unsure": n_unsure,
        "n_disagreed": len(open_) - n_unsure,
        "n_overruled_accept": int(((found["review"] == "accept") & ~found["tested"]).sum()),
        "n_overruled_reject": int(((found["review"] == "reject") & found["tested"]).sum()),
        "reviewers": [
            {"name": review.reviewer}
            | {name: sum(d.decision == name for d in review.decisions) for name in DECISIONS}
            | {"orphaned": sum(bool(d.decision) and d.event_id not in current for d in review.decisions)}
            for review in reviews
        ],
        "orphaned": [
            {"reviewer": who, **d.model_dump(include={"event_id", "decision", "clip_id", "onset_s"})}
            for who, d in decided
            if d.event_id not in current
        ],
        "notes": [
            {"reviewer": review.reviewer, **d.model_dump()}
            for review in reviews
            for d in review.decisions
            if d.note.strip()
        ],
        "agreement": [
            {"reviewers": [a, b], **agreement(of_current[a], of_current[b])} for a, b in combinations(of_current, 2)
        ],
    }


def agreement(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, Any]:
    """Agreement of two reviewers.

    `first` and `second` map event_id to the decision. The result has `n` (events in common), `alike` (the fraction
    with equal decisions), `kappa` (or None) and a `note`.
    """
    common = sorted(first.keys() & second.keys())
    said = [[reviewer[event] for event in common] for reviewer in (first, second)]
    record: dict[str, Any] = {"n": len(common), "alike": None, "kappa": None, "note": ""}
    if not common:
        return record | {"note": "they have no current event in common"}
    record["alike"] = float(np.mean([a == b for a, b in zip(*said, strict=True)]))
    kinds = [set(decisions) for decisions in said]
    if len(kinds[0] | kinds[1]) == 1:
        return record | {"note": f"both always said {said[0][0]}, so chance would agree as often"}
    record["kappa"] = float(cohen_kappa_score(*said, labels=list(DECISIONS)))
    if min(map(len, kinds)) == 1:
        record["note"] = "one of them always made the same decision, so kappa is 0 by definition"
    return record
