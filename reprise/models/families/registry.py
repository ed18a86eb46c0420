"""The model families that there are: those of this package, and those that installed packages register.

A package registers a family by an entry point of the group `reprise.model_families`, whose name is the family's and
whose value is a `Family`, or by a line in `BUILT_IN`. `load_model`, the checks before a run, the doctor, the
configuration and the Snakefile all ask here.

Entry points are looked at where a name is not in `BUILT_IN`, so that other packages cannot change or slow down what is
built in. Nothing heavy is imported here: the Snakefile asks this at every parse.
"""

from collections.abc import Mapping
from functools import cache

from reprise.extensions import ExtensionError, installed, load, refused
from reprise.models.families import audiocraft_family, transformers_family
from reprise.models.families.family import Family

GROUP = "reprise.model_families"
BUILT_IN: dict[str, Family] = {
    "audiocraft": audiocraft_family.FAMILY,
    "transformers": transformers_family.FAMILY,
}


def family_of(name: str) -> Family:
    """The family that `model.backend` names. Raises ExtensionError."""
    return BUILT_IN[name] if name in BUILT_IN else _installed_family(name)


def is_family(name: str) -> bool:
    """Whether `family_of` has an answer."""
    try:
        family_of(name)
    except ExtensionError:
        return False
    return True


def family_names() -> list[str]:
    """The names of all families, those of this package first."""
    return [*BUILT_IN, *(name for name in installed(GROUP) if name not in BUILT_IN)]


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
    """The family that an entry point names, if it is one."""
    if name not in installed(GROUP):
        raise ExtensionError(f"no model family has this name; valid: one of {', '.join(family_names())}")
    family = load(GROUP, name, Family)
    if family.name != name:
        raise ExtensionError(f'{refused(GROUP, name)} has the name "{family.name}"; valid: "{name}"')
    if not family.version:
        valid = "the version of its package, or source_digest of its folder, since its code cannot be followed"
        raise ExtensionError(f'{refused(GROUP, name)} has the version ""; valid: {valid}')
    return family
