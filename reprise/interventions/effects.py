"""What an edit did to the return, what it did to everything else, and the first at equal amounts of the second.

Effect. The motif is matched against the edited continuation (`reprise.targets.recurrence.matching.match_curve`, given
here as arrays of onset times and scores). `score` is the best match with its onset in the target window; `found` says
whether it is at least the declared least score of an event. Effects are falls, baseline minus edited, so that removing
a return is positive: `effect_rate` (0 or 1 a clip) and `effect_score`. Lag bins (`effect_score_lag<s>`, seconds from
the prefix's end) say what happened between prefix and target window.

The target window is when a return counts: onset +- tolerance, or a horizon as seen from the prefix's end. Where a
model may return at one of several times, only the latter asks about the return and not about its time.

Damage. `damage_nats`: the unedited model's teacher-forced NLL of the edited continuation less that of the baseline's
own, nats a token, mean over the frames of the continuation that lie outside the expected return, which is the target
window and a motif's length after it. Inside it a clip without its return costs NLL by the mere absence of what the
unedited model plans: that is the effect, not damage. The NLL is that of the unguided conditional model at temperature
1, whatever the clips were sampled with. A negative damage (the music became more predictable) counts as none when
matched; the shifts of loudness, centroid, onset rate and silence over the same frames show music that went dull or
silent. `kl_nats`, over the same frames too, is the teacher-forced KL of
`reprise.interventions.edits.teacher_forced_kl`: how much the edit changes what the model would play next, on the
baseline's tokens; `kl_lag<s>` are its bins of a second from the prefix's end to the clip's end, the expected return
among them.

Matched damage. A candidate's controls have a curve each, damage to effect over doses, through the origin: at the
damage that the target does, what would a control have done to the return? Selectivity is the target's effect less the
largest of these. See `matched_damage`.

Steering asks the opposite question, whether the feature suffices: clips that do not return, continued with the feature
as it is in clips that do. It is reported and no gate, and its rows (`arm` "steer") never enter matched damage. See
`steering_summary`.

Intervals are over prompts and hold at the edges, where all clips or none change (reprise/statistics.py).

Degenerate input: no frame outside the return gives NaN damage; a clip that never differs from its baseline has
`first_difference_s` NaN; a condition with no clips is not in the table; without controls selectivity is NaN; without
steered clips the summary is empty.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from reprise.audio.descriptors import FLOOR_DB, mel_db, n_fft_for, power_spectra
from reprise.audio.io import check_audio
from reprise.models.decoding import teacher_forced
from reprise.models.musicgen import Model, encode_prompts
from reprise.statistics import bounded_interval, ratio_interval, share_interval

Array = NDArray[np.float64]

# What a candidate's effect must exceed.
CONTROLS = ("resampled", "matched_feature", "random_direction")
# Judged as the target is, and no controls: `mean_difference` may hold the plan itself, `local_feature` part of it.
COMPARATORS = ("mean_difference", "local_feature")
# Numbers with intervals in `steering_summary`.
STEERING_VALUES = (
    "rate_untouched",
    "rate_steered",
    "rate_random",
    "difference",
    "difference_random",
    "damage_steered",
    "damage_random",
)
FRAME_S, HOP_S = 0.032, 0.01
ONSET_DB = 1.5  # mean rise over mel bands within 30 ms
SILENCE_DB = -60.0
# A clip whose tokens cost this much more is wrecked, however much more it is: damage is counted up to here. An
# interval for a mean needs such a bound, since one clip in a hundred could otherwise do any damage.
MAX_DAMAGE_NATS = 1.0
WRECKED = (-MAX_DAMAGE_NATS, MAX_DAMAGE_NATS)
ROUNDING_S = 5e-7  # times on a frame grid are not exact


class Target(NamedTuple):
    """When a clip's return counts, in seconds: `prefix_s`, where its continuation begins, `start_s` and `stop_s`,
    between which it must begin, and `motif_s`, how long it is."""

    prefix_s: float
    start_s: float
    stop_s: float
    motif_s: float


class Continuation(NamedTuple):
    """A clip as generated: `tokens` `[codebook, frame]`, mono `audio` `[sample]`, `nll` `[frame]`
    (`continuation_nll`), and the match curve of its motif, onsets `match_time_s` and `match_score`, both
    `[onset]`."""

    tokens: np.ndarray
    audio: np.ndarray
    nll: np.ndarray
    match_time_s: np.ndarray
    match_score: np.ndarray


@torch.no_grad()
def continuation_nll(model: Model, tokens: np.ndarray, prompts: Sequence[str | None], *, rows: int) -> np.ndarray:
    """The model's negative log-likelihood of given clips, nats a token: float32 `[clip, frame]`, mean over codebooks.

    tokens: integer `[clip, codebook, frame]`. In batches of `rows` clips, the last padded with repeats, so that a
    clip's value does not depend on the others; logits take rows x codebooks x frames x card floats. The last frames
    lack the codebooks whose turn in the delay pattern comes after the clip's end; their mean is over the rest.
    """
    n_clips, n_codebooks, n_frames = tokens.shape
    out = np.empty((n_clips, n_frames), np.float32)
    for start in range(0, n_clips, rows):
        chosen = np.minimum(np.arange(start, start + rows), n_clips - 1)
        batch = torch.from_numpy(tokens[chosen].astype(np.int64)).to(model.device)
        text = encode_prompts(model, [prompts[i] for i in chosen])
        logits = teacher_forced(model, batch, text, with_logits=True)[1]
        total, count = (torch.zeros(rows, n_frames, device=model.device) for _ in range(2))
        for k in range(n_codebooks):
            # Position p predicts codebook k of frame p - k; there are n_frames + 1 positions.
            known = min(n_frames, n_frames + 1 - k)
            predicted = logits[:, k, k : k + known].float().transpose(1, 2)
            total[:, :known] += torch.nn.functional.cross_entropy(predicted, batch[:, k, :known], reduction="none")
            count[:, :known] += 1
        out[start : start + rows] = (total / count).cpu().numpy()[: n_clips - start]
    return out


def outside_return(times_s: Array, target: Target) -> NDArray[np.bool_]:
    """Which times lie in the continuation but outside the expected return: bool `[time]`."""
    before, after = times_s < target.start_s - ROUNDING_S, times_s > target.stop_s + target.motif_s + ROUNDING_S
    return (times_s >= target.prefix_s - ROUNDING_S) & (before | after)


def acoustic_summary(audio: np.ndarray, sample_rate_hz: int, target: Target) -> dict[str, float]:
    """Loudness (dB re full scale), spectral centroid (Hz), onsets a second and share of silence, over the continuation
    outside the expected return.

    `audio` mono floating point `[sample]`. Frames of 32 ms at a hop of 10 ms count by their centre. Loudness is of the
    mean power; the centroid is power-weighted over all frames; an onset is a peak of at least `ONSET_DB` of the mean
    rise over mel bands in 30 ms, 50 ms from any other; a frame below `SILENCE_DB` is silent. NaN where there is no
    frame, and for the centroid of silence.
    """
    audio = check_audio(audio, sample_rate_hz)
    n_fft, hop = n_fft_for(FRAME_S, sample_rate_hz), round(HOP_S * sample_rate_hz)
    ends = np.arange(n_fft, len(audio) + 1, hop)
    inside = outside_return((ends - n_fft / 2) / sample_rate_hz, target)
    if not inside.any():
        return dict.fromkeys(("loudness_db", "centroid_hz", "onset_rate_hz", "silence_share"), np.nan)
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
        "silence_share": float((10 * np.log10(level) < SILENCE_DB).mean()),
    }


def first_difference_s(tokens: np.ndarray, baseline: np.ndarray, frame_rate_hz: float) -> float:
    """Start of the first frame in which `tokens` and `baseline` `[codebook, frame]` differ; NaN if none does."""
    n = min(tokens.shape[-1], baseline.shape[-1])
    differs = np.flatnonzero((tokens[:, :n] != baseline[:, :n]).any(axis=0))
    return float(differs[0] / frame_rate_hz) if len(differs) else float("nan")


def best_score(time_s: Array, score: Array, start_s: float, stop_s: float) -> float:
    """Highest score with its onset in `[start_s, stop_s]`; 0 when no onset lies there (no room for the motif)."""
    return float(score[(time_s >= start_s - ROUNDING_S) & (time_s <= stop_s + ROUNDING_S)].max(initial=0.0))


def compare(
    edited: Continuation,
    baseline: Continuation,
    target: Target,
    *,
    kl: np.ndarray,
    frame_rate_hz: float,
    sample_rate_hz: int,
    min_score: float,
    bin_s: float = 1.0,
) -> dict[str, float]:
    """One flat record: effects, damage and shifts of an edited continuation against its clip's baseline.

    Besides the fields of the module docstring: the `shift_` of each acoustic measure (edited minus baseline),
    `first_difference_s`, and for each bin of `bin_s` seconds `kl_lag{a:g}`, and between prefix and target window
    `effect_score_lag{a:g}`, `a` the seconds from the prefix's end to the bin. kl: teacher-forced KL in nats `[frame]`.
    `min_score`: least score of an event.
    """
    curves = [(c.match_time_s, c.match_score) for c in (edited, baseline)]
    score, score_baseline = (best_score(*curve, target.start_s, target.stop_s) for curve in curves)
    found, found_baseline = (float(s >= min_score) for s in (score, score_baseline))
    n = min(len(edited.nll), len(baseline.nll), len(kl))
    frame_s = np.arange(n) / frame_rate_hz
    counted = outside_return(frame_s, target)
    excess = (edited.nll[:n] - baseline.nll[:n])[counted]
    record = {
        "score": score,
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
    shifts = [acoustic_summary(c.audio[:n_samples], sample_rate_hz, target) for c in (edited, baseline)]
    record |= {f"shift_{name}": shifts[0][name] - shifts[1][name] for name in shifts[0]}
    for i in range(int(np.ceil((target.start_s - target.prefix_s) / bin_s - 1e-6))):
        a = target.prefix_s + i * bin_s
        # A bin ends just before the next begins, or the target window does.
        b = min(a + bin_s, target.start_s) - 2 * ROUNDING_S
        scores = [best_score(*curve, a, b) for curve in curves]
        record[f"effect_score_lag{i * bin_s:g}"] = scores[1] - scores[0]
    for i in range(int(np.ceil((n / frame_rate_hz - target.prefix_s) / bin_s - 1e-6))):
        since_s = frame_s - (target.prefix_s + i * bin_s) + ROUNDING_S
        record[f"kl_lag{i * bin_s:g}"] = _mean(kl[:n][(since_s >= 0) & (since_s < bin_s)])
    return record


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")


def dose_mix(damage: Array, effect: Array, at: float) -> Array:
    """How a control's doses are mixed to do a given damage: weights `[dose]`, 0 in all for the untouched clip.

    damage, effect: the doses' means `[dose]`. The mixed effect, weights @ effect, is the largest that the control
    reaches without doing more damage, interpolated linearly to the next such point: doses in order of damage, the
    running maximum of their effects, from the origin on. Damage below 0 counts as 0. Beyond the control's largest
    damage its largest effect is used, without extrapolation. All of it favours the control. NaN where any input is.
    """
    if np.isnan(damage).any() or np.isnan(effect).any() or np.isnan(at):
        return np.full(len(damage), np.nan)
    damage, at = np.maximum(damage, 0.0), max(at, 0.0)
    order = np.argsort(damage, kind="stable")
    x = np.concatenate([[0.0], damage[order]])
    # Which dose holds the running maximum at each point; -1: the origin.
    best, highest = [-1], 0.0
    for dose in order:
        rises = effect[dose] > highest
        best.append(int(dose) if rises else best[-1])
        highest = max(highest, float(effect[dose]))
    left = int((x <= at).sum()) - 1
    right = min(left + 1, len(x) - 1)
    width = x[right] - x[left]
    share = (at - x[left]) / width if width > 0 else 0.0
    weights = np.zeros(len(damage))
    for point, weight in ((left, 1 - share), (right, share)):
        if best[point] >= 0:
            weights[best[point]] += weight
    return weights


def matched_damage(effects: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Effect, damage and selectivity of every condition, one flat row each.

    effects: one row per (clip, condition) with layer, feature, kind, window, control, dose, prompt_id, clip_id,
    effect_rate (0 or 1: only clips whose untouched continuation returns) and damage_nats; rows whose `arm` is "steer",
    where there is such a column, are left out. For each candidate (layer, feature) and window, the conditions of that
    window and the unedited kinds (window "none", listed with every window).

    Rows: layer, feature, window, kind, control, dose, n_clips, n_prompts, and value, `_low` and `_high` of effect and
    damage. For `target` and the comparators also, at that row's damage: `<kind>_effect` of each kind of control (the
    largest over its features or directions), `control_effect` (the largest of all), `strongest_control`, and
    `selectivity` = effect - control_effect with its interval. `resampled` counts as a control that does no damage: an
    edit gets no credit for what fresh sampling noise loses by itself. For `target` edited in the prefix only also
    `stored_share`, its effect over that of the same dose until the event, with its interval.

    Intervals are those of reprise/statistics.py, over prompts, at `level`: 1 - 0.05 / n guards n candidates together.
    The selectivity is the smallest of the differences to each control, so its interval is from their smallest lower
    end to their smallest upper end, the latter at level 1 - (1 - level) / controls (the smallest of several upper ends
    is too low more often than one is). Raises ValueError for an effect outside 0 to 1.
    """
    rows = []
    if "arm" in effects:
        effects = effects[effects["arm"] != "steer"]
    effects = effects.assign(damage_nats=effects["damage_nats"].clip(-MAX_DAMAGE_NATS, MAX_DAMAGE_NATS))
    for (layer, feature), candidate in effects.groupby(["layer", "feature"], sort=True):
        by_window = {
            window: _conditions(candidate[candidate["window"].isin([window, "none"])])
            for window in candidate["window"].unique()
            if window != "none"
        }
        prompt_of = candidate.drop_duplicates("clip_id").set_index("clip_id")["prompt_id"]
        for window, conditions in by_window.items():
            for (kind, control, dose), clips in conditions.items():
                prompts = prompt_of[clips.index].to_numpy()
                record = {"layer": layer, "feature": feature, "window": window}
                record |= {"kind": kind, "control": control, "dose": dose}
                record |= {"n_clips": len(clips), "n_prompts": len(np.unique(prompts))}
                record |= _valued("effect", clips["effect"], share_interval(clips["effect"], prompts, level))
                ends = bounded_interval(clips["damage"], prompts, WRECKED, level)
                record |= _valued("damage", clips["damage"], ends)
                if kind in ("target", *COMPARATORS):
                    record |= _selectivity(clips, conditions, prompt_of, level)
                if kind == "target" and window == "prefix_only":
                    whole = by_window.get("until_event", {}).get((kind, control, dose))
                    record |= _stored_share(clips, whole, prompt_of, level)
                rows.append(record)
    return pd.DataFrame(rows)


