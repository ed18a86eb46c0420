"""The recipe of the model organisms: config/organisms.yaml, with the fields that a configuration sets instead.

The Snakefile imports this module every time it is parsed, so nothing heavy is imported here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from reprise.config.errors import ConfigError
from reprise.config.fields import Settings
from reprise.config.overrides import overridden

ORGANISMS = ("planner", "improviser")


class Derived(Settings):
    """How an organism is trained that shares the shipped codec."""

    start: Literal["planner", "improviser"] | None = None
    clips: str = Field(min_length=1)
    steps: int = Field(ge=1)


class Recipe(Settings):
    """Fields of config/organisms.yaml."""

    seed: int = Field(ge=0)
    codec_steps: int = Field(ge=1)
    n_clips: int = Field(ge=1)
    n_parts: int = Field(ge=1)
    base_steps: int = Field(ge=1)
    lm_steps: int = Field(ge=1)
    lm_batch: int = Field(ge=2)
    sae_layers: tuple[int, ...] = Field(min_length=1)
    sae_clips: int = Field(ge=1)
    sae_planned_fraction: float = Field(ge=0, le=1)
    d_sae: int = Field(ge=1)
    k: int = Field(ge=1)
    eval_clips: int = Field(ge=1)
    derived: dict[str, Derived]
    derived_clips: dict[str, Annotated[int, Field(ge=1)]]
    held_out_tunes: int = Field(ge=1)


def recipe_of(shipped: Mapping[str, Any], given: Any, *, source: str) -> dict[str, Any]:
    """The recipe.

    Parameters
    ----------
    shipped : mapping
        The fields of config/organisms.yaml.
    given : mapping or None
        The fields that replace them. Of `derived`, only the fields of each organism that are named, and of
        `derived_clips` only the entries.
    source : str
        The configuration's name in error messages.

    Raises
    ------
    ConfigError
        For fields that are not valid, and for organisms and kinds of clips that there are not.
    """
    if isinstance(given, Mapping):
        for field in ("derived", "derived_clips"):
            if isinstance(mine := given.get(field), Mapping):
                if unknown := mine.keys() - shipped[field].keys():
                    raise ConfigError(
                        [
                            f"{source}: organisms.{field}: unknown entries {', '.join(sorted(unknown))}; "
                            f"valid: {', '.join(shipped[field])}"
                        ]
                    )
                given = {**given, field: {**shipped[field], **_filled(mine, shipped[field])}}
    found = overridden("organisms", shipped, given, fields=Recipe, source=source)
    for name, how in found["derived"].items():
        if how["clips"] not in found["derived_clips"]:
            raise ConfigError(
                [
                    f"{source}: organisms.derived.{name}.clips: got {how['clips']!r}; "
                    f"valid: one of {', '.join(found['derived_clips'])}"
                ]
            )
    return found


def _filled(given: Mapping[str, Any], shipped: Mapping[str, Any]) -> dict[str, Any]:
    """The given entries; those that are mappings, with the shipped fields that they do not name."""
    return {name: {**shipped[name], **of} if isinstance(of, Mapping) else of for name, of in given.items()}
