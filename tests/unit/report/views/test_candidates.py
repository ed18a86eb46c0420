"""The table of candidates tells which latents come back in SAEs from other seeds."""

from typing import Any

import pandas as pd
import pytest

from reprise.report.views.candidates import found_again, seeds_text


class Study:
    """As much of the results as the texts need."""

    def __init__(self, seeds: dict[int, pd.DataFrame]) -> None:
        self.seeds = seeds


@pytest.fixture
def study() -> Any:
    rows = [(0, 1, 0.9), (1, 1, 0.2), (2, 1, 0.7), (0, 2, 0.95), (1, 2, 0.71), (2, 2, 0.1)]
    return Study({2: pd.DataFrame(rows, columns=["latent", "seed", "cosine"])})


def test_latents_are_counted_over_all_other_saes(study: Any) -> None:
    assert found_again(study, 2, [0]) == "2 of 2" and found_again(study, 2, [0, 1]) == "3 of 4"


def test_a_direction_and_a_layer_with_one_sae_say_nothing(study: Any) -> None:
    assert found_again(study, 2, []) == "" and found_again(study, 4, [0]) == ""
    assert seeds_text(Study({})) == ""


def test_all_latents_are_what_to_compare_with(study: Any) -> None:
    assert "3 SAEs were trained for each layer." in seeds_text(study) and "67 % of layer 2" in seeds_text(study)
