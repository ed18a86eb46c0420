"""Edits by difference: exact where they act, absent to the last bit where they do not."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import reprise.audiocraft_setup  # noqa: F401
from reprise.decoding import Sampling, generate, teacher_forced
from reprise.interventions import (
    Candidate,
    Direction,
    condition_table,
    edit_function,
    match_features,
    mean_difference,
    random_direction,
    row_edits,
    run_conditions,
)
from reprise.musicgen import Model, encode_prompts
from reprise.organisms.lm import build_lm
from reprise.sae import Sae, decode, encode_topk, make_sae

D, FRAMES, ROWS = 128, 22, 16
PREFIX_S, RATE_HZ = 0.4, 25.0  # 10 frames
LAYER, FEATURE = 2, 3
PROMPTS = ["piano in c, amber theme", "organ in eb, brook theme", "piano in eb, coral theme"]
GREEDY_ENOUGH = Sampling(temperature=1.0, top_k=50, cfg_coef=1.0)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    lm = build_lm().eval()
    # Fresh weights give nearly flat logits; sharper ones let an edit change a token.
    for linear in lm.linears:
        linear.weight.data *= 5
    return Model(lm, None, "none", RATE_HZ, 16000, lm.n_q, lm.card, len(lm.transformer.layers), lm.dim, 20.0)


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


def noise_keys(clips: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    return {c: (5, i) for i, c in enumerate(clips["clip_id"])}


DIRECTIONS = {0: Direction(random_direction(D, layer=9, feature=9, control=9), 0.25)}
CANDIDATE = Candidate(LAYER, FEATURE, matched_features=(7, 11))


def table_of(clips: pd.DataFrame, **changes: object) -> pd.DataFrame:
    settings = {
        "doses": (0.0, 1.0, 4.0),
        "windows": ("until_event", "prefix_only"),
        "kinds": ("untouched", "resampled", "target", "matched_feature", "random_direction", "mean_difference"),
        "prefix_s": PREFIX_S,
        "frame_rate_hz": RATE_HZ,
    }
    return condition_table(CANDIDATE, clips, **(settings | changes))


def run(model: Model, sae: Sae, table: pd.DataFrame, clips: pd.DataFrame, baseline: dict, **changes) -> pd.Series:
    settings = {"rows": ROWS, "sampling": GREEDY_ENOUGH, "directions": DIRECTIONS, "n_frames": FRAMES}
    parts = run_conditions(model, sae, table, baseline, noise_keys(clips), **(settings | changes))
    keys, tokens = [], []
    for part, found in parts:
        keys += list(zip(part["clip_id"], part["condition"], strict=True))
        tokens += list(found)
    return pd.Series(tokens, index=pd.MultiIndex.from_tuples(keys))


def test_condition_table_has_one_row_a_condition_and_its_stops(clips):
    table = table_of(clips)
    assert len(table) == 3 * (2 + 2 * (1 + 2 + 1 + 1) * 3)
    assert not table.duplicated(["clip_id", "condition"]).any()
    stops = table.groupby("window")["stop_position"].unique()
    assert stops["none"].tolist() == [0] and stops["prefix_only"].tolist() == [10]
    # The window's end at 0.64 s is frame 16; position 16 chooses it and is edited.
    assert stops["until_event"].tolist() == [17, 19, 21]
    assert set(table.loc[table["kind"] == "matched_feature", "edit_feature"]) == {7, 11}
    assert table_of(clips.iloc[:0]).empty
    assert table_of(clips, doses=(), kinds=("target",)).empty


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"kinds": ("targt",)}, "'targt'; valid: untouched"), ({"windows": ("until",)}, "'until'; valid: until_event")],
)
def test_condition_table_names_what_is_valid(clips, changes, text):
    with pytest.raises(ValueError, match=text):
        table_of(clips, **changes)


def test_a_target_window_that_does_not_follow_the_prefix_is_refused(clips):
    with pytest.raises(
        ValueError, match=r"clip p0-s0 has the target window 0.48-0.64 s; valid: after the prefix of 0.5"
    ):
        table_of(clips, prefix_s=0.5)
    with pytest.raises(ValueError, match=r"target window 0.48-nan"):
        table_of(clips.assign(target_stop_s=np.nan))


def edited(sae: Sae, table: pd.DataFrame, x: torch.Tensor, start: int = 0) -> torch.Tensor:
    return edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=False)(LAYER, start, x)


def one_of_each(clips: pd.DataFrame, window: str = "until_event", dose: float = 1.0) -> pd.DataFrame:
    table = table_of(clips.iloc[:1], doses=(dose,), windows=(window,))
    return table.drop_duplicates("kind").set_index("kind", drop=False)


def test_edit_lies_in_the_decoder_direction_and_keeps_the_error_term(clips, sae):
    x = torch.randn(6, 16, D, generator=torch.Generator().manual_seed(2))
    table = one_of_each(clips, dose=0.5)
    change = dict(zip(table.index, edited(sae, table, x) - x, strict=True))
    row = {kind: i for i, kind in enumerate(table.index)}
    values, indices = encode_topk(sae, x)

    def activation(kind: str, feature: int) -> torch.Tensor:
        return ((indices == feature) * values).sum(-1)[row[kind]]

    for kind, feature in (("target", FEATURE), ("matched_feature", 7)):
        z = activation(kind, feature)
        assert (z > 0).any()
        torch.testing.assert_close(change[kind], -0.5 * z[:, None] * sae.W_dec[feature], atol=1e-5, rtol=0)
        # Nothing is left across the direction, and the part that the SAE does not explain is what it was.
        unit = sae.W_dec[feature] / sae.W_dec[feature].norm()
        across = change[kind] - (change[kind] @ unit)[:, None] * unit
        assert across.abs().max() < 1e-5
        error = x - decode(sae, values, indices)
        explained = decode(sae, values * torch.where(indices == feature, 0.5, 1.0), indices)
        torch.testing.assert_close(
            x[row[kind]] + change[kind] - explained[row[kind]], error[row[kind]], atol=1e-4, rtol=0
        )
    z = activation("random_direction", FEATURE)
    torch.testing.assert_close(change["random_direction"].norm(dim=-1), 0.5 * z * sae.W_dec[FEATURE].norm())
    v = torch.from_numpy(DIRECTIONS[0].vector)
    moved = x[row["mean_difference"]] + change["mean_difference"]
    torch.testing.assert_close(moved @ v, 0.5 * (x[row["mean_difference"]] @ v) + 0.5 * 0.25)
    assert not change["untouched"].any() and not change["resampled"].any()


def test_mean_target_moves_the_activation_to_the_mean(clips, sae):
    x = torch.randn(1, 4, D, generator=torch.Generator().manual_seed(3))
    table = table_of(clips.iloc[:1], doses=(1.0,), windows=("until_event",), kinds=("target",), z_star={FEATURE: 2.0})
    values, indices = encode_topk(sae, x)
    z = (values * (indices == FEATURE)).sum(-1)[0]
    change = edited(sae, table, x)[0] - x[0]
    torch.testing.assert_close(change, -(z - 2.0)[:, None] * sae.W_dec[FEATURE], atol=1e-5, rtol=0)


def test_windows_end_where_they_say(clips, sae):
    x = torch.randn(12, 30, D, generator=torch.Generator().manual_seed(4))
    for window, stop in (("prefix_only", 10), ("until_event", 17)):
        table = one_of_each(clips, window)
        full = edited(sae, table, x[:6])
        assert torch.equal(full[:, stop:], x[:6, stop:])
        assert all((full[i, :stop] != x[i, :stop]).any() for i in range(2, 6))
        # The last position inside, seen one step at a time, and the first outside, which is x itself.
        step = edited(sae, table, x[:6, stop - 1 : stop], start=stop - 1)
        torch.testing.assert_close(step, full[:, stop - 1 : stop])
        outside = x[:6, stop : stop + 1]
        assert edited(sae, table, outside, start=stop) is outside


def test_other_layers_and_unedited_rows_are_bit_identical(clips, sae):
    x = torch.randn(6, 5, D) * 1e3
    x[0, 0, :3] = torch.tensor([-0.0, 1e-42, 3e38])  # what x + 0 * edit would not keep, or turn into NaN
    table = one_of_each(clips)
    out = edited(sae, table, x)
    assert torch.equal(out[:2].view(torch.int32), x[:2].view(torch.int32))
    assert torch.equal(edited(sae, one_of_each(clips, dose=0.0), x).view(torch.int32), x.view(torch.int32))
    assert edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=False)(LAYER + 1, 0, x) is x


@pytest.mark.parametrize("halves", ["both", "conditional"])
def test_guidance_halves(clips, sae, halves):
    table = one_of_each(clips)
    x = torch.randn(6, 4, D)
    both = torch.cat([x, x])
    out = edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=True, halves=halves)(LAYER, 0, both)
    torch.testing.assert_close(out[:6], edited(sae, table, x))
    assert torch.equal(out[6:], x) if halves == "conditional" else torch.equal(out[6:], out[:6])
    with pytest.raises(ValueError, match="has 6 rows; the edits were made for 12"):
        edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=True)(LAYER, 0, x)


def test_row_edits_refuses_what_it_cannot_do(clips, sae):
    table = one_of_each(clips)
    with pytest.raises(ValueError, match="feature 64 is not in this SAE"):
        row_edits(sae, table.assign(edit_feature=64), DIRECTIONS)
    with pytest.raises(ValueError, match="no direction given"):
        row_edits(sae, table)
    with pytest.raises(ValueError, match="one layer"):
        row_edits(sae, table.assign(layer=range(len(table))), DIRECTIONS)


def test_dose_0_and_untouched_rows_equal_the_baseline_and_edits_do_not(model, sae, clips, baseline):
    tokens = run(model, sae, table_of(clips, doses=(0.0, 4.0)), clips, baseline)
    changed = []
    for (clip, condition), found in tokens.items():
        assert found.dtype == np.uint16
        assert np.array_equal(found[:, :10], baseline[clip][:, :10]), "the prefix is imposed"
        if condition.startswith("untouched") or condition.endswith("-d0"):
            assert np.array_equal(found, baseline[clip])
        elif condition.endswith("-d4") or condition == "resampled0":
            changed.append(not np.array_equal(found, baseline[clip]))
    assert np.mean(changed) > 0.8


def test_tokens_do_not_depend_on_the_batch(model, sae, clips, baseline):
    table = table_of(clips, doses=(1.0,), windows=("until_event",))
    together = run(model, sae, table, clips, baseline)
    shuffled = run(model, sae, table.sample(frac=1, random_state=0), clips, baseline)
    alone = run(model, sae, table[table["clip_id"] == "p1-s0"].iloc[2:5], clips, baseline)
    assert len(shuffled) == len(together) == 21
    for other in (shuffled, alone):
        assert all(np.array_equal(other[key], together[key]) for key in other.index)


def test_prefix_only_touches_no_later_position(model, sae, clips, baseline):
    """The streams of the edited layer agree with a pass that edits nothing, given the same earlier keys and values."""
    table = table_of(clips.iloc[:1], doses=(4.0,), windows=("prefix_only",), kinds=("target",))
    edit = edit_function(sae, row_edits(sae, table), guided=False)
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


def test_the_same_edit_serves_a_full_pass(model, sae, clips, baseline):
    """Teacher-forced with the edit equals the edited generation's own stream."""
    table = table_of(clips.iloc[:2], doses=(1.0,), windows=("until_event",), kinds=("target",))
    streams = []
    edit = edit_function(sae, row_edits(sae, table), guided=False)

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
        run(model, sae, table, clips, baseline, sampling=sampling, halves=h) for h in ("both", "conditional")
    )
    untouched = both["p0-s0", "untouched0"]
    assert np.array_equal(untouched, half["p0-s0", "untouched0"])
    key = ("p0-s0", "target0-until_event-d4")
    assert not np.array_equal(both[key], untouched) and not np.array_equal(both[key], half[key])


