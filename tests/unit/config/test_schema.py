"""The model: defaults, what it refuses, and that other modules have the same fields."""

import pytest

from reprise.config.schema import VerdictSettings
from reprise.targets.recurrence.detection import EventSettings
from reprise.verdict.preregistration import Thresholds
from tests.unit.config.studies import checked, problems


def test_defaults_fill_a_study_that_states_only_what_it_must() -> None:
    study = checked().studies["planner"]
    assert study.generation.duration_s == 16.0
    assert study.seeds == (0, 1, 2, 3)
    assert study.horizons == {"local": (0.5, 2.0), "medium": (2.0, 4.0), "long": (4.0, 8.0)}
    assert study.longer_roles == ("medium", "long")
    assert study.hook_layers == study.sae_layers == (2,)


def test_a_validated_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        checked().studies["planner"].generation.top_k = 3  # type: ignore[misc]


def test_a_truth_value_inside_a_horizon_is_none() -> None:
    (line,) = problems(horizons={"local": [True, 2], "long": [4, 8]})
    assert "horizons" in line and "true" in line


def test_event_fields_are_those_of_the_detector_with_its_defaults() -> None:
    about_the_motif = {"motif", "motif_start_s", "motif_duration_s", "others"}
    events = checked().studies["planner"].events.model_dump(exclude=about_the_motif)
    assert events == EventSettings()._asdict(), "config.EventSettings and recurrence.EventSettings have drifted apart"


def test_verdict_fields_are_the_thresholds_of_the_gates() -> None:
    assert {*VerdictSettings.model_fields, "alpha"} == set(Thresholds._fields)
