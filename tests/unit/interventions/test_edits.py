"""Edits by difference: exact where they act, absent to the last bit where they do not."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.edits import (
    KINDS,
    STEERING_KINDS,
    Candidate,
    Direction,
    condition_table,
    edit_function,
    feature_trajectory,
    random_direction,
    row_edits,
    run_conditions,
    teacher_forced_kl,
)
from reprise.models.audiocraft import as_model
from reprise.models.decoding import Sampling, generate, teacher_forced
from reprise.models.musicgen import Model, encode_prompts, load_model
from reprise.organisms.lm import build_lm
from reprise.saes.files import load_sae
from reprise.saes.sae import Sae, decode, encode, feature_activation, make_sae, write_scale
from tests.places import PLANNER

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
    return as_model(lm, None, digest="none", frame_rate_hz=RATE_HZ, sample_rate_hz=16000, max_duration_s=20.0)


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
CANDIDATE = Candidate(LAYER, FEATURE, matched_features=(7, 11), local_feature=5)
ALL_KINDS = (*KINDS, *STEERING_KINDS[1:])
N_KINDS = len(ALL_KINDS)


def table_of(clips: pd.DataFrame, **changes: object) -> pd.DataFrame:
    settings = {
        "doses": (0.0, 1.0, 4.0),
        "windows": ("until_event", "prefix_only"),
        "kinds": ALL_KINDS,
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
    # Two unedited; two windows of seven edited kinds, one of them with two features, at three doses.
    assert len(table) == 3 * (2 + 2 * (7 + 1) * 3)
    assert not table.duplicated(["clip_id", "condition"]).any()
    stops = table.groupby("window")["stop_position"].unique()
    assert stops["none"].tolist() == [0] and stops["prefix_only"].tolist() == [10]
    # The window's end at 0.64 s is frame 16; position 16 chooses it and is edited.
    assert stops["until_event"].tolist() == [17, 19, 21]
    assert set(table.loc[table["kind"] == "matched_feature", "edit_feature"]) == {7, 11}
    assert set(table.loc[table["kind"] == "local_feature", "edit_feature"]) == {5}
    no_local = condition_table(
        CANDIDATE._replace(local_feature=None),
        clips,
        (1.0,),
        ("until_event",),
        KINDS,
        prefix_s=PREFIX_S,
        frame_rate_hz=RATE_HZ,
    )
    assert set(no_local["kind"]) == set(KINDS) - {"local_feature"}
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
    x = torch.randn(N_KINDS, 16, D, generator=torch.Generator().manual_seed(2))
    table = one_of_each(clips, dose=0.5)
    change = dict(zip(table.index, edited(sae, table, x) - x, strict=True))
    row = {kind: i for i, kind in enumerate(table.index)}
    values, indices = encode(sae, x)

    def activation(kind: str, feature: int) -> torch.Tensor:
        return ((indices == feature) * values).sum(-1)[row[kind]]

    for kind, feature in (("target", FEATURE), ("matched_feature", 7), ("local_feature", 5), ("steer", FEATURE)):
        z = activation(kind, feature)
        assert (z > 0).any()
        torch.testing.assert_close(change[kind], -0.5 * z[:, None] * sae.W_dec[feature], atol=1e-5, rtol=0)
        # Nothing is left across the direction, and the part that the SAE does not explain is what it was.
        unit = sae.W_dec[feature] / sae.W_dec[feature].norm()
        across = change[kind] - (change[kind] @ unit)[:, None] * unit
        assert across.abs().max() < 1e-5
        error = x - decode(sae, values, indices, x)
        explained = decode(sae, values * torch.where(indices == feature, 0.5, 1.0), indices, x)
        torch.testing.assert_close(
            x[row[kind]] + change[kind] - explained[row[kind]], error[row[kind]], atol=1e-4, rtol=0
        )
    for kind in ("random_direction", "steer_random"):
        z = activation(kind, FEATURE)
        torch.testing.assert_close(change[kind].norm(dim=-1), 0.5 * z * sae.W_dec[FEATURE].norm())
    v = torch.from_numpy(DIRECTIONS[0].vector)
    moved = x[row["mean_difference"]] + change["mean_difference"]
    torch.testing.assert_close(moved @ v, 0.5 * (x[row["mean_difference"]] @ v) + 0.5 * 0.25)
    assert not change["untouched"].any() and not change["resampled"].any()


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale"])
def test_an_edit_is_stretched_as_the_sae_stretches_what_it_writes(clips, sae, normalisation):
    x = 3 * torch.randn(N_KINDS, 16, D, generator=torch.Generator().manual_seed(6))
    normed = sae._replace(normalize_activations=normalisation)
    table = one_of_each(clips)
    change = dict(zip(table.index, edited(normed, table, x) - x, strict=True))
    row = {kind: i for i, kind in enumerate(table.index)}
    values, indices = encode(normed, x)
    z = ((indices == FEATURE) * values).sum(-1, keepdim=True)
    scale = write_scale(normed, x)
    i = row["target"]
    torch.testing.assert_close(change["target"], -(z * scale)[i] * sae.W_dec[FEATURE], atol=1e-4, rtol=0)
    # The feature's part of the reconstruction is gone, and nothing else is.
    without = decode(normed, torch.where(indices == FEATURE, 0.0, values), indices, x)[i]
    torch.testing.assert_close(change["target"], without - decode(normed, values, indices, x)[i], atol=1e-4, rtol=0)
    j = row["random_direction"]
    norm = (z * scale)[j, :, 0] * sae.W_dec[FEATURE].norm()
    torch.testing.assert_close(change["random_direction"].norm(dim=-1), norm)
    v = torch.from_numpy(DIRECTIONS[0].vector)
    moved = x[row["mean_difference"]] + change["mean_difference"]
    torch.testing.assert_close(moved @ v, torch.full((16,), 0.25), atol=1e-4, rtol=0)


def test_mean_target_moves_the_activation_to_the_mean(clips, sae):
    x = torch.randn(1, 4, D, generator=torch.Generator().manual_seed(3))
    table = table_of(clips.iloc[:1], doses=(1.0,), windows=("until_event",), kinds=("target",), z_star={FEATURE: 2.0})
    values, indices = encode(sae, x)
    z = (values * (indices == FEATURE)).sum(-1)[0]
    change = edited(sae, table, x)[0] - x[0]
    torch.testing.assert_close(change, -(z - 2.0)[:, None] * sae.W_dec[FEATURE], atol=1e-5, rtol=0)


def test_steering_moves_a_silent_feature_up_and_its_control_as_far(clips, sae):
    x = torch.randn(2, 8, D, generator=torch.Generator().manual_seed(5))
    kinds = STEERING_KINDS[1:]
    table = table_of(clips.iloc[:1], doses=(1.0,), windows=("until_event",), kinds=kinds, z_star={FEATURE: 30.0})
    values, indices = encode(sae, x)
    z = (values * (indices == FEATURE)).sum(-1)
    assert z.max() < 30.0
    steered, random = edited(sae, table, x) - x
    torch.testing.assert_close(steered, (30.0 - z[0])[:, None] * sae.W_dec[FEATURE], atol=1e-4, rtol=0)
    torch.testing.assert_close(random.norm(dim=-1), (30.0 - z[1]) * sae.W_dec[FEATURE].norm())


READING = ("target", "matched_feature", "random_direction", "local_feature")


def donations(clips: pd.DataFrame, n_positions: int = 30) -> dict[tuple[str, int], np.ndarray]:
    """What each feature is said to do in each donor."""
    rng = np.random.default_rng(6)
    features = (FEATURE, *CANDIDATE.matched_features, CANDIDATE.local_feature)
    return {(c, j): rng.exponential(size=n_positions).astype(np.float32) for c in clips["clip_id"] for j in features}


def with_donors(clips: pd.DataFrame) -> pd.DataFrame:
    return clips.assign(donor=np.roll(clips["clip_id"], 1))


def test_resampling_gives_each_position_the_donors_activation(clips, sae):
    own, donated = with_donors(clips), donations(clips)
    table = table_of(
        own.iloc[:1], doses=(1.0,), windows=("until_event",), kinds=(*KINDS, "steer"), z_star={FEATURE: 2.0}
    )
    table = table.drop_duplicates("kind").set_index("kind", drop=False)
    # A steered clip has no donor: its reference stays a number, in the same batch.
    table.loc["steer", "donor"], table.loc["steer", "z_star"] = None, 2.0
    assert set(table.index[table["z_star"].isna()]) == set(READING)
    x = torch.randn(len(table), 20, D, generator=torch.Generator().manual_seed(7))
    edits = row_edits(sae, table, DIRECTIONS, donated)
    edit = edit_function(sae, edits, guided=False)
    change = dict(zip(table.index, edit(LAYER, 0, x) - x, strict=True))
    values, indices = encode(sae, x)
    for row, kind in enumerate(table.index):
        if kind not in (*READING, "steer"):
            continue
        feature, stop = int(table["edit_feature"].iloc[row]), int(table["stop_position"].iloc[row])
        z = ((indices == feature) * values).sum(-1)[row, :stop]
        reference = torch.tensor(2.0) if kind == "steer" else torch.from_numpy(donated["p2-s0", feature][:stop])
        if kind == "random_direction":
            expected = (z - reference).abs() * sae.W_dec[feature].norm()
            torch.testing.assert_close(change[kind][:stop].norm(dim=-1), expected, atol=1e-4, rtol=0)
        else:
            expected = -(z - reference)[:, None] * sae.W_dec[feature]
            torch.testing.assert_close(change[kind][:stop], expected, atol=1e-4, rtol=0)
        assert not change[kind][stop:].any()
    # One step at a time, each position finds its own reference.
    steps = [edit(LAYER, p, x[:, p : p + 1]) for p in range(x.shape[1])]
    torch.testing.assert_close(torch.cat(steps, dim=1), edit(LAYER, 0, x), atol=1e-5, rtol=0)


def test_a_donor_must_be_known_as_far_as_the_edit_goes(clips, sae):
    table = table_of(with_donors(clips), doses=(1.0,), kinds=("target",))
    with pytest.raises(ValueError, match="no activations given of the donor p2-s0, feature 3"):
        row_edits(sae, table)
    with pytest.raises(ValueError, match="the donor p2-s0 has 12 positions; row 0 is edited at 17"):
        row_edits(sae, table, donated=donations(clips, n_positions=12))


def test_a_clip_that_is_its_own_donor_is_left_as_it_is(model, sae, clips, baseline):
    """The donor's trajectory is read where the edit reads the stream: equal clips, no edit."""
    tokens = torch.from_numpy(np.stack([baseline[c] for c in clips["clip_id"]]).astype(np.int64))
    x = teacher_forced(model, tokens, encode_prompts(model, PROMPTS), layers=(LAYER,))[0][LAYER]
    codes = [part.numpy() for part in encode(sae, x)]
    ids = clips["clip_id"].tolist()
    donated = {(c, FEATURE): feature_trajectory(codes[0][i], codes[1][i], FEATURE) for i, c in enumerate(ids)}
    assert np.array_equal(donated["p1-s0", FEATURE], feature_activation(sae, x, [FEATURE])[1, :, 0].numpy())
    assert all(found.any() for found in donated.values())
    for donor, same in ((ids, True), (np.roll(ids, 1), False)):
        table = table_of(clips.assign(donor=donor), doses=(1.0,), windows=("until_event",), kinds=("target",))
        edit = edit_function(sae, row_edits(sae, table, donated=donated), guided=False)
        moved = (edit(LAYER, 0, x) - x).abs().max()
        assert moved < 1e-5 if same else moved > 0.1


