"""Read and check the review files, which are downloaded from the review page, before any job runs.

The Snakefile imports this at every parse, so nothing heavy is imported here. reprise/review/decisions.py joins the
decisions with the events.
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
    """The decision about one event, None for a note alone. `clip_id` and `onset_s` are only for human readers."""

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
    """Parse a review file.

    Parameters
    ----------
    text
        The file's content.
    study
        The study that the review must belong to.
    source
        The file's name, for messages.

    Returns
    -------
    ReviewFile
        The review.

    Raises
    ------
    ConfigError
        With one line for each bad field: `source`, the field, its value and what is valid.
    """
    try:
        # Validate the JSON text, because strict fields then accept a list as a tuple.
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
    """Describe one pydantic error: the field, its value and what is valid."""
    valid = "a JSON file downloaded from the review page"
    if error["type"] == "json_invalid":
        return f"{error['ctx']['error']}; valid: {valid}"
    if not error["loc"]:
        return f"not a JSON object; valid: {valid}"
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {describe_error(error, error['loc'], ReviewFile.model_json_schema())}"


def read_reviews(files: Sequence[str | Path], *, study: str) -> list[ReviewFile]:
    """Read all review files of a study. Raises ConfigError with the problems of all of them."""
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
            text = f"got {json.dumps(name, ensure_ascii=False)}, as in {other}; valid: one file per reviewer"
            problems.append(f"{file}: reviewer: {text}")
    if problems:
        raise ConfigError(problems)
    return reviews
