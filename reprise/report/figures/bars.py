"""Bars: the parts of a whole, and the number of passages that begin at each time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from reprise.report.figures.svg import Axis, figure, line, rect, text_at, time_ticks
from reprise.report.numbers import percent
from reprise.targets.view import Words


def share_bar(parts: Sequence[tuple[str, str, float]], *, label: str) -> Markup:
    """One bar of (style, name, fraction) parts that add up to 1."""
    body, x = [], 0.0
    for style, name, share in parts:
        body.append(rect(x, x + share, 0, 16, style, f"{name}: {percent(share)}"))
        x += share
    return figure(body, height=16, label=label)


def onset_figure(
    events: pd.DataFrame,
    duration_s: float,
    words: Words,
    reference: tuple[float, float] | None = None,
    *,
    bin_s: float = 0.5,
) -> Markup:
    """How many accepted and rejected events begin in each bin, over all clips.

    Parameters
    ----------
    events : DataFrame
        One row per candidate with onset_s and accepted.
    duration_s : float
        Length of the clips in seconds.
    words : Words
        The words of the target.
    reference : tuple of float, optional
        Start and end of the events' reference in seconds, if it is the same in all clips. It is framed.
    bin_s : float
        Width of a bin in seconds.

    Returns
    -------
    Markup
    """
    edges = np.arange(0, duration_s + bin_s, bin_s)
    ok = events["accepted"].astype(bool)
    accepted, rejected = (np.histogram(events.loc[mask, "onset_s"], edges)[0] for mask in (ok, ~ok))
    height, top = 110, 8
    time, count = Axis(0.0, float(edges[-1])), Axis(0.0, float(max(1, (accepted + rejected).max(initial=1))))
    body = []
    for tick in count.ticks(3):
        y = top + height * (1 - count.share(tick))
        body += [line(0, y, 1, y, "grid"), text_at(0, y + 4, f"{tick:g}", "tick", anchor="end", dx=-6)]
    inset_s = 0.07 * bin_s
    for i, edge_s in enumerate(edges[:-1]):
        x1, x2 = time.share(edge_s + inset_s), time.share(edge_s + bin_s - inset_s)
        base = float(top + height)
        for counts, style, name in ((accepted, "b-yes", f"valid {words.events}"), (rejected, "b-no", "rejected")):
            if counts[i]:
                tall = height * count.share(counts[i])
                base -= tall
                title = f"{counts[i]} {name} begin at {edge_s:g}–{edge_s + bin_s:g} s"
                body.append(rect(x1, x2, base, tall, style, title))
    if reference:
        start, stop = map(time.share, reference)
        body += [
            rect(start, stop, top, height, "w-reference"),
            text_at(start, top + 14, words.reference, "t-reference", dx=5),
        ]
    body.append(line(0, top + height, 1, top + height, "axis"))
    body += time_ticks(time, top + height + 15)
    label = f"Onsets over time: {int(accepted.sum())} valid {words.events}, {int(rejected.sum())} rejected candidates."
    return figure(body, height=top + height + 20, label=label, left=30, right=10)
