"""How a field of the configuration is declared: with a description, a unit, limits and valid values.

A group of fields is a subclass of `Settings`. Descriptions, units and valid values are part of the JSON schema. Error
messages and the commented defaults take them from there.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

# No clip is longer than this. A larger number must be in milliseconds, samples or frames.
_MAX_S = 600.0


class Settings(BaseModel):
    """A group of fields. Unknown fields are errors, and nothing can be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read `yes` or `true` as the number 1. Only fields declared as bool may be one.
        kind = cls.model_fields[info.field_name or ""].annotation
        if kind is bool or (isinstance(kind, type) and issubclass(kind, Settings)):
            return value
        if _holds_boolean(value):
            raise PydanticCustomError("bool", "a boolean")
        return value


def _holds_boolean(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(map(_holds_boolean, inside))


def unique(values: tuple) -> tuple:
    """The values of a list without repeated values. Raises PydanticCustomError where one is repeated."""
    for value in values:
        if values.count(value) > 1:
            raise PydanticCustomError("problem", "{value} is listed twice", {"value": str(value)})
    return values


def leaf(default: Any, description: str, *, unit: str | None = None, valid: str | None = None, **limits: Any) -> Any:
    """Declare a field.

    Parameters
    ----------
    default
        The default value; `...` for a required field.
    description
        What the field means, as shown in the docs.
    unit
        The unit, such as "s" or "fraction".
    valid
        The valid values in words, where the limits alone do not say it.
    limits
        Limits that pydantic checks: `ge`, `gt`, `le`, `lt`, `min_length` and so on.
    """
    extra: JsonDict = {key: value for key, value in (("unit", unit), ("valid", valid)) if value is not None}
    return Field(default, description=description, json_schema_extra=extra or None, **limits)


def seconds(default: Any, description: str, **limits: Any) -> Any:
    """A field in seconds: from 0 to the longest possible clip, unless `limits` say otherwise."""
    low = {} if "gt" in limits else {"ge": 0}
    return leaf(default, description, unit="s", **{**low, "le": _MAX_S, **limits})


def share(default: float, description: str, **limits: Any) -> Any:
    """A field that is a fraction: from 0 to 1, unless `limits` say otherwise."""
    low = {} if "gt" in limits else {"ge": 0}
    return leaf(default, description, unit="fraction", **{**low, "le": 1, **limits})


Second = Annotated[float, Field(ge=0, le=_MAX_S, json_schema_extra={"unit": "s"})]
