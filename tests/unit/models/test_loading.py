"""Loading: what a directory must hold, what only the model can tell, and half width."""

import numpy as np
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.models.capture import residual_stream
from reprise.models.loading import check_fits, load_model
from tests.places import PLANNER


def test_half_a_model_directory_is_one_clear_error(random_model_dir, tmp_path):
    (tmp_path / "state_dict.bin").write_bytes((random_model_dir / "state_dict.bin").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"has no compression_state_dict\.bin"):
        load_model(str(tmp_path))


def test_what_only_the_model_can_tell() -> None:
    facts = {"n_layers": 6, "max_duration_s": 10.0}
    check_fits(facts, name="m", corpus="small-1a2b3c4d", layers=[2, 5], duration_s=10.0)
    with pytest.raises(ValueError) as caught:
        check_fits(facts, name="m", corpus="small-1a2b3c4d", layers=[2, 6], duration_s=16.0)
    assert str(caught.value).splitlines() == [
        "small-1a2b3c4d: saes: layer 6 is not in m; valid: 0 to 5 (0-based: some papers count the same layer as 7)",
        "small-1a2b3c4d: generation.duration_s: got 16; valid: at most 10, the longest clip that m supports",
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_width_keeps_the_digest_and_comes_near(dtype: str) -> None:
    exact, half = load_model(str(PLANNER)), load_model(str(PLANNER), dtype=dtype)
    assert half.weights_digest == exact.weights_digest and half.dtype == getattr(torch, dtype)
    tokens = np.random.default_rng(0).integers(exact.codebook_size, size=(2, exact.n_codebooks, 40))
    prompts = ["piano in c, amber theme", None]
    before, after = (next(residual_stream(m, tokens, prompts, layers=[4], batch_size=2))[4] for m in (exact, half))
    assert after.dtype == np.float32 and np.abs(after - before).max() > 0
    assert np.square(after - before).mean() < 1e-3 * before.var()
