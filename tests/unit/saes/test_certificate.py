"""The certificate accepts the right SAE and refuses every wrong one, saying which hook would be better."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reprise.saes.reconstruction
from reprise.config.schema import CertificateSettings
from reprise.models.adapter import Model
from reprise.models.capture import residual_stream
from reprise.models.codec import encode_audio
from reprise.models.loading import load_model
from reprise.models.random_weights import randomly_initialised
from reprise.organisms import score
from reprise.organisms.codec import render_clip
from reprise.organisms.evaluate import agreeing_clips
from reprise.saes.certificate import certify, judge, require_passed
from reprise.saes.errors import SaeError
from reprise.saes.loading import load_sae
from reprise.saes.measurement import Hook, Measurement, from_plain, to_plain
from reprise.saes.reconstruction import reconstruction_metrics
from reprise.saes.sae import Sae, make_sae
from reprise.storage.files import write_json
from reprise.targets.labels import unusable_because
from tests.places import RESOURCES

D, D_SAE, K, N_POSITIONS = 24, 16, 3, 10
TURN = 0.6  # radians between one layer and the next
NOISE = 0.1
OFFSET = 3.0
DECLARED = {"hook_layer": 2, "model_name": "planner", "model_digest": "aa", "context_size": N_POSITIONS}
EXPECTED = {"hook_layer": 2, "d_model": D, "model_name": "planner", "model_digest": "aa"}
EXPECTED |= {"n_positions": N_POSITIONS, "frame_rate_hz": 2.0}
EDGES = {"position_edges": (5,)}
BOUNDS = {"max_fvu": 0.1, "min_neighbour_ratio": 1.5}


def dictionary(layer: int) -> np.ndarray:
    """16 orthonormal directions in 24 dimensions; each layer turns all of them by `TURN` in twelve planes."""
    cos, sin = math.cos(layer * TURN), math.sin(layer * TURN)
    turn = np.kron(np.eye(D // 2), [[cos, sin], [-sin, cos]])
    q, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((D, D)))
    return q[:D_SAE] @ turn


def activations(layer: int, *, seed: int = 0, n_clips: int = 50) -> np.ndarray:
    """`[clip, position, D]` float32: three of the directions at work at a time, the same ones at every layer."""
    rng = np.random.default_rng(seed)
    latents = np.zeros((n_clips, N_POSITIONS, D_SAE))
    chosen = rng.permuted(np.broadcast_to(np.arange(D_SAE), latents.shape), axis=-1)[..., :K]
    np.put_along_axis(latents, chosen, rng.uniform(1, 3, chosen.shape), axis=-1)
    noise = rng.standard_normal((n_clips, N_POSITIONS, D))
    return (latents @ dictionary(layer) + NOISE * noise + OFFSET).astype(np.float32)


def sae_for(layer: int, **declared: Any) -> Sae:
    """The SAE that knows the layer's directions."""
    W_dec = torch.from_numpy(dictionary(layer)).float()
    b = {"b_enc": torch.zeros(D_SAE), "b_dec": torch.full((D,), OFFSET)}
    return make_sae(W_enc=W_dec.T, W_dec=W_dec, **b, k=K, declared={**DECLARED, "hook_layer": layer, **declared})


def normalised(x: np.ndarray) -> np.ndarray:
    """What a layer norm without weights makes of it."""
    x = x - x.mean(axis=-1, keepdims=True)
    return x / x.std(axis=-1, keepdims=True)


def certificate(sae: Sae, *, hook: int = 2, **expected: Any) -> dict[str, Any]:
    metrics = {
        Hook(L, normed): reconstruction_metrics(sae, [(normalised if normed else np.asarray)(activations(L))], **EDGES)
        for L in range(hook - 2, hook + 2)
        for normed in (False, True)
    }
    return certify(sae.declared, {**EXPECTED, "hook_layer": hook, **expected}, metrics, **BOUNDS)


# Metrics


def test_known_metrics() -> None:
    """One direction of two is known: half of the variance about the mean (3, 0) is left over."""
    sae = make_sae(
        W_enc=torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        b_enc=torch.zeros(3),
        W_dec=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
        b_dec=torch.tensor([1.0, 0.0]),
        k=2,
        declared={},
    )
    x = np.array([[[2.0, 1.0]], [[4.0, -1.0]], [[2.0, -1.0]], [[4.0, 1.0]]])
    metrics = reconstruction_metrics(sae, [x])
    # Each vector misses 1 in y: residual 4, variance 4 * (1 + 1).
    assert metrics["fvu"] == pytest.approx(0.5)
    assert metrics["l0"] == 1 and metrics["l0_max"] == 1 and metrics["n_vectors"] == 4
    assert metrics["dead_fraction"] == pytest.approx(2 / 3)
    assert metrics["cosine"] == pytest.approx(np.mean([2 / 5**0.5, 4 / 17**0.5]))
    assert metrics["bins"] == [{"start": 0, "stop": 1, "fvu": pytest.approx(0.5), "l0": 1}]


