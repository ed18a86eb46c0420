"""How a field of the configuration is declared: with a description, its unit, its limits and what is valid.

A group of fields is a `Settings`. Descriptions, units and what is valid stand in the JSON schema, and messages and
the commented defaults take them from there.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

# No clip is longer than this: a larger number is milliseconds, samples or frames.
_MAX_S = 600.0


class Settings(BaseModel):
    """A group of fields; unknown fields are errors, and nothing can be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read `yes` or `true` as the number 1; only a field declared as a truth value may be one.
        kind = cls.model_fields[info.field_name or ""].annotation
        if kind is bool or (isinstance(kind, type) and issubclass(kind, Settings)):
            return value
        if _holds_boolean(value):
            raise PydanticCustomError("bool", "a truth value")
        return value


def _holds_boolean(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(map(_holds_boolean, inside))


def unique(values: tuple) -> tuple:
    """The values of a list, in which none may be there twice."""
    for value in values:
        if values.count(value) > 1:
            raise PydanticCustomError("problem", "{value} is there twice", {"value": str(value)})
    return values


def leaf(default: Any, description: str, *, unit: str | None = None, valid: str | None = None, **limits: Any) -> Any:
    """A field with a description, its unit, and (where the limits don't say it) what is valid in words."""
    extra = {key: value for key, value in (("unit", unit), ("valid", valid)) if value is not None}
    return Field(default, description=description, json_schema_extra=extra or None, **limits)


def seconds(default: Any, description: str, **limits: Any) -> Any:
    """A field in seconds: 0 or more, unless its limits say otherwise, and no more than a clip can have."""
    low = {} if "gt" in limits else {"ge": 0}
    return leaf(default, description, unit="s", **{**low, "le": _MAX_S, **limits})


def share(default: float, description: str, **limits: Any) -> Any:
    """A field that is a share: from 0 to 1, unless its limits say otherwise."""
    low = {} if "gt" in limits else {"ge": 0}
    return leaf(default, description, unit="share", **{**low, "le": 1, **limits})


Second = Annotated[float, Field(ge=0, le=_MAX_S, json_schema_extra={"unit": "s"})]
