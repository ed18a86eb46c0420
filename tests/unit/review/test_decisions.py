"""Reviews: which events are shown first, what an event's id survives, what is imported, and what it overrules."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reprise.audio.synth import Note, render
from reprise.candidates.selection import returning
from reprise.config.schema import ConfigError, Study, validate
from reprise.report.templating import Heard
from reprise.review.apply import overrule, read_events
from reprise.review.decisions import agreement, event_ids, import_reviews, read_audio_digests
from reprise.review.files import parse_review, read_reviews
from reprise.review.page import checks_of, cut, margins, render_review, to_review
from reprise.storage.files import write_folder, write_parquet
from reprise.targets.labels import horizon_labels

THRESHOLDS = Study.model_validate({"model": {"name": "a/b"}, "saes": {0: "sae"}}).events.model_dump()
DIGESTS = {"a-s0": "aa" * 32, "b-s0": "bb" * 32}
CLIPS = pd.DataFrame({"clip_id": ["a-s0", "b-s0"], "prompt_id": ["a", "b"], "duration_s": [16.0, 16.0]})


def event(clip_id: str = "a-s0", onset_s: float = 12.0, reason: str = "", **fields: object) -> dict:
    row = {"motif_start_s": 2.0, "motif_duration_s": 2.0, "onset_s": onset_s, "duration_s": 2.0, "transposition": 0}
    row |= {"tempo_ratio": 1.0, "score": 0.9, "p_value": 0.01, "timbre_score": 0.2, "gap_s": 6.0, "gap_score": 0.3}
    return row | {"accepted": not reason, "reason": reason, "clip_id": clip_id, "prompt_id": clip_id[0]} | fields


def table(*events: dict) -> pd.DataFrame:
    return pd.DataFrame(events)


def review_text(decisions: dict[str, str | None], reviewer: str = "Ann", study: str = "s") -> str:
    rows = [{"event_id": i, "decision": d, "clip_id": "a-s0", "onset_s": 12} for i, d in decisions.items()]
    return json.dumps({"format": "reprise review 1", "study": study, "reviewer": reviewer, "decisions": rows})


def reviews(*given: dict[str, str | None]) -> list:
    return [parse_review(review_text(d, f"r{i}"), study="s", source="r.json") for i, d in enumerate(given)]


# --- the page -------------------------------------------------------------------------------------------------


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
    order = to_review(events, THRESHOLDS, max_events=6)["onset_s"].tolist()
    # Distances: 0.01/0.25, 0.1/2, 0.02/0.35, then the worst margin of what is far.
    assert order[:3] == [7.0, 9.0, 8.0] and set(order[-2:]) == {6.0, 10.0}
    # What the tests accepted comes before what they rejected, however uncertain that is.
    assert to_review(events, THRESHOLDS, max_events=2)["onset_s"].tolist() == [7.0, 5.0]
    assert to_review(events, THRESHOLDS, max_events=3)["onset_s"].tolist() == [7.0, 9.0, 5.0]


def test_margins_are_signed_shares_of_the_way_to_the_end() -> None:
    found = margins(
        table(event(score=1.0, gap_s=9.0, p_value=0.01), event(score=0.575, p_value=0.525, gap_s=0.0)), THRESHOLDS
    )
    assert found["score"].tolist() == pytest.approx([1.0, -0.5])
    assert found["p_value"].tolist() == pytest.approx([1.0, -0.5])
    assert found["gap"].tolist() == [1.0, -1.0]
    assert found["timbre"].tolist() == pytest.approx([0.7 / 0.9, 0.275 / 0.9])
    # A test that cannot fail leaves nothing uncertain, and one that was not made says nothing.
    assert margins(table(event()), {**THRESHOLDS, "min_gap_s": 0.0})["gap"].tolist() == [1.0]
    assert np.isnan(margins(table(event(p_others=np.nan)), THRESHOLDS)["p_others"]).all()


def test_tests_are_shown_as_the_pipeline_decided() -> None:
    def shown(**fields: object) -> dict[str, object]:
        return {row["title"].split(",")[0]: row["passed"] for row in checks_of(event(**fields), THRESHOLDS)}

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
    heard = {c: Heard(c, audio, 16000, "x.flac", "a <b>") for c in DIGESTS}
    events = table(event(), event(onset_s=8.0, transposition=3), event("b-s0", reason="score", score=0.6))
    events["event_id"] = event_ids(events, DIGESTS)
    settings = {"study": "s", "events": THRESHOLDS, "review": {"context_s": 0.5, "max_events": 9}}
    page = render_review(events, heard, settings, n_events=7)
    assert page == render_review(events, heard, settings, n_events=7)
    # Two motifs and three candidates.
    assert page.count("data:audio/flac;base64,") == 5 and page.count('<article class="event"') == 3
    assert not re.search(r"https?://|@import|url\(", page)
    assert "a &lt;b&gt;" in page and "3 of 7 are here" in page
    assert all(f'data-id="{i}"' in page for i in events["event_id"])
    assert page.count('data-sound="m0"') == 2 and "moved down by 3 semitones" in page
    assert "nothing to review" in render_review(events.head(0), {}, settings, n_events=0)


def test_a_passage_is_cut_with_its_context_as_far_as_the_clip_goes() -> None:
    audio = np.ones(16000, np.float32)
    assert len(cut(audio, 1000, 1.5, 3.0)) == 1500
    assert len(cut(audio, 1000, -0.5, 0.5)) == 500 and len(cut(audio, 1000, 15.5, 17)) == 500
    piece = cut(audio, 1000, 1.0, 2.0)
    assert piece[0] == piece[-1] == 0 and piece[500] == 1 and audio.min() == 1


# --- identity -------------------------------------------------------------------------------------------------


def test_an_id_survives_what_does_not_change_the_event() -> None:
    before = table(event(), event("b-s0"))
    names = event_ids(before, DIGESTS)
    assert all(re.fullmatch(r"[0-9a-f]{16}", n) for n in names) and len(set(names)) == 2
    # Written down once: a change here would orphan everyone's reviews.
    assert names[0] == "121b68828c473249"
    again = table(event("b-s0", score=0.2, p_value=0.5, reason="score"), event(onset_s=12.0 + 4e-4))
    assert event_ids(again, DIGESTS) == names[::-1]
    assert event_ids(before, {c: d for c, d in zip(DIGESTS, reversed(DIGESTS.values()), strict=True)}) != names


@pytest.mark.parametrize("changed", [{"onset_s": 12.001}, {"duration_s": 2.08}, {"transposition": 1}])
@pytest.mark.parametrize("motif", [{}, {"motif_start_s": 2.5}, {"motif_duration_s": 1.5}])
def test_another_event_has_another_id(changed: dict, motif: dict) -> None:
    assert event_ids(table(event(**changed, **motif)), DIGESTS) != event_ids(table(event()), DIGESTS)


def test_audio_digests_are_the_manifests(tmp_path: Path) -> None:
    with write_folder(tmp_path / "b00", meta={}) as folder:
        (folder / "a-s0.flac").write_bytes(b"sound")
    digests = read_audio_digests([str(tmp_path / "b00.manifest.json")])
    assert digests == {"a-s0": hashlib.sha256(b"sound").hexdigest()}


# --- import ---------------------------------------------------------------------------------------------------

BAD_FILES = {
    "nothing": ("", "r.json: EOF while parsing a value at line 1 column 0; valid: a JSON file downloaded"),
    "not JSON": ("{", "r.json: EOF while parsing an object at line 1 column 1; valid: a JSON file downloaded"),
    "a list": ("[]", "r.json: holds no object; valid: a JSON file downloaded from the review page"),
    "far too deep": ("[" * 100_000, "r.json: recursion limit exceeded at line 1 column"),
    "half a character": (
        review_text({}, reviewer="x").replace("x", "\\ud800"),
        "r.json: unexpected end of hex escape",
    ),
    "a number without end": (
        review_text({"0" * 16: "accept"}).replace("12", "9" * 5000),
        "r.json: number out of range at line 1 column",
    ),
    "a key twice": (
        review_text({}, reviewer="x").replace('"reviewer"', '"reviewer": "y", "reviewer"'),
        'r.json: "reviewer" is there twice; valid: a JSON file downloaded from the review page',
    ),
    "a decision that is none": (
        review_text({}).replace("[]", "[7]"),
        "r.json: decisions.0: got 7; valid: ",
    ),
    "another format": (
        review_text({}).replace("review 1", "review 2"),
        'r.json: format: got "reprise review 2"; valid: reprise review 1',
    ),
    "another study": (review_text({}, study="t"), 'r.json: study: got "t"; valid: s, the study that names the file'),
    "nobody": (review_text({}, reviewer=" "), 'r.json: reviewer: got " "; valid: the reviewer\'s name'),
    "an unknown decision": (
        review_text({"0" * 16: "maybe"}),
        'r.json: decisions.0.decision: got "maybe"; valid: accept, reject, unsure or null',
    ),
    "no id": (review_text({"x": "accept"}), 'r.json: decisions.0.event_id: got "x"; valid: 16 hex digits'),
    "a time": (
        review_text({"0" * 16: "accept"}).replace("12", '"12"'),
        'r.json: decisions.0.onset_s: got "12"; valid: seconds from the clip\'s start',
    ),
    "a field too many": (
        review_text({"0" * 16: "accept"}).replace("clip_id", "clip"),
        "r.json: decisions.0.clip: unknown field 'clip'; did you mean 'clip_id'? valid: event_id, decision, note",
    ),
}


@pytest.mark.parametrize("text, expected", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_review_gives_one_line_with_file_field_value_and_what_is_valid(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_review(text, study="s", source="r.json")
    assert len(caught.value.problems) == 1 and str(caught.value).startswith(expected), str(caught.value)


def test_an_event_twice_in_a_file_and_a_reviewer_in_two_files(tmp_path: Path) -> None:
    twice = json.loads(review_text({"0" * 16: "accept"}))
    twice["decisions"] *= 2
    with pytest.raises(ConfigError, match=r"decisions\.1\.event_id: got 0{16}, as in decisions\.0; valid: each event"):
        parse_review(json.dumps(twice), study="s", source="r.json")
    files = [tmp_path / name for name in ("one.json", "two.json", "three.json")]
    for file, name in zip(files, ("Ann", " ann", "Bob"), strict=True):
        file.write_text(review_text({}, reviewer=name))
    with pytest.raises(ConfigError) as caught:
        read_reviews(files, study="s")
    expected = f'{files[1]}: reviewer: got " ann", as in {files[0]}; valid: one file a reviewer'
    assert caught.value.problems == (expected,)


def test_files_are_checked_with_the_configuration(tmp_path: Path) -> None:
    study = {"model": {"name": "a/b"}, "saes": {0: "."}, "review": {"files": ["none.json"]}}
    with pytest.raises(ConfigError) as caught:
        validate({"studies": {"s": study}}, base_dir=tmp_path, source="c.yaml")
    assert (
        'c.yaml: studies.s.review.files.0: there is no file "none.json"; valid: a JSON file downloaded from the '
        "study's review page"
    ) in caught.value.problems


@pytest.mark.parametrize("value", [1, "yes", None, 0.5])
def test_a_truth_value_is_one(value: object) -> None:
    study = {"model": {"name": "a/b"}, "saes": {0: "."}, "labels": {"reviewed_only": value}}
    with pytest.raises(ConfigError, match=r"labels\.reviewed_only: (got .*|missing); valid: true or false"):
        validate({"studies": {"s": study}}, check_files=False)


def test_reviewed_only_needs_reviews() -> None:
    study = {"model": {"name": "a/b"}, "saes": {0: "."}, "labels": {"reviewed_only": True}}
    with pytest.raises(ConfigError, match=r"labels\.reviewed_only: got true, and review\.files names none; valid: "):
        validate({"studies": {"s": study}}, check_files=False)
    validate({"studies": {"s": {**study, "review": {"files": ["r.json"]}}}}, check_files=False)


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
    assert overrule(events, joined, reviewed_only=False)["accepted"].tolist() == [False, True]


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
    assert not overrule(events, joined, reviewed_only=False)["accepted"].any()


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
    assert same["kappa"] is None and same["alike"] == 1.0 and "both said accept throughout" in same["note"]
    constant = agreement(said("aaaa"), said("aarr"))
    assert constant["kappa"] == pytest.approx(0) and "decided the same throughout" in constant["note"]


# --- overruling -----------------------------------------------------------------------------------------------

FAILED = event(onset_s=8.0, score=0.6, reason="score, p_value")


def overruled(decisions: list[str | None], *events: dict, reviewed_only: bool = False) -> pd.DataFrame:
    found = table(*events)
    given = {i: d for i, d in zip(event_ids(found, DIGESTS), decisions, strict=True) if d}
    joined, _ = import_reviews(found, DIGESTS, reviews(given), study="s")
    return overrule(found, joined, reviewed_only=reviewed_only)


def test_a_review_overrules_the_tests() -> None:
    events = overruled(["reject", "accept", "unsure", None], event(), FAILED, event("b-s0"), event("b-s0", 8.0))
    assert events["accepted"].tolist() == [False, True, True, True]
    assert events["reason"].tolist() == ["review", "", "", ""]
    assert events["review"].tolist() == ["reject", "accept", "undecided", ""] and not events["unknown"].any()


def test_only_reviewed_events_count_and_what_the_tests_alone_accepted_is_unknown() -> None:
    given = [event(), event("b-s0"), event("b-s0", 8.0), FAILED]
    events = overruled(["accept", "unsure", None, None], *given, reviewed_only=True)
    assert events["accepted"].tolist() == [True, False, False, False]
    assert events["unknown"].tolist() == [False, True, True, False]
    assert events["reason"].tolist() == ["", "unreviewed", "unreviewed", "score, p_value"]
    # A clip whose return nobody reviewed neither returns nor fails to.
    clips = CLIPS["clip_id"]
    assert returning(events, clips, start_s=7.0, stop_s=9.0).tolist() == [False, False]
    assert returning(events, clips, start_s=7.0, stop_s=9.0, which="unknown").tolist() == [False, True]


def test_without_reviews_the_tests_decide() -> None:
    events = overrule(table(event(), FAILED), None, reviewed_only=False)
    assert events["accepted"].tolist() == [True, False] and events["reason"].tolist() == ["", "score, p_value"]
    assert (events["review"] == "").all() and not events["unknown"].any()


def labels(events: pd.DataFrame, horizon: tuple[float, float] = (1.0, 3.0)) -> pd.DataFrame:
    found = horizon_labels(
        events, CLIPS.assign(motif_end_s=4.0), horizon, frame_rate_hz=25.0, context_s=1.0, step_s=0.5
    ).set_index(["clip_id", "time_s"])
    return found.loc["a-s0"]


def test_labels_follow_the_review() -> None:
    assert labels(overruled(["reject"], event()))["y"].sum() == 0
    found = labels(overruled(["accept"], FAILED))
    # (t + 1, t + 3] holds 8 for t in [5, 7), and it sounds from 8 to 10.
    assert found.index[found["y"] == 1].tolist() == [5.0, 5.5, 6.0, 6.5]
    assert (found.loc[8.0:9.5, "reason"] == "sounding").all()


def test_times_that_hang_on_an_unreviewed_event_are_left_out() -> None:
    found = labels(overruled([None], event(onset_s=10.0), reviewed_only=True))
    # It begins in (t + 1, t + 3] for t in [7, 9), and sounds from 10 to 12.
    left_out = found.index[found["reason"] == "unreviewed"].tolist()
    assert left_out == [7.0, 7.5, 8.0, 8.5, 10.0, 10.5, 11.0, 11.5]
    assert found["y"].sum() == 0 and found.loc[9.0, "reason"] == found.loc[12.0, "reason"] == ""
    plain = labels(overruled([None], event(onset_s=10.0)))
    assert plain.loc[[7.0, 7.5, 8.0, 8.5], "y"].tolist() == [1] * 4 and "unreviewed" not in set(plain["reason"])


def test_a_reviewed_return_decides_where_an_unreviewed_one_would_too() -> None:
    found = labels(
        overruled(["accept", None], event(onset_s=9.0), event(onset_s=11.0), reviewed_only=True), (1.0, 4.0)
    )
    # t = 7.5: 9 lies in (8.5, 11.5], and so does 11: a return follows whatever becomes of the other.
    assert found.loc[7.5, "y"] == 1 and found.loc[7.5, "reason"] == ""
    # t = 8.5: only 11 lies in (9.5, 12.5].
    assert found.loc[8.5, "y"] == 0 and found.loc[8.5, "reason"] == "unreviewed"
    assert found.loc[9.5, "reason"] == "sounding" and found.loc[11.0, "reason"] == "unreviewed"