def test_windows_end_where_they_say(clips, sae):
    x = torch.randn(N_KINDS, 30, D, generator=torch.Generator().manual_seed(4))
    for window, stop in (("prefix_only", 10), ("until_event", 17)):
        table = one_of_each(clips, window)
        full = edited(sae, table, x)
        assert torch.equal(full[:, stop:], x[:, stop:])
        assert all((full[i, :stop] != x[i, :stop]).any() for i in range(2, N_KINDS))
        # The last position inside, seen one step at a time, and the first outside, which is x itself.
        step = edited(sae, table, x[:, stop - 1 : stop], start=stop - 1)
        torch.testing.assert_close(step, full[:, stop - 1 : stop])
        outside = x[:, stop : stop + 1]
        assert edited(sae, table, outside, start=stop) is outside


def test_other_layers_and_unedited_rows_are_bit_identical(clips, sae):
    x = torch.randn(N_KINDS, 5, D) * 1e3
    x[0, 0, :3] = torch.tensor([-0.0, 1e-42, 3e38])  # what x + 0 * edit would not keep, or turn into NaN
    table = one_of_each(clips)
    out = edited(sae, table, x)
    assert torch.equal(out[:2].view(torch.int32), x[:2].view(torch.int32))
    assert torch.equal(edited(sae, one_of_each(clips, dose=0.0), x).view(torch.int32), x.view(torch.int32))
    assert edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=False)(LAYER + 1, 0, x) is x


