"""The least study, and what is said of one that states more."""

import copy

import pytest

from reprise.config.errors import ConfigError
from reprise.config.schema import Config
from reprise.config.validation import validate

STUDY = {"model": {"name": "facebook/musicgen-small"}, "saes": {2: "sae"}}


def checked(*, defaults: dict | None = None, **study: object) -> Config:
    raw = {"studies": {"planner": {**copy.deepcopy(STUDY), **study}}, **({"defaults": defaults} if defaults else {})}
    return validate(raw, source="config.yaml", check_files=False)


def problems(*, defaults: dict | None = None, **study: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        checked(defaults=defaults, **study)
    return caught.value.problems
