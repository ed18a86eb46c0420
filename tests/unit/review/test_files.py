"""Review files: what is refused, and how it is said."""

import json
from pathlib import Path

import pytest

from reprise.config.errors import ConfigError
from reprise.config.validation import validate
from reprise.review.files import parse_review, read_reviews
from tests.unit.review.given import review_text

BAD_FILES = {
    "nothing": ("", "r.json: EOF while parsing a value at line 1 column 0; valid: a JSON file downloaded"),
    "not JSON": ("{", "r.json: EOF while parsing an object at line 1 column 1; valid: a JSON file downloaded"),
    "a list": ("[]", "r.json: not a JSON object; valid: a JSON file downloaded from the review page"),
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
        'r.json: "reviewer" is given twice; valid: a JSON file downloaded from the review page',
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
    expected = f'{files[1]}: reviewer: got " ann", as in {files[0]}; valid: one file per reviewer'
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
    with pytest.raises(ConfigError, match=r"labels\.reviewed_only: got true, but review\.files is empty; valid: "):
        validate({"studies": {"s": study}}, check_files=False)
    validate({"studies": {"s": {**study, "review": {"files": ["r.json"]}}}}, check_files=False)
