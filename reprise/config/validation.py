"""Validate a configuration and turn it into the typed model, before any job starts.

First, each study is merged with the defaults. Then its fields are checked one by one (`reprise/config/schema.py`),
against each other (`cross_checks.py`), and against the files that they name (`file_checks.py`).

All problems are collected. A `ConfigError` has one line per problem, with the file, the field, the value and what is
valid. Degenerate input is an error: an empty file, no study, a study without a model or an SAE, or no prompts.

The Snakefile imports this at every parse, so it imports nothing heavier than pydantic and yaml.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reprise.config.cross_checks import cross_problems, unused_problems
from reprise.config.errors import ConfigError
from reprise.config.file_checks import file_problems
from reprise.config.messages import Problem, describe_error, got_text, show, unknown_field
from reprise.config.reading import Source, origin, read_yaml
from reprise.config.renamed import with_new_names
from reprise.config.schema import GROUPS, TOP_LEVEL, Config, ReportSettings, Study, group_of
from reprise.targets.registry import RECURRENCE, is_target

_STUDY_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
# Directories under results/ that are not studies.
_RESERVED_NAMES = ("report", "logs", "benchmarks", "corpora", "organisms", "calibration", "site")


def load_config(path: str | Path, *, base_dir: str | Path = ".", check_files: bool = True) -> Config:
    """Read and validate a YAML file.

    Parameters
    ----------
    path
        The configuration file.
    base_dir
        Directory that the paths in the file are relative to.
    check_files
        Also check the files that the configuration names; see `validate`.

    Returns
    -------
    Config
        The validated configuration, with the defaults merged into its studies.

    Raises
    ------
    ConfigError
        If anything is wrong; it lists every problem found.
    """
    return validate(read_yaml(path), base_dir=base_dir, source=str(path), check_files=check_files)


def name_problem(name: Any) -> str:
    """What is wrong with a study's name, or "" if it is valid."""
    if isinstance(name, str) and _STUDY_NAME.fullmatch(name) and name not in _RESERVED_NAMES:
        return ""
    valid = "at most 60 lower-case letters, digits, - and _ (first a letter or digit), other than "
    return f"got the name {show(name)}; valid: {valid}{', '.join(_RESERVED_NAMES)}"


def validate(
    raw: Any, *, base_dir: str | Path = ".", source: str | Source = "config", check_files: bool = True
) -> Config:
    """Validate a configuration.

    Parameters
    ----------
    raw
        The configuration as YAML gives it: plain mappings, lists, numbers and text.
    base_dir
        Directory that the paths in the configuration are relative to.
    source
        The file's name for messages, or a function that gives it for a field (see `told_by`).
    check_files
        Also check that the models, SAEs, reviews, prompts and recordings exist and fit the study, read the prompts
        or the manifest, and check that the settings do not need more of them than there are.

    Returns
    -------
    Config
        The validated configuration, with the defaults merged into its studies.

    Raises
    ------
    ConfigError
        If anything is wrong; it lists all problems at once.
    """
    of = source if callable(source) else lambda *_: source
    raw, _ = with_new_names(raw)
    if not isinstance(raw, Mapping):
        valid = "a mapping with 'studies', see config/config.default.yaml"
        raise ConfigError([f"{of()}: got {show(raw)}; valid: {valid}"])
    lines = [f"{of((key,))}: {unknown_field(key, list(TOP_LEVEL))}" for key in raw if key not in TOP_LEVEL]
    report = _report(raw.get("report"), of, lines)
    defaults = {} if raw.get("defaults") is None else raw["defaults"]
    if not isinstance(defaults, Mapping):
        lines.append(f"{of(('defaults',))}: defaults: got {show(defaults)}; valid: a mapping of study fields")
        defaults = {}
    broken = {k: v for k, v in defaults.items() if k in GROUPS and not (v is None or isinstance(v, Mapping))}
    for group, value in broken.items():
        fields = ", ".join(GROUPS[group].model_fields)
        where = f"{of(('defaults', group))}: defaults.{group}"
        lines.append(f"{where}: {got_text(value)}; valid: a group with the fields {fields}")
    defaults = {k: v for k, v in defaults.items() if k not in broken}
    entries = raw.get("studies")
    if not isinstance(entries, Mapping) or not entries:
        lines.append(f"{of(('studies',))}: studies: {got_text(entries)}; valid: at least one study, name: fields")
        entries = {}
    studies = {}
    for name, entry in entries.items():
        own = ("studies", str(name))
        entry = {} if entry is None else entry
        if wrong := name_problem(name):
            lines.append(f"{of(own)}: studies: {wrong}")
        if not isinstance(entry, Mapping):
            lines.append(f"{of(own)}: studies.{name}: got {show(entry)}; valid: a mapping of study fields")
            continue
        merged = _merge(defaults, entry)
        studies[name], problems = _study(merged, entry, base_dir=Path(base_dir), check_files=check_files)
        for problem in problems:
            place = origin(str(name), problem.path, entry, defaults)
            uses = [(*parent, *use.split(".")) for use in problem.uses for parent in (own, ("defaults",))]
            where = f"{of(place, *uses)}: {'.'.join(place)}: " if problem.path else ""
            lines.append(where + problem.text)
    if lines:
        raise ConfigError(lines)
    return Config(studies=studies, report=report)


