"""A grid of cells, darker where a value is greater: attention heads by layer, or an effect by layer and time."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

from reprise.report.figures.svg import figure, pc, text_at

# At most so many rows and columns have a label, because those of neighbours would touch.
N_LABELS = 16


class Cell(NamedTuple):
    """One cell: its row from the top, its column, how dark it is (0 to 1), a tooltip, and a text inside it."""

    row: int
    column: int
    dark: float
    title: str
    text: str = ""


def cell_grid(
    cells: Iterable[Cell], rows: Sequence[str], columns: Sequence[str], *, label: str, height: int = 16, left: int = 60
) -> Markup:
    """Draw the grid.

    Parameters
    ----------
    cells : iterable of Cell
        The cells. Places without one stay empty.
    rows, columns : sequence of str
        Labels, from the top and from the left.
    label : str
        The figure in words.
    height : int
        Height of a row in pixels.
    left : int
        Pixels for the labels of rows.

    Returns
    -------
    Markup
    """
    body = []
    for cell in cells:
        dark = min(max(cell.dark, 0.0), 1.0)
        x, y = cell.column / len(columns), height * cell.row
        place = f'x="{pc(x)}" y="{y}" width="{pc(0.97 / len(columns))}" height="{height - 1}"'
        title = f"<title>{escape(cell.title)}</title>"
        body.append(f'<rect class="h-cell" fill-opacity="{dark:.2f}" {place}>{title}</rect>')
        if cell.text:
            style = "h-on" if dark > 0.6 else "h-off"
            body.append(text_at(x + 0.485 / len(columns), y + height / 2 + 4, cell.text, style, anchor="middle"))
    for i in range(0, len(rows), 1 + (len(rows) - 1) // N_LABELS):
        body.append(text_at(0, height * i + height / 2 + 4, rows[i], "tick", anchor="end", dx=-6))
    for i in range(0, len(columns), 1 + (len(columns) - 1) // N_LABELS):
        at = (i + 0.485) / len(columns)
        body.append(text_at(at, height * len(rows) + 12, columns[i], "tick", anchor="middle"))
    return figure(body, height=height * len(rows) + 18, label=label, left=left, right=4)
