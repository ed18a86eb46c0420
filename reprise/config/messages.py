"""How a problem with a field is said: in one line, with the field, its value and what is valid.

What is valid is taken from the JSON schema of the model, so that it is written once, where the field is declared.
"""

import difflib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from reprise.config.schema import GROUPS, TOP_LEVEL, Study


class Problem(NamedTuple):
    """`path`: the field, from the study down (none: the text names another file and stands alone); `uses`: the
    fields ("group.field") that the statement rests on."""

    path: tuple[str | int, ...]
    text: str
    uses: tuple[str, ...] = ()


def show(value: Any) -> str:
    """A value as a message shows it: as JSON, and cut off where it is long."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def got_text(value: Any) -> str:
    """What was given for a field, in words."""
    return "missing" if value is None else f"got {show(value)}"


def describe_error(error: Any, path: Sequence[str | int], schema: dict[str, Any]) -> str:
    """One pydantic error as a sentence: the value and what is valid."""
    kind, value = error["type"], error["input"]
    if kind in ("extra_forbidden", "invalid_key"):
        return unknown_field(path[-1], list(_node(path[:-1], schema).get("properties", {})))
    valid = valid_text(_node(path, schema))
    if kind == "missing":
        return f"missing; valid: {valid}"
    got = f"{got_text(value)}: {error['msg']}" if kind == "problem" else got_text(value)
    if kind == "less_than_equal" and _node(path, schema).get("unit") == "s":
        got += " (is this in seconds? it looks like milliseconds or samples)"
    return f"{got}; valid: {valid}"


def unknown_field(key: Any, valid: list[str]) -> str:
    """An unknown field, with the field that was probably meant."""
    owners = [f"{g}.{key}" for g, group in GROUPS.items() if key in group.model_fields]
    close = difflib.get_close_matches(str(key), valid, n=1)
    if valid == list(TOP_LEVEL) and not close and (key in Study.model_fields or owners):
        guess = f"; it is a field of a study: did you mean defaults.{owners[0] if owners else key}?"
    elif close:
        guess = f"; did you mean {close[0]!r}?"
    elif owners:
        guess = f"; did you mean {owners[0]!r}?"
    else:
        guess = ""
    return f"unknown field {str(key)!r}{guess or ';'} valid: {', '.join(valid)}"


def valid_text(node: dict[str, Any]) -> str:
    """What is valid for a field, in words, from its JSON schema."""
    if "valid" in node:
        return node["valid"]
    if "properties" in node:
        return f"a group with the fields {', '.join(node['properties'])}"
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    if "const" in node:
        return str(node["const"])
    if node.get("type") == "array":
        return f"a list, each {valid_text(node['items'])}"
    if node.get("type") == "boolean":
        return "true or false"
    if node.get("type") not in ("number", "integer"):
        return "text"
    limits = [
        f"{sign} {node[key]:g}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if key in node
    ]
    kind = "a whole number" if node["type"] == "integer" else "a number"
    unit = node.get("unit")
    kind = {None: kind, "s": "seconds", "share": "a share, not percent,"}.get(unit, f"{kind} ({unit})")
    return f"{kind} {' and '.join(limits)}".rstrip()


def _node(path: Sequence[str | int], schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a field; the nearest one above it that says what is valid, if the field's own does not."""
    node = best = schema
    for part in path:
        below = node.get("properties", {}).get(part) or node.get("additionalProperties") or node.get("items")
        if isinstance(part, int) and "prefixItems" in node:
            below = node["prefixItems"][min(part, len(node["prefixItems"]) - 1)]
        if not isinstance(below, dict):
            break
        node = schema["$defs"][below["$ref"].rsplit("/", 1)[1]] if "$ref" in below else below
        if "valid" in node or "properties" in node or "valid" not in best:
            best = node
    return best
