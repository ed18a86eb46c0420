"""Are the shipped organisms what they were built to be? Brute force, with the gates of reprise/organisms/checks.py."""

import json
from pathlib import Path
from typing import Any

from reprise.models.generation import Sampling
from reprise.models.loading import load_model
from reprise.organisms import score
from reprise.organisms.checks import checked, judged
from reprise.organisms.evaluate import generation_figures
from reprise.organisms.truth import GROUND_TRUTH

RESOURCES = Path(__file__).parents[1] / "resources"
SAMPLING = Sampling(temperature=0.9, top_k=100, cfg_coef=1.0)
# Clips that are generated, five of each prompt, and clips of each check. The cards' own clips have other seeds.
SEEDS, N_CHECKED, SEED = range(200, 205), 96, 7


def run() -> dict[str, Any]:
    """The content of `organisms.json`: figures and gates of each organism."""
    found = {}
    for card in sorted(RESOURCES.glob("*/card.json")):
        name = json.loads(card.read_text())["name"]
        if name not in GROUND_TRUTH:
            continue
        model = load_model(str(card.parent))
        kind = name if name in score.KINDS else ""
        figures = generation_figures(model, score.prompts(), SEEDS, sampling=SAMPLING, kind=kind)
        figures |= checked(model, name, n=N_CHECKED, seed=SEED, sampling=SAMPLING)
        found[name] = {"figures": figures, "gates": judged(name, figures)}
    return found
