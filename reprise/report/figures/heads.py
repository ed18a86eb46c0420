"""A map of attention heads: one cell per layer and head, darker where more of an effect passes."""

from html import escape

import pandas as pd
from markupsafe import Markup

from reprise.report.figures.svg import figure, pc, text_at
from reprise.report.numbers import percent

CELL = 16


def head_map(table: pd.DataFrame, *, label: str) -> Markup:
    """Draw the heads.

    Parameters
    ----------
    table : DataFrame
        layer, head, and share: the part of the effect that is attributed to the head. Parts below 0 are left white.
    label : str
        The figure in words.

    Returns
    -------
    Markup
        The last layer is at the top.
    """
    n_layers, n_heads = int(table["layer"].max()) + 1, int(table["head"].max()) + 1
    most = max(float(table["share"].max()), 1e-12)
    body = []
    for row in table.itertuples():
        y = CELL * (n_layers - 1 - row.layer)
        dark = max(0.0, row.share / most)
        title = escape(f"layer {row.layer}, head {row.head}: {percent(row.share)} of the effect")
        place = f'x="{pc(row.head / n_heads)}" y="{y}" width="{pc(0.94 / n_heads)}" height="{CELL - 1}"'
        body.append(f'<rect class="h-cell" fill-opacity="{dark:.2f}" {place}><title>{title}</title></rect>')
    # Labels of neighbouring rows and columns would touch in a large model.
    every = 1 + (n_layers - 1) // 16
    for layer in range(0, n_layers, every):
        body.append(text_at(0, CELL * (n_layers - layer) - 4, f"layer {layer}", "tick", anchor="end", dx=-6))
    for head in range(0, n_heads, 1 + (n_heads - 1) // 16):
        at = (head + 0.47) / n_heads
        body.append(text_at(at, CELL * n_layers + 12, str(head), "tick", anchor="middle"))
    return figure(body, height=CELL * n_layers + 18, label=label, left=60, right=4)