def test_by_position_a_bin_with_an_unknown_direction_stands_out() -> None:
    sae, x = sae_for(2), activations(2)
    x[:, 6:] += np.random.default_rng(3).standard_normal((len(x), 4, D))
    metrics = reconstruction_metrics(sae, [x], position_edges=(3, 6))
    assert [(b["start"], b["stop"]) for b in metrics["bins"]] == [(0, 3), (3, 6), (6, 10)]
    low, also_low, high = (b["fvu"] for b in metrics["bins"])
    assert low < 0.05 and also_low < 0.05 and high > 0.3
    assert low < metrics["fvu"] < high
    beyond = reconstruction_metrics(sae, [x], position_edges=(100,))["bins"]
    assert beyond == [{"start": 0, "stop": 10, "fvu": pytest.approx(metrics["fvu"]), "l0": metrics["l0"]}]


def test_batches_and_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x = sae_for(2), activations(1)
    whole = reconstruction_metrics(sae, [x], position_edges=(5,))
    monkeypatch.setattr(reprise.saes.reconstruction, "ROWS_AT_ONCE", 7)
    parts = reconstruction_metrics(sae, (x[i : i + 9] for i in range(0, len(x), 9)), position_edges=(5,))
    for name in ("fvu", "l0", "cosine", "dead_fraction", "l0_max", "n_vectors"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-6)
    assert [b["fvu"] for b in parts["bins"]] == pytest.approx([b["fvu"] for b in whole["bins"]], rel=1e-6)


def test_fvu_matches_the_definition_far_from_the_origin() -> None:
    x = activations(2) + 1000.0
    sae = sae_for(2)
    sae = sae._replace(b_dec=sae.b_dec + 900.0)
    flat = x.reshape(-1, D).astype(np.float64)
    hidden = (flat - sae.b_dec.double().numpy()) @ sae.W_enc.double().numpy()
    keep = np.maximum(np.where(hidden >= np.sort(hidden)[:, [-K]], hidden, 0), 0)
    guess = keep @ sae.W_dec.double().numpy() + sae.b_dec.double().numpy()
    fvu = ((flat - guess) ** 2).sum() / ((flat - flat.mean(axis=0)) ** 2).sum()
    assert reconstruction_metrics(sae, [x])["fvu"] == pytest.approx(fvu, rel=1e-4)


def test_degenerate_activations() -> None:
    same = reconstruction_metrics(sae_for(2), [np.full((3, 4, D), 0.3, dtype=np.float32)], position_edges=(2,))
    assert math.isnan(same["fvu"]) and all(math.isnan(b["fvu"]) for b in same["bins"])
    zeros = reconstruction_metrics(sae_for(2), [np.zeros((3, 4, D), dtype=np.float32)])
    assert math.isnan(zeros["fvu"]) and zeros["cosine"] == 0
    with pytest.raises(ValueError, match="no activations"):
        reconstruction_metrics(sae_for(2), [])
    with pytest.raises(ValueError, match="must increase"):
        reconstruction_metrics(sae_for(2), [activations(2)], position_edges=(5, 5))
    with pytest.raises(SaeError, match="width 30; this SAE's d_in is 24"):
        reconstruction_metrics(sae_for(2), [np.zeros((1, 1, 30))])
    with pytest.raises(ValueError, match=r"shape \(4, 24\); valid: \[clip, position, d_in\]"):
        reconstruction_metrics(sae_for(2), [np.zeros((4, D))])


# Verdicts


def test_the_right_sae_passes(tmp_path: Path) -> None:
    out = certificate(sae_for(2))
    assert out["passed"] and out["reason"] == "" and out["failures"] == [] and out["better_hook"] is None
    assert out["fvu"] < 0.05 and out["neighbour_ratio"] > 4 and out["l0_max"] <= K
    assert out["agreements"] == {"hook": True, "width": True, "model": True, "context": True}
    assert [(hook["layer"], hook["normed"]) for hook in out["hooks"]] == [
        (layer, normed) for layer in range(4) for normed in (False, True)
    ]
    assert [(b["start_s"], b["stop_s"]) for b in out["bins"]] == [(0, 2.5), (2.5, 5)]
    assert all(b["passed"] and b["in_context"] for b in out["bins"]) and len(out["bins"]) == 2
    write_json(tmp_path / "certificate.json", out)
    assert json.loads((tmp_path / "certificate.json").read_text())["passed"] is True


