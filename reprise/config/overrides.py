"""Fields of a shipped file that a configuration sets instead: `calibration` and `organisms`.

Degenerate input: nothing given leaves the shipped fields.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import ConfigError
from reprise.config.fields import Settings
from reprise.config.messages import describe_error


def overridden(
    name: str, shipped: Mapping[str, Any], given: Any, *, fields: type[Settings], source: str
) -> dict[str, Any]:
    """The fields of config/<name>.yaml, with those that a configuration sets under `name`.

    Parameters
    ----------
    name : str
        The key in the configuration.
    shipped : mapping
        The fields of the shipped file.
    given : mapping or None
        The fields that replace them.
    fields : type
        The fields that there are.
    source : str
        The configuration's name in error messages.

    Raises
    ------
    ConfigError
        For fields that are not valid.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError([f"{source}: {name}: got {given!r}; valid: fields of config/{name}.yaml"])
    merged = {**shipped, **(given or {})}
    try:
        fields.model_validate(merged)
    except ValidationError as error:
        schema = fields.model_json_schema()
        lines = [
            f"{source}: {'.'.join(map(str, (name, *e['loc'])))}: {describe_error(e, e['loc'], schema)}"
            for e in error.errors(include_url=False)
        ]
        raise ConfigError(lines) from None
    return merged
