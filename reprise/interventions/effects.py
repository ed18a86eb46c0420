"""What an edit did to the event, and what it did to the rest of the music, clip by clip.

Effect. The study's target scores the edited continuation (`Target.scorer`, for recurrence how well the motif matches
at each onset). `score` is the highest one with its onset in the target window. `found` says whether it reaches the
declared minimum score of an event, and `onset_s` is then its onset.
Effects are baseline minus edited, so removing an event is positive: `effect_rate`
(0 or 1 per clip) and `effect_score`. Lag bins (`effect_score_lag<s>`, seconds from the prefix's end) show what
happened between the prefix and the target window.

The target window is the time in which an event counts: onset +- tolerance, or a horizon counted from the prefix's end.
If it may happen at one of several times, only the horizon asks about the event and not about its time.

Damage. `damage_nats` is the unedited model's teacher-forced NLL of the edited continuation minus that of the baseline,
in nats per token. It is the mean over the frames of the continuation outside the expected event, that is outside the
target window and the length of an event after it (for a section's start, before the target window only, because all
that follows is other music). Inside it, a clip that lost its event costs NLL only because the
music that the unedited model plans is missing. That is the effect, not damage. The NLL is that of the unguided
conditional model at temperature 1, whatever settings the clips were sampled with. A negative damage (the music became
more predictable) counts as zero when matched (reprise/interventions/matched_damage.py). The shifts of loudness,
centroid, onset rate and silence over the same frames show music that became dull or silent. `kl_nats`, over the same
frames too, is the teacher-forced KL of `reprise.interventions.run.teacher_forced_kl`: how much the edit changes what
the model would play next, on the baseline's tokens. `kl_lag<s>` is the same in bins of one second from the prefix's
end to the clip's end, including the expected event.

Degenerate input: without a frame outside the event, damage is NaN. If a clip never differs from its baseline,
`first_difference_s` is NaN.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from reprise.audio.descriptors import FLOOR_DB, mel_db, n_fft_for, power_spectra
from reprise.audio.io import check_audio
from reprise.models.adapter import Model
from reprise.models.delay_pattern import predictions
from reprise.models.forward import teacher_forced
from reprise.models.prompts import encode_prompts
from reprise.targets.target import ScoreCurve
from reprise.threads import in_threads

Array = NDArray[np.float64]
FRAME_S, HOP_S = 0.032, 0.01
ONSET_DB = 1.5  # mean rise over mel bands within 30 ms
SILENCE_DB = -60.0
ROUNDING_S = 5e-7  # times on a frame grid are not exact


class EventWindow(NamedTuple):
    """When a clip's event counts, in seconds.

    prefix_s: where the continuation begins. start_s, stop_s: the event must begin between them. event_s: its length,
    infinite if all that follows is other music.
    """

    prefix_s: float
    start_s: float
    stop_s: float
    event_s: float


class Continuation(NamedTuple):
    """A clip as generated: `tokens` `[codebook, frame]`, mono `audio` `[sample]`, `nll` `[frame]`
    (`continuation_nll`), and the target's `scores`."""

    tokens: np.ndarray
    audio: np.ndarray
    nll: np.ndarray
    scores: ScoreCurve


def continuation_nll(
    model: Model, tokens: np.ndarray, prompts: Sequence[str | None], *, batch_size: int, threads: int = 1
) -> np.ndarray:
    """The model's negative log-likelihood of given clips, in nats per token.

    Parameters
    ----------
    model : Model
        The unedited model.
    tokens : integer array `[clip, codebook, frame]`
        The clips.
    prompts : sequence of str or None, one per clip
        Their prompts.
    batch_size : int
        Clips per forward pass. The last batch is padded with repeats, so that a clip's value does not depend on the
        other clips. Logits take batch_size x codebooks x frames x codebook_size floats.
    threads : int
        Forward passes at the same time, on a processor. No value depends on it.

    Returns
    -------
    float32 array `[clip, frame]`
        Mean over codebooks. The last frames lack the codebooks that the delay pattern places after the clip's end;
        their mean is over the remaining ones.
    """
    n_clips, _, n_frames = tokens.shape

    @torch.no_grad()  # a thread does not inherit it
    def of_batch(start: int) -> np.ndarray:
        chosen = np.minimum(np.arange(start, start + batch_size), n_clips - 1)
        batch = torch.from_numpy(tokens[chosen].astype(np.int64)).to(model.device)
        text = encode_prompts(model, [prompts[i] for i in chosen])
        logits = cast(torch.Tensor, teacher_forced(model, batch, text, with_logits=True)[1])
        total, count = (torch.zeros(batch_size, n_frames, device=model.device) for _ in range(2))
        for k, predicted in predictions(logits, model.delays):
            n = predicted.shape[1]
            total[:, :n] += torch.nn.functional.cross_entropy(
                predicted.float().transpose(1, 2), batch[:, k, :n], reduction="none"
            )
            count[:, :n] += 1
        return (total / count).cpu().numpy()[: n_clips - start]

    parts = list(in_threads(of_batch, range(0, n_clips, batch_size), threads=threads))
    return np.concatenate(parts) if parts else np.empty((0, n_frames), np.float32)


