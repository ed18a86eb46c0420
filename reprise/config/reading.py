"""How configuration files and the command line are read, and who of them states a field.

Snakemake merges what the files and `--config` give. Here the same is read once more, so that a key that is given
twice is refused, and a message names who stated the field in question.
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
# Who states fields, given by their places from the top: the first is the one in question, the others bear on it.
Source = Callable[..., str]


class _UniqueKeyLoader(yaml.SafeLoader):
    """yaml keeps the last of two equal keys without a word; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(k, deep=True) for k, _ in node.value if k.tag != "tag:yaml.org,2002:merge"]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> Any:
    """A YAML file as plain builtins. Raises ConfigError where it is none, or says the same key twice."""
    text = read_text(Path(path))
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "not readable as YAML"
        raise ConfigError([f"{path}{where}: {problem}; valid: a YAML file, see config/config.default.yaml"]) from error


def check_command_line(arguments: Sequence[str]) -> None:
    """Raise ConfigError where what is given with `--config` says a key twice: Snakemake takes the last."""
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
    """Who states a field, in words: of configuration files, by name, and what the command line gives (`--config`),
    whoever says most about where it stands; and the command line too where it gives a field that bears on it."""
    of_files = ", ".join(files) or ("" if command_line else "config")

    def source(place: Sequence[str] = (), *bearing: Sequence[str]) -> str:
        here, there = _depth(command_line, place), max((_depth(file, place) for file in files.values()), default=-1)
        given = command_line and (here >= there or any(_depth(command_line, p) == len(p) for p in bearing))
        stated = of_files and (there > here or (there == here < len(place)) or not place)
        return ", ".join(filter(None, [of_files if stated else "", COMMAND_LINE if given else ""])) or of_files

    return source


def _depth(node: Any, place: Sequence[str]) -> int:
    """How many parts of a place below `node` are stated there; of what is no configuration none."""
    for n, part in enumerate(place):
        if isinstance(node, (list, tuple)):
            node = dict(enumerate(node))
        below = {str(key): value for key, value in node.items()} if isinstance(node, Mapping) else {}
        if part not in below:
            return n
        node = below[part]
    return len(place)


def origin(name: str, path: Sequence[str | int], entry: Mapping, defaults: Mapping) -> tuple[str, ...]:
    """The field's place in the file: in the study, or in the defaults if only they state it."""
    where = ["defaults"] if states(defaults, path) and not states(entry, path) else ["studies", name]
    return (*where, *map(str, path))


def states(node: Any, path: Sequence[str | int]) -> bool:
    """Whether there is a field at this place below `node`."""
    for part in path:
        inside = isinstance(node, Mapping) or (isinstance(node, (list, tuple)) and isinstance(part, int))
        if not inside or part not in (node if isinstance(node, Mapping) else range(len(node))):
            return False
        node = node[part]
    return True
