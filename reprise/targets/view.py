"""How a target's events are named and explained to a reader: in the report and on the review page.

This is kept apart from what a target measures, so that another wording only writes the pages again.

Degenerate input: a target that names nothing has the plain view, whose events are called events.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


class Words(NamedTuple):
    """What happens, in words. Each fits into a sentence as the defaults do.

    question: the title of the section about events. event, events: one, and several. happens, does_not_happen,
    will_happen: clauses. reference: the earlier passage that an event refers to; "" if there is none. nothing_found:
    about a clip without any candidate. listening: what a reviewer should know, and story: how an event comes about, a
    sentence or nothing.
    """

    question: str = "Does the event happen?"
    event: str = "event"
    events: str = "events"
    happens: str = "the event happens"
    does_not_happen: str = "the event does not happen"
    will_happen: str = "the event will happen"
    reference: str = ""
    nothing_found: str = "no candidate was found"
    listening: str = ""
    story: str = ""

    @property
    def an_event(self) -> str:
        """The event with its article."""
        return f"{'an' if self.event[:1] in 'aeiou' else 'a'} {self.event}"


class EventTest(NamedTuple):
    """A test of an event: its name in `reason`, its title, the measured value and what is needed, as text."""

    name: str
    title: str
    value: str
    needed: str


class Share(NamedTuple):
    """A measured value, its threshold, and the worst and best value that it can have, for the order of a review."""

    value: "pd.Series"
    threshold: float
    worst: float
    best: float


def score_test(event: Mapping[str, Any], settings: Mapping[str, Any]) -> list[EventTest]:
    """The only test that every target has."""
    return [EventTest("score", "score", f"{event['score']:.3f}", f"≥ {settings['min_score']:g}")]


def no_facts(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nothing more about an event."""
    return []


def score_share(events: "pd.DataFrame", settings: Mapping[str, Any]) -> dict[str, Share]:
    """The `Share` of the score, from 0 to 1."""
    return {"score": Share(events["score"], settings["min_score"], 0.0, 1.0)}


def brief_score(event: Mapping[str, Any]) -> str:
    """The score of an event."""
    return f"score {event['score']:.2f}"


class TargetView(NamedTuple):
    """The words and tests of a target.

    tests(event, settings): the tests of an event, a row of the events table, as `EventTest`s. facts(event): more about
    it, as pairs of a title and a text. shares(events, settings): by test, the `Share` of all events. brief(event): an
    event's measurements in half a line. reasons: what a failed test means, by its name.
    """

    words: Words = Words()
    tests: Callable[[Mapping[str, Any], Mapping[str, Any]], list[EventTest]] = score_test
    facts: Callable[[Mapping[str, Any]], list[tuple[str, str]]] = no_facts
    shares: "Callable[[pd.DataFrame, Mapping[str, Any]], dict[str, Share]]" = score_share
    brief: Callable[[Mapping[str, Any]], str] = brief_score
    reasons: Mapping[str, str] = {"score": "too weak"}


PLAIN_VIEW = TargetView()
