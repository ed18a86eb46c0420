"""The files that the review page gives: read and checked, all of them, before any job runs.

The Snakefile imports this at every parse, so nothing heavy is imported here. What the decisions do is in
reprise/review/decisions.py.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reprise.config.errors import ConfigError, parse_json, read_text
from reprise.config.messages import describe_error

FORMAT = "reprise review 1"
DECISIONS = ("accept", "reject", "unsure")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _field(valid: str, **limits: Any) -> Any:
    return Field(json_schema_extra={"valid": valid}, **limits)


class Decision(_Part):
    """One event: `decision` is None where only a note was written. `clip_id` and `onset_s` are for people."""

    event_id: Annotated[str, _field("16 hex digits, as on the review page", pattern=r"^[0-9a-f]{16}$")]
    decision: Annotated[Literal["accept", "reject", "unsure"] | None, _field("accept, reject, unsure or null")]
    note: Annotated[str, _field("text")] = ""
    clip_id: Annotated[str, _field("text")] = ""
    onset_s: Annotated[float, _field("seconds from the clip's start", ge=0)] = 0.0


class ReviewFile(_Part):
    """What one reviewer downloaded from a study's review page."""

    format: Annotated[Literal["reprise review 1"], _field(FORMAT)]
    study: Annotated[str, _field("the name of a study", min_length=1)]
    reviewer: Annotated[str, _field("the reviewer's name", pattern=r"\S")]
    decisions: Annotated[tuple[Decision, ...], _field("a list of decisions")]


def parse_review(text: str, *, study: str, source: str) -> ReviewFile:
    """The review in `text`. Raises ConfigError naming `source`, each bad field, its value and what is valid."""
    try:
        # As JSON, so that a list may stand for a tuple although fields are strict.
        review = ReviewFile.model_validate_json(text)
        parse_json(text)
    except ValidationError as error:
        raise ConfigError([f"{source}: {_problem(e)}" for e in error.errors(include_url=False)]) from error
    except ValueError as error:
        raise ConfigError([f"{source}: {error}; valid: a JSON file downloaded from the review page"]) from error
    problems: list[str] = []
    first: dict[str, int] = {}
    if review.study != study:
        problems.append(
            f"{source}: study: got {json.dumps(review.study)}; valid: {study}, the study that names the file"
        )
    for i, decision in enumerate(review.decisions):
        if (j := first.setdefault(decision.event_id, i)) != i:
            clash = f"got {decision.event_id}, as in decisions.{j}; valid: each event once"
            problems.append(f"{source}: decisions.{i}.event_id: {clash}")
    if problems:
        raise ConfigError(problems)
    return review


def _problem(error: Any) -> str:
    """One pydantic error as a sentence: the field, its value and what is valid."""
    valid = "a JSON file downloaded from the review page"
    if error["type"] == "json_invalid":
        return f"{error['ctx']['error']}; valid: {valid}"
    if not error["loc"]:
        return f"holds no object; valid: {valid}"
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {describe_error(error, error['loc'], ReviewFile.model_json_schema())}"


def read_reviews(files: Sequence[str | Path], *, study: str) -> list[ReviewFile]:
    """All review files of a study. Raises ConfigError with the problems of all of them."""
    reviews: list[ReviewFile] = []
    problems: list[str] = []
    first: dict[str, str] = {}
    for file in map(str, files):
        try:
            reviews.append(parse_review(read_text(Path(file)), study=study, source=file))
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        name = reviews[-1].reviewer
        if (other := first.setdefault(name.strip().casefold(), file)) != file:
            text = f"got {json.dumps(name, ensure_ascii=False)}, as in {other}; valid: one file a reviewer"
            problems.append(f"{file}: reviewer: {text}")
    if problems:
        raise ConfigError(problems)
    return reviews
