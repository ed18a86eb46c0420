"""Load an SAE in any of the file formats (reprise/saes/formats/registry.py lists them).

Loading is strict: weights with other names or shapes are an error, and so is anything unknown or unsupported.
"""

from pathlib import Path

from reprise.saes.errors import SaeError
from reprise.saes.formats.registry import description_problem, format_of, missing_files
from reprise.saes.sae import Sae, make_sae


def load_sae(folder: Path, *, device: str = "cpu") -> Sae:
    """Load an SAE in any of the formats.

    Raises SaeError for a missing or damaged file, an unknown field, an unsupported architecture or normalisation,
    a weight with a wrong name, a wrong shape or a value that is not finite, a hook that is not a residual stream or
    whose name and layer disagree, a transcoder, and an SAE in its training form.
    """
    folder = Path(folder)
    found = format_of(folder)
    if found is None:
        raise SaeError(f"sae: {folder} {missing_files(folder)}")
    if problem := description_problem(folder):
        raise SaeError(f"{folder}/{problem}")
    return make_sae(**found.read(folder), device=device)
