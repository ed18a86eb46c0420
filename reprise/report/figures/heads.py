"""A map of attention heads: one cell per layer and head, darker where more is attributed to it."""

import pandas as pd
from markupsafe import Markup

from reprise.report.figures.cells import Cell, cell_grid


def head_map(table: pd.DataFrame, *, label: str) -> Markup:
    """Draw the heads.

    Parameters
    ----------
    table : DataFrame
        layer, head and attribution, in nats per token. Values below 0 are left white.
    label : str
        The figure in words.

    Returns
    -------
    Markup
        The last layer is at the top.
    """
    n_layers, n_heads = int(table["layer"].max()) + 1, int(table["head"].max()) + 1
    most = max(float(table["attribution"].max()), 1e-12)
    cells = [
        Cell(
            n_layers - 1 - row.layer,
            row.head,
            row.attribution / most,
            f"layer {row.layer}, head {row.head}: {row.attribution:.3f} nats per token",
        )
        for row in table.itertuples()
    ]
    rows = [f"layer {layer}" for layer in reversed(range(n_layers))]
    return cell_grid(cells, rows, [str(head) for head in range(n_heads)], label=label)
