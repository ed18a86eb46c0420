"""Axes place values."""

import numpy as np

from reprise.report.figures.svg import Axis, axis_around


def test_axis_places_values_and_keeps_those_outside_on_its_ends() -> None:
    axis = Axis(-1.0, 3.0)
    assert [axis.share(v) for v in (-5, -1, 0, 3, 9)] == [0, 0, 0.25, 1, 1]
    assert axis.ticks(4) == [-1, 0, 1, 2, 3]
    root = Axis(0.0, 4.0, root=True)
    assert root.share(1.0) == 0.5 and root.share(-1.0) == 0.0
    ticks = root.ticks()
    assert ticks[0] == 0 and all(root.share(b) - root.share(a) > 0.125 for a, b in zip(ticks, ticks[1:], strict=False))


def test_axis_around_needs_no_values() -> None:
    for values in ([], [float("nan")], [0.5, 0.5]):
        axis = axis_around(values)
        assert axis.low < axis.high and np.isfinite(axis).all()
