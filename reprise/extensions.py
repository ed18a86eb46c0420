"""Extensions from other installed packages. A package names them as entry points in its `pyproject.toml`.

Entry points of a group are listed without importing their package. An entry point is imported when it is used.

Nothing heavy is imported here, because the Snakefile imports this at every parse.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

Kind = TypeVar("Kind")


class ExtensionError(ValueError):
    """An extension cannot be used. The message names the entry point, what is wrong and what is valid."""


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, sorted. Raises ExtensionError if two packages use the same name."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        if found.setdefault(point.name, point).value != point.value:
            both = f"{found[point.name].value} and {point.value}"
            raise ExtensionError(f"{group}: {point.name} is {both}; valid: a name that one installed package uses")
    return found


def load(group: str, name: str, kind: type[Kind]) -> Kind:
    """Import the object of an entry point.

    Parameters
    ----------
    group, name : str
        The group and the name of the entry point.
    kind : type
        The class of the object.

    Returns
    -------
    kind

    Raises
    ------
    ExtensionError
        If the object cannot be imported, or is not a `kind`.
    """
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
    """An entry point as text for an error message."""
    return f"{group}: {name} = {installed(group)[name].value}"
