"""On the shipped planner: what is planted comes out as selective, and what only adds noise does not.

The direction that the planner was given its plan in is known. Clips whose cue says that the motif will return are
continued from a prefix of 8 s without it, under the same edit of controls, and with another control moved so far that
the music breaks. Returns are read from the tokens, as the organism's card does it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from reprise.candidates.controls import feature_statistics, match_features
from reprise.interventions.conditions import condition_table
from reprise.interventions.edits import Edits
from reprise.interventions.effects import EventWindow, continuation_nll, outside_event
from reprise.interventions.matched_damage import matched_damage
from reprise.interventions.run import run_conditions
from reprise.interventions.subspace import of_latents
from reprise.interventions.sufficiency import sufficiency_summary
from reprise.models.capture import residual_stream
from reprise.models.codec import encode_audio
from reprise.models.generation import Sampling
from reprise.models.loading import load_model
from reprise.organisms import evaluate, score
from reprise.organisms.codec import FRAME_RATE_HZ, render_clip
from reprise.organisms.planting import PLANT_LAYER, plan_direction
from reprise.saes.loading import load_sae
from reprise.saes.sae import encode, to_dense
from tests.places import PLANNER

pytestmark = pytest.mark.slow

N_CUED, N_OTHERS = 22, 8
WINDOW = EventWindow(prefix_s=8.0, start_s=9.5, stop_s=12.5, event_s=2.0)
PLANNED_S = (7.0, 8.0)  # after the motif, and what is heard of it; before the return
DOSES = (2.0, 4.0, 8.0)  # of the controls
N_RANDOM = 3
LEAST = 0.1  # the default of `verdict.min_selectivity`


class Study(NamedTuple):
    """Effects, one row per (clip, condition): `ablated`, of cued clips that return when left alone, and `others`, of
    clips that do not return."""

    ablated: pd.DataFrame
    others: pd.DataFrame


@pytest.fixture(scope="module")
def study() -> Study:
    model = load_model(str(PLANNER))
    sae = load_sae(PLANNER / "sae" / f"layer{PLANT_LAYER}")
    feature = int(((sae.W_dec @ plan_direction()) / sae.W_dec.norm(dim=1)).argmax())

    drawn = [score.draw_clip(np.random.default_rng([11, i])) for i in range(100)]
    chosen = [c for c in drawn if c.cue == 1][:N_CUED] + [c for c in drawn if c.cue == 0][:N_OTHERS]
    prompts = [score.prompt_text(c.instrument, c.key, c.motif) for c in chosen]
    tokens = np.stack([encode_audio(model, render_clip(c)) for c in chosen])
    clips = pd.DataFrame({"clip_id": [f"c{i}" for i in range(len(chosen))], "prompt_id": prompts, "prompt": prompts})
    clips = clips.assign(seed=0, target_start_s=WINDOW.start_s, target_stop_s=WINDOW.stop_s)

    cued = np.arange(len(chosen)) < N_CUED
    x = next(residual_stream(model, tokens, prompts, layers=[PLANT_LAYER], batch_size=len(chosen)))[PLANT_LAYER]
    planned = x[:, slice(*(round(t * FRAME_RATE_HZ) for t in PLANNED_S))]
    latents = csr_matrix(to_dense(*encode(sae, torch.from_numpy(planned)), sae.d_sae).flatten(0, 1).numpy())
    clip_of_row = np.repeat(np.arange(len(chosen)), planned.shape[1])
    about = feature_statistics(latents, clip_of_row, cued)
    norm = (about["mean_activation"] * sae.W_dec.norm(dim=1).numpy()).to_numpy()
    matched = match_features(feature, about["rate"].to_numpy(), norm, n=1)
    level = float(latents[cued[clip_of_row]][:, [feature]].data.mean())

    subspaces = {"target": of_latents("feature", [feature]), "matched_feature0": of_latents("matched", matched)}
    names = {"target": ["target"], "matched_feature": ["matched_feature0"]}
    references = {(name, what): np.array([v]) for name in subspaces for what, v in (("zero", 0.0), ("with", level))}
    how = {"layer": PLANT_LAYER, "second_reference": "", "prefix_s": WINDOW.prefix_s, "frame_rate_hz": FRAME_RATE_HZ}
    gentle = condition_table({"target": ["target"]}, clips[cued], [1.0], ["until_event"], reference="zero", **how)
    strong = condition_table(names, clips[cued], DOSES, ["until_event"], reference="zero", n_random=N_RANDOM, **how)
    written = condition_table(names, clips[~cued], [1.0], ["until_event"], reference="with", **how)
    parts = {
        "necessity": pd.concat(
            [
                gentle[gentle["kind"] != "random_subspace"],
                strong[strong["kind"].isin(["matched_feature", "random_subspace"])],
            ]
        ),
        "sufficiency": written,
    }
    table = pd.concat([part.assign(arm=arm) for arm, part in parts.items()], ignore_index=True)
    baseline = dict(zip(clips["clip_id"], tokens, strict=True))
    keys = {c: (77, i) for i, c in enumerate(clips["clip_id"])}
    sampling = Sampling(temperature=0.9, top_k=100, cfg_coef=1.0)
    edits = Edits(subspaces, references, sae=sae)
    runs = run_conditions(model, edits, table, baseline, keys, batch_size=64, sampling=sampling)
    made = np.concatenate([part for _, part in runs])
    nll = continuation_nll(model, made, table["prompt"].tolist(), batch_size=16)
    outside = outside_event(np.arange(made.shape[-1]) / FRAME_RATE_HZ, WINDOW)

    table["found"] = (evaluate.found_returns(made.astype(np.int64)) >= 0).astype(float)
    table["nll"] = nll[:, outside].mean(axis=1, dtype=np.float64)
    untouched = table[table["kind"] == "untouched"].set_index("clip_id")
    table["effect_rate"] = table["clip_id"].map(untouched["found"]) - table["found"]
    table["damage_nats"] = table["nll"] - table["clip_id"].map(untouched["nll"])
    returns = table["clip_id"].map(untouched["found"]) == 1
    return Study(table[(table["arm"] == "necessity") & returns], table[table["arm"] == "sufficiency"])


def passes(row: pd.Series) -> bool:
    """The gate of selectivity."""
    return bool(row["selectivity_low"] > 0 and row["selectivity"] >= LEAST)


def test_enough_clips_return_when_left_alone(study):
    assert study.ablated["clip_id"].nunique() >= 6


def test_the_planted_direction_is_selective(study):
    found = matched_damage(study.ablated)
    (target,) = (row for _, row in found[found["kind"] == "target"].iterrows())
    assert target["effect"] >= 0.7 and target["damage"] < 0.1
    assert passes(target)


def test_noise_of_growing_strength_is_not_selective(study):
    """The first random direction stands as the target; it breaks the return, and the music with it."""
    noise = study.ablated[study.ablated["kind"] != "target"].copy()
    acts = (noise["kind"] == "random_subspace") & (noise["control"] == 0)
    noise.loc[acts, ["kind", "control"]] = ["target", 0]

    def judged(effects: pd.DataFrame) -> pd.DataFrame:
        found = matched_damage(effects)
        return found[found["kind"] == "target"].sort_values("dose")

    target = judged(noise)
    assert target["dose"].tolist() == list(DOSES)
    assert target["effect"].iloc[-1] >= 0.7 and target["damage"].is_monotonic_increasing
    assert target["damage"].iloc[-1] > 0.5
    assert not target.apply(passes, axis=1).any(), target
    # Without controls that do as much damage it would pass.
    assert passes(judged(noise[noise["kind"] != "random_subspace"]).iloc[-1])


def test_the_planted_direction_suffices_for_a_return(study):
    (row,) = sufficiency_summary(study.others).to_dict("records")
    assert row["n_clips"] == N_OTHERS
    assert row["rate_edited"] >= 0.5 and row["gained_low"] > 0 and row["more_than_controls_low"] > 0
