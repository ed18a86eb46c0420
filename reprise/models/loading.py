"""Load a model by a study's settings, by whichever library they name.

`load_model` takes a hub id such as `facebook/musicgen-small`, whose files were fetched beforehand
(`reprise/checkpoints/hub.py`), or a directory, in the form of the backend that is named: `audiocraft`
(`state_dict.bin` and `compression_state_dict.bin`; the embedded organisms are such directories), `transformers`
(`config.json`, safetensors and a tokenizer), or another model family that is installed
(`reprise/models/families/registry.py`). What is loaded is a `Model` (`reprise/models/adapter.py`). Only the library
of that family is ever imported.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from reprise.checkpoints.hub import model_folder
from reprise.checkpoints.variants import UnsupportedModelError, compatibility_errors
from reprise.models.adapter import Model
from reprise.models.families.family import lacking_files
from reprise.models.families.registry import check_identity, family_of
from reprise.models.weight_checks import WeightsError


def load_model(
    name_or_path: str, *, backend: str = "audiocraft", dtype: str = "float32", device: str = "cpu"
) -> Model:
    """Load a model for inference, its language model in `dtype` (float32, float16 or bfloat16).

    The weights' digest is that of the file, whatever they are rounded to. The codec and a text encoder of its own
    stay in float32.

    Raises FileNotFoundError when the model was not fetched, or its directory lacks a file, RuntimeError when it cannot
    be read, and ValueError for a backend that is no model family, a kind of model that is not run here, files that are
    no exported model, and weights that are not the model's own (lacking, in excess, or not finite).
    """
    family = family_of(backend)
    folder = model_folder(name_or_path, backend=backend)
    if lacking := lacking_files(folder, family.files):
        raise FileNotFoundError(f"model: {folder} has no {' and no '.join(lacking)}")
    if wrong := family.content_problems(folder):
        raise ValueError("\n".join(f"model: {name_or_path}: {text}" for text in wrong))
    try:
        return family.load(folder, dtype=dtype, device=device)
    except UnsupportedModelError as error:
        raise ValueError(f"model: {name_or_path}: {error}; valid: {family.supported}") from None
    except WeightsError as error:
        raise ValueError(f"model: {name_or_path}: {error}") from None
    except Exception as error:
        # torch, omegaconf, audiocraft and transformers each raise errors of their own for a damaged file.
        reason = textwrap.shorten(str(error), 400)
        raise RuntimeError(
            f"model: {name_or_path} cannot be loaded from {folder} ({type(error).__name__}: {reason}); valid: a whole "
            f"checkpoint in the form of {backend}, and its text encoder in the hub's cache: `snakemake doctor` looks "
            "at both"
        ) from error


def load_identified(settings: Mapping[str, Any], identity: Mapping[str, object], *, device: str = "cpu") -> Model:
    """Load the model that `identify_model` wrote down, by a study's settings `name`, `backend` and `dtype`;
    RuntimeError when the weights are not those any more, nor the version of an installed family."""
    check_identity(settings["backend"], identity)
    model = load_model(settings["name"], backend=settings["backend"], dtype=settings["dtype"], device=device)
    if model.weights_digest != identity["weights_digest"]:
        raise RuntimeError(
            f"model: the weights of {settings['name']} have digest {model.weights_digest}, but this study was made "
            f"with {identity['weights_digest']}; valid: those weights (a hub id can be pinned, owner/name@<commit>), "
            "or a study made anew: snakemake --forcerun identify_model"
        )
    return model


def check_fits(facts: Mapping[str, Any], *, name: str, corpus: str, layers: Sequence[int], duration_s: float) -> None:
    """Check what only the model can tell: that the hooks asked for exist and that clips are not too long.

    facts: of `results/corpora/<corpus>/model.json`. name, corpus: for the message. Raises ValueError with every
    problem, one a line.
    """
    problems = compatibility_errors(facts, name=name, layers=layers, duration_s=duration_s)
    if problems:
        raise ValueError("\n".join(f"{corpus}: {'.'.join(path)}: {text}" for path, text in problems))
