"""Where and when does an edit of a candidate act?

Degenerate input: a candidate that did not pass has no map. If no clip has its event untouched, the view says so.
"""

from typing import Any

from reprise.report.figures.cells import Cell, cell_grid
from reprise.report.numbers import interval, percent
from reprise.report.results import Results


def map_view(study: Results, name: str) -> dict[str, Any]:
    """The map of a candidate; {} for one without."""
    if name not in study.maps:
        return {}
    table, words = study.maps[name], study.target.view.words
    n_clips = int(table["n_clips"].max()) if len(table) else 0
    if not n_clips:
        return {"about": f"No clip of the map has {words.an_event} untouched, so it is empty.", "figure": ""}
    places = list(dict.fromkeys(table["where"]))
    # The last layer is at the top, and all layers at once above it.
    rows = [*(p for p in reversed(places) if p != "all"), *(p for p in places if p == "all")]
    rows = sorted(rows, key=lambda place: place != "all")
    windows = list(dict.fromkeys(zip(table["from_s"], table["to_s"], strict=True)))
    cells = []
    for row in table.itertuples():
        found = interval(row.effect, row.effect_low, row.effect_high)
        title = f"{row.where}, {row.from_s:g} to {row.to_s:g} s: {found} of the {words.events} lost, damage "
        title += f"{row.damage:.3f} nats per token"
        at = windows.index((row.from_s, row.to_s))
        cells.append(Cell(rows.index(row.where), at, row.effect, title, percent(row.effect)))
    best = table.loc[table["effect"].idxmax()]
    label = f"Fall in the rate of {words.events} by layer and edited time. The most is {percent(best['effect'])}, "
    label += f"{best['where']}, {best['from_s']:g} to {best['to_s']:g} s."
    names = ["all layers" if place == "all" else place for place in rows]
    columns = [f"{a:g}–{b:g}" for a, b in windows]
    prefix_s = study.settings["ablation"]["prefix_s"]
    about = (
        f"{n_clips} clips were edited at dose 1 in one window of time only. The continuation begins at {prefix_s:g} s."
    )
    return {"about": about, "figure": cell_grid(cells, names, columns, label=label, height=28, left=76)}
