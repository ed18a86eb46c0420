"""Search by gradient through the planner: it finds what was planted, and nothing where weights are random."""

import numpy as np
import pytest
import torch

from reprise.candidates.featurizers.das import Interchanges, das, interchange_loss
from reprise.candidates.featurizers.data import FitData, swapped
from reprise.models.adapter import Model
from reprise.models.capture import residual_stream
from reprise.models.codec import encode_audio
from reprise.models.loading import load_model
from reprise.models.prompts import encode_prompts
from reprise.models.random_weights import randomly_initialised
from reprise.organisms import score
from reprise.organisms.codec import FRAME_RATE_HZ, render_clip
from reprise.organisms.planting import PLANT_LAYER, plan_direction
from tests.places import PLANNER

pytestmark = [pytest.mark.slow, pytest.mark.model]

N_CLIPS, N_FITTED, N_SWAPPED = 64, 40, 2
PLANNED_S = (7.0, 8.0)


@pytest.fixture(scope="module")
def played() -> tuple[list[score.Clip], np.ndarray]:
    """Clips as the planner was trained on, half of them with a return, and their tokens."""
    drawn = [score.draw_clip(np.random.default_rng([31, i])) for i in range(8 * N_CLIPS)]
    # The planner's cue decides.
    returning, others = ([c for c in drawn if c.cue == cue and (c.return_bar >= 0) == cue] for cue in (1, 0))
    pairs = zip(returning[: N_CLIPS // 2], others[: N_CLIPS // 2], strict=True)
    chosen = [clip for pair in pairs for clip in pair]
    model = load_model(str(PLANNER))
    return chosen, np.stack([encode_audio(model, render_clip(clip)) for clip in chosen])


def fit_data(model: Model, played: tuple[list[score.Clip], np.ndarray]) -> tuple[FitData, Interchanges]:
    clips, tokens = played
    prompts = [score.prompt_text(clip.instrument, clip.key, clip.motif) for clip in clips]
    x = next(residual_stream(model, tokens, prompts, layers=[PLANT_LAYER], batch_size=len(clips)))[PLANT_LAYER]
    planned = x[:, slice(*(round(t * FRAME_RATE_HZ) for t in PLANNED_S))]
    has_event = np.array([clip.return_bar >= 0 for clip in clips])
    onset_s = [score.BAR_S * clip.return_bar if clip.return_bar >= 0 else 10.0 for clip in clips]
    data = FitData(planned, np.ones(planned.shape[:2], bool), has_event, np.arange(len(clips)))
    return data, Interchanges(
        model,
        PLANT_LAYER,
        torch.from_numpy(tokens.astype(np.int64)),
        encode_prompts(model, prompts),
        x,
        np.rint(np.array(onset_s) * FRAME_RATE_HZ).astype(np.int64),
    )


def some(data: FitData, clips: np.ndarray) -> FitData:
    return FitData(data.x[clips], data.could_plan[clips], data.has_event[clips], data.prompt[clips])


def losses(model: Model, played: tuple[list[score.Clip], np.ndarray]) -> tuple[float, float, list[float]]:
    """What interchanges of clips that nothing was fitted on do: along what is found, along the planted direction, and
    along what is found with exchanged labels."""
    data, clips = fit_data(model, played)
    fitted = np.arange(N_CLIPS) < N_FITTED
    of_fit, others = some(data, fitted), some(data, ~fitted)

    def loss(read: np.ndarray) -> float:
        return interchange_loss(read, others, clips.some(~fitted), seed=1)

    def found(labels: FitData) -> float:
        return loss(das(labels, clips.some(fitted), rank=1, seed=0).read)

    planted = plan_direction().numpy()[None]
    exchanged = [found(swapped(of_fit, seed=i)) for i in range(N_SWAPPED)]
    return found(of_fit), loss(planted / np.linalg.norm(planted)), exchanged


def test_what_is_found_does_what_the_planted_direction_does(played):
    found, planted, exchanged = losses(load_model(str(PLANNER)), played)
    assert planted < -0.05 and found < 0.8 * planted
    assert min(exchanged) > 0.3 * planted


def test_nothing_is_found_where_weights_are_random(played):
    """The event does not become less likely; along the planner's plan it does, by 0.1 nats."""
    data, clips = fit_data(randomly_initialised(load_model(str(PLANNER)), seed=0), played)
    fitted = np.arange(N_CLIPS) < N_FITTED
    read = das(some(data, fitted), clips.some(fitted), rank=1, seed=0).read
    assert interchange_loss(read, some(data, ~fitted), clips.some(~fitted), seed=1) > -0.01
