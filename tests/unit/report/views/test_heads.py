"""Attention heads as the report tells them."""

import re
from types import SimpleNamespace

import pandas as pd

from reprise.report.views.heads import heads_view
from tests.unit.report.results_folder import NAME, heads_rows

WORDS = SimpleNamespace(event="return", reference="motif")


def view(table: pd.DataFrame) -> dict:
    study = SimpleNamespace(heads={NAME: table}, target=SimpleNamespace(view=SimpleNamespace(words=WORDS)))
    return heads_view(study, NAME)


def test_the_strongest_heads_are_listed_with_their_parts() -> None:
    found = view(heads_rows())
    assert "20 clips lose their return" in found["about"] and "0.6 nats per token" in found["about"]
    assert [row["head"] for row in found["rows"]] == ["layer 2, head 0", "layer 2, head 1"]
    first, second = found["rows"]
    assert first["attribution"] == "0.300" and first["direct"] == "0.270" and first["effect"] == "0.25 [0.20, 0.30]"
    assert second["effect"] == "" and second["to_reference"] == "80 %"
    assert found["even"] == "18 %"
    # One cell a head; the strongest one is the darkest.
    assert found["map"].count("<rect") == 6 and found["map"].count('fill-opacity="1.00"') == 1


def test_without_clips_it_says_why() -> None:
    table = heads_rows()
    assert "No clip loses its return" in view(table.assign(n_clips=0, total=float("nan")))["about"]
    assert "no less likely" in view(table.assign(total=-0.1))["about"]


def test_a_target_without_a_reference_says_nothing_of_copying() -> None:
    found = view(heads_rows().assign(reference_share=0.0))
    assert found["reference"] == found["even"] == "" and found["rows"][0]["to_reference"] == ""


def test_the_page_has_them(made: SimpleNamespace) -> None:
    page = re.sub(r"\s+", " ", made.page)
    assert "Which attention heads pass it on" in page and "Attention to the motif" in page
    assert "layer 2, head 0: 0.300 nats per token" in page
