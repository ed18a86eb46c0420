"""The planner's SAE under other descriptions, and how it is refused before any job and at loading."""

import json
import shutil

import pytest

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.checkpoints.weights import sae_problems
from reprise.saes.errors import SaeError
from reprise.saes.loading import load_sae
from tests.places import PLANNER

SAE = PLANNER / "sae" / "layer2"


def described(folder, *, file="cfg.json", **changes):
    """A copy of the planner's SAE of layer 2 with another description: fields of `metadata`, unless it has them."""
    shutil.copytree(SAE, folder)
    cfg = json.loads((folder / "cfg.json").read_text())
    metadata = {name: value for name, value in changes.items() if name.startswith("hook_")}
    cfg["metadata"] |= metadata
    cfg |= {name: value for name, value in changes.items() if name not in metadata}
    (folder / file).write_text(json.dumps(cfg))
    return folder


def refused(folder, layer=2):
    """The one problem of an SAE, before any job; its loading says the same."""
    (line,) = sae_problems(str(folder), layer)
    text = line.removeprefix(f'"{folder}": ')
    with pytest.raises(SaeError) as caught:
        load_sae(folder)
    assert str(caught.value) == f"{folder}/{text}"
    return text
