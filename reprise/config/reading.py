"""Reading configuration files and the command line, and finding which of them sets a field.

Snakemake merges the configuration files and `--config`. This module reads them again, to reject a key that is given
twice, and to name the source of a field in error messages.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from reprise.config.errors import ConfigError, read_text, repeated_columns
from reprise.config.schema import TOP_LEVEL

COMMAND_LINE = "--config"
_GIVEN = re.compile(rf"({'|'.join(TOP_LEVEL)})=(.*)", re.DOTALL)
# Names the source of a field. The first argument is the field's path from the top, the others are paths of related
# fields.
Source = Callable[..., str]


class _UniqueKeyLoader(yaml.SafeLoader):
    """A loader that rejects a key given twice; yaml silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(k, deep=True) for k, _ in node.value if k.tag != "tag:yaml.org,2002:merge"]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file as plain Python values. Raises ConfigError if it is not YAML or has a key twice."""
    text = read_text(Path(path))
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "not readable as YAML"
        raise ConfigError([f"{path}{where}: {problem}; valid: a YAML file, see config/config.default.yaml"]) from error


def check_command_line(arguments: Sequence[str]) -> None:
    """Raise ConfigError if `--config` gives a key twice. Snakemake would silently use the last one."""
    given = [found for found in map(_GIVEN.fullmatch, arguments) if found]
    problems = [
        f"{COMMAND_LINE}: {key} is given twice; valid: once" for key in repeated_columns([g[1] for g in given])
    ]
    for key, text in (found.groups() for found in given):
        try:
            yaml.load(text, _UniqueKeyLoader)
        except yaml.YAMLError as error:
            if isinstance(error, yaml.constructor.ConstructorError):
                problems.append(f"{COMMAND_LINE}: {key}: {error.problem}; valid: each key once")
    if problems:
        raise ConfigError(problems)


def told_by(files: Mapping[str, Any], command_line: Mapping[str, Any]) -> Source:
    """Make a function that names the source of a field, for error messages.

    The source is the one that sets the longest part of the field's path. The command line is named too if it sets a
    related field.

    Parameters
    ----------
    files
        The content of each configuration file, by name.
    command_line
        What `--config` gives, as a mapping like that of a file.

    Returns
    -------
    Source
        A function of the field's path, and optionally of the paths of related fields. It returns the files' names,
        "--config", or both, separated by a comma.
    """
    of_files = ", ".join(files) or ("" if command_line else "config")

    def source(place: Sequence[str] = (), *bearing: Sequence[str]) -> str:
        here, there = _depth(command_line, place), max((_depth(file, place) for file in files.values()), default=-1)
        given = command_line and (here >= there or any(_depth(command_line, p) == len(p) for p in bearing))
        stated = of_files and (there > here or (there == here < len(place)) or not place)
        return ", ".join(filter(None, [of_files if stated else "", COMMAND_LINE if given else ""])) or of_files

    return source


def _depth(node: Any, place: Sequence[str]) -> int:
    """How many leading parts of the path `place` exist below `node`; 0 if `node` is not a mapping or list."""
    for n, part in enumerate(place):
        if isinstance(node, (list, tuple)):
            node = dict(enumerate(node))
        below = {str(key): value for key, value in node.items()} if isinstance(node, Mapping) else {}
        if part not in below:
            return n
        node = below[part]
    return len(place)


def origin(name: str, path: Sequence[str | int], entry: Mapping, defaults: Mapping) -> tuple[str, ...]:
    """The path of a field in the file: under the study, or under `defaults` if only the defaults set it.

    Parameters
    ----------
    name
        The study's name.
    path
        The field's path relative to the study.
    entry, defaults
        The study's own fields, and the fields shared by all studies.

    Returns
    -------
    tuple of str
        The path from the top of the file.
    """
    where = ["defaults"] if states(defaults, path) and not states(entry, path) else ["studies", name]
    return (*where, *map(str, path))


def states(node: Any, path: Sequence[str | int]) -> bool:
    """Whether the path exists below `node`."""
    for part in path:
        inside = isinstance(node, Mapping) or (isinstance(node, (list, tuple)) and isinstance(part, int))
        if not inside or part not in (node if isinstance(node, Mapping) else range(len(node))):
            return False
        node = node[part]
    return True
