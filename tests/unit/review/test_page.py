"""The review page: tests as the pipeline decided, sounds, and nothing from elsewhere."""

import re

import numpy as np

from reprise.audio.synth import Note, render
from reprise.report.sound import ExampleClip
from reprise.review.event_ids import event_ids
from reprise.review.page import checks_of, cut, render_review
from reprise.targets.recurrence.view import VIEW
from tests.unit.review.given import DIGESTS, THRESHOLDS, event, table


def test_tests_are_shown_as_the_pipeline_decided() -> None:
    def shown(**fields: object) -> dict[str, object]:
        return {row["title"].split(",")[0]: row["passed"] for row in checks_of(event(**fields), THRESHOLDS, VIEW)}

    assert shown(reason="gap, timbre") == {
        "match score": True,
        "p_value": True,
        "gap_s": False,
        "timbre_score": False,
        "transposition": None,
        "tempo_ratio": None,
    }
    assert shown(p_others=0.2, reason="p_others")["p_others"] is False
    # A test that the page does not know is shown by its name.
    assert shown(reason="tempo")["tempo"] is False


def test_a_page_holds_each_motif_once_and_nothing_from_elsewhere() -> None:
    audio = render(
        [Note(0.5 * i, 0.5, 60 + (i * 5) % 12) for i in range(32)],
        timbre="piano",
        duration_s=16.0,
        sample_rate_hz=16000,
    )
    heard = {c: ExampleClip(c, audio, 16000, "x.flac", "a <b>") for c in DIGESTS}
    events = table(event(), event(onset_s=8.0, transposition=3), event("b-s0", reason="score", score=0.6))
    events["event_id"] = event_ids(events, DIGESTS)
    settings = {"study": "s", "events": THRESHOLDS, "review": {"context_s": 0.5, "max_events": 9}}
    page = render_review(events, heard, settings, VIEW, n_events=7)
    assert page == render_review(events, heard, settings, VIEW, n_events=7)
    # Two motifs and three candidates.
    assert page.count("data:audio/flac;base64,") == 5 and page.count('<article class="event"') == 3
    assert not re.search(r"https?://|@import|url\(", page)
    assert "a &lt;b&gt;" in page and "This page has 3 of 7 events." in page
    assert all(f'data-id="{i}"' in page for i in events["event_id"])
    assert page.count('data-sound="m0"') == 2 and "moved down by 3 semitones" in page
    assert "nothing to review" in render_review(events.head(0), {}, settings, VIEW, n_events=0)


def test_a_passage_is_cut_with_its_context_as_far_as_the_clip_goes() -> None:
    audio = np.ones(16000, np.float32)
    assert len(cut(audio, 1000, 1.5, 3.0)) == 1500
    assert len(cut(audio, 1000, -0.5, 0.5)) == 500 and len(cut(audio, 1000, 15.5, 17)) == 500
    piece = cut(audio, 1000, 1.0, 2.0)
    assert piece[0] == piece[-1] == 0 and piece[500] == 1 and audio.min() == 1
