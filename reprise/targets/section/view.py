"""The words and tests of sections in the report and on the review page."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reprise.report.numbers import number, p_text
from reprise.targets.view import EventTest, Share, TargetView, Words

if TYPE_CHECKING:
    import pandas as pd

WORDS = Words(
    question="Does a new section begin?",
    event="section start",
    events="section starts",
    happens="a new section begins",
    does_not_happen="no new section begins",
    will_happen="a new section will begin",
    nothing_found="what follows is never unlike what came before",
    listening="Instruments, key, texture or melody may change. A single odd bar, or a change of loudness, is none.",
    story="Music goes on in one way, and then in another.",
)

REASONS = {"score": "too little contrast", "p_value": "chance could do it"}


def tests(event: Mapping[str, Any], settings: Mapping[str, Any]) -> list[EventTest]:
    """The tests of one event."""
    return [
        EventTest("score", "score of the contrast", number(event["score"], 3), f"≥ {settings['min_score']:g}"),
        EventTest(
            "p_value", "p_value, against surrogates", p_text(event["p_value"]), f"≤ {settings['max_p_value']:g}"
        ),
    ]


def facts(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What changes."""
    return [
        ("contrast of chroma alone", number(event["chroma_contrast"], 2)),
        ("contrast of timbre alone", number(event["timbre_contrast"], 2)),
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
    return (
        f"score {event['score']:.2f}, p {p_text(event['p_value'])}, contrast of chroma "
        f"{event['chroma_contrast']:.2f}, of timbre {event['timbre_contrast']:.2f}"
    )


VIEW = TargetView(WORDS, tests=tests, facts=facts, shares=shares, brief=brief, reasons=REASONS)
