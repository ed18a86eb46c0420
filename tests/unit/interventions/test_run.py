"""Conditions as they are run: exact where nothing is edited, whatever the batches; and their KL."""

from itertools import repeat

import numpy as np
import pandas as pd
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.checkpoints.finite import NotFiniteError
from reprise.interventions.edits import Edits, edit_function, row_edits
from reprise.interventions.run import run_conditions, teacher_forced_kl
from reprise.interventions.subspace import Subspace, latent_coordinates, of_latents
from reprise.models.adapter import Model
from reprise.models.forward import teacher_forced
from reprise.models.generation import generate
from reprise.models.loading import load_model
from reprise.models.prompts import encode_prompts
from reprise.saes.loading import load_sae
from reprise.saes.sae import Sae, encode, feature_activation
from tests.places import PLANNER
from tests.unit.interventions.small_study import (
    FEATURE,
    FRAMES,
    GREEDY_ENOUGH,
    LAYER,
    PROMPTS,
    ROWS,
    SUBSPACES,
    D,
    donations,
    edit_of,
    edits_with,
    noise_keys,
    table_of,
    with_donors,
)

TARGET = {"target": ["target"]}


def run(model: Model, sae: Sae, table: pd.DataFrame, clips: pd.DataFrame, baseline: dict, **changes) -> pd.Series:
    settings = {"batch_size": ROWS, "sampling": GREEDY_ENOUGH, "n_frames": FRAMES}
    edits = edits_with(sae, donations(clips))
    parts = run_conditions(model, edits, table, baseline, noise_keys(clips), **(settings | changes))
    keys, tokens = [], []
    for part, found in parts:
        keys += list(zip(part["clip_id"], part["condition"], strict=True))
        tokens += list(found)
    return pd.Series(tokens, index=pd.MultiIndex.from_tuples(keys))


def test_a_clip_that_is_its_own_donor_is_left_as_it_is(model, sae, clips, baseline):
    """The donor's trajectory is read where the edit reads the stream: equal clips, no edit."""
    tokens = torch.from_numpy(np.stack([baseline[c] for c in clips["clip_id"]]).astype(np.int64))
    x = teacher_forced(model, tokens, encode_prompts(model, PROMPTS), layers=(LAYER,))[0][LAYER]
    latents = [part.numpy() for part in encode(sae, x)]
    ids = clips["clip_id"].tolist()
    target = SUBSPACES["target"]
    donated = {(c, "target"): latent_coordinates(target, latents[0][i], latents[1][i]) for i, c in enumerate(ids)}
    assert np.array_equal(donated["p1-s0", "target"], feature_activation(sae, x, [FEATURE])[1].numpy())
    assert all(found.any() for found in donated.values())
    for donor, same in ((ids, True), (np.roll(ids, 1), False)):
        table = table_of(clips.assign(donor=donor), TARGET, doses=(1.0,), windows=("until_event",))
        table = table[table["kind"] == "target"]
        moved = (edit_of(sae, table, donated)(LAYER, 0, x) - x).abs().max()
        assert moved < 1e-5 if same else moved > 0.1


@pytest.mark.parametrize("resampling", [False, True])
def test_dose_0_and_untouched_rows_equal_the_baseline_and_edits_do_not(model, sae, clips, baseline, resampling):
    table = table_of(with_donors(clips) if resampling else clips, doses=(0.0, 4.0))
    tokens = run(model, sae, table, clips, baseline)
    changed, unmoved = [], set()
    for (clip, condition), found in tokens.items():
        assert found.dtype == np.uint16
        assert np.array_equal(found[:, :10], baseline[clip][:, :10]), "the prefix is imposed"
        if condition.startswith("untouched") or condition.endswith("-d0"):
            assert np.array_equal(found, baseline[clip])
            unmoved.add(condition.split("-")[0].rstrip("0123456789"))
        elif condition.endswith("-d4") or condition == "resampled0":
            changed.append(not np.array_equal(found, baseline[clip]))
    assert unmoved == {"untouched", "target", "matched_feature", "swapped_fit", "random_subspace"}
    assert np.mean(changed) > 0.8


