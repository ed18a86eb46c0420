"""What did reviewers decide?"""

from typing import Any

from reprise.report.numbers import number, percent
from reprise.report.results import Results


def reviews_view(study: Results) -> dict[str, Any]:
    """The reviewers' decisions as text; {} if there are no reviews."""
    summary = study.reviews
    if not summary:
        return {}
    pairs = [
        f"{' and '.join(pair['reviewers'])}: kappa {number(pair['kappa'])} over {pair['n']} events, "
        f"{percent(pair['alike'])} alike" + (f" ({pair['note']})" if pair["note"] else "")
        for pair in summary["agreement"]
    ]
    lost = [
        f"{d['reviewer']}: {d['decision']}, {d['clip_id'] or 'clip not stated'} at {d['onset_s']:.2f} s "
        f"(event {d['event_id']})"
        for d in summary["orphaned"]
    ]
    return {
        **{name: value for name, value in summary.items() if name.startswith("n_")},
        "reviewers": ", ".join(r["name"] for r in summary["reviewers"]),
        "agreement": pairs,
        "orphaned": lost,
        "notes": [
            f"{d['reviewer']}, {d['clip_id'] or 'clip not stated'} at {d['onset_s']:.2f} s "
            f"({d['decision'] or 'no decision'}): {d['note']}"
            for d in summary["notes"]
        ],
        "only": study.settings["labels"]["reviewed_only"],
    }
