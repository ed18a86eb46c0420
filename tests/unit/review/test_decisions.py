"""What reviewers decide together, what is an orphan, and how far they agree."""

from pathlib import Path

import pytest

from reprise.review.apply import apply_reviews, read_events
from reprise.review.decisions import agreement, import_reviews
from reprise.review.event_ids import event_ids
from reprise.storage.files import write_parquet
from tests.unit.review.given import DIGESTS, event, reviews, table


def test_orphaned_decisions_are_counted_and_listed_never_dropped() -> None:
    events = table(event(), event("b-s0"))
    ids = event_ids(events, DIGESTS)
    joined, summary = import_reviews(events, DIGESTS, reviews({ids[0]: "reject", "0" * 16: "accept"}), study="s")
    assert summary["n_reviewed"] == 1 and summary["n_events"] == 2
    assert summary["orphaned"] == [
        {"reviewer": "r0", "event_id": "0" * 16, "decision": "accept", "clip_id": "a-s0", "onset_s": 12.0}
    ]
    assert summary["reviewers"] == [{"name": "r0", "accept": 1, "reject": 1, "unsure": 0, "orphaned": 1}]
    assert joined["found"].tolist() == [True, False] and joined["event_id"].tolist() == [ids[0], "0" * 16]
    # What decides nothing overrules nothing.
    assert apply_reviews(events, joined, reviewed_only=False)["accepted"].tolist() == [False, True]


def test_all_decisions_are_orphans_where_there_are_no_events(tmp_path: Path) -> None:
    nothing = table(event()).head(0)
    joined, summary = import_reviews(nothing, DIGESTS, reviews({"0" * 16: "accept"}), study="s")
    assert summary["n_reviewed"] == 0 and len(summary["orphaned"]) == 1
    write_parquet(tmp_path / "e.parquet", nothing)
    write_parquet(tmp_path / "r.parquet", joined)
    assert read_events([str(tmp_path / "e.parquet")], [str(tmp_path / "r.parquet")], reviewed_only=True).empty


def test_reviewers_decide_together() -> None:
    events = table(*(event(onset_s=float(t)) for t in (5, 6, 7, 8, 9)))
    i = event_ids(events, DIGESTS)
    both = reviews(
        {i[0]: "accept", i[1]: "accept", i[2]: "unsure", i[3]: "reject", i[4]: None},
        {i[0]: "accept", i[1]: "reject", i[2]: "unsure"},
    )
    joined, summary = import_reviews(events, DIGESTS, both, study="s")
    assert joined["review"].tolist() == ["accept", "undecided", "undecided", "reject"]
    counts = {k: v for k, v in summary.items() if k.startswith("n_")}
    assert counts == {
        "n_events": 5,
        "n_reviewed": 4,
        "n_accepted": 1,
        "n_rejected": 1,
        "n_unsure": 1,
        "n_disagreed": 1,
        "n_overruled_accept": 0,
        "n_overruled_reject": 1,
    }
    assert joined["decisions"][1] == "r0: accept; r1: reject"
    assert summary["agreement"][0]["reviewers"] == ["r0", "r1"] and summary["agreement"][0]["n"] == 3


def test_clips_of_equal_audio_share_their_decisions() -> None:
    events = table(event("a-s0"), event("b-s0"))
    same = dict.fromkeys(DIGESTS, "aa" * 32)
    ids = event_ids(events, same)
    assert ids[0] == ids[1]
    joined, summary = import_reviews(events, same, reviews({ids[0]: "reject"}), study="s")
    assert summary["n_reviewed"] == 2
    assert not apply_reviews(events, joined, reviewed_only=False)["accepted"].any()


def said(text: str) -> dict[str, str]:
    words = {"a": "accept", "r": "reject", "u": "unsure"}
    return {str(i): words[c] for i, c in enumerate(text) if c != "."}


def test_kappa_known_answers() -> None:
    # Cohen's table 20/5/10/15 of 50: agreement 0.7, by chance 0.5.
    found = agreement(said("a" * 20 + "a" * 5 + "r" * 10 + "r" * 15), said("a" * 20 + "r" * 5 + "a" * 10 + "r" * 15))
    assert found["n"] == 50 and found["alike"] == pytest.approx(0.7) and found["kappa"] == pytest.approx(0.4)
    assert agreement(said("aru"), said("aru")) == {"n": 3, "alike": 1.0, "kappa": 1.0, "note": ""}
    assert agreement(said("ar"), said("ra"))["kappa"] == pytest.approx(-1)
    # Only events that both decided about count.
    assert agreement(said("ar..a"), said("arr"))["n"] == 2


def test_kappa_where_it_says_nothing() -> None:
    apart = agreement(said("a."), said(".a"))
    assert apart["n"] == 0 and apart["kappa"] is None and apart["alike"] is None
    assert "no current event" in apart["note"]
    same = agreement(said("aaa"), said("aaa"))
    assert same["kappa"] is None and same["alike"] == 1.0 and "both always said accept" in same["note"]
    constant = agreement(said("aaaa"), said("aarr"))
    assert constant["kappa"] == pytest.approx(0) and "one of them always made the same decision" in constant["note"]
