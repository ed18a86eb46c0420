"""The model card of an organism: what it is, what it was trained on, its ground truth and its measured behaviour."""

from typing import Any

from reprise.models.adapter import Model
from reprise.organisms import score, tunes
from reprise.organisms.lm import N_LAYERS
from reprise.organisms.planting import PLAN_SCALE, PLANT_LAYER
from reprise.organisms.truth import GROUND_TRUTH


def card(
    settings: dict[str, Any], figures: dict[str, Any], gates: list[dict[str, Any]], model: Model
) -> dict[str, Any]:
    """Make the card of an organism.

    Parameters
    ----------
    settings : dict
        Settings of its training: organism (its name), seed, lm_batch, and `trained` (n_clips and numbers of steps).
    figures : dict
        The measurements of `organism_export`.
    gates : list of dict
        What it needs to be shipped, and whether it has it (`reprise.organisms.checks.judged`).
    model : Model
        The exported organism.

    Returns
    -------
    dict
        Plain builtins.
    """
    organism = settings["organism"]
    music = tunes if organism == "wild" else score
    return {
        "name": organism,
        "kind": "model organism: a tiny model whose answer is known; calibration, never evidence about MusicGen",
        "ground_truth": GROUND_TRUTH.get(organism, {"verdict": "", "because": "nothing is planted"}),
        "architecture": {
            "lm": f"audiocraft LMModel, {N_LAYERS} layers of width {model.d_model}, delay pattern, cross-attention",
            "codec": f"audiocraft EncodecModel, {model.sample_rate_hz} Hz mono, {model.frame_rate_hz:g} frames/s, "
            f"{model.n_codebooks} codebooks of {model.codebook_size}",
            "planted": {"layer": PLANT_LAYER, "scale": PLAN_SCALE},
        },
        "weights_digest": model.weights_digest,
        "trained_on": {
            "data": music.DATA,
            "clip_s": score.CLIP_S,
            **{key: settings[key] for key in ("seed", "lm_batch")},
            **settings["trained"],
        },
        "prompts": music.PROMPTS,
        "measured": figures,
        "gates": gates,
        "licence": "Apache-2.0",
    }