@pytest.mark.parametrize("true_layer", [1, 3])
def test_an_off_by_one_layer_is_refused_and_the_better_hook_named(true_layer: int) -> None:
    """The SAE says layer 2, but its weights are another layer's."""
    out = certificate(sae_for(true_layer, hook_layer=2))
    assert not out["passed"] and out["better_hook"] == {"layer": true_layer, "normed": False}
    assert out["failures"] == ["best_hook", "fvu"]
    assert f"layer {true_layer} is the better hook: FVU 0.0" in out["reason"]


def test_a_declared_other_layer_is_refused() -> None:
    out = certificate(sae_for(3))
    assert out["failures"] == ["hook", "best_hook", "fvu"] and out["better_hook"]["layer"] == 3
    assert "declares hook layer 3, the activations are of layer 2" in out["reason"]


def test_a_relu_misload_is_refused() -> None:
    out = certificate(sae_for(2)._replace(k=None))
    assert "l0" in out["failures"]
    assert "the SAE declares k = 3: it was not loaded as a top-k SAE" in out["reason"]


def test_a_shuffled_decoder_is_refused() -> None:
    sae = sae_for(2)
    out = certificate(sae._replace(W_dec=sae.W_dec[torch.from_numpy(np.random.default_rng(0).permutation(D_SAE))]))
    assert not out["passed"] and "fvu" in out["failures"] and out["fvu"] > 1


def test_the_wrong_width_is_refused_without_metrics() -> None:
    out = certify(sae_for(2).declared, {**EXPECTED, "d_model": 30}, {}, **BOUNDS)
    assert out["failures"] == ["width", "measured"] and out["fvu"] is None and out["bins"] == []
    assert "the SAE declares d_in 24, the model's width is 30" in out["reason"]


def test_another_model_is_refused_by_its_weights() -> None:
    out = certificate(sae_for(2), model_digest="bb")
    assert out["failures"] == ["model"]
    assert "trained on model planner (weights aa), the activations are of model planner (weights bb)" in out["reason"]
    assert certificate(sae_for(2), model_name="some/directory")["passed"]  # the same weights under another name
    unsaid = sae_for(2, model_digest=None)
    assert certificate(unsaid)["agreements"]["model"] is True
    assert certificate(unsaid, model_name="improviser")["failures"] == ["model"]
    assert certificate(sae_for(2, model_digest=None, model_name=None))["agreements"]["model"] is None


def test_not_clearly_best_is_refused() -> None:
    hooks = [Hook(L, normed=False) for L in (1, 2, 3)]
    metrics = {hook: reconstruction_metrics(sae_for(2), [activations(hook.layer)]) for hook in hooks}
    metrics[hooks[2]] = {**metrics[hooks[2]], "fvu": 1.2 * metrics[hooks[1]]["fvu"]}
    out = certify(sae_for(2).declared, EXPECTED, metrics, **BOUNDS)
    assert out["failures"] == ["best_hook"] and out["neighbour_ratio"] == pytest.approx(1.2)
    assert out["better_hook"] is None and "layer 2 is not clearly the best hook" in out["reason"]
    alone = certify(sae_for(2).declared, EXPECTED, {hooks[1]: metrics[hooks[1]]}, **BOUNDS)
    assert alone["failures"] == ["measured"] and "no hook other than layer 2 was measured" in alone["reason"]


def test_an_sae_of_normed_activations_is_refused_and_told_apart() -> None:
    """Trained on what the next layer's norm makes of layer 2, and fed with layer 2 itself."""
    sae = sae_for(2)
    mean, sd = (f(axis=-1).mean() for f in (activations(2).mean, activations(2).std))
    shrunk = sae._replace(W_enc=sae.W_enc * sd, W_dec=sae.W_dec / sd, b_dec=(sae.b_dec - mean) / sd)
    out = certificate(shrunk)
    assert "best_hook" in out["failures"] and out["better_hook"] == {"layer": 2, "normed": True}
    assert "layer 2, normed, is the better hook" in out["reason"]


