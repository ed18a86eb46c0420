"""The file formats of SAEs, and what is known about an SAE in a folder before its weights are read.

To add a format, write a module beside this one that has a `FORMAT` (reprise/saes/formats/format.py), such as
`sparsify.py`, and add it to `FORMATS`. Or name it as an entry point of the group `reprise.sae_formats` in your own
package (docs/how-to/add-an-sae-format.md). `load_sae`, the checks before a run, the doctor and the Snakefile all use
this module.

Nothing heavy is imported here: the Snakefile asks this at every parse. Formats of other packages are imported only if
a folder has no built-in format.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from reprise.extensions import ExtensionError, installed, load, refused
from reprise.saes.errors import SaeError
from reprise.saes.formats import dc_sae, dictionary_learning, saelens, sparsify
from reprise.saes.formats.format import Format

GROUP = "reprise.sae_formats"
# The format of a folder is the first whose files it holds.
FORMATS = (
    saelens.FORMAT,
    sparsify.FORMAT,
    dictionary_learning.FORMAT,
    dc_sae.FORMAT,
)


def formats() -> Iterator[Format]:
    """All formats: built in, then of installed packages. Raises SaeError if one of a package cannot be used."""
    yield from FORMATS
    yield from _installed_formats()


@cache
def _installed_formats() -> tuple[Format, ...]:
    found: list[Format] = []
    try:
        for name in installed(GROUP):
            each = load(GROUP, name, Format)
            if problem := _problem(each, name, [*FORMATS, *found]):
                raise ExtensionError(f"{refused(GROUP, name)}: {problem}")
            found.append(each)
    except ExtensionError as error:
        raise SaeError(str(error)) from error
    return tuple(found)


def _problem(each: Format, name: str, others: list[Format]) -> str:
    """What is wrong with a format that another package adds under a name; "" if nothing is."""
    if each.name != name:
        return f"name is {each.name!r}; valid: the entry point's"
    if not (isinstance(each.version, str) and each.version):
        return f"version is {each.version!r}; valid: a text that changes with what read gives"
    if same := next((other for other in others if set(other.files) <= {*each.files, *each.beside}), None):
        return f"its files are those of {same.name}; valid: another description or weights file, to tell them apart"
    return ""


def format_of(folder: Path) -> Format | None:
    """The format of the SAE in a folder. None if the files of no format are there."""
    return next((found for found in formats() if all((folder / file).is_file() for file in found.files)), None)


def format_versions(folder: Path) -> dict[str, str]:
    """For a job's settings: name and version of a format from another package, whose code is not tracked; else {}."""
    found = format_of(folder)
    return {found.name: found.version} if found and found.version else {}


def sae_files(folder: Path) -> list[str]:
    """The files of the SAE in a folder. If there is none, the files of the SAELens format."""
    found = format_of(folder) or saelens.FORMAT
    return [*found.files, *(file for file in found.beside if (folder / file).is_file())]


def said_layer(folder: Path) -> tuple[int | None, str]:
    """The layer that an SAE's description declares, 0-based, and an explanation in words.

    The layer is None if none is declared. The explanation is "" unless the layer differs from the number in the file.
    """
    found = format_of(folder)
    return found.said_layer(_description(folder, found)) if found else (None, "")


def description_problem(folder: Path) -> str | None:
    """Why an SAE cannot be used according to its description: the file and what is wrong.

    It was saved in its training form, it is a transcoder, or its hook is not a residual stream. None if no problem is
    found.
    """
    found = format_of(folder)
    if found is None:
        return None
    problem = found.problem(_description(folder, found), folder)
    return problem and f"{found.description}: {problem}"


def missing_files(folder: Path) -> str:
    """For a message: which files of an SAE a folder has, and which are valid."""
    known = sorted({file for each in formats() for file in each.files})
    found = [file for file in known if (folder / file).is_file()]
    valid = "; ".join(f"{each.name}: {' and '.join(each.files)}" for each in formats())
    return f"has {'only ' + ', '.join(found) if found else 'no file of an SAE'}; valid: {valid}"


def _description(folder: Path, found: Format) -> dict[str, Any]:
    """The description of an SAE; {} if it cannot be read."""
    try:
        cfg = json.loads((folder / found.description).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cfg if isinstance(cfg, dict) else {}