@pytest.mark.parametrize("halves", ["both", "conditional"])
def test_guidance_halves(clips, sae, halves):
    table = one_of_each(clips)
    x = torch.randn(N_KINDS, 4, D)
    both = torch.cat([x, x])
    out = edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=True, halves=halves)(LAYER, 0, both)
    torch.testing.assert_close(out[:N_KINDS], edited(sae, table, x))
    assert torch.equal(out[N_KINDS:], x) if halves == "conditional" else torch.equal(out[N_KINDS:], out[:N_KINDS])
    with pytest.raises(ValueError, match=f"has {N_KINDS} rows; the edits were made for {2 * N_KINDS}"):
        edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=True)(LAYER, 0, x)


def test_row_edits_refuses_what_it_cannot_do(clips, sae):
    table = one_of_each(clips)
    with pytest.raises(ValueError, match="feature 64 is not in this SAE"):
        row_edits(sae, table.assign(edit_feature=64), DIRECTIONS)
    with pytest.raises(ValueError, match="no direction given"):
        row_edits(sae, table)
    with pytest.raises(ValueError, match="one layer"):
        row_edits(sae, table.assign(layer=range(len(table))), DIRECTIONS)


@pytest.mark.parametrize("resampling", [False, True])
def test_dose_0_and_untouched_rows_equal_the_baseline_and_edits_do_not(model, sae, clips, baseline, resampling):
    table = table_of(with_donors(clips) if resampling else clips, doses=(0.0, 4.0))
    tokens = run(model, sae, table, clips, baseline, donated=donations(clips))
    changed, unmoved = [], set()
    for (clip, condition), found in tokens.items():
        assert found.dtype == np.uint16
        assert np.array_equal(found[:, :10], baseline[clip][:, :10]), "the prefix is imposed"
        if condition.startswith("untouched") or condition.endswith("-d0"):
            assert np.array_equal(found, baseline[clip])
            unmoved.add(condition.split("-")[0].rstrip("0123456789"))
        elif condition.endswith("-d4") or condition == "resampled0":
            changed.append(not np.array_equal(found, baseline[clip]))
    assert unmoved == set(ALL_KINDS) - {"resampled"}
    assert np.mean(changed) > 0.8


