"""The organisms' recipe: one field can be changed by itself, and what there is not is refused."""

import pytest
import yaml

from reprise.config.errors import ConfigError
from reprise.organisms.lm import OBJECTIVES
from reprise.organisms.recipe import recipe_of
from reprise.organisms.score import KINDS
from tests.places import ROOT

SHIPPED = yaml.safe_load((ROOT / "config" / "organisms.yaml").read_text())


def test_the_shipped_recipe_is_valid_and_of_organisms_that_can_be_trained() -> None:
    found = recipe_of(SHIPPED, None, source="c.yaml")
    assert found == SHIPPED and set(found["derived"]) <= set(OBJECTIVES)
    assert set(found["derived_clips"]) == {"plain", "tunes", *KINDS}


def test_one_organism_can_be_changed_and_the_others_stay() -> None:
    found = recipe_of(SHIPPED, {"derived": {"recaller": {"steps": 9}}, "k": 8}, source="c.yaml")
    # It still starts from the planner.
    shipped = SHIPPED["derived"]["recaller"]
    assert found["derived"]["recaller"] == {**shipped, "steps": 9} != shipped and found["k"] == 8
    assert {**found["derived"], "recaller": shipped} == SHIPPED["derived"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (3, "c.yaml: organisms: got 3; valid: fields of config/organisms.yaml"),
        ({"derived_steps": 5}, "c.yaml: organisms.derived_steps: unknown field 'derived_steps'"),
        ({"k": 0}, "c.yaml: organisms.k: got 0; valid: a whole number >= 1"),
        ({"derived": {"dreamer": {}}}, "c.yaml: organisms.derived: unknown entries dreamer; valid: clockwork, loop"),
        (
            {"derived": {"wild": {"clips": "songs", "steps": 9}}},
            "c.yaml: organisms.derived.wild.clips: got 'songs'; valid: one of plain",
        ),
        ({"derived_clips": {"plain": 0}}, "c.yaml: organisms.derived_clips.plain: got 0; valid"),
        ({"derived_clips": {"songs": 5}}, "c.yaml: organisms.derived_clips: unknown entries songs; valid: plain"),
        ({"derived": {"wild": {"clips": "tunes", "steps": 0}}}, "c.yaml: organisms.derived.wild.steps: got 0; valid"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(given: object, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        recipe_of(SHIPPED, given, source="c.yaml")
    assert line in str(refused.value)
