"""The table of candidates tells which latents come back in SAEs from other seeds."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest

from reprise.report.views.candidates import found_again, seeds_text


@pytest.fixture
def study() -> SimpleNamespace:
    """As much of the results as the texts need."""
    rows = [(0, 1, 0.9), (1, 1, 0.2), (2, 1, 0.7), (0, 2, 0.95), (1, 2, 0.71), (2, 2, 0.1)]
    return SimpleNamespace(seeds={2: pd.DataFrame(rows, columns=["latent", "seed", "cosine"])})


def test_latents_are_counted_over_all_other_saes(study: SimpleNamespace) -> None:
    assert found_again(study, 2, [0]) == "2 of 2" and found_again(study, 2, [0, 1]) == "3 of 4"


def test_a_direction_and_a_layer_with_one_sae_say_nothing(study: SimpleNamespace) -> None:
    assert found_again(study, 2, []) == "" and found_again(study, 4, [0]) == ""
    assert seeds_text(SimpleNamespace(seeds={})) == ""


def test_the_page_says_it_beside_all_latents(made: SimpleNamespace) -> None:
    page = re.sub(r"\s+", " ", made.page)
    assert "Latents found again" in page and "1 of 2" in page
    assert "3 SAEs were trained for each layer." in page and "the share found again is 25 % at layer 2." in page
