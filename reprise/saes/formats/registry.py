"""The file formats of SAEs, and what a look at a folder tells before any weight is read.

To add a format: write a module beside this one that has a `FORMAT` (reprise/saes/formats/format.py), by the example of
`sparsify.py`, and add a line to `FORMATS`. `load_sae`, the checks before a run, the doctor and the Snakefile all ask
here.

Nothing heavy is imported here: the Snakefile asks this at every parse.
"""

import json
from pathlib import Path
from typing import Any

from reprise.saes.formats import dc_sae, dictionary_learning, saelens, sparsify
from reprise.saes.formats.format import Format

# The first whose files a folder holds is its format.
FORMATS = (
    saelens.FORMAT,
    sparsify.FORMAT,
    dictionary_learning.FORMAT,
    dc_sae.FORMAT,
)


def format_of(folder: Path) -> Format | None:
    """The format of the SAE in a folder, or None where the files of none are there."""
    return next((found for found in FORMATS if all((folder / file).is_file() for file in found.files)), None)


def sae_files(folder: Path) -> list[str]:
    """The files of the SAE in a folder; where there is none, those that SAELens would have."""
    found = format_of(folder) or saelens.FORMAT
    return [*found.files, *(file for file in found.beside if (folder / file).is_file())]


def said_layer(folder: Path) -> tuple[int | None, str]:
    """The layer that an SAE says it is of, as far as a look at its description tells, and in words why, where that is
    not the number that it says."""
    found = format_of(folder)
    return found.said_layer(_description(folder, found)) if found else (None, "")


def description_problem(folder: Path) -> str | None:
    """Why an SAE is of a kind that can't be used, by what its description says: the file and what is wrong. It was
    saved in the course of its training, is a transcoder, or its hook is no residual stream. None: nothing shows."""
    found = format_of(folder)
    problem = found.problem(_description(folder, found), folder) if found else None
    return problem and f"{found.description}: {problem}"


def missing_files(folder: Path) -> str:
    """What a folder lacks, in words."""
    known = sorted({file for each in FORMATS for file in each.files})
    found = [file for file in known if (folder / file).is_file()]
    valid = "; ".join(f"{each.name}: {' and '.join(each.files)}" for each in FORMATS)
    return f"has {'only ' + ', '.join(found) if found else 'no file of an SAE'}; valid: {valid}"


def _description(folder: Path, found: Format) -> dict[str, Any]:
    """What describes an SAE of a format; {} where it can't be read."""
    try:
        cfg = json.loads((folder / found.description).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cfg if isinstance(cfg, dict) else {}