def outside_event(times_s: Array, window: EventWindow) -> NDArray[np.bool_]:
    """Which times lie in the continuation but outside the expected event: bool `[time]`."""
    before, after = times_s < window.start_s - ROUNDING_S, times_s > window.stop_s + window.event_s + ROUNDING_S
    return (times_s >= window.prefix_s - ROUNDING_S) & (before | after)


def acoustic_summary(audio: np.ndarray, sample_rate_hz: int, window: EventWindow) -> dict[str, float]:
    """Loudness, spectral centroid, onset rate and fraction of silence of the continuation outside the expected event.

    Frames of 32 ms at a hop of 10 ms are placed by their centre. Loudness is that of the mean power. The centroid is
    power-weighted over all frames. An onset is a peak of at least `ONSET_DB` of the mean rise over mel bands in 30 ms,
    at least 50 ms from any other. A frame below `SILENCE_DB` is silent.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    window : EventWindow
        When the event is expected.

    Returns
    -------
    dict
        loudness_db (re full scale), centroid_hz, onset_rate_hz (onsets per second), silence_fraction. All are NaN if
        there is no frame. The centroid of silence is NaN.

    Raises
    ------
    ValueError
        For bad audio (`reprise.audio.io.check_audio`).
    """
    audio = check_audio(audio, sample_rate_hz)
    n_fft, hop = n_fft_for(FRAME_S, sample_rate_hz), round(HOP_S * sample_rate_hz)
    ends = np.arange(n_fft, len(audio) + 1, hop)
    inside = outside_event((ends - n_fft / 2) / sample_rate_hz, window)
    if not inside.any():
        return dict.fromkeys(("loudness_db", "centroid_hz", "onset_rate_hz", "silence_fraction"), np.nan)
    power = power_spectra(audio, ends, n_fft)
    frames = np.lib.stride_tricks.sliding_window_view(audio, n_fft)[ends - n_fft]
    level = np.maximum(np.einsum("fs,fs->f", frames, frames) / n_fft, 10 ** (FLOOR_DB / 10))[inside]
    total = power[inside].sum(axis=0, dtype=np.float64)
    frequency_hz = np.arange(len(total)) * sample_rate_hz / n_fft
    bands = np.maximum(mel_db(power, sample_rate_hz), SILENCE_DB)
    rise = np.zeros(len(ends))
    rise[3:] = np.maximum(bands[3:] - bands[:-3], 0).mean(axis=1)
    near = np.lib.stride_tricks.sliding_window_view(np.pad(rise, 5), 11)
    onsets = (near.argmax(axis=1) == 5) & (rise >= ONSET_DB)
    return {
        "loudness_db": float(10 * np.log10(level.mean())),
        "centroid_hz": float(total @ frequency_hz / total.sum()) if total.sum() > 10 ** (FLOOR_DB / 10) else np.nan,
        "onset_rate_hz": float(onsets[inside].sum() / (inside.sum() * HOP_S)),
        "silence_fraction": float((10 * np.log10(level) < SILENCE_DB).mean()),
    }


def first_difference_s(tokens: np.ndarray, baseline: np.ndarray, frame_rate_hz: float) -> float:
    """Start in seconds of the first frame in which `tokens` and `baseline` `[codebook, frame]` differ; NaN if none
    does."""
    n = min(tokens.shape[-1], baseline.shape[-1])
    differs = np.flatnonzero((tokens[:, :n] != baseline[:, :n]).any(axis=0))
    return float(differs[0] / frame_rate_hz) if len(differs) else float("nan")


