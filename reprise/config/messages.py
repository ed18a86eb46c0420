"""Error messages about fields: one line each, with the field, its value and what is valid.

What is valid comes from the JSON schema of the model. So it is written only once, where the field is declared.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reprise.config.schema import GROUPS, TOP_LEVEL, Study


class Problem(NamedTuple):
    """A problem with a field.

    Attributes
    ----------
    path
        The field, relative to the study. Empty if the text names another file and needs no field.
    text
        The message, without the field.
    uses
        The fields ("group.field") that the message depends on.
    """

    path: tuple[str | int, ...]
    text: str
    uses: tuple[str, ...] = ()


def show(value: Any) -> str:
    """A value as messages show it: as JSON, shortened if it is long."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def got_text(value: Any) -> str:
    """The given value of a field, in words."""
    return "missing" if value is None else f"got {show(value)}"


def describe_error(error: Any, path: Sequence[str | int], schema: Mapping[str, Any]) -> str:
    """Describe one pydantic error: the given value and what is valid.

    Parameters
    ----------
    error
        One item of `ValidationError.errors()`.
    path
        The field's path in the schema.
    schema
        The JSON schema of the model.

    Returns
    -------
    str
        The message, without the field.
    """
    kind, value = error["type"], error["input"]
    if kind in ("extra_forbidden", "invalid_key"):
        return unknown_field(path[-1], list(_node(path[:-1], schema).get("properties", {})))
    valid = valid_text(_node(path, schema))
    if kind == "missing":
        return f"missing; valid: {valid}"
    if kind == "extension":
        return f"{got_text(value)}: {error['msg']}"
    got = f"{got_text(value)}: {error['msg']}" if kind == "problem" else got_text(value)
    if kind == "less_than_equal" and _node(path, schema).get("unit") == "s":
        got += " (is this in seconds? it looks like milliseconds or samples)"
    return f"{got}; valid: {valid}"


def unknown_field(key: Any, valid: list[str]) -> str:
    """The message about an unknown field, with the field that was probably meant."""
    owners = [f"{g}.{key}" for g, group in GROUPS.items() if key in group.model_fields]
    close = difflib.get_close_matches(str(key), valid, n=1)
    if valid == list(TOP_LEVEL) and not close and (key in Study.model_fields or owners):
        guess = f"; it belongs to a study: did you mean defaults.{owners[0] if owners else key}?"
    elif close:
        guess = f"; did you mean {close[0]!r}?"
    elif owners:
        guess = f"; did you mean {owners[0]!r}?"
    else:
        guess = ""
    return f"unknown field {str(key)!r}{guess or ';'} valid: {', '.join(valid)}"


def valid_text(node: Mapping[str, Any]) -> str:
    """The valid values of a field, in words, from its JSON schema."""
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
    kind = {None: kind, "s": "seconds", "fraction": "a fraction, not percent,"}.get(unit, f"{kind} ({unit})")
    return f"{kind} {' and '.join(limits)}".rstrip()


def _node(path: Sequence[str | int], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema of a field, or of the nearest parent that says what is valid if the field's own does not."""
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
