"""Numbers as text."""

import pytest

from reprise.report.numbers import number, seconds_text


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (0.2149, 2, False, "0.21"),
        (-0.2149, 2, True, "−0.21"),
        (0.2149, 2, True, "+0.21"),
        (-0.001, 2, True, "0.00"),
        (float("nan"), 2, False, "—"),
        (None, 2, False, "—"),
        (float("inf"), 2, False, "—"),
        (41.0, 0, False, "41"),
    ],
)
def test_number(value: float | None, digits: int, sign: bool, text: str) -> None:
    assert number(value, digits, sign=sign) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.25, "4.2 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_seconds_text(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
