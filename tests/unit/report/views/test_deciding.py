"""The heads that decide an event as the report tells them."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest

from reprise.report.views.deciding import deciding_view
from tests.unit.report.results_folder import deciding_rows

WORDS = SimpleNamespace(event="return", an_event="a return")


def view(table: pd.DataFrame) -> dict:
    return deciding_view(SimpleNamespace(deciding=table, target=SimpleNamespace(view=SimpleNamespace(words=WORDS))))


def test_the_strongest_heads_are_listed_with_where_they_look() -> None:
    found = view(deciding_rows())
    assert "20 clips with a return" in found["about"] and "0.5 nats per token" in found["about"]
    first, second = found["rows"]
    assert first["head"] == "layer 0, head 1" and first["effect"] == "0.30 [0.10, 0.50]"
    assert first["looks_at"] == "0–1 s" and first["attention"] == "70 %"
    assert second["head"] == "layer 1, head 1" and second["effect"] == ""
    assert found["map"].count("<rect") == 4


def test_a_single_clip_is_told_as_what_it_is() -> None:
    found = view(deciding_rows().assign(n_clips=1, n_patched=0))
    assert "One clip with a return was compared with a clip of its prompt" in found["about"]
    assert "all this is an estimate" in found["about"] and "patched in the others" not in found["about"]


def test_without_clips_it_says_why_and_without_a_table_nothing() -> None:
    nothing = deciding_rows().assign(n_clips=0, n_patched=0, total=float("nan"))
    assert "No clip with a return has another clip of its prompt" in view(nothing)["about"]
    assert view(pd.DataFrame()) == {}


@pytest.mark.parametrize("total", [-0.1, float("nan")])
def test_what_all_heads_do_not_do_is_attributed_to_none(total: float) -> None:
    found = view(deciding_rows().assign(total=total))
    assert "no less likely" in found["about"] and found["map"] == "" and found["rows"] == []


def test_the_page_has_them(made: SimpleNamespace) -> None:
    page = re.sub(r"\s+", " ", made.page)
    assert "Which attention heads decide the return" in page and "layer 0, head 1: 0.400 nats per token" in page