def best_score(time_s: NDArray[np.floating], score: NDArray[np.floating], start_s: float, stop_s: float) -> float:
    """Highest score with its onset in `[start_s, stop_s]`; 0 if there is no onset (no room for an event)."""
    return float(score[(time_s >= start_s - ROUNDING_S) & (time_s <= stop_s + ROUNDING_S)].max(initial=0.0))


def best_onset_s(time_s: NDArray[np.floating], score: NDArray[np.floating], start_s: float, stop_s: float) -> float:
    """The onset with the highest score in `[start_s, stop_s]`, in seconds, the first of several; NaN without any."""
    inside = (time_s >= start_s - ROUNDING_S) & (time_s <= stop_s + ROUNDING_S)
    return float(time_s[inside][score[inside].argmax()]) if inside.any() else float("nan")


def compare(
    edited: Continuation,
    baseline: Continuation,
    window: EventWindow,
    *,
    kl: np.ndarray,
    frame_rate_hz: float,
    sample_rate_hz: int,
    min_score: float,
    bin_s: float = 1.0,
) -> dict[str, float]:
    """Effects, damage and shifts of an edited continuation against the baseline of its clip, as one flat record.

    Parameters
    ----------
    edited, baseline : Continuation
        The clip with and without the edit.
    window : EventWindow
        When the event counts.
    kl : array `[frame]`
        Teacher-forced KL in nats.
    frame_rate_hz, sample_rate_hz : number
        Codec frames and audio samples per second.
    min_score : float
        Minimum score of an event.
    bin_s : float
        Length of a lag bin in seconds.

    Returns
    -------
    dict
        The values described at the head of this module; `shift_<measure>` of each acoustic measure (edited minus
        baseline); `first_difference_s`; `kl_lag<a>` for every bin; and `effect_score_lag<a>` for the bins between
        prefix and target window. `<a>` is the time in seconds from the prefix's end to the bin.
    """
    curves = [(c.scores.time_s, c.scores.score) for c in (edited, baseline)]
    score, score_baseline = (best_score(*curve, window.start_s, window.stop_s) for curve in curves)
    found, found_baseline = (float(s >= min_score) for s in (score, score_baseline))
    n = min(len(edited.nll), len(baseline.nll), len(kl))
    frame_s = np.arange(n) / frame_rate_hz
    counted = outside_event(frame_s, window)
    excess = (edited.nll[:n] - baseline.nll[:n])[counted]
    record = {
        "score": score,
        "onset_s": best_onset_s(*curves[0], window.start_s, window.stop_s) if found else float("nan"),
        "score_baseline": score_baseline,
        "found": found,
        "found_baseline": found_baseline,
        "effect_score": score_baseline - score,
        "effect_rate": found_baseline - found,
        "damage_nats": _mean(excess),
        "kl_nats": _mean(kl[:n][counted]),
        "first_difference_s": first_difference_s(edited.tokens, baseline.tokens, frame_rate_hz),
    }
    n_samples = min(len(edited.audio), len(baseline.audio))
    shifts = [acoustic_summary(c.audio[:n_samples], sample_rate_hz, window) for c in (edited, baseline)]
    record |= {f"shift_{name}": shifts[0][name] - shifts[1][name] for name in shifts[0]}
    for i in range(int(np.ceil((window.start_s - window.prefix_s) / bin_s - 1e-6))):
        a = window.prefix_s + i * bin_s
        # A bin ends just before the next bin or the target window begins.
        b = min(a + bin_s, window.start_s) - 2 * ROUNDING_S
        scores = [best_score(*curve, a, b) for curve in curves]
        record[f"effect_score_lag{i * bin_s:g}"] = scores[1] - scores[0]
    for i in range(int(np.ceil((n / frame_rate_hz - window.prefix_s) / bin_s - 1e-6))):
        since_s = frame_s - (window.prefix_s + i * bin_s) + ROUNDING_S
        record[f"kl_lag{i * bin_s:g}"] = _mean(kl[:n][(since_s >= 0) & (since_s < bin_s)])
    return record


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")
