"""What reviewers decided is told."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from reprise.review.decisions import import_reviews
from reprise.review.event_ids import event_ids, read_audio_digests
from reprise.review.files import Decision, ReviewFile
from reprise.storage.files import write_json, write_parquet
from tests.unit.report.html_page import Page
from tests.unit.report.results_folder import GAINS, run_script, write_study


def test_reviews_are_told_where_there_are_any(
    made: SimpleNamespace, page: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "What reviewers decided" not in page.said("planner")
    fields = write_study(tmp_path, "improviser", gains=GAINS["improviser"], candidates=False)
    folder = tmp_path / "results" / "improviser"
    events = pd.read_parquet(folder / "events" / "b00.parquet")
    digests = read_audio_digests([str(tmp_path / "results/corpora/improviser-0a/audio/b00.manifest.json")])
    ids = event_ids(events, digests)
    assert events["accepted"].tolist() == [True] * 8 + [False] * 2
    given = [{ids[0]: "reject", ids[8]: "accept", ids[1]: "accept", "0" * 16: "reject"}]
    given.append({ids[0]: "reject", ids[8]: "accept", ids[1]: "unsure", ids[4]: "unsure"})
    files = [
        ReviewFile(
            format="reprise review 1",
            study="improviser",
            reviewer=name,
            decisions=(
                *(Decision(event_id=i, decision=d) for i, d in decisions.items()),
                Decision(event_id=ids[5], decision=None, note=f"{name} <b>hears</b> two voices", onset_s=12.0),
            ),
        )
        for name, decisions in zip(("Ann", "Bob"), given, strict=True)
    ]
    table, summary = import_reviews(events, digests, files, study="improviser")
    write_parquet(folder / "reviews.parquet", table)
    write_json(folder / "reviews.json", summary)
    said = Page(run_script(tmp_path, monkeypatch, {"improviser": fields}, [])).said("improviser")
    for text in (
        "4 of 10 events were reviewed by Ann, Bob: 1 accepted, 1 rejected, 1 unsure, 1 disputed.",
        "they accepted 1 that the tests had rejected, and rejected 1 that the tests had accepted.",
        "the tests decide",
        # Two of three alike, by chance one: reject 1/9 and accept 2/9.
        "Ann and Bob: kappa 0.50 over 3 events, 67 % alike",
        "Orphaned decisions: 1. They are about events that no longer exist",
        f"Ann: reject, clip not stated at 0.00 s (event {'0' * 16})",
        # A note without a decision is told as well.
        "Bob, clip not stated at 12.00 s (no decision): Bob <b>hears</b> two voices",
        "(8 in all)",
        "rejected by a reviewer 1",
    ):
        assert text in said, text
    fields["labels"]["reviewed_only"] = True
    said = Page(run_script(tmp_path, monkeypatch, {"improviser": fields}, [])).said("improviser")
    assert "(1 in all)" in said and "A return counts only if a reviewer accepted it." in said
    # Eight that passed, less the one rejected: a dispute decides nothing.
    assert "7 more passed the tests, but reviewers have not decided about them" in said