def steering_summary(effects: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Whether steering the feature up makes clips return that did not: one flat row per candidate (layer, feature).

    effects: one row per (clip, condition) with arm, layer, feature, kind, prompt_id, found and damage_nats; the arm
    "steer" is used, its kinds untouched, steer and steer_random.

    Columns: layer, feature, n_clips, n_prompts, and value, `_low` and `_high` of the `STEERING_VALUES`: the rates of
    returns untouched, steered, and moved as far in a random direction; `difference`, steered less untouched;
    `difference_random`, steered less random; and the mean damage (nats per token) of both. Intervals as in
    `matched_damage`.
    """
    rows = []
    for (layer, feature), part in effects[effects["arm"] == "steer"].groupby(["layer", "feature"], sort=True):
        by_kind = {kind: rows_.set_index("clip_id") for kind, rows_ in part.groupby("kind")}
        prompt_of = part.drop_duplicates("clip_id").set_index("clip_id")["prompt_id"]
        found = {kind: rows_["found"].astype(float) for kind, rows_ in by_kind.items()}
        record = {"layer": layer, "feature": feature}
        record |= {"n_clips": part["clip_id"].nunique(), "n_prompts": part["prompt_id"].nunique()}
        for name, kind in (("untouched", "untouched"), ("steered", "steer"), ("random", "steer_random")):
            prompts = prompt_of[found[kind].index]
            record |= _valued(f"rate_{name}", found[kind], share_interval(found[kind], prompts, level))
        for name, kind in (("difference", "untouched"), ("difference_random", "steer_random")):
            more = (found["steer"] - found[kind]).dropna()
            record |= _valued(name, more, bounded_interval(more, prompt_of[more.index], (-1.0, 1.0), level))
        for name, kind in (("steered", "steer"), ("random", "steer_random")):
            damage = by_kind[kind]["damage_nats"].dropna().clip(*WRECKED)
            ends = bounded_interval(damage, prompt_of[damage.index], WRECKED, level)
            record |= _valued(f"damage_{name}", damage, ends)
        rows.append(record)
    ends = [f"{name}{end}" for name in STEERING_VALUES for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["layer", "feature", "n_clips", "n_prompts", *ends])


Condition = tuple[str, int, float]


def _conditions(part: pd.DataFrame) -> dict[Condition, pd.DataFrame]:
    """The clips of each (kind, control, dose): `effect` and `damage` by clip_id, where both are known."""
    known = part.dropna(subset=["effect_rate", "damage_nats"])
    twice = known.duplicated(["clip_id", "kind", "control", "dose"])
    if twice.any():
        row = known[twice].iloc[0]
        name = f"{row['kind']}{row['control']} at dose {row['dose']:g}"
        raise ValueError(f"matched_damage: clip {row['clip_id']} has {name} twice; valid: one row per condition")
    known = known.rename(columns={"effect_rate": "effect", "damage_nats": "damage"})
    return {
        (str(kind), int(control), float(dose)): rows.set_index("clip_id")[["effect", "damage"]].sort_index()
        for (kind, control, dose), rows in known.groupby(["kind", "control", "dose"], sort=True)
    }


def _selectivity(
    clips: pd.DataFrame, conditions: Mapping[Condition, pd.DataFrame], prompt_of: pd.Series, level: float
) -> dict[str, float | str]:
    """What the clips of a condition lose more than under each control at equal damage."""
    at, effects, excess = float(clips["damage"].mean()), {}, {}
    controls = sorted({key[:2] for key in conditions if key[0] in CONTROLS})
    for name in controls:
        doses = [c for key, c in conditions.items() if key[:2] == name]
        damage = np.array([0.0 if name[0] == "resampled" else c["damage"].mean() for c in doses])
        weights = dose_mix(damage, np.array([c["effect"].mean() for c in doses]), at)
        control = sum(weight * c["effect"] for weight, c in zip(weights, doses, strict=True))
        more = (clips["effect"] - control).dropna()
        effects[name], excess[name] = float((clips["effect"] - more).mean()), more
    record: dict[str, float | str] = {}
    for kind in CONTROLS:
        record[f"{kind}_effect"] = max((e for name, e in effects.items() if name[0] == kind), default=math.nan)
    if not controls:
        nothing = dict.fromkeys(("control_effect", "selectivity", "selectivity_low", "selectivity_high"), math.nan)
        return record | nothing | {"strongest_control": ""}
    strongest = max(controls, key=lambda name: effects[name])
    prompts = {name: prompt_of[more.index] for name, more in excess.items()}
    lows, _ = zip(*(bounded_interval(excess[n], prompts[n], (-1.0, 1.0), level) for n in controls), strict=True)
    at_once = 1 - (1 - level) / len(controls)
    _, highs = zip(*(bounded_interval(excess[n], prompts[n], (-1.0, 1.0), at_once) for n in controls), strict=True)
    return record | {
        "control_effect": effects[strongest],
        "strongest_control": f"{strongest[0]}{strongest[1]}",
        "selectivity": float(np.min([more.mean() for more in excess.values()])),
        "selectivity_low": float(np.min(lows)),
        "selectivity_high": float(np.min(highs)),
    }


def _stored_share(
    prefix: pd.DataFrame, whole: pd.DataFrame | None, prompt_of: pd.Series, level: float
) -> dict[str, float]:
    """The effect of editing the prefix alone over that of editing until the event, over the same clips."""
    if whole is None or not len(both := prefix.index.intersection(whole.index)):
        return dict.fromkeys(("stored_share", "stored_share_low", "stored_share_high"), math.nan)
    part, all_ = prefix.loc[both, "effect"], whole.loc[both, "effect"]
    low, high = ratio_interval(part, all_, prompt_of[both], level)
    share = float(part.mean() / all_.mean()) if all_.mean() > 0 else math.nan
    return {"stored_share": share, "stored_share_low": low, "stored_share_high": high}


def _valued(name: str, values: pd.Series, ends: tuple[float, float]) -> dict[str, float]:
    """Mean and interval under a name."""
    value = float(values.mean()) if len(values) else math.nan
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
