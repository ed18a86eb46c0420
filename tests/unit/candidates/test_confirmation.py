"""Confirmation: held-out prompts alone, and a correction for everything that was tried."""

import numpy as np
import pandas as pd
import pytest

from reprise.candidates.confirmation import confirm, swaps_for
from reprise.probing.probes import Question

N_PROMPTS, N_SEEDS, N_TIMES = 40, 4, 5
PROMPT = np.repeat(np.arange(N_PROMPTS), N_SEEDS)
HELD_OUT = PROMPT % 2 == 0


def world(seed: int) -> tuple[Question, np.ndarray]:
    """A question, and latents `[clip, time, feature]` of which feature 7 knows the answer."""
    rng = np.random.default_rng(seed)
    plan = rng.random(len(PROMPT)) < 0.4
    y = np.repeat(plan[:, None], N_TIMES, axis=1).astype(np.int8)
    x = np.broadcast_to(np.eye(N_TIMES, dtype=np.float32), (len(PROMPT), N_TIMES, N_TIMES))
    latents = np.maximum(rng.normal(size=(len(PROMPT), N_TIMES, 10)), 0).astype(np.float32)
    latents[:, :, 7] += plan[:, None]
    names = [f"time_{t}s" for t in range(N_TIMES)]
    return Question(y, np.ones(y.shape, bool), PROMPT, [f"c{i}" for i in range(len(PROMPT))], x, names), latents


def ranked(*features: int) -> pd.DataFrame:
    return pd.DataFrame({"layer": 2, "feature": features, "horizon": "h4-8"})


def run(question: Question, latents: np.ndarray, rows: pd.DataFrame, **options: object) -> pd.DataFrame:
    given = {"alpha": 0.05, "seed_of": lambda horizon: 3} | options
    features = rows["feature"].tolist()
    return confirm(rows, {"h4-8": question}, lambda i: latents[:, :, [features[i]]], HELD_OUT, **given)


def test_confirmation_uses_held_out_prompts_alone() -> None:
    question, latents = world(1)
    found = run(question, latents, ranked(7))
    assert found["confirmed"].tolist() == [True] and found["p_gain"].item() == 1 / 200
    y, changed = question.y.copy(), latents.copy()
    y[~HELD_OUT], changed[~HELD_OUT] = 0, 0
    pd.testing.assert_frame_equal(found, run(question._replace(y=y), changed, ranked(7)))
    with pytest.raises(ValueError, match="is on both sides"):
        confirm(
            ranked(7),
            {"h4-8": question},
            lambda i: latents[:, :, [7]],
            np.arange(len(PROMPT)) < 81,
            alpha=0.05,
            seed_of=lambda horizon: 3,
        )


def test_everything_that_is_tried_counts() -> None:
    question, latents = world(2)
    found = run(question, latents, ranked(7, 1, 2, 3))
    # All are tried, also after the first was confirmed, and stay in the table.
    assert found["feature"].tolist() == [7, 1, 2, 3]
    assert found["confirmed"].tolist() == [True, False, False, False]
    first = found.iloc[0]
    assert first["p_adjusted"] == pytest.approx(4 * first["p_gain"])
    assert (found["p_adjusted"] >= found["p_gain"]).all()


@pytest.mark.parametrize("n_tried", [1, 5, 10, 40])
def test_the_smallest_p_survives_the_correction(n_tried: int) -> None:
    assert n_tried / (1 + swaps_for(n_tried, 0.05)) <= 0.05 / 4 + 1e-9


def test_a_candidate_that_cannot_be_scored_is_not_confirmed_and_counts() -> None:
    question, latents = world(3)
    y = np.zeros_like(question.y)
    found = run(question._replace(y=y), latents, ranked(7, 1))
    assert not found["confirmed"].any() and found["p_gain"].isna().all() and (found["note"] != "").all()
    assert run(question, latents, ranked(7).iloc[:0]).empty


def test_a_candidate_of_a_higher_rank_is_tried_with_all_its_coordinates() -> None:
    question, latents = world(4)
    # Neither half of the plan says much alone.
    half = np.random.default_rng(0).random(len(PROMPT)) < 0.5
    parts = np.stack([np.where(half[:, None], latents[:, :, 7], 0), np.where(half[:, None], 0, latents[:, :, 7])], -1)
    rows = pd.DataFrame({"horizon": ["h4-8", "h4-8"]})
    how = {"alpha": 0.05, "seed_of": lambda horizon: 3}
    both = confirm(rows, {"h4-8": question}, lambda i: parts if i else parts[..., :1], HELD_OUT, **how)
    assert both["confirmed"].iloc[1] and both["gain_auroc"].iloc[1] > 1.5 * both["gain_auroc"].iloc[0]
