"""Three prompts and what their clips are sampled with, for tests of a model with random weights."""

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.modules.conditioners import ConditioningAttributes
from reprise.models.generation import Sampling

PROMPTS = ["piano in c, amber theme", "organ", "vibraphone in eb, coral theme"]
N_FRAMES = 30
SAMPLING = Sampling(temperature=0.9, top_k=100, cfg_coef=1.0)
KEYS = [(1, 2), (3, 4), (5, 6)]


def attributes(prompts):
    return [ConditioningAttributes(text={"description": p}) for p in prompts]
