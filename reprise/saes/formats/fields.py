"""Read an SAE's description strictly. Formats share these functions, which read no weights.

Nothing heavy is imported here: the Snakefile finds the format of a folder at every parse.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from reprise.saes.errors import SaeError

TRANSCODER = "a transcoder reads one hook and reconstructs another; valid: an SAE of a residual stream"


def refusal(path: Path, field: str, value: Any, valid: str) -> SaeError:
    """The error for an invalid value.

    Parameters
    ----------
    path : Path
        The description.
    field, value : str, object
        Name and value of the field.
    valid : str
        What is valid, in words.

    Returns
    -------
    SaeError
        "path: field is value; valid: ...", to be raised by the caller.
    """
    return SaeError(f"{path}: {field} is {value!r}; valid: {valid}")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises SaeError if the file is not JSON or holds no object."""
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SaeError(f"{path}: not JSON ({error})") from None
    if not isinstance(cfg, dict):
        raise SaeError(f"{path}: holds a {type(cfg).__name__}; valid: an object of fields")
    return cfg


def refuse_unknown(path: Path, cfg: dict[str, Any], known: Collection[str]) -> None:
    """Check that a description has known fields only.

    Parameters
    ----------
    path, cfg : Path, dict
        The description and its fields.
    known : collection of str
        Names of the known fields.

    Raises
    ------
    SaeError
        If another field is there.
    """
    unknown = sorted(cfg.keys() - set(known))
    if unknown:
        raise SaeError(
            f"{path}: unknown field {', '.join(unknown)}; it could affect the computation, so it is rejected"
        )


def positive(cfg: dict[str, Any], field: str, path: Path) -> int:
    """The value of a field that must be a positive integer.

    Parameters
    ----------
    cfg, path : dict, Path
        The fields of the description, and its path for the message.
    field : str
        Name of the field.

    Returns
    -------
    int

    Raises
    ------
    SaeError
        If the field is missing, not an integer or below 1.
    """
    value = cfg.get(field)
    if type(value) is not int or value < 1:
        raise refusal(path, field, value, "a positive integer")
    return value
