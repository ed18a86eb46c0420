"""Fields of an SAE's description, read strictly: what formats share before any weight is looked at.

Nothing heavy is imported here: the Snakefile asks at every parse which format a folder has.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from reprise.saes.errors import SaeError

TRANSCODER = "a transcoder reconstructs another hook than it reads; valid: an SAE of a residual stream"


def refusal(path: Path, field: str, value: Any, valid: str) -> SaeError:
    return SaeError(f"{path}: {field} is {value!r}; valid: {valid}")


def read_json(path: Path) -> dict[str, Any]:
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SaeError(f"{path}: not JSON ({error})") from None
    if not isinstance(cfg, dict):
        raise SaeError(f"{path}: holds a {type(cfg).__name__}; valid: an object of fields")
    return cfg


def refuse_unknown(path: Path, cfg: dict[str, Any], known: Collection[str]) -> None:
    unknown = sorted(cfg.keys() - set(known))
    if unknown:
        raise SaeError(f"{path}: unknown field {', '.join(unknown)}: it may change the maths, so it is not ignored")


def positive(cfg: dict[str, Any], field: str, path: Path) -> int:
    value = cfg.get(field)
    if type(value) is not int or value < 1:
        raise refusal(path, field, value, "a positive integer")
    return value