def _merge(defaults: Mapping, entry: Mapping) -> dict[str, Any]:
    """The defaults, overridden by the study's fields. An empty group overrides nothing."""
    merged = {}
    for key in dict.fromkeys([*defaults, *entry]):
        sides = [side[key] for side in (defaults, entry) if key in side]
        if key in GROUPS:
            sides = [{} if side is None else side for side in sides]
            sound = all(isinstance(side, Mapping) for side in sides)
            merged[key] = {k: v for side in sides for k, v in side.items()} if sound else sides[-1]
        else:
            merged[key] = sides[-1]
    merged.setdefault("model", {})
    return merged


def _study(
    merged: dict[str, Any], entry: Mapping, *, base_dir: Path, check_files: bool
) -> tuple[Study, list[Problem]]:
    """Validate one merged study: each field by itself, then fields against each other.

    `entry` holds the fields that the study sets itself. Checks that depend on an invalid field are skipped.
    """
    problems: list[Problem] = []
    broken: set[str] = set()
    target = merged.get("target")
    target = target if isinstance(target, str) and is_target(target) else RECURRENCE
    try:
        study = Study.model_validate(merged)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        inner = {e["loc"][:i] for e in errors for i in range(len(e["loc"]))}
        for e in errors:
            # pydantic adds "[key]" to the path if a mapping's key is wrong, not its value.
            of_key = e["loc"][-1] == "[key]" and e["type"] != "extra_forbidden"
            path = e["loc"][:-1] if of_key else e["loc"]
            if e["loc"] in inner:
                continue  # pydantic also reports a list as too short after it dropped invalid items
            problems.append(Problem(path, _described(e, path, target)))
            broken.add(".".join(str(p) for p in path[: 2 if path[0] in GROUPS else 1]))
        if "target" in broken:
            broken.add("events")
        # Invalid fields get their defaults here; checks that depend on them are skipped below.
        sound = {k: v for k, v in merged.items() if k in Study.model_fields and k not in broken}
        for group in GROUPS.keys() & sound.keys():
            sound[group] = {k: v for k, v in sound[group].items() if f"{group}.{k}" not in broken}
        sound["model"] = {"name": "unknown", **sound.get("model", {})}
        sound.setdefault("saes", {0: "unknown"})
        broken |= {f"{b}.{f}" for b in broken & GROUPS.keys() for f in group_of(b, target).model_fields}
        study = Study.model_validate(sound)
    checks = [
        *unused_problems(study, entry),
        *cross_problems(study),
        *(file_problems(study, base_dir) if check_files else ()),
    ]
    problems.extend(p for p in checks if not broken.intersection(p.uses))
    return study, problems


def _described(error: Any, path: tuple[str | int, ...], target: str) -> str:
    """An error of pydantic in a study of a target, in words."""
    if path[0] == "events" and len(path) > 1 and target != RECURRENCE:
        return describe_error(error, path[1:], group_of("events", target).model_json_schema())
    return describe_error(error, path, Study.model_json_schema())


def _report(raw: Any, of: Source, lines: list[str]) -> ReportSettings:
    try:
        return ReportSettings.model_validate({} if raw is None else raw)
    except ValidationError as error:
        schema = ReportSettings.model_json_schema()
        for e in error.errors(include_url=False):
            path = ("report", *map(str, e["loc"]))
            lines.append(f"{of(path)}: {'.'.join(path)}: {describe_error(e, e['loc'], schema)}")
        return ReportSettings()
