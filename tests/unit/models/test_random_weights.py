"""A model with random weights is the same architecture on the same tokens, and nothing it had learnt."""

import numpy as np
import torch

from reprise.models.capture import residual_stream
from reprise.models.loading import load_model
from reprise.models.random_weights import randomly_initialised
from reprise.models.weight_checks import weights_digest
from tests.places import PLANNER


def test_random_weights_are_drawn_from_the_seed_alone() -> None:
    trained = load_model(str(PLANNER))
    tokens = np.random.default_rng(0).integers(trained.codebook_size, size=(2, trained.n_codebooks, 40))
    prompts = ["piano in c, amber theme", "organ in eb, coral theme"]
    (learnt,) = residual_stream(trained, tokens, prompts, layers=[-1, 4], batch_size=2)
    digests = {}
    for name, seed in (("a", 1), ("again", 1), ("other", 2)):
        model = randomly_initialised(load_model(str(PLANNER)), seed=seed)
        digests[name] = weights_digest(model.lm)
        (drawn,) = residual_stream(model, tokens, prompts, layers=[-1, 4], batch_size=2)
        for layer in (-1, 4):
            assert np.isfinite(drawn[layer]).all() and drawn[layer].std() > 0.1
            # Between rows, since both have the same embedding of the position.
            difference = [(x[layer][0] - x[layer][1]).ravel() for x in (drawn, learnt)]
            assert abs(np.corrcoef(*difference)[0, 1]) < 0.2
    assert digests["a"] == digests["again"] != digests["other"]
    # What reads the prompt stays: it is given, not learnt by the transformer.
    for (name, before), after in zip(
        trained.lm.named_parameters(), dict(model.lm.named_parameters()).values(), strict=True
    ):
        assert torch.equal(before, after) == name.startswith("condition_provider.") or "norm" in name
