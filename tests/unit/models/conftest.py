"""Tokens of three clips."""

import numpy as np
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from tests.unit.models.small_study import N_FRAMES


@pytest.fixture(scope="module")
def tokens(random_model):
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(3, 4, N_FRAMES)))
