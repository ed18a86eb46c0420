"""Dots and intervals lie where their numbers are."""

from reprise.report.figures.intervals import Row, interval_plot
from reprise.report.figures.svg import Axis


def test_interval_plot_draws_values_where_they_are() -> None:
    row, axis = Row("a<b", 0.5, 0.25, 0.75, "x"), Axis(0, 1)
    svg = interval_plot([row], axis, label="l", threshold=0.1)
    assert 'class="whisker" x1="25.00%" x2="75.00%"' in svg
    assert '<svg class="mark " x="50.00%"' in svg
    assert 'class="needed" x1="10.00%"' in svg
    assert "a&lt;b" in svg
    unknown = interval_plot([Row("a", float("nan"), text="not scored")], Axis(0, 1), label="l")
    assert "not scored" in unknown and "mark" not in unknown and "nan" not in unknown