def test_run_conditions_names_what_is_missing(model, sae, clips, baseline):
    table = table_of(clips, kinds=("untouched",))
    with pytest.raises(ValueError, match="clip p1-s0 has no baseline"):
        run(model, sae, table, clips, {"p0-s0": baseline["p0-s0"]})
    with pytest.raises(ValueError, match="rows is 1"):
        run(model, sae, table, clips, baseline, rows=1)
    with pytest.raises(ValueError, match="a prefix of 10 frames does not fit in 9"):
        run(model, sae, table, clips, baseline, n_frames=9)


def test_random_direction_is_fixed_by_its_identity():
    a = random_direction(D, layer=2, feature=3, control=0)
    assert np.array_equal(a, random_direction(D, layer=2, feature=3, control=0))
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-6)
    others = [
        random_direction(D, **(SimpleNamespace(layer=2, feature=3, control=0).__dict__ | c))
        for c in ({"layer": 3}, {"feature": 4}, {"control": 1})
    ]
    assert all(abs(a @ b) < 0.35 for b in others)


def test_mean_difference_points_from_the_others_to_the_returning():
    rng = np.random.default_rng(0)
    v = np.array([0.6, 0.8, 0.0])
    other = rng.standard_normal((2000, 3)) * 0.1 + [1.0, 2.0, 3.0]
    found = mean_difference(other[:1000] + 2 * v, other[1000:])
    assert found.vector == pytest.approx(v, abs=0.02)
    assert found.reference == pytest.approx(0.6 + 1.6, abs=0.1)
    with pytest.raises(ValueError, match="0 returning clips"):
        mean_difference(other[:0], other)
    with pytest.raises(ValueError, match="no direction"):
        mean_difference(other, other)


def test_matched_features_are_alike_and_active():
    rate = np.array([0.1, 0.11, 0.1, 0.0, 0.5, 0.1])
    norm = np.array([1.0, 1.0, 2.0, 1.0, 1.0, 1.05])
    assert match_features(0, rate, norm, n=3) == (5, 1, 2)
    assert match_features(0, rate, norm, n=9, excluded=(5,)) == (1, 2, 4)
    with pytest.raises(ValueError, match="feature 3 is never active"):
        match_features(3, rate, norm, n=1)