@pytest.mark.parametrize("resampling", [False, True])
def test_tokens_do_not_depend_on_the_batch(model, sae, clips, baseline, resampling):
    table = table_of(with_donors(clips) if resampling else clips, doses=(1.0,), windows=("until_event",))

    def tokens(part: pd.DataFrame) -> pd.Series:
        return run(model, sae, part, clips, baseline, donated=donations(clips))

    together = tokens(table)
    shuffled = tokens(table.sample(frac=1, random_state=0))
    alone = tokens(table[table["clip_id"] == "p1-s0"].iloc[2:5])
    assert len(shuffled) == len(together) == 3 * (2 + 8)
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


@pytest.mark.parametrize("resampling", [False, True])
def test_the_same_edit_serves_a_full_pass(model, sae, clips, baseline, resampling):
    """Teacher-forced with the edit equals the edited generation's own stream."""
    chosen = (with_donors(clips) if resampling else clips).iloc[:2]
    table = table_of(chosen, doses=(1.0,), windows=("until_event",), kinds=("target",))
    streams = []
    edit = edit_function(sae, row_edits(sae, table, donated=donations(clips)), guided=False)

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


@pytest.fixture(scope="module")
def planner() -> Model:
    return load_model(str(PLANNER))


def planners_rows() -> tuple[Sae, pd.DataFrame, dict[str, np.ndarray]]:
    """Conditions on two clips of noise for the shipped planner and the SAE of its layer 2."""
    sae = load_sae(PLANNER / "sae" / "layer2")
    ids = ["p0-s0", "p1-s0"]
    clips = pd.DataFrame({"clip_id": ids, "prompt_id": ["p0", "p1"], "prompt": PROMPTS[:2], "seed": 0})
    clips = clips.assign(target_start_s=0.48, target_stop_s=0.64)
    rng = np.random.default_rng(8)
    baseline = {c: rng.integers(0, 256, (4, FRAMES)).astype(np.uint16) for c in ids}
    # Features that the noise does activate, so that every kind has something to take out.
    table = condition_table(
        Candidate(LAYER, 42, (155,), 66),
        clips,
        (0.0, 1.0, 4.0),
        ("until_event",),
        ALL_KINDS,
        prefix_s=PREFIX_S,
        frame_rate_hz=RATE_HZ,
        z_star={42: 0.5},
    )
    return sae, table, baseline


