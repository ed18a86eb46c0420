"""Calibration: the same study repeated on models whose answer is known.

A run is a separate study, named `calibration/<organism>-<number>`. Its name decides which prompts it draws, and its
seeds are not used by any other run. It is judged by the same thresholds as every study. `reprise/verdict/confusion.py`
counts the verdicts. The Snakefile imports this module every time it is parsed, so nothing heavy is imported here.

Degenerate input: if fewer prompts are listed than a run draws, it uses all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from reprise.config.errors import ConfigError
from reprise.config.fields import Settings
from reprise.config.overrides import overridden
from reprise.config.prompts import Prompt
from reprise.identity import stable_fraction
from reprise.organisms.truth import GROUND_TRUTH


class CalibrationSettings(Settings):
    """Fields of config/calibration.yaml."""

    runs: int = Field(ge=1)
    prompts: str = Field(min_length=1)
    prompts_per_run: int = Field(ge=2)
    seeds_per_run: int = Field(ge=1)
    first_seed: int = Field(ge=0)
    organisms: dict[str, str] = Field(min_length=1, json_schema_extra={"valid": "organism: its directory"})
    sae_layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    study: dict[str, Any] = Field(json_schema_extra={"valid": "fields of a study"})
    own: dict[str, dict[str, Any]] = Field(json_schema_extra={"valid": "organism: fields of its studies"})


def calibration_settings(shipped: Mapping[str, Any], given: Any, *, source: str) -> dict[str, Any]:
    """config/calibration.yaml, with the fields that a configuration sets instead.

    Parameters
    ----------
    shipped : mapping
        The fields of config/calibration.yaml.
    given : mapping or None
        The fields that replace them.
    source : str
        The configuration's name in error messages.

    Raises
    ------
    ConfigError
        For fields that are not valid, and for organisms whose answer is not known.
    """
    merged = overridden("calibration", shipped, given, fields=CalibrationSettings, source=source)
    for field in ("organisms", "own"):
        if unknown := merged[field].keys() - GROUND_TRUTH.keys():
            valid = ", ".join(GROUND_TRUTH)
            raise ConfigError(
                [f"{source}: calibration.{field}: {', '.join(sorted(unknown))} has no known answer; valid: {valid}"]
            )
    return merged


def run_names(asked: Mapping[str, Any]) -> list[str]:
    """Names of all runs: all of the first organism, then of the next. asked: the fields of config/calibration.yaml."""
    return [f"calibration/{organism}-{run:02d}" for organism in asked["organisms"] for run in range(asked["runs"])]


def parse_run(name: str) -> tuple[str, int]:
    """(organism, number) of a run's name.

    Raises ValueError if the name is not one of a run.
    """
    folder, _, run = name.partition("/")
    organism, _, number = run.rpartition("-")
    if folder != "calibration" or not organism or not number.isdigit():
        raise ValueError(f"calibration: {name!r} is not a run; valid: calibration/<organism>-<number>")
    return organism, int(number)


def draw(prompts: Sequence[Prompt], n: int, name: str) -> list[Prompt]:
    """`n` of the prompts, drawn by the run's name, in their original order."""
    chosen = sorted(prompts, key=lambda p: stable_fraction(f"{name} {p.prompt_id}"))[:n]
    return [p for p in prompts if p in chosen]


def run_settings(asked: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of a run's study. asked: the fields of config/calibration.yaml."""
    organism, run = parse_run(name)
    folder = asked["organisms"][organism]
    first = asked["first_seed"] + run * asked["seeds_per_run"]
    return {
        **asked["study"],
        **asked["own"].get(organism, {}),
        "model": {"name": folder},
        "saes": {layer: f"{folder}/sae/layer{layer}" for layer in asked["sae_layers"]},
        "prompts": asked["prompts"],
        "seeds": list(range(first, first + asked["seeds_per_run"])),
    }
