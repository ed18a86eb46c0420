"""Which attention heads pass a candidate on, and what else they do?

Degenerate input: without a clip that loses its event under the edit there is nothing to attribute, and the view says
so. A candidate whose heads were not looked at has no view.
"""

from typing import Any

from reprise.report.figures.heads import head_map
from reprise.report.numbers import interval, is_number, number, percent
from reprise.report.results import Results

N_SHOWN = 6


def heads_view(study: Results, name: str) -> dict[str, Any]:
    """The map of the heads, and the strongest of them; {} for a candidate without a table."""
    if name not in study.heads:
        return {}
    table, words = study.heads[name], study.target.view.words
    n_clips, total = int(table["n_clips"].iloc[0]), float(table["total"].iloc[0])
    if not n_clips or not total > 0:
        why = f"No clip loses its {words.event} under the edit"
        if n_clips:
            why = f"The edit makes the {words.event} no less likely on the clips' own tokens"
        return {"about": f"{why}, so nothing can be attributed to attention heads.", "map": "", "rows": []}
    strongest = table[table["attribution"] > 0].sort_values("attribution", ascending=False, kind="stable")
    rows = [
        {
            "head": f"layer {row.layer}, head {row.head}",
            "attribution": number(row.attribution, 3),
            "effect": interval(row.effect, row.effect_low, row.effect_high) if is_number(row.effect) else "",
            "direct": number(row.direct, 3),
            "to_reference": percent(row.to_reference) if row.reference_share > 0 else "",
        }
        for row in strongest.head(N_SHOWN).itertuples()
    ]
    n_patched, even = int(table["n_patched"].iloc[0]), float(table["reference_share"].iloc[0])
    about = (
        f"{n_clips} clips lose their {words.event} under the edit. On their own tokens the edit makes the "
        f"{words.event} less likely, compared with what the model plays instead, by {total:.2g} nats per token."
    )
    if n_patched:
        about += (
            f" The strongest heads were chosen in half of the prompts and patched in the others ({n_patched} clips)."
        )
    return {
        "about": about,
        "map": head_map(table, label=f"Attribution to attention heads, nats per token: {_strongest(rows)}."),
        "rows": rows,
        "reference": words.reference if even > 0 else "",
        "even": percent(even) if even > 0 else "",
    }


def _strongest(rows: list[dict[str, str]]) -> str:
    return "; ".join(f"{row['head']} {row['attribution']}" for row in rows[:3]) or "none"
