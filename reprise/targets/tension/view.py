"""The words and tests of releases in the report and on the review page."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reprise.report.numbers import number, p_text
from reprise.targets.view import EventTest, Share, TargetView, Words

if TYPE_CHECKING:
    import pandas as pd

PITCH_CLASSES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")

WORDS = Words(
    question="Is the tension released?",
    event="release",
    events="releases",
    happens="the tension is released",
    does_not_happen="the tension is not released",
    will_happen="the tension will be released",
    nothing_found="no dominant is followed by a rest on its tonic",
    listening="A dominant must be heard for some seconds, and then its tonic. A change of loudness is no release.",
    story="A dominant asks for its tonic, and the tonic comes and stays.",
)

REASONS = {"score": "too little tension before, or too little rest after", "p_value": "chance could do it"}


def tests(event: Mapping[str, Any], settings: Mapping[str, Any]) -> list[EventTest]:
    """The tests of one event."""
    return [
        EventTest("score", "score of the release", number(event["score"], 3), f"≥ {settings['min_score']:g}"),
        EventTest(
            "p_value", "p_value, against surrogates", p_text(event["p_value"]), f"≤ {settings['max_p_value']:g}"
        ),
    ]


def facts(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The key, and what the loudness does."""
    return [
        ("key", f"{PITCH_CLASSES[int(event['tonic'])]} {'major' if event['is_major'] else 'minor'}"),
        ("fall of loudness", f"{number(event['loudness_fall_db'], 1)} dB"),
    ]


def shares(events: "pd.DataFrame", settings: Mapping[str, Any]) -> dict[str, Share]:
    """The range of each test: from `candidate_score` to 1, and from 1 to the smallest possible p-value."""
    s = settings
    return {
        "score": Share(events["score"], s["min_score"], s["candidate_score"], 1.0),
        "p_value": Share(events["p_value"], s["max_p_value"], 1.0, 1 / (1 + s["n_surrogates"])),
    }


def brief(event: Mapping[str, Any]) -> str:
    """An event's measurements in half a line."""
    return f"score {event['score']:.2f}, p {p_text(event['p_value'])}, {facts(event)[0][1]}"


VIEW = TargetView(WORDS, tests=tests, facts=facts, shares=shares, brief=brief, reasons=REASONS)
