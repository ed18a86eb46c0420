"""A map of attention heads: one cell per layer and head, darker where more of an effect passes."""

import pandas as pd
from markupsafe import Markup

from reprise.report.figures.cells import Cell, cell_grid
from reprise.report.numbers import percent


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
    cells = [
        Cell(
            n_layers - 1 - row.layer,
            row.head,
            row.share / most,
            f"layer {row.layer}, head {row.head}: {percent(row.share)} of the effect",
        )
        for row in table.itertuples()
    ]
    rows = [f"layer {layer}" for layer in reversed(range(n_layers))]
    return cell_grid(cells, rows, [str(head) for head in range(n_heads)], label=label)
