"""The adapter: a model with random weights is the same architecture on the same tokens, and nothing it had learnt."""

import numpy as np
import pytest
import torch

from reprise.models.capture import residual_stream
from reprise.models.loading import check_fits, load_model
from reprise.models.random_weights import randomly_initialised
from reprise.models.weight_checks import weights_digest
from tests.places import PLANNER


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
    facts = {"n_layers": 6, "max_duration_s": 10.0}
    check_fits(facts, name="m", corpus="small-1a2b3c4d", layers=[2, 5], duration_s=10.0)
    with pytest.raises(ValueError) as caught:
        check_fits(facts, name="m", corpus="small-1a2b3c4d", layers=[2, 6], duration_s=16.0)
    assert str(caught.value).splitlines() == [
        "small-1a2b3c4d: saes: layer 6 is not in m; valid: 0 to 5 (0-based: some papers count the same layer as 7)",
        "small-1a2b3c4d: generation.duration_s: got 16; valid: at most 10, which m can see at once",
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_width_keeps_the_digest_and_comes_near(dtype: str) -> None:
    exact, half = load_model(str(PLANNER)), load_model(str(PLANNER), dtype=dtype)
    assert half.weights_digest == exact.weights_digest and half.dtype == getattr(torch, dtype)
    tokens = np.random.default_rng(0).integers(exact.card, size=(2, exact.n_codebooks, 40))
    prompts = ["piano in c, amber theme", None]
    before, after = (next(residual_stream(m, tokens, prompts, layers=[4], rows=2))[4] for m in (exact, half))
    assert after.dtype == np.float32 and np.abs(after - before).max() > 0
    assert np.square(after - before).mean() < 1e-3 * before.var()
