"""Small models in audiocraft's own checkpoint form, shared by tests."""

import pytest
import torch


@pytest.fixture(scope="session")
def random_model_dir(tmp_path_factory):
    """A randomly initialised organism saved as MusicGen saves itself: what `load_model` takes."""
    from reprise.organisms.codec import build_codec
    from reprise.organisms.export import save_audiocraft_checkpoint
    from reprise.organisms.lm import build_lm

    torch.manual_seed(0)
    lm = build_lm()
    # Larger weights than at initialisation, so that attention and positions matter.
    for parameter in lm.parameters():
        parameter.data *= 2
    folder = tmp_path_factory.mktemp("model")
    save_audiocraft_checkpoint(folder, lm=lm, codec=build_codec())
    return folder


@pytest.fixture(scope="session")
def random_model(random_model_dir):
    from reprise.musicgen import load_model

    return load_model(str(random_model_dir))
