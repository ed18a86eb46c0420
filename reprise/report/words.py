"""Words that the report and the review page share: why a passage does not count as an event."""

from reprise.targets.view import TargetView

# Reasons that no test of a target gives.
_OF_REVIEWS = {"review": "rejected by a reviewer", "unreviewed": "reviewers have not decided"}


def reason_words(name: str, view: TargetView) -> str:
    """What one reason means. A reason without words gives its name, with spaces."""
    return {**view.reasons, **_OF_REVIEWS}.get(name, name.replace("_", " "))


def reasons_text(reason: str, view: TargetView) -> str:
    """The column `reason` of an event in words; "" for an accepted event."""
    return ", ".join(reason_words(name, view) for name in filter(None, reason.split(", ")))
