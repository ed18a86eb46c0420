"""The model families that there are: those of this package, and those that installed packages register.

A package registers a family by an entry point of the group `reprise.model_families`, whose name is the family's and
whose value is a `Family`, or by a line in `BUILT_IN`. `load_model`, the checks before a run, the doctor, the
configuration and the Snakefile all ask here.

Entry points are looked at where a name is not in `BUILT_IN`, so that other packages cannot change or slow down what is
built in. Nothing heavy is imported here: the Snakefile asks this at every parse.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from reprise.models.families import audiocraft_family, transformers_family
from reprise.models.families.family import Family

GROUP = "reprise.model_families"
BUILT_IN: dict[str, Family] = {
    "audiocraft": audiocraft_family.FAMILY,
    "transformers": transformers_family.FAMILY,
}


class FamilyError(ValueError):
    """A model family that is not there, or that is not one: says the name and what is valid."""


def family_of(name: str) -> Family:
    """The family that `model.backend` names. Raises FamilyError."""
    return BUILT_IN[name] if name in BUILT_IN else _installed_family(name)


def is_family(name: str) -> bool:
    """Whether `family_of` has an answer."""
    try:
        family_of(name)
    except FamilyError:
        return False
    return True


def family_names() -> list[str]:
    """The names of all families, those of this package first."""
    return [*BUILT_IN, *sorted({point.name for point in entry_points(group=GROUP)} - BUILT_IN.keys())]


def family_identity(name: str) -> dict[str, str]:
    """What stands for the code of a family that is not of this package, whose own code is followed: its
    `family_version`, and the `library` it loads with. It is a part of what a model is."""
    if name in BUILT_IN:
        return {}
    family = family_of(name)
    return {"family_version": family.version, "library": family.library}


def check_identity(name: str, identity: Mapping[str, object]) -> None:
    """Raise RuntimeError where a family has another version than a model's record says."""
    written, now = identity.get("family_version"), family_identity(name).get("family_version")
    if written != now:
        raise RuntimeError(
            f"model.backend: the family {name} has version {now}, but this study was made with {written}; valid: that "
            "version, or a study made again: snakemake --forcerun identify_model"
        )


@cache
def _installed_family(name: str) -> Family:
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        raise FamilyError(f"no model family has this name; valid: one of {', '.join(family_names())}")
    if len(places := {point.value for point in points}) > 1:
        raise FamilyError(f"the model family {name} is registered as {' and as '.join(sorted(places))}; valid: once")
    return _checked(points[0])


def _checked(point: EntryPoint) -> Family:
    """The family that an entry point names, if it is one."""
    where = f"the entry point {point.name} = {point.value} of {GROUP}"
    try:
        family = point.load()
    except Exception as error:  # another package's code may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise FamilyError(f"{where} cannot be imported ({reason}); valid: module:FAMILY") from error
    if not isinstance(family, Family):
        valid = "a Family of reprise.models.families.family"
        raise FamilyError(f"{where} is of type {type(family).__name__}; valid: {valid}")
    if family.name != point.name:
        raise FamilyError(f'{where} has the name "{family.name}"; valid: "{point.name}"')
    if not family.version:
        valid = "the version of its package, or source_digest of its folder, since its code cannot be followed"
        raise FamilyError(f'{where} has the version ""; valid: {valid}')
    return family