def test_kl_is_that_of_two_passes_over_the_baselines_own_tokens(planner):
    sae, table, baseline = planners_rows()
    kl = teacher_forced_kl(planner, sae, table, baseline, rows=4, directions=DIRECTIONS)
    assert kl.shape == (len(table), FRAMES) and kl.dtype == np.float32
    still = table["kind"].isin(("untouched", "resampled")) | (table["dose"] == 0)
    assert not kl[still].any() and (kl[~still].sum(axis=1) > 0).all()

    i = int(np.flatnonzero((table["kind"] == "target") & (table["dose"] == 4.0))[1])
    part = table.iloc[[i, i]]
    tokens = torch.from_numpy(np.stack([baseline["p1-s0"]] * 2).astype(np.int64))
    text = encode_prompts(planner, part["prompt"].tolist())
    edit = edit_function(sae, row_edits(sae, part), guided=False)
    before, after = (
        torch.distributions.Categorical(logits=teacher_forced(planner, tokens, text, edit=e, with_logits=True)[1][0])
        for e in (None, edit)
    )
    by_position = torch.distributions.kl_divergence(before, after)
    # Codebook k of frame f is predicted at position f + k, which the last frames lack.
    expected = [np.mean([by_position[k, f + k] for k in range(4) if f + k <= FRAMES]) for f in range(FRAMES)]
    np.testing.assert_allclose(kl[i], expected, rtol=1e-3, atol=1e-6)


def test_kl_grows_with_the_dose_and_does_not_depend_on_the_batches(planner):
    sae, table, baseline = planners_rows()
    kl = teacher_forced_kl(planner, sae, table, baseline, rows=4, directions=DIRECTIONS)
    total = pd.Series(kl.sum(axis=1), table.index)
    weak, strong = (total[(table["kind"] == "target") & (table["dose"] == d)].to_numpy() for d in (1.0, 4.0))
    assert (strong > weak).all()
    order = np.random.default_rng(9).permutation(len(table))
    shuffled = teacher_forced_kl(planner, sae, table.iloc[order], baseline, rows=4, directions=DIRECTIONS)
    np.testing.assert_allclose(shuffled, kl[order], rtol=1e-4, atol=1e-6)
    wide = teacher_forced_kl(planner, sae, table, baseline, rows=32, directions=DIRECTIONS)
    np.testing.assert_allclose(wide, kl, rtol=1e-3, atol=1e-5)
    assert teacher_forced_kl(planner, sae, table.iloc[:0], baseline, rows=4).shape == (0, 0)
    with pytest.raises(ValueError, match="clip p0-s0 has no baseline"):
        teacher_forced_kl(planner, sae, table, {}, rows=4)
