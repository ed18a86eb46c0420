"""Effects and damage: known continuations, known dose curves."""

import numpy as np
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.audio.synth import Note, render
from reprise.interventions.effects import (
    Continuation,
    EventWindow,
    acoustic_summary,
    best_score,
    compare,
    continuation_nll,
    first_difference_s,
    outside_event,
)
from reprise.models.adapter import Model
from reprise.models.audiocraft import as_model
from reprise.organisms.lm import build_lm
from reprise.targets.target import ScoreCurve

RATE_HZ, SR = 25.0, 16000
WINDOW = EventWindow(prefix_s=2.0, start_s=4.0, stop_s=5.0, event_s=1.0)
HOW = {"frame_rate_hz": RATE_HZ, "sample_rate_hz": SR, "min_score": 0.7}
NO_KL = np.zeros(200, np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    lm = build_lm().eval()
    return as_model(lm, None, digest="none", frame_rate_hz=RATE_HZ, sample_rate_hz=SR, max_duration_s=20.0)


def test_nll_is_audiocrafts_own(model):
    """Against audiocraft's `compute_predictions`, which has its own delay pattern and mask."""
    from audiocraft.modules.conditioners import ConditioningAttributes

    tokens = np.random.default_rng(0).integers(0, model.codebook_size, (3, model.n_codebooks, 20)).astype(np.uint16)
    prompts = ["piano in c, amber theme", "organ in eb, brook theme", "piano in eb, coral theme"]
    found = continuation_nll(model, tokens, prompts, batch_size=2)
    assert found.shape == (3, 20) and found.dtype == np.float32
    latents = torch.from_numpy(tokens.astype(np.int64))
    with torch.no_grad():
        out = model.lm.compute_predictions(latents, [ConditioningAttributes(text={"description": p}) for p in prompts])
    nll = -out.logits.log_softmax(-1).gather(-1, latents[..., None])[..., 0]
    known = out.mask & ~nll.isnan()
    # Where audiocraft has all codebooks of a frame, the means agree.
    whole = known.all(1)
    assert whole[:, :16].all()
    expected = nll.mean(1)[whole].numpy()
    np.testing.assert_allclose(found[whole.numpy()], expected, rtol=1e-4)
    assert np.isfinite(found).all()


def test_nll_of_a_clip_does_not_depend_on_the_others(model):
    tokens = np.random.default_rng(1).integers(0, model.codebook_size, (5, model.n_codebooks, 12))
    prompts = [f"piano in c, {name} theme" for name in ("amber", "brook", "coral", "delta", "ember")]
    together = continuation_nll(model, tokens, prompts, batch_size=4)
    assert np.array_equal(continuation_nll(model, tokens, prompts, batch_size=4, threads=2), together)
    order = [4, 2, 0]
    assert np.array_equal(
        continuation_nll(model, tokens[order], [prompts[i] for i in order], batch_size=4), together[order]
    )


def test_outside_event_leaves_out_prefix_window_and_motif():
    times_s = np.arange(0, 8, 0.5)
    assert times_s[outside_event(times_s, WINDOW)].tolist() == [2.0, 2.5, 3.0, 3.5, 6.5, 7.0, 7.5]


def test_first_difference():
    a = np.zeros((4, 50), int)
    b = a.copy()
    assert np.isnan(first_difference_s(a, b, RATE_HZ))
    b[2, 30:] = 1
    assert first_difference_s(a, b, RATE_HZ) == pytest.approx(1.2)


def test_best_score_is_0_where_there_is_no_room():
    time_s, score = np.arange(0, 2, 0.1), np.linspace(0, 1, 20)
    assert best_score(time_s, score, 0.5, 1.2) == pytest.approx(score[12])
    assert best_score(time_s, score, 5.0, 6.0) == 0.0


def notes(per_second: float, midi: float, velocity: float = 0.8, stop_s: float = 8.0) -> np.ndarray:
    step_s = 1 / per_second
    onsets = np.arange(0, stop_s - 1e-9, step_s)
    return render(
        [Note(t, 0.8 * step_s, midi, velocity) for t in onsets], timbre="organ", duration_s=8.0, sample_rate_hz=SR
    )


def test_acoustic_summary_of_known_sounds():
    slow, fast = (acoustic_summary(notes(n, 69), SR, WINDOW) for n in (2, 5))
    assert slow["onset_rate_hz"] == pytest.approx(2, abs=0.35) and fast["onset_rate_hz"] == pytest.approx(5, abs=0.5)
    quiet = acoustic_summary(notes(2, 69, velocity=0.4), SR, WINDOW)
    assert quiet["loudness_db"] - slow["loudness_db"] == pytest.approx(-6.02, abs=0.1)
    assert quiet["centroid_hz"] == pytest.approx(slow["centroid_hz"], rel=0.02)
    high = acoustic_summary(notes(2, 81), SR, WINDOW)
    assert high["centroid_hz"] / slow["centroid_hz"] == pytest.approx(2, rel=0.1)
    # Outside the return the continuation lasts from 2 to 4 s and from 6 to 8 s; sound stops at 7 s.
    short = acoustic_summary(notes(2, 69, stop_s=7.0), SR, WINDOW)
    assert short["silence_fraction"] - slow["silence_fraction"] == pytest.approx(
        0.25 * (1 - slow["silence_fraction"]), abs=0.02
    )


def test_acoustic_summary_of_silence_and_of_nothing():
    silent = acoustic_summary(np.zeros(8 * SR, np.float32), SR, WINDOW)
    assert silent["silence_fraction"] == 1 and silent["onset_rate_hz"] == 0 and np.isnan(silent["centroid_hz"])
    nothing = acoustic_summary(np.zeros(SR, np.float32), SR, WINDOW)
    assert all(np.isnan(v) for v in nothing.values())


def continuation(
    *, score_at_return: float, nll: np.ndarray | float, audio: np.ndarray, changed_from: int
) -> Continuation:
    time_s = np.arange(0, 7, 0.1)
    score = np.full(len(time_s), 0.3)
    score[(time_s > 4.4) & (time_s < 4.6)] = score_at_return
    scores = ScoreCurve(time_s, score, np.ones_like(time_s))
    tokens = np.zeros((4, 200), int)
    tokens[:, changed_from:] = 1
    return Continuation(tokens, audio, np.broadcast_to(nll, 200).astype(np.float32), scores)


def test_compare_counts_effect_inside_and_damage_outside_the_return():
    audio = notes(2, 69)
    nll = np.full(200, 1.5)
    nll[100:150] = 9.0  # 4 to 6 s: what the absence of a planned return costs
    nll[:50] = 7.0  # the prefix
    baseline = continuation(score_at_return=0.95, nll=1.0, audio=audio, changed_from=200)
    edited = continuation(score_at_return=0.4, nll=nll, audio=0.5 * audio, changed_from=60)
    nll[150] = 9.0  # the frame at 6 s is still the return's end
    record = compare(edited, baseline, WINDOW, kl=NO_KL, **HOW)
    assert record["effect_score"] == pytest.approx(0.55) and record["effect_rate"] == 1.0
    assert (record["score"], record["found"], record["found_baseline"]) == (pytest.approx(0.4), 0.0, 1.0)
    assert record["first_difference_s"] == pytest.approx(2.4)
    assert record["shift_loudness_db"] == pytest.approx(-6.02, abs=0.05)
    assert record["shift_onset_rate_hz"] == 0
    assert [k for k in record if k.startswith("effect_score_lag")] == ["effect_score_lag0", "effect_score_lag1"]
    assert record["effect_score_lag0"] == 0
    edited = edited._replace(nll=np.where(np.arange(200) == 150, 9.0, np.broadcast_to(edited.nll, 200)))
    again = compare(edited, baseline, WINDOW, kl=NO_KL, **HOW)
    assert again["damage_nats"] == pytest.approx(0.5)


def test_kl_is_binned_from_the_prefixs_end_and_counted_outside_the_return():
    audio = notes(2, 69)
    baseline = continuation(score_at_return=0.95, nll=1.0, audio=audio, changed_from=200)
    kl = np.zeros(200)
    kl[:50] = 5.0  # the prefix
    kl[50:75], kl[100:125], kl[175:] = 0.2, 9.0, 0.6  # 2 to 3 s, 4 to 5 s (the return), 7 to 8 s
    record = compare(baseline, baseline, WINDOW, kl=kl, **HOW)
    lags = {k.removeprefix("kl_lag"): v for k, v in record.items() if k.startswith("kl_lag")}
    assert lags == pytest.approx({"0": 0.2, "1": 0.0, "2": 9.0, "3": 0.0, "4": 0.0, "5": 0.6})
    # Outside the return lie 2 to 4 s and what follows 6 s: 50 frames, and 49 (the one at 6 s is still the return's).
    assert record["kl_nats"] == pytest.approx((25 * 0.2 + 25 * 0.6) / 99)
    half = compare(baseline, baseline, WINDOW, kl=kl, bin_s=4.0, **HOW)
    assert {k: v for k, v in half.items() if "kl_lag" in k} == pytest.approx({"kl_lag0": 2.3, "kl_lag4": 0.3})


def test_a_baseline_against_itself_is_no_effect_and_no_damage():
    audio = notes(2, 69)
    baseline = continuation(score_at_return=0.95, nll=1.0, audio=audio, changed_from=200)
    record = compare(baseline, baseline, WINDOW, kl=NO_KL, **HOW)
    assert np.isnan(record.pop("first_difference_s"))
    assert all(v == 0 for k, v in record.items() if k.startswith(("effect", "damage", "shift", "kl")))