def test_rows_without_a_prompt_are_measured_and_refuse_nothing() -> None:
    sae = sae_for(2)
    metrics = {Hook(L, normed=False): reconstruction_metrics(sae, [activations(L)]) for L in (1, 2, 3)}
    assert certify(sae.declared, EXPECTED, metrics, **BOUNDS)["unconditional"] is None
    for layer in (2, 1):
        without = reconstruction_metrics(sae, [activations(layer, seed=4)])
        out = certify(sae.declared, EXPECTED, metrics, **BOUNDS, unconditional=without)
        assert out["passed"] and out["unconditional"]["passed"] is (layer == 2)
        assert out["unconditional"]["fvu"] == without["fvu"] and out["unconditional"]["l0"] == without["l0"]


def test_a_horizon_that_needs_positions_where_the_sae_fails_is_unusable() -> None:
    sae, x = sae_for(2), activations(2)
    x[:, 5:] += np.random.default_rng(3).standard_normal((len(x), 5, D)) * 0.8
    metrics = {Hook(L, normed=False): reconstruction_metrics(sae, [activations(L)]) for L in (1, 3)}
    metrics[Hook(2, normed=False)] = reconstruction_metrics(sae, [x], **EDGES)
    out = certify(sae.declared, EXPECTED, metrics, max_fvu=0.3, min_neighbour_ratio=1.0)
    assert [b["passed"] for b in out["bins"]] == [True, False]
    assert unusable_because(out, [0.5, 2.0, 2.4]) == ""
    expected = "the SAE does not reconstruct well enough at 2.5-5 s, which this needs"
    assert unusable_because(out, [0.5, 2.5]) == expected


def test_positions_beyond_the_context_are_marked_not_refused() -> None:
    out = certificate(sae_for(2, context_size=5))
    assert out["passed"] and out["agreements"]["context"] is False
    assert [b["in_context"] for b in out["bins"]] == [True, False]
    assert certificate(sae_for(2, context_size=None))["agreements"]["context"] is None


def test_activations_without_variance_are_refused() -> None:
    flat = reconstruction_metrics(sae_for(2), [np.ones((2, 3, D), dtype=np.float32)])
    good = reconstruction_metrics(sae_for(2), [activations(2)])
    metrics = {Hook(L, normed=False): flat if L == 2 else good for L in (1, 2, 3)}
    out = certify(sae_for(2).declared, EXPECTED, metrics, **BOUNDS)
    assert out["failures"] == ["measured"] and "no variance" in out["reason"] and not out["bins"][0]["passed"]


# What was measured, kept


def measured(**fields: Any) -> Measurement:
    sae = sae_for(2)
    metrics = {Hook(L, normed=False): reconstruction_metrics(sae, [activations(L)], **EDGES) for L in (1, 2, 3)}
    made = Measurement(sae.declared, EXPECTED, metrics, sae="saes/layer2", sae_digest=sae.digest, n_clips=50)
    return made._replace(**fields)


def read_again(measurement: Measurement, path: Path) -> Measurement:
    write_json(path, to_plain(measurement))
    return from_plain(json.loads(path.read_text()))


def test_what_was_measured_is_read_as_it_was_written(tmp_path: Path) -> None:
    without = reconstruction_metrics(sae_for(2), [activations(2, seed=4)])
    written = measured(unconditional=without, trained_here={"k": 32}, n_silent=3)
    assert read_again(written, tmp_path / "a.json") == written
    nothing = measured(metrics={}, not_measured="all are silent", n_silent=4, all_silent=True)
    assert read_again(nothing, tmp_path / "b.json") == nothing
    # NaN is null in JSON.
    flat = reconstruction_metrics(sae_for(2), [np.ones((2, N_POSITIONS, D), dtype=np.float32)], **EDGES)
    metrics = read_again(measured(metrics={Hook(-1, normed=True): flat}), tmp_path / "c.json").metrics
    (hook, found), *others = metrics.items()
    assert hook == Hook(-1, normed=True) and not others and math.isnan(found["fvu"])
    assert [math.isnan(b["fvu"]) for b in found["bins"]] == [True, True] and found["l0"] == flat["l0"]


def test_bounds_judge_what_was_measured(tmp_path: Path) -> None:
    kept = read_again(measured(trained_here={"k": 32}), tmp_path / "a.json")
    bounds = {**BOUNDS, "n_clips": 50}
    out = judge(kept, bounds)
    assert out["passed"] and out["settings"] == bounds and out["trained_here"] == {"k": 32}
    assert (out["sae"], out["n_clips"], out["n_silent"], out["all_silent"]) == ("saes/layer2", 50, 0, False)
    assert out.items() >= certify(kept.declared, kept.expected, measured().metrics, **BOUNDS).items()
    strict = judge(kept, bounds | {"max_fvu": 0.001})
    assert strict["failures"] == ["fvu"] and strict["fvu"] == out["fvu"]


