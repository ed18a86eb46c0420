"""What other installed packages add: they name it as an entry point, a line in their `pyproject.toml`.

An entry point is found by its group without importing the package that has it, and imported only when it is asked for.

Nothing heavy is imported here: the Snakefile asks this at every parse.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

Kind = TypeVar("Kind")


class ExtensionError(ValueError):
    """What an installed package adds cannot be used: names the entry point, what is wrong and what is valid."""


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group, by name, sorted. Raises ExtensionError where two packages use one name."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        if found.setdefault(point.name, point).value != point.value:
            both = f"{found[point.name].value} and {point.value}"
            raise ExtensionError(f"{group}: {point.name} is {both}; valid: a name that one installed package uses")
    return found


def load(group: str, name: str, kind: type[Kind]) -> Kind:
    """What an entry point names, which is a `kind`. Raises ExtensionError where it is not, or cannot be imported."""
    point = installed(group)[name]
    try:
        loaded = point.load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ExtensionError(f"{refused(group, name)} cannot be imported ({why}); valid: module:NAME") from error
    if not isinstance(loaded, kind):
        raise ExtensionError(f"{refused(group, name)} is a {type(loaded).__name__}; valid: a {kind.__name__}")
    return loaded


def refused(group: str, name: str) -> str:
    """An entry point as an error names it."""
    return f"{group}: {name} = {installed(group)[name].value}"
