"""Events and reviews made up for the tests of reviews."""

import json

import pandas as pd

from reprise.config.schema import Study
from reprise.review.files import parse_review

THRESHOLDS = Study.model_validate({"model": {"name": "a/b"}, "saes": {0: "sae"}}).events.model_dump()
DIGESTS = {"a-s0": "aa" * 32, "b-s0": "bb" * 32}


def event(clip_id: str = "a-s0", onset_s: float = 12.0, reason: str = "", **fields: object) -> dict:
    row = {
        "reference_start_s": 2.0,
        "reference_duration_s": 2.0,
        "onset_s": onset_s,
        "duration_s": 2.0,
        "transposition": 0,
    }
    row |= {"tempo_ratio": 1.0, "score": 0.9, "p_value": 0.01, "timbre_score": 0.2, "gap_s": 6.0, "gap_score": 0.3}
    return row | {"accepted": not reason, "reason": reason, "clip_id": clip_id, "prompt_id": clip_id[0]} | fields


def table(*events: dict) -> pd.DataFrame:
    return pd.DataFrame(events)


def review_text(decisions: dict[str, str | None], reviewer: str = "Ann", study: str = "s") -> str:
    rows = [{"event_id": i, "decision": d, "clip_id": "a-s0", "onset_s": 12} for i, d in decisions.items()]
    return json.dumps({"format": "reprise review 1", "study": study, "reviewer": reviewer, "decisions": rows})


def reviews(*given: dict[str, str | None]) -> list:
    return [parse_review(review_text(d, f"r{i}"), study="s", source="r.json") for i, d in enumerate(given)]
