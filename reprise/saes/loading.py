"""Load an SAE in any of the formats in which people publish them (reprise/saes/formats/registry.py has them all).

Loading is strict: weights of other names or shapes are an error, and so is what the format does not know or run.
"""

from pathlib import Path

from reprise.saes.errors import SaeError
from reprise.saes.formats.registry import description_problem, format_of, missing_files
from reprise.saes.sae import Sae, make_sae


def load_sae(folder: Path, *, device: str = "cpu") -> Sae:
    """Load an SAE in any of the formats.

    Raises SaeError for a missing or damaged file, an unknown field, an unsupported architecture or normalisation,
    a weight of the wrong name or shape or that is not finite, a hook that is no residual stream or whose name and
    layer disagree, a transcoder, and files of a training.
    """
    folder = Path(folder)
    found = format_of(folder)
    if found is None:
        raise SaeError(f"sae: {folder} {missing_files(folder)}")
    if problem := description_problem(folder):
        raise SaeError(f"{folder}/{problem}")
    return make_sae(**found.read(folder), device=device)
