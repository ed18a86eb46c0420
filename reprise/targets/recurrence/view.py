"""The words and tests of recurrence in the report and on the review page."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reprise.report.numbers import number, p_text
from reprise.targets.view import EventTest, Share, TargetView, Words

if TYPE_CHECKING:
    import pandas as pd

WORDS = Words(
    question="Does the motif return?",
    event="return",
    events="returns",
    happens="the motif returns",
    does_not_happen="the motif does not return",
    will_happen="the motif will return",
    reference="motif",
    nothing_found="no passage is similar to the motif",
    listening="It may be transposed, or a little faster or slower.",
    story="A motif is played, other music follows, and the motif returns.",
)

REASONS = {
    "score": "match too weak",
    "p_value": "chance could do it",
    "p_others": "other clips match as well",
    "gap": "no gap before",
    "timbre": "timbre only",
}


def tests(event: Mapping[str, Any], settings: Mapping[str, Any]) -> list[EventTest]:
    """The tests of one event, with `p_others` only where there were enough other clips."""
    most = f"≤ {settings['max_p_value']:g}"
    least = event["score"] - settings["timbre_margin"]
    rows = [
        EventTest("score", "match score", number(event["score"], 3), f"≥ {settings['min_score']:g}"),
        EventTest("p_value", "p_value, against surrogates", p_text(event["p_value"]), most),
        EventTest(
            "gap", "gap_s, without a match before", f"{number(event['gap_s'])} s", f"≥ {settings['min_gap_s']:g} s"
        ),
        EventTest("timbre", "timbre_score", number(event["timbre_score"], 3), f"≤ {number(least, 3)}, score − margin"),
    ]
    if not math.isnan(event.get("p_others", math.nan)):
        rows.insert(2, EventTest("p_others", "p_others, against other clips", p_text(event["p_others"]), most))
    return rows


def facts(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the passage differs from the motif."""
    steps = int(event["transposition"])
    return [
        ("transposition", f"{steps} semitones up" if steps else "none"),
        ("tempo_ratio", f"{number(event['tempo_ratio'])} × as fast"),
    ]


def shares(events: "pd.DataFrame", settings: Mapping[str, Any]) -> dict[str, Share]:
    """The range of each test: from `candidate_score` to 1 for the score; from 1 to the smallest possible p-value; from
    no gap to a gap of twice the threshold; and from -1 to 1 for the score minus the timbre score."""
    s = settings
    found = {
        "score": Share(events["score"], s["min_score"], s["candidate_score"], 1.0),
        "p_value": Share(events["p_value"], s["max_p_value"], 1.0, 1 / (1 + s["n_surrogates"])),
        "gap": Share(events["gap_s"], s["min_gap_s"], 0.0, 2 * s["min_gap_s"]),
        "timbre": Share(events["score"] - events["timbre_score"], s["timbre_margin"], -1.0, 1.0),
    }
    if "p_others" in events:
        found["p_others"] = Share(events["p_others"], s["max_p_value"], 1.0, 0.0)
    return found


def brief(event: Mapping[str, Any]) -> str:
    """An event's measurements in half a line."""
    return (
        f"score {event['score']:.2f}, p {p_text(event['p_value'])}, gap {event['gap_s']:.1f} s, "
        f"timbre {event['timbre_score']:.2f}, transposed by {event['transposition']}"
    )


VIEW = TargetView(WORDS, tests=tests, facts=facts, shares=shares, brief=brief, reasons=REASONS)
