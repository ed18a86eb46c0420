"""Which attention heads decide an event at the moment it begins, and where do they look?

Degenerate input: without a clip with an event that has a donor, or if all heads together make it no less likely, the
view says so.
"""

from typing import Any

from reprise.report.figures.heads import head_map
from reprise.report.numbers import interval, is_number, number, percent
from reprise.report.results import Results

N_SHOWN = 6


def deciding_view(study: Results) -> dict[str, Any]:
    """The map of the heads, and the strongest of them; {} where they were not looked at."""
    table, words = study.deciding, study.target.view.words
    if table.empty:
        return {}
    n_clips, n_patched = int(table["n_clips"].iloc[0]), int(table["n_patched"].iloc[0])
    if not n_clips:
        return {
            "about": f"No clip with {words.an_event} has another clip of its prompt without one to compare it with.",
            "map": "",
            "rows": [],
        }
    total = float(table["total"].iloc[0])
    if not total > 0:
        return {
            "about": f"What the heads put out in other clips makes the {words.event} no less likely, so nothing can "
            "be attributed to them.",
            "map": "",
            "rows": [],
        }
    strongest = table[table["attribution"] > 0].sort_values("attribution", ascending=False, kind="stable")
    rows = [
        {
            "head": f"layer {row.layer}, head {row.head}",
            "attribution": number(row.attribution, 3),
            "effect": interval(row.effect, row.effect_low, row.effect_high) if is_number(row.effect) else "",
            "looks_at": f"{row.looks_at_s:.0f}–{row.looks_at_s + 1:.0f} s",
            "attention": percent(row.attention),
        }
        for row in strongest.head(N_SHOWN).itertuples()
    ]
    clips = f"{n_clips} clips with {words.an_event} were compared with clips of their"
    if n_clips == 1:
        clips = f"One clip with {words.an_event} was compared with a clip of its"
    about = (
        f"{clips} prompt that has no {words.event}. If all heads put out what they do there, from half a second "
        f"before the {words.event} to its onset, it becomes less likely by {total:.2g} nats per token."
    )
    if n_patched:
        about += f" The strongest were chosen in half of the prompts and patched in the others ({n_patched} clips)."
    else:
        about += (
            " There are too few prompts to choose heads in some and patch them in others: all this is an estimate."
        )
    named = "; ".join(f"{row['head']} {row['attribution']}" for row in rows[:3]) or "none"
    return {"about": about, "map": head_map(table, label=f"Heads that decide, nats per token: {named}."), "rows": rows}