@pytest.mark.parametrize("resampling", [False, True])
def test_tokens_do_not_depend_on_the_batch(model, sae, clips, baseline, resampling):
    table = table_of(with_donors(clips) if resampling else clips, doses=(1.0,), windows=("until_event",))

    def tokens(part: pd.DataFrame) -> pd.Series:
        return run(model, sae, part, clips, baseline)

    together = tokens(table)
    shuffled = tokens(table.sample(frac=1, random_state=0))
    alone = tokens(table[table["clip_id"] == "p1-s0"].iloc[2:5])
    assert len(shuffled) == len(together) == 3 * (2 + 7)
    for other in (shuffled, alone):
        assert all(np.array_equal(other[key], together[key]) for key in other.index)


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_what_is_shared_changes_no_token(model, sae, clips, baseline, cfg_coef, monkeypatch):
    """Openings and threads: each row gets the tokens that it would have computed alone, in the old order."""
    table = table_of(with_donors(clips), doses=(1.0, 4.0))
    joint = table[table["kind"] == "target"].assign(edit="both", condition="joint", start_position=4)
    table = pd.concat([table, joint[joint["dose"] == 4.0]], ignore_index=True)
    edits = edits_with(sae, donations(clips))._replace(joint={"both": {LAYER + 1: "swapped_fit0", LAYER: "target"}})
    used = []

    def all_tokens(threads: int) -> list[np.ndarray]:
        sampling = GREEDY_ENOUGH._replace(cfg_coef=cfg_coef)
        settings = {"batch_size": ROWS, "sampling": sampling, "n_frames": FRAMES, "threads": threads}
        parts = list(run_conditions(model, edits, table, baseline, noise_keys(clips), **settings))
        assert pd.concat([part for part, _ in parts]).equals(table)
        return [tokens for _, tokens in parts]

    def counted(*arguments: object, **how: object) -> torch.Tensor:
        used.append(how["opening"] is not None)
        return generate(*arguments, **how)

    monkeypatch.setattr("reprise.interventions.run.generate", counted)
    shared = [all_tokens(threads) for threads in (1, 3)]
    assert len(used) > 2 and all(used)
    monkeypatch.setattr("reprise.interventions.run._openings", lambda *_, **__: repeat(None, len(used) // 2))
    alone = all_tokens(1)
    assert not any(used[-len(alone) :])
    for found in shared:
        assert all(np.array_equal(a, b) for a, b in zip(found, alone, strict=True))


def test_an_edit_that_is_not_finite_in_the_prefix_is_named(model, clips, baseline):
    table = table_of(clips, {"target": ["swapped_fit0"]})
    nothing = {("swapped_fit0", "zero"): np.full(2, np.nan), ("swapped_fit0", "without"): np.full(2, np.nan)}
    edits = Edits(SUBSPACES, nothing)
    runs = run_conditions(
        model, edits, table, baseline, noise_keys(clips), batch_size=ROWS, sampling=GREEDY_ENOUGH, n_frames=FRAMES
    )
    with pytest.raises(NotFiniteError, match=f"layer {LAYER}.* as edited"):
        list(runs)


def test_prefix_only_touches_no_later_position(model, sae, clips, baseline):
    """The streams of the edited layer agree with a pass that edits nothing, given the same earlier keys and values."""
    table = table_of(clips.iloc[:1], TARGET, doses=(1.0,), windows=("prefix_only",))
    edit = edit_of(sae, table[table["kind"] == "target"].assign(dose=4.0))
    before, after = [], []

    def watched(layer: int, start: int, x: torch.Tensor) -> torch.Tensor:
        out = edit(layer, start, x)
        if layer == LAYER:
            before.append(x[:, 0]), after.append(out[:, 0])
        return out

    key = noise_keys(clips)["p0-s0"]
    prefix = torch.from_numpy(baseline["p0-s0"][None].astype(np.int64))
    generate(
        model,
        PROMPTS[:1],
        [key],
        n_frames=FRAMES,
        sampling=GREEDY_ENOUGH,
        prefix=prefix,
        n_prefix_frames=[10],
        edit=watched,
    )
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert any(moved[:10]) and not any(moved[10:])


@pytest.mark.parametrize("resampling", [False, True])
def test_the_same_edit_serves_a_full_pass(model, sae, clips, baseline, resampling):
    """Teacher-forced with the edit equals the edited generation's own stream."""
    chosen = (with_donors(clips) if resampling else clips).iloc[:2]
    table = table_of(chosen, TARGET, doses=(1.0,), windows=("until_event",))
    table, streams = table[table["kind"] == "target"], []
    edit = edit_of(sae, table, donations(clips))

    def watched(layer: int, start: int, x: torch.Tensor) -> torch.Tensor:
        out = edit(layer, start, x)
        if layer == LAYER:
            streams.append(out[:, 0])
        return out

    prompts = PROMPTS[:2]
    keys = [noise_keys(clips)[c] for c in table["clip_id"]]
    tokens = generate(model, prompts, keys, n_frames=FRAMES, sampling=GREEDY_ENOUGH, edit=watched)
    captured, _ = teacher_forced(model, tokens, encode_prompts(model, prompts), layers=(LAYER,), edit=edit)
    torch.testing.assert_close(
        torch.stack(streams[: FRAMES + 1], 1), captured[LAYER][:, : FRAMES + 3], atol=1e-4, rtol=0
    )


def test_guided_conditions_run(model, sae, clips, baseline):
    table = table_of(clips.iloc[:1], doses=(4.0,), windows=("until_event",))
    sampling = GREEDY_ENOUGH._replace(cfg_coef=3.0)
    both, half = (
        run(model, sae, table, clips, baseline, sampling=sampling, cfg_branches=h) for h in ("both", "conditional")
    )
    untouched = both["p0-s0", "untouched0"]
    assert np.array_equal(untouched, half["p0-s0", "untouched0"])
    key = ("p0-s0", "target0-until_event-d4")
    assert not np.array_equal(both[key], untouched) and not np.array_equal(both[key], half[key])


def test_run_conditions_names_what_is_missing(model, sae, clips, baseline):
    table = table_of(clips, {})
    with pytest.raises(ValueError, match="clip p1-s0 has no baseline"):
        run(model, sae, table, clips, {"p0-s0": baseline["p0-s0"]})
    with pytest.raises(ValueError, match="batch_size is 1"):
        run(model, sae, table, clips, baseline, batch_size=1)
    with pytest.raises(ValueError, match="a prefix of 10 frames does not fit in 9"):
        run(model, sae, table, clips, baseline, n_frames=9)


@pytest.fixture(scope="module")
def planner() -> Model:
    return load_model(str(PLANNER))


def planners_rows() -> tuple[Edits, pd.DataFrame, dict[str, np.ndarray]]:
    """Conditions on two clips of noise for the shipped planner and the SAE of its layer 2."""
    ids = ["p0-s0", "p1-s0"]
    clips = pd.DataFrame({"clip_id": ids, "prompt_id": ["p0", "p1"], "prompt": PROMPTS[:2], "seed": 0})
    clips = clips.assign(target_start_s=0.48, target_stop_s=0.64)
    rng = np.random.default_rng(8)
    baseline = {c: rng.integers(0, 256, (4, FRAMES)).astype(np.uint16) for c in ids}
    # Latents that the noise does activate, so that every kind has something to take out.
    subspaces: dict[str, Subspace] = {
        **SUBSPACES,
        "target": of_latents("feature", [42]),
        "matched_feature0": of_latents("matched", [155]),
        "matched_feature1": of_latents("matched", [66, 42]),
        "local_feature": of_latents("local", [66]),
    }
    edits = edits_with(load_sae(PLANNER / "sae" / "layer2"))._replace(subspaces=subspaces)
    return edits, table_of(clips, windows=("until_event",)), baseline


def test_kl_is_that_of_two_passes_over_the_baselines_own_tokens(planner):
    edits, table, baseline = planners_rows()
    kl = teacher_forced_kl(planner, edits, table, baseline, batch_size=4)
    assert kl.shape == (len(table), FRAMES) and kl.dtype == np.float32
    still = table["kind"].isin(("untouched", "resampled")) | (table["dose"] == 0)
    assert not kl[still].any() and (kl[~still].sum(axis=1) > 0).all()

    i = int(np.flatnonzero((table["kind"] == "target") & (table["dose"] == 4.0))[1])
    part = table.iloc[[i, i]]
    tokens = torch.from_numpy(np.stack([baseline["p1-s0"]] * 2).astype(np.int64))
    text = encode_prompts(planner, part["prompt"].tolist())
    edit = edit_function(row_edits(part, edits, d_model=D, device="cpu"), edits.sae, guided=False)
    before, after = (
        torch.distributions.Categorical(logits=teacher_forced(planner, tokens, text, edit=e, with_logits=True)[1][0])
        for e in (None, edit)
    )
    by_position = torch.distributions.kl_divergence(before, after)
    # Codebook k of frame f is predicted at position f + k, which the last frames lack.
    expected = [np.mean([by_position[k, f + k] for k in range(4) if f + k <= FRAMES]) for f in range(FRAMES)]
    np.testing.assert_allclose(kl[i], expected, rtol=1e-3, atol=1e-6)


def test_kl_grows_with_the_dose_and_does_not_depend_on_the_batches(planner):
    edits, table, baseline = planners_rows()
    kl = teacher_forced_kl(planner, edits, table, baseline, batch_size=4)
    total = pd.Series(kl.sum(axis=1), table.index)
    weak, strong = (total[(table["kind"] == "target") & (table["dose"] == d)].to_numpy() for d in (1.0, 4.0))
    assert (strong > weak).all()
    order = np.random.default_rng(9).permutation(len(table))
    shuffled = teacher_forced_kl(planner, edits, table.iloc[order], baseline, batch_size=4)
    np.testing.assert_allclose(shuffled, kl[order], rtol=1e-4, atol=1e-6)
    wide = teacher_forced_kl(planner, edits, table, baseline, batch_size=32)
    np.testing.assert_allclose(wide, kl, rtol=1e-3, atol=1e-5)
    assert teacher_forced_kl(planner, edits, table.iloc[:0], baseline, batch_size=4).shape == (0, 0)
    with pytest.raises(ValueError, match="clip p0-s0 has no baseline"):
        teacher_forced_kl(planner, edits, table, {}, batch_size=4)
