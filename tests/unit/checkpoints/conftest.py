"""What tests of checkpoints share."""

import shutil

import pytest

from reprise.checkpoints.contents import CODEC_FILE, LM_FILE
from tests.places import PLANNER


@pytest.fixture
def model(tmp_path):
    """A copy of the planner."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (LM_FILE, CODEC_FILE):
        shutil.copy(PLANNER / name, folder)
    return folder
