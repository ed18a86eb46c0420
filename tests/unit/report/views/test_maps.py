"""The map of an edit as the report shows it."""

import re
from types import SimpleNamespace

import pandas as pd

from reprise.report.views.maps import map_view
from tests.unit.report.results_folder import NAME, map_rows

WORDS = SimpleNamespace(event="return", events="returns", an_event="a return")


def view(table: pd.DataFrame) -> dict:
    settings = {"ablation": {"prefix_s": 8.0}}
    study = SimpleNamespace(
        maps={NAME: table}, settings=settings, target=SimpleNamespace(view=SimpleNamespace(words=WORDS))
    )
    return map_view(study, NAME)


def test_all_layers_come_first_then_the_last_one() -> None:
    found = view(map_rows())
    labels = re.findall(r'text-anchor="end">([^<]+)', found["figure"])
    assert labels == ["all layers", "layer 4", "layer 2"]
    assert found["figure"].count("<rect") == 6 and "12 clips were edited at dose 1" in found["about"]
    assert "The most is 75 %, all, 10 to 12 s." in found["figure"]
    assert "layer 2, 10 to 12 s: 0.50 [0.25, 0.75] of the returns lost" in found["figure"]


def test_a_map_without_clips_and_none() -> None:
    assert "it is empty" in view(map_rows().assign(n_clips=0))["about"]
    assert map_view(SimpleNamespace(maps={}), NAME) == {}


def test_the_page_has_it(made: SimpleNamespace) -> None:
    assert "Where and when the edit acts" in made.page
