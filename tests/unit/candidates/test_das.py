"""The search by gradient on a small model with random weights: what it returns, and what it refuses."""

import numpy as np
import pytest
import torch

from reprise.candidates.controls import LayerFit, featurize, held_out_auroc, swapped_fits
from reprise.candidates.featurizers import das as module
from reprise.candidates.featurizers.das import Interchanges, das, interchange_loss
from reprise.candidates.featurizers.data import FitData
from reprise.models.adapter import Model
from reprise.models.capture import residual_stream
from reprise.models.prompts import encode_prompts

pytestmark = pytest.mark.model

LAYER, N_CLIPS, N_FRAMES = 1, 12, 50
HAS_EVENT = np.arange(N_CLIPS) % 2 == 0
PROMPT = np.repeat(np.arange(6), 2)


@pytest.fixture(scope="module")
def fit(random_model: Model) -> LayerFit:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, random_model.codebook_size, (N_CLIPS, random_model.n_codebooks, N_FRAMES))
    prompts = [f"prompt {i}" for i in PROMPT]
    streams = residual_stream(random_model, tokens, prompts, layers=[LAYER], batch_size=N_CLIPS)
    x = next(streams)[LAYER]
    data = FitData(x[:, 10:20], np.ones((N_CLIPS, 10), bool), HAS_EVENT, PROMPT)
    clips = Interchanges(
        random_model,
        LAYER,
        torch.from_numpy(tokens),
        encode_prompts(random_model, prompts),
        x,
        np.full(N_CLIPS, 30),
    )
    return LayerFit(data, interchanges=clips)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here does not need the search to end."""
    monkeypatch.setattr(module, "DAS_STEPS", 2)


def test_directions_are_orthonormal_and_the_same_each_time(fit: LayerFit, few_steps: None) -> None:
    found = featurize("das", fit, seed=3, rank=3)
    assert found.kind == "das" and found.rank == 3
    assert np.allclose(found.read @ found.read.T, np.eye(3), atol=1e-5)
    assert np.allclose(found.read, found.write, atol=1e-5)
    again = featurize("das", fit, seed=3, rank=3)
    assert np.array_equal(found.read, again.read)
    assert not np.allclose(found.read, featurize("das", fit, seed=4, rank=3).read, atol=1e-3)


def test_fewer_clips_at_a_time_give_the_same(fit: LayerFit, few_steps: None) -> None:
    assert fit.interchanges is not None
    one_by_one = fit._replace(interchanges=fit.interchanges._replace(per_pass=1))
    found = [featurize("das", each, seed=3, rank=2).read for each in (fit, one_by_one)]
    assert np.allclose(*found, atol=1e-5)


def test_the_search_lowers_its_loss(fit: LayerFit) -> None:
    start = featurize("mean_difference", fit, seed=0)
    assert fit.interchanges is not None
    found = featurize("das", fit, seed=0)
    before, after = (interchange_loss(each.read, fit.data, fit.interchanges, seed=1) for each in (start, found))
    assert after < before


def test_clips_that_are_alike_change_nothing_when_exchanged(fit: LayerFit) -> None:
    clips = fit.interchanges
    assert clips is not None
    same = clips._replace(
        tokens=clips.tokens[:1].repeat(N_CLIPS, 1, 1),
        stream=np.repeat(clips.stream[:1], N_CLIPS, axis=0),
        text=encode_prompts(clips.model, ["prompt 0"] * N_CLIPS),
    )
    read = np.eye(clips.stream.shape[2], dtype=np.float32)[:4]
    assert abs(interchange_loss(read, fit.data, same, seed=0)) < 1e-4
    assert abs(interchange_loss(read, fit.data, clips, seed=0)) > 1e-3


def test_it_takes_the_way_of_all_kinds(fit: LayerFit, few_steps: None) -> None:
    found = featurize("das", fit, seed=0, rank=2)
    controls = swapped_fits(found, fit, n=2, seed=0)
    assert [each.rank for each in controls] == [2, 2]
    assert not np.allclose(controls[0].read, found.read, atol=1e-3)
    assert 0 <= held_out_auroc(lambda some: featurize("das", some, seed=0), fit, seed=0) <= 1


def test_what_is_refused(fit: LayerFit) -> None:
    clips = fit.interchanges
    assert clips is not None
    with pytest.raises(ValueError, match="12 clips with an event and 0 others"):
        das(fit.data._replace(has_event=np.ones(N_CLIPS, bool)), clips, rank=1, seed=0)
    with pytest.raises(ValueError, match="no partner of another prompt; valid: two prompts or more"):
        das(fit.data._replace(prompt=np.zeros(N_CLIPS)), clips, rank=1, seed=0)
    with pytest.raises(ValueError, match="das: needs the model"):
        featurize("das", fit._replace(interchanges=None), seed=0)
