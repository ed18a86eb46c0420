"""The targets that there are: those of this package, and those that installed packages register.

To add one: write a package beside `recurrence` that has a `Target` (reprise/targets/target.py), and add a line to
`BUILT_IN`; or name it as an entry point of the group `reprise.targets` in a package of your own
(docs/how-to/add-a-target.md). The configuration, the rules, the scripts, the review page and the report all ask here.

Built-in targets are named as text too, and not imported, so that the code digest of a stage does not cover every
target. `code_of` adds that of the functions which a stage uses of its own study's target.

Nothing heavy is imported here: the Snakefile asks this at every parse.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from reprise.config.fields import Settings
from reprise.extensions import ExtensionError, installed, load, refused
from reprise.targets.target import Target
from reprise.targets.view import TargetView
from reprise.workflow.provenance import function_digest

GROUP = "reprise.targets"
# What a study asks about where it does not say.
RECURRENCE = "recurrence"
BUILT_IN = {
    RECURRENCE: "reprise.targets.recurrence.target:TARGET",
    "section": "reprise.targets.section.target:TARGET",
    "tension": "reprise.targets.tension.target:TARGET",
}
# What each stage uses of a target.
USED_BY = {
    "descriptors": ("so_far",),
    "events": ("find", "features"),
    "effects": ("scorer",),
    "review_page": ("view",),
    "report": ("extent", "scorer", "view"),
}


@cache
def target_of(name: str) -> Target:
    """The target of a name. Raises ExtensionError where there is none, or it cannot be used."""
    if name in BUILT_IN:
        return EntryPoint(name, BUILT_IN[name], GROUP).load()
    if name not in installed(GROUP):
        raise ExtensionError(f"no target has this name; valid: one of {', '.join(target_names())}")
    target = load(GROUP, name, Target)
    if problem := _problem(target, name):
        raise ExtensionError(f"{refused(GROUP, name)}: {problem}")
    return target


def is_target(name: str) -> bool:
    """Whether `target_of` has an answer."""
    try:
        target_of(name)
    except ExtensionError:
        return False
    return True


def target_names() -> list[str]:
    """The names of all targets, those of this package first."""
    return [*BUILT_IN, *(name for name in installed(GROUP) if name not in BUILT_IN)]


@cache
def code_of(name: str, stage: str) -> dict[str, str]:
    """What stands for the code of a target in the settings of a stage, by what the stage uses of it (`USED_BY`).

    For a built-in target, a digest of what its functions do (`reprise.workflow.provenance.function_digest`), and of
    the words of its view. The code of a target from another package cannot be followed, so its version stands for it.
    """
    if name not in BUILT_IN:
        return {"version": target_of(name).version}
    code = function_digest(*functions_of(name, stage))
    if "view" not in USED_BY[stage]:
        return {"code": code}
    # The words of a view are plain data.
    words = [part for part in target_of(name).view if not callable(part)]
    return {"code": code, "words": hashlib.sha256(repr(words).encode()).hexdigest()[:12]}


def functions_of(name: str, stage: str) -> list[Callable[..., Any]]:
    """The functions of a target that a stage uses, with those of its view."""
    parts = [getattr(target_of(name), field) for field in USED_BY[stage]]
    flat = [inner for part in parts for inner in (part if isinstance(part, TargetView) else [part])]
    return [function for function in flat if callable(function)]


def _problem(target: Target, name: str) -> str:
    """What is wrong with a target that another package adds under a name; "" where nothing is."""
    if target.name != name:
        return f"name is {target.name!r}; valid: the entry point's"
    if not (isinstance(target.version, str) and target.version):
        return f"version is {target.version!r}; valid: a text that changes with what its functions compute"
    if not (isinstance(target.settings, type) and issubclass(target.settings, Settings)):
        return f"settings is {target.settings!r}; valid: a class of fields, reprise.config.fields.Settings"
    if "min_score" not in target.settings.model_fields:
        return "settings has no field min_score; valid: one that is the least score of an event"
    return ""
