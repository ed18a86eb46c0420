"""The adapter: a model with random weights is the same architecture on the same tokens, and nothing it had learnt."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.decoding import residual_stream
from reprise.musicgen import check_fits, load_model, randomly_initialised, weights_digest

PLANNER = Path(__file__).parents[2] / "resources" / "planner"


def test_random_weights_are_drawn_from_the_seed_alone() -> None:
    trained = load_model(str(PLANNER))
    tokens = np.random.default_rng(0).integers(trained.card, size=(2, trained.n_codebooks, 40))
    prompts = ["piano in c, amber theme", "organ in eb, coral theme"]
    (learnt,) = residual_stream(trained, tokens, prompts, layers=[-1, 4], rows=2)
    digests = {}
    for name, seed in (("a", 1), ("again", 1), ("other", 2)):
        model = randomly_initialised(load_model(str(PLANNER)), seed=seed)
        digests[name] = weights_digest(model.lm)
        (drawn,) = residual_stream(model, tokens, prompts, layers=[-1, 4], rows=2)
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


def test_what_only_the_model_can_tell() -> None:
    model = load_model(str(PLANNER))._replace(max_duration_s=10.0)
    check_fits(model, name="m", study="small", layers=[2, 5], duration_s=10.0)
    with pytest.raises(ValueError) as caught:
        check_fits(model, name="m", study="small", layers=[2, 6], duration_s=16.0)
    assert str(caught.value).splitlines() == [
        "studies.small.saes: layer 6 is not in m; valid: 0 to 5 (0-based: some papers count the same layer as 7)",
        "studies.small.generation.duration_s: got 16; valid: at most 10, which m can see at once",
    ]
