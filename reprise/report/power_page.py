"""The power of larger studies, as a figure and a separate page."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from reprise.report.figures.curves import Series, xy_plot
from reprise.report.figures.svg import Axis
from reprise.report.numbers import percent
from reprise.report.templating import page_template
from reprise.verdict.power import POWERS


def power_figure(table: pd.DataFrame) -> Markup:
    """How often a study decides, by its number of prompts, next to more seeds for the same prompts."""
    prompts = table[table["axis"] == "prompts"].sort_values("n_clips")
    seeds = table[table["axis"] == "seeds"].sort_values("n_clips")
    series = []
    for rows, name, style, shape in (
        (prompts, "more prompts", "s-target", "circle"),
        (seeds, "more seeds", "s-random_direction", "square"),
    ):
        x, y = rows["n_clips"].tolist(), rows["decides"].tolist()
        none = [float("nan")] * len(x)
        series.append(Series(name, x, y, none, none, [""] * len(x), style, shape, name == "more prompts"))
    points = "; ".join(f"{r.n_clips} clips by {r.axis}: {percent(r.decides)}" for r in table.itertuples())
    return xy_plot(
        series,
        Axis(0.0, 1.06 * float(table["n_clips"].max())),
        Axis(0.0, 1.05),
        label=f"How often a study decides, by its size: {points}",
        x_label="clips",
        y_label="studies that decide",
        y_needed=POWERS[0],
    )


def power_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """The table as text, one row per size."""
    return [
        {
            "size": f"{r.n_prompts} prompts" if r.axis == "prompts" else f"{r.factor:g} times the seeds",
            "clips": str(r.n_clips),
            **{name: percent(getattr(r, name)) for name in ("decides", "passes", "excludes")},
        }
        for r in table.itertuples()
    ]


def render_power(study: str, record: Mapping[str, Any], table: pd.DataFrame) -> str:
    """The page about power, as HTML.

    study: its name. record: `sentence` and `note` of the simulation. table: one row per size of study.
    """
    return page_template("power.html.j2").render(
        study=study,
        sentence=record["sentence"],
        note=record["note"],
        svg=power_figure(table) if len(table) else "",
        rows=power_rows(table) if len(table) else [],
    )
