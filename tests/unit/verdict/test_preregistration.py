"""Declarations: before what was known, kept when they change, and noticed when they are altered."""

import json

import pytest

from reprise.verdict.preregistration import (
    KNOWN,
    declare,
    digest,
    known_results,
    preregistration,
    problems_of,
    summary,
)
from tests.unit.verdict.test_gates import THRESHOLDS

SETTINGS = {"seeds": [0, 1], "horizons": {"long": [4.0, 8.0]}}
FIRST = preregistration(THRESHOLDS, SETTINGS)
EASIER = preregistration(THRESHOLDS._replace(min_effect=0.01), SETTINGS)


def check(history, *, first=None, current=None, asked=None, recorded=None) -> list[str]:
    """Problems of a history as it lies on disk."""
    history = json.loads(json.dumps(history))
    return problems_of(
        history,
        history[0] if first is None else first,
        history[-1] if current is None else current,
        asked=history[-1] if asked is None else asked,
        recorded=[history[0]["entry"]] if recorded is None else recorded,
    )


def test_a_declaration_is_its_content():
    assert FIRST["digest"] == preregistration(THRESHOLDS, dict(reversed(SETTINGS.items())))["digest"]
    assert digest({"b": 1, "a": [1.5]}) == digest({"a": [1.5], "b": 1}) != digest({"a": [1.5], "b": 2})


def test_a_threshold_that_moves_after_the_fact_is_kept():
    first = declare([], FIRST, known="nothing")
    assert declare(first, FIRST, known="effects") == first
    assert [(e["known"], e["changed"]) for e in summary(first)] == [("nothing", [])]
    other = preregistration(THRESHOLDS._replace(min_effect=0.01), {"horizons": {"long": [4.0, 9.0]}, "seeds": [0, 1]})
    moved = declare(first, other, known="confirmations")
    assert moved[0] == first[0] and moved[1]["known"] == "confirmations"
    assert moved[1]["changed"] == [
        "settings.horizons.long: [4.0, 8.0] to [4.0, 9.0]",
        f"thresholds.min_effect: {THRESHOLDS.min_effect} to 0.01",
    ]
    back = declare(moved, FIRST, known="effects")
    assert len(back) == 3 and back[2]["digest"] == first[0]["digest"]
    assert check(back) == []


@pytest.mark.parametrize(
    ("file", "known"),
    [
        (None, "nothing"),
        ("results/s/events/b00.parquet", "events"),
        ("results/s/certificates/layer2.json", "events"),
        ("results/s/screens/h4-8/layer2.parquet", "screens"),
        ("results/s/baselines/h4-8.parquet", "probes"),
        ("results/s/probes/h4-8/resid-layer2.json", "probes"),
        ("results/s/candidates.parquet", "confirmations"),
        ("results/s/effects/layer2-f1-abc.parquet", "effects"),
        # A job that is run again has removed its output, but not the note of its times.
        ("times/s/screen/h4-8-layer2.tsv", "screens"),
        ("times/s/candidates.tsv", "confirmations"),
        ("times/s/ablate/layer2-f1-abc.tsv", "effects"),
    ],
)
def test_what_was_known_is_what_was_computed(tmp_path, file, known):
    if file:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    assert known in KNOWN
    assert known_results(tmp_path / "results" / "s", tmp_path / "times" / "s") == known


def test_the_last_stage_that_is_known_counts(tmp_path):
    for name in ("events/b00.parquet", "candidates.parquet", "screens/h4-8/layer2.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert known_results(tmp_path) == "confirmations"


HISTORY = declare(declare([], FIRST, known="nothing"), EASIER, known="effects")


def altered(number: int, **changes: object) -> list[dict]:
    """The history with an entry whose content was edited."""
    history = json.loads(json.dumps(HISTORY))
    history[number] |= changes
    return history


def test_an_altered_declaration_is_noticed():
    assert check(HISTORY) == []
    for number, changes in (
        (0, {"thresholds": EASIER["thresholds"]}),
        (1, {"thresholds": FIRST["thresholds"]}),
        (1, {"known": "nothing"}),
        (1, {"changed": []}),
        (1, {"settings": SETTINGS | {"seeds": [7]}}),
    ):
        assert any("another digest" in problem for problem in check(altered(number, **changes))), changes
    # Its digests made anew: then it is no longer what the others follow, or what results were computed under.
    forged = declare([], EASIER, known="nothing")
    assert any("another first declaration" in p for p in check(forged, recorded=[HISTORY[0]["entry"]]))
    assert any("does not follow" in p for p in check([*forged, HISTORY[1]]))
    assert any("does not follow" in p for p in check([HISTORY[1]], recorded=[HISTORY[1]["entry"]]))


def test_files_that_disagree_are_noticed():
    assert any("declared.json" in p for p in check(HISTORY, first=HISTORY[1]))
    assert any("preregistration.json" in p for p in check(HISTORY, current=HISTORY[0]))
    # The thresholds of the configuration are compared with what was declared, not made from it.
    assert any("configuration" in p for p in check(HISTORY, asked=FIRST))
    assert problems_of([], {}, FIRST, asked=FIRST, recorded=[]) == ["all declarations are missing"]
    assert any("another digest" in p for p in check([{**HISTORY[0], "entry": None}], recorded=[]))
