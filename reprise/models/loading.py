"""Load a model by a study's settings, with the library that they name.

`load_model` takes a hub id such as `facebook/musicgen-small`, whose files were downloaded before
(`reprise/checkpoints/hub.py`), or a directory. The files have the format of the backend: `audiocraft`
(`state_dict.bin` and `compression_state_dict.bin`; the embedded organisms are such directories), `transformers`
(`config.json`, safetensors and a tokenizer), or another installed model family
(`reprise/models/families/registry.py`). The result is a `Model` (`reprise/models/adapter.py`). Only the library of
that family is imported.
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
    """Load a model for inference.

    Parameters
    ----------
    name_or_path, backend
        Hub id or directory, and the name of the model family.
    dtype
        Of the language model: float32, float16 or bfloat16. The weights' digest does not depend on it. The codec and a
        separate text encoder stay in float32.

    Raises
    ------
    FileNotFoundError
        If the model was not downloaded, or its directory does not have all files.
    RuntimeError
        If the model cannot be read.
    ValueError
        If the backend is not a model family, the kind of model is not supported, the files are not an exported model,
        or weights are missing, unexpected or not finite.
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
        # torch, omegaconf, audiocraft and transformers each raise their own errors for a damaged file.
        reason = textwrap.shorten(str(error), 400)
        raise RuntimeError(
            f"model: {name_or_path} cannot be loaded from {folder} ({type(error).__name__}: {reason}); valid: a "
            f"complete checkpoint in {backend} format, and its text encoder in the hub's cache: `snakemake doctor` "
            "checks both"
        ) from error


def load_identified(settings: Mapping[str, Any], identity: Mapping[str, object], *, device: str = "cpu") -> Model:
    """Load the model that `identify_model` recorded in `identity`.

    settings: a study's `name`, `backend` and `dtype`. Raises RuntimeError if the weights, or the version of an
    installed family, have changed since then.
    """
    check_identity(settings["backend"], identity)
    model = load_model(settings["name"], backend=settings["backend"], dtype=settings["dtype"], device=device)
    if model.weights_digest != identity["weights_digest"]:
        raise RuntimeError(
            f"model: the weights of {settings['name']} have digest {model.weights_digest}, but this study was made "
            f"with {identity['weights_digest']}; valid: those weights (a hub id can be pinned, owner/name@<commit>), "
            "or run the study again: snakemake --forcerun identify_model"
        )
    return model


def check_fits(facts: Mapping[str, Any], *, name: str, corpus: str, layers: Sequence[int], duration_s: float) -> None:
    """Check a study's settings against the model: its layers must exist, and its clips must not be too long.

    Parameters
    ----------
    facts
        Content of `results/corpora/<corpus>/model.json`.
    name, corpus
        For the message.
    layers, duration_s
        Layers of the study's SAEs (0-based), and the length of a clip in seconds.

    Raises
    ------
    ValueError
        With all problems, one per line.
    """
    problems = compatibility_errors(facts, name=name, layers=layers, duration_s=duration_s)
    if problems:
        raise ValueError("\n".join(f"{corpus}: {'.'.join(path)}: {text}" for path, text in problems))
