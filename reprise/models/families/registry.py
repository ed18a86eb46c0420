"""The available model families: those of this package, and those that installed packages register.

A family of this package has a line in `BUILT_IN`. Another package registers a family with an entry point of the group
`reprise.model_families`. The entry point has the family's name, and its value is a `Family`. `load_model`, the checks
before a run, the doctor, the configuration and the Snakefile all use this module.

Entry points are read only if a name is not in `BUILT_IN`. So other packages cannot change or slow down the built-in
families. Nothing heavy is imported here, because the Snakefile uses this module at every parse.
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
    """Whether a family of this name exists."""
    try:
        family_of(name)
    except ExtensionError:
        return False
    return True


def family_names() -> list[str]:
    """The names of all families, those of this package first."""
    return [*BUILT_IN, *(name for name in installed(GROUP) if name not in BUILT_IN)]


def family_identity(name: str) -> dict[str, str]:
    """The `family_version` and `library` of a family from outside this package; {} for a built-in family.

    They are part of a model's identity and represent the family's code. Code of this package is tracked directly.
    """
    if name in BUILT_IN:
        return {}
    family = family_of(name)
    return {"family_version": family.version, "library": family.library}


def check_identity(name: str, identity: Mapping[str, object]) -> None:
    """Raise RuntimeError if the version of a family differs from that in a model's record, `identity`."""
    written, now = identity.get("family_version"), family_identity(name).get("family_version")
    if written != now:
        raise RuntimeError(
            f"model.backend: the family {name} has version {now}, but this study was made with {written}; valid: that "
            "version, or run the study again: snakemake --forcerun identify_model"
        )


@cache
def _installed_family(name: str) -> Family:
    """The family of an entry point. Raises ExtensionError if there is none, or it is not valid."""
    if name not in installed(GROUP):
        raise ExtensionError(f"no model family has this name; valid: one of {', '.join(family_names())}")
    family = load(GROUP, name, Family)
    if family.name != name:
        raise ExtensionError(f'{refused(GROUP, name)} has the name "{family.name}"; valid: "{name}"')
    if not family.version:
        valid = "the version of its package, or source_digest of its folder, since its code is not tracked"
        raise ExtensionError(f'{refused(GROUP, name)} has the version ""; valid: {valid}')
    return family
