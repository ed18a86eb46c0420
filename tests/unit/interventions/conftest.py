"""A small model with sharp logits, an SAE of one layer, and clips with their baseline."""

import numpy as np
import pandas as pd
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.models.adapter import Model
from reprise.models.audiocraft import as_model
from reprise.models.generation import generate
from reprise.organisms.lm import build_lm
from reprise.saes.sae import Sae, make_sae
from tests.unit.interventions.small_study import FRAMES, GREEDY_ENOUGH, PROMPTS, RATE_HZ, ROWS, D, noise_keys


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    lm = build_lm().eval()
    # Fresh weights give nearly flat logits; sharper ones let an edit change a token.
    for linear in lm.linears:
        linear.weight.data *= 5
    return as_model(lm, None, digest="none", frame_rate_hz=RATE_HZ, sample_rate_hz=16000, max_duration_s=20.0)


@pytest.fixture(scope="module")
def sae() -> Sae:
    # Decoder rows are not of unit norm, so that edit norms are told apart from activations.
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(s).astype(np.float32) for s in ((D, 64), (64,), (64, D), (D,))]
    enc, b_enc, dec, b_dec = (torch.from_numpy(w) for w in weights)
    return make_sae(W_enc=enc, b_enc=0.1 * b_enc, W_dec=0.3 * dec, b_dec=0.1 * b_dec, k=48, declared={})


@pytest.fixture(scope="module")
def clips() -> pd.DataFrame:
    ids = [f"p{i}-s0" for i in range(3)]
    table = pd.DataFrame({"clip_id": ids, "prompt_id": ["p0", "p1", "p2"], "prompt": PROMPTS, "seed": 0})
    return table.assign(target_start_s=[0.48, 0.56, 0.64], target_stop_s=[0.64, 0.72, 0.8])


@pytest.fixture(scope="module")
def baseline(model: Model, clips: pd.DataFrame) -> dict[str, np.ndarray]:
    keys = [noise_keys(clips)[c] for c in clips["clip_id"]]
    repeated = [i % len(clips) for i in range(ROWS)]
    tokens = generate(
        model, [PROMPTS[i] for i in repeated], [keys[i] for i in repeated], n_frames=FRAMES, sampling=GREEDY_ENOUGH
    )
    return {c: tokens[i].numpy().astype(np.uint16) for i, c in enumerate(clips["clip_id"])}