def test_without_a_certificate_nothing_goes_on() -> None:
    require_passed(judge(measured(), BOUNDS), see="layer2.json")
    refused = (
        r"^saes/layer2 has no certificate for layer 2, so nothing is encoded with it and no latents of it are used: "
        r"FVU at layer 2 is 0\.0\d+; at most 0\.001 is allowed \(see layer2\.json\); valid: the SAE of this layer"
    )
    with pytest.raises(SaeError, match=refused):
        require_passed(judge(measured(), BOUNDS | {"max_fvu": 0.001}), see="layer2.json")
    # Silence is not the SAE's fault; a study in which nothing is to be heard comes to its verdict.
    silent = measured(metrics={}, not_measured="4 of the 4 clips to measure on are silent", n_silent=4)
    with pytest.raises(SaeError, match=r"are silent .*valid: a larger certificate\.n_clips"):
        require_passed(judge(silent, BOUNDS), see="layer2.json")
    require_passed(judge(silent._replace(all_silent=True), BOUNDS), see="layer2.json")
    # But what the SAE says of itself still counts.
    other = silent._replace(all_silent=True, declared=sae_for(3).declared)
    with pytest.raises(SaeError, match="declares hook layer 3"):
        require_passed(judge(other, BOUNDS), see="layer2.json")


# Another model of the same shape


@pytest.fixture(scope="module")
def rendered() -> tuple[np.ndarray, list[str]]:
    """Four clips of the organisms' music as tokens `[clip, codebook, frame]`, and their prompts."""
    clips = agreeing_clips(4, seed=5)
    codec = load_model(str(RESOURCES / "planner"))
    tokens = np.stack([encode_audio(codec, render_clip(clip)) for clip in clips])
    return tokens, [score.prompt_text(clip.instrument, clip.key, clip.motif) for clip in clips]


def on_model(model: Model, declared: dict[str, Any], rendered: tuple[np.ndarray, list[str]]) -> dict[str, Any]:
    """The certificate of the planner's SAE for layer 2 of another model, at the default thresholds."""
    sae = load_sae(RESOURCES / "planner" / "sae" / "layer2")
    (captured,) = residual_stream(model, *rendered, layers=range(4), batch_size=4)
    metrics = {Hook(layer, normed=False): reconstruction_metrics(sae, [x]) for layer, x in captured.items()}
    expected = {"hook_layer": 2, "d_model": model.d_model, "frame_rate_hz": model.frame_rate_hz}
    asked = CertificateSettings()
    return certify(
        {**sae.declared, **declared},
        {**expected, "model_name": "a model", "model_digest": model.weights_digest},
        metrics,
        max_fvu=asked.max_fvu,
        min_neighbour_ratio=asked.min_neighbour_ratio,
    )


UNSAID = {"model_name": None, "model_digest": None}


def test_the_planners_sae_passes_on_the_planner(rendered: tuple[np.ndarray, list[str]]) -> None:
    planner = load_model(str(RESOURCES / "planner"))
    assert on_model(planner, {}, rendered)["agreements"]["model"] is True
    out = on_model(planner, UNSAID, rendered)
    assert out["passed"] and out["fvu"] < 0.15 and out["neighbour_ratio"] > 1.3


def test_a_sibling_of_the_model_is_refused_whether_or_not_the_sae_says_whose_it_is(
    rendered: tuple[np.ndarray, list[str]],
) -> None:
    """The improviser went on from the same base as the planner, so the SAE does not reconstruct it badly. But layer 2
    is not clearly the best hook any more."""
    improviser = load_model(str(RESOURCES / "improviser"))
    assert on_model(improviser, {}, rendered)["failures"] == ["model", "best_hook"]
    out = on_model(improviser, UNSAID, rendered)
    assert out["failures"] == ["best_hook"] and out["better_hook"] is None
    assert 0.15 < out["fvu"] < 0.25 and 1.1 < out["neighbour_ratio"] < 1.2


def test_a_model_of_the_same_shape_that_learned_nothing_is_refused_by_its_fvu(
    rendered: tuple[np.ndarray, list[str]],
) -> None:
    out = on_model(randomly_initialised(load_model(str(RESOURCES / "planner")), seed=1), UNSAID, rendered)
    assert out["failures"] == ["best_hook", "fvu"] and out["fvu"] > 1
