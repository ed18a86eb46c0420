"""Words that the report and the review page share: why a passage is not a return."""

REASONS = {
    "score": "match too weak",
    "p_value": "chance could do it",
    "p_others": "other clips match as well",
    "gap": "no gap before",
    "timbre": "timbre only",
    "review": "rejected by a reviewer",
    "unreviewed": "reviewers have not decided",
}
