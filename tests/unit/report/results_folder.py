"""A results folder as the rules leave it, of two organisms and one other model, and the page that is made from it.

`planner` has one confirmed candidate, `improviser` none; of `quiet` the motif never returned and an SAE was refused.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from reprise.audio.synth import Note, render
from reprise.config.horizons import horizon_name
from reprise.config.schema import Study
from reprise.storage.files import write_folder, write_json, write_parquet
from reprise.targets.recurrence.detection import EVENT_COLUMNS
from reprise.verdict.gates import verdict
from reprise.verdict.preregistration import Thresholds, declare, preregistration, summary
from tests.places import ROOT

RATE_HZ, FRAME_RATE_HZ, CLIP_S = 16000, 25.0, 16.0
MOTIF = [(60, 0.5), (64, 0.25), (67, 0.25), (69, 0.5), (65, 0.5)]
FILLERS = [[(62, 0.5), (66, 0.5), (61, 0.5), (63, 0.5)], [(58, 1.0), (61, 0.5), (56, 0.5)]]
NAME = "layer2-f117-1a2b3c4d"


def clip_audio(seed: int, *, return_s: float | None) -> np.ndarray:
    """16 s: a long cue note, the motif at 2 s, fillers, and the motif again at `return_s`."""
    notes, rng = [Note(0.0, 1.8, 41)], np.random.default_rng(seed)
    for bar in range(1, 8):
        pattern = MOTIF if bar == 1 or 2.0 * bar == return_s else FILLERS[int(rng.integers(2))]
        onset_s = 2.0 * bar
        for midi, duration_s in pattern:
            notes.append(Note(onset_s, duration_s, midi))
            onset_s += duration_s
    return render(notes, timbre="piano", duration_s=CLIP_S, sample_rate_hz=RATE_HZ)


def event(clip_id: str, onset_s: float, score: float, reason: str = "") -> dict:
    row = {
        "reference_start_s": 2.0,
        "reference_duration_s": 2.0,
        "onset_s": onset_s,
        "duration_s": 2.0,
        "transposition": 0,
    }
    row |= {"tempo_ratio": 1.0, "score": score, "p_value": 0.01 if not reason else 0.4, "timbre_score": 0.31}
    row |= {"gap_s": onset_s - 4.0, "gap_score": 0.42, "accepted": not reason, "reason": reason}
    return row | {"clip_id": clip_id, "prompt_id": clip_id.rsplit("-", 1)[0]}


def label_rows(events: pd.DataFrame, clips: list[dict], a_s: float, b_s: float) -> pd.DataFrame:
    onset = events[events["accepted"].astype(bool)].groupby("clip_id")["onset_s"].first()
    rows = []
    for clip in clips:
        returns_s = float(onset.get(clip["clip_id"], np.inf))
        for time_s in np.arange(4.0, CLIP_S, 0.5):
            y = int(time_s + a_s < returns_s <= time_s + b_s)
            reason = "before_context" if time_s < 7 else "sounding" if returns_s <= time_s < returns_s + 2 else ""
            reason = "censored" if not reason and time_s + b_s > CLIP_S else reason
            row = {"clip_id": clip["clip_id"], "prompt_id": clip["prompt_id"], "time_s": time_s}
            rows.append(
                row | {"position": int(time_s * 25), "y": y, "censored": reason == "censored", "reason": reason}
            )
    return pd.DataFrame(rows)


def probe_record(study: str, horizon: str, representation: str, hook: str, gain: float, p: float) -> dict:
    record = {"study": study, "horizon": horizon, "representation": representation, "hook": hook, "note": ""}
    record |= {"n_rows": 900, "n_clips": 192, "n_prompts": 48, "n_positive_clips": 83, "n_positive_prompts": 31}
    record |= {"base_rate": 0.31}
    for score, scale in (("auroc", 1.0), ("bits", 0.8)):
        record |= {f"{score}_B": 0.583 * scale, f"{score}_R": 0.6 + gain / 2, f"{score}_BR": 0.583 * scale + gain}
        record |= {f"gain_{score}": gain, f"gain_{score}_low": gain - 0.047, f"gain_{score}_high": gain + 0.043}
    record |= {"swap_gain_q50": -0.004, "swap_gain_q95": 0.021, "form": "linear"}
    record |= {"p_swap": p, "p_swap_within_prompt": p, "p_gain": p, "null_gain": -0.004, "n_folds": 5, "seed": 7}
    record |= {"learned_auroc": gain / 2, "learned_auroc_low": gain / 2 - 0.03, "learned_auroc_high": gain / 2 + 0.03}
    return record | {"p_learned": p}


def effects_rows(clips: list[dict]) -> pd.DataFrame:
    """A row a (clip, condition): the target takes the return away at little damage, controls do not."""
    rng, rows = np.random.default_rng(5), []
    conditions = [("untouched", "none", 0, 0.0), ("resampled", "none", 0, 0.0)]
    for kind, n in (("target", 1), ("matched_feature", 2), ("random_subspace", 1), ("swapped_fit", 1)):
        conditions += [(kind, "until_event", c, d) for c in range(n) for d in (0.25, 0.5, 1.0, 2.0)]
    conditions += [("second_target", "until_event", 0, 1.0), ("target", "prefix_only", 0, 1.0)]
    power = {
        "target": 0.75,
        "second_target": 0.7,
        "swapped_fit": 0.2,
        "random_subspace": 0.12,
        "matched_feature": 0.08,
    }
    harm = {"target": 0.06, "second_target": 0.06, "swapped_fit": 0.15, "random_subspace": 0.7, "matched_feature": 0.3}
    for clip in clips:
        for kind, window, control, dose in conditions:
            share = power.get(kind, 0.0) * min(1.0, dose) * (1.0 if window == "until_event" else 0.7)
            lost = float(rng.random() < (0.1 if kind == "resampled" else share))
            damage = harm.get(kind, 0.0) * dose**1.5 * (1 + 0.2 * rng.random())
            row = {"clip_id": clip["clip_id"], "prompt_id": clip["prompt_id"], "layer": 2, "kind": kind}
            row |= {
                "window": window,
                "control": control,
                "dose": dose,
                "condition": f"{kind}{control}-{window}-d{dose:g}",
            }
            row |= {
                "reference_start_s": 2.0,
                "reference_duration_s": 2.0,
                "target_start_s": 10.0,
                "target_stop_s": 14.0,
            }
            row |= {"score_baseline": 0.93, "score": 0.93 - 0.5 * lost}
            row |= {"found": 1.0 - lost, "found_baseline": 1.0, "effect_score": 0.5 * lost, "effect_rate": lost}
            row |= {"damage_nats": damage, "first_difference_s": 8.4 if dose else np.nan}
            row |= {"shift_loudness_db": -0.3 * dose, "shift_centroid_hz": 12.0 * dose, "shift_onset_rate_hz": 0.05}
            row |= {"shift_silence_fraction": 0.0, "effect_score_lag0": 0.01, "effect_score_lag1": 0.02}
            kl = 0.1 * harm.get(kind, 0.0) * dose
            rows.append(row | {"arm": "necessity", "kl_nats": kl, "kl_lag0": 2 * kl, "kl_lag1": kl})
    for row in [r for r in rows if r["kind"] == "target" and r["dose"] == 1 and r["window"] == "until_event"]:
        for kind, back in (("untouched", 0.0), ("target", 1.0), ("random_subspace", 0.0)):
            rows.append(row | {"arm": "sufficiency", "kind": kind, "found": back, "found_baseline": 0.0})
    return pd.DataFrame(rows)


def heads_rows() -> pd.DataFrame:
    """Three layers of two heads: one head passes most of the effect on, another looks back."""
    table = pd.DataFrame({"layer": [0, 0, 1, 1, 2, 2], "head": [0, 1] * 3})
    table["attribution"], table["direct"] = [0, 0, 0, 0, 0.3, 0.02], [0, 0, 0, 0, 0.27, -0.01]
    table["to_reference"] = [0.1, 0.2, 0.1, 0.2, 0.12, 0.8]
    table["effect"], table["effect_low"], table["effect_high"] = (
        [np.nan] * 4 + [value, np.nan] for value in (0.25, 0.2, 0.3)
    )
    return table.assign(n_clips=20, n_patched=9, total=0.6, total_patched=0.5, reference_share=0.18)


def deciding_rows() -> pd.DataFrame:
    """Two layers of two heads: one looks up what happened at the start."""
    table = pd.DataFrame({"layer": [0, 0, 1, 1], "head": [0, 1] * 2, "attribution": [0.0, 0.4, -0.1, 0.05]})
    table["effect"], table["effect_low"], table["effect_high"] = ([np.nan, v, np.nan, np.nan] for v in (0.3, 0.1, 0.5))
    table["looks_at_s"], table["attention"] = [9.0, 0.0, 9.0, 3.0], [0.2, 0.7, 0.5, 0.4]
    return table.assign(n_clips=20, n_patched=9, total=0.5)


def map_rows() -> pd.DataFrame:
    """Two layers and all of them, in two windows: it is needed late, and in all layers."""
    rows = [
        {"where": where, "from_s": from_s, "to_s": from_s + 2.0, "effect": effect, "damage": 0.01}
        for where, late in (("layer 2", 0.5), ("layer 4", 0.25), ("all", 0.75))
        for from_s, effect in ((8.0, 0.0), (10.0, late))
    ]
    table = pd.DataFrame(rows)
    return table.assign(effect_low=table["effect"] / 2, effect_high=table["effect"] / 2 + 0.5, n_clips=12)


def certificate(layer: int, *, passed: bool) -> dict:
    fvu = {layer - 1: 0.41, layer: 0.117 if passed else 0.62, layer + 1: 0.388}
    reason = "" if passed else f"layer {layer + 1} is the better hook: FVU 0.388 there, 0.620 at layer {layer}"
    bins = [
        {"start": 100 * i, "stop": 100 * (i + 1), "fvu": fvu[layer] + 0.02 * i, "l0": 15.6, "passed": passed}
        | {"in_context": i < 3}
        for i in range(4)
    ]
    record = {"passed": passed, "reason": reason, "failures": [] if passed else ["best_hook"], "hook_layer": layer}
    better = None if passed else {"layer": layer + 1, "normed": False}
    record |= {"better_hook": better, "declared": {"k": 16, "d_in": 128, "hook_layer": layer}}
    record |= {"agreements": {"hook": True, "width": True, "model": None, "context": False}}
    common = {"l0": 15.6, "cosine": 0.94, "dead_fraction": 0.02}
    record |= {"hooks": [{"layer": i, "normed": False, "fvu": f, **common} for i, f in fvu.items()]}
    trained_here = {"n_clips": 128, "n_positions": 51328, "prompts_apart": True} if layer == 2 else None
    record |= {"unconditional": None, "trained_here": trained_here}
    record |= {"neighbour_ratio": 3.3 if passed else 0.6, "fvu": fvu[layer], "l0": 15.6, "l0_max": 16, "bins": bins}
    record |= {"dead_fraction": 0.031, "cosine": 0.94, "n_vectors": 6416, "sae": f"sae/layer{layer}", "n_clips": 16}
    return record | {"sae_digest": f"5ae{layer}" * 8, "settings": {"max_fvu": 0.5, "min_neighbour_ratio": 1.2}}


CANDIDATE_COLUMNS = ["name", "title", "layer", "kind", "latents", "rank", "horizon", "z", "p", "q", "auroc"]
CANDIDATE_COLUMNS += [
    "active_fraction",
    "confirm_gain_auroc",
    "confirm_gain_auroc_low",
    "confirm_gain_auroc_high",
    "confirm_p_adjusted",
]
CANDIDATE_COLUMNS += ["confirmed", "n_clips"]
CANDIDATES = pd.DataFrame(
    [
        [
            NAME,
            "layer 2, feature 117",
            2,
            "feature",
            "117",
            1,
            "h4-8",
            9.41,
            1e-9,
            4e-7,
            0.881,
            0.47,
            0.193,
            0.141,
            0.239,
            0.005,
            True,
            12,
        ],
        [
            "",
            "layer 4, feature 30",
            4,
            "feature",
            "30",
            1,
            "h4-8",
            4.02,
            6e-5,
            0.031,
            0.642,
            0.22,
            0.011,
            -0.02,
            0.05,
            0.31,
            False,
            12,
        ],
    ],
    columns=CANDIDATE_COLUMNS,
)


def write_study(root: Path, name: str, *, gains: dict[str, float], candidates: bool, refused: bool = False) -> dict:
    """One study's results, and its leaf settings; `gains` by horizon role ({}: the motif never returned)."""
    saes = {2: "resources/sae/layer2", 4: "resources/sae/layer4"}
    fields = Study.model_validate({"model": {"name": f"resources/{name}"}, "saes": saes}).model_dump(mode="json")
    folder, corpus = root / "results" / name, root / "results" / "corpora" / f"{name}-0a"
    returns = {f"p{i:02d}": (10.0, 12.0, None)[i % 3] if gains else None for i in range(6)}
    clips = [
        {"clip_id": f"{p}-s{s}", "prompt_id": p, "prompt": f"piano, {p}", "seed": s} for p in returns for s in (0, 1)
    ]
    events = [event(c["clip_id"], s, 0.86 + 0.01 * i) for i, c in enumerate(clips) if (s := returns[c["prompt_id"]])]
    if gains:
        events += [event("p02-s1", 8.0, 0.61, "score, p_value"), event("p05-s0", 14.0, 0.55, "gap")]
    table = pd.DataFrame(events, columns=[*EVENT_COLUMNS, "clip_id", "prompt_id"])

    model = {"name": f"resources/{name}", "weights_digest": f"{name}-" + "ab" * 28, "frame_rate_hz": FRAME_RATE_HZ}
    model |= {"sample_rate_hz": RATE_HZ, "n_codebooks": 4, "codebook_size": 256, "n_layers": 6, "d_model": 128}
    write_json(corpus / "model.json", model | {"max_duration_s": 16.0, "codec_lookahead_s": 0.2})
    with write_folder(corpus / "audio" / "b00", meta={"clips": clips, "duration_s": CLIP_S}) as audio:
        for i, clip in enumerate(clips):
            wave = clip_audio(i, return_s=returns[clip["prompt_id"]])
            soundfile.write(audio / f"{clip['clip_id']}.flac", wave, RATE_HZ, subtype="PCM_16")
    write_parquet(folder / "events" / "b00.parquet", table)
    clip_summaries = pd.DataFrame(clips)[["clip_id", "prompt_id"]].assign(no_events_because="")
    if not gains:
        clip_summaries["no_events_because"] = [f"motif: has {i % 2} note onsets, below 3" for i in range(len(clips))]
        clip_summaries.loc[0, "no_events_because"] = "unusable: audio: 1 samples are NaN or infinite; valid: none"
    write_parquet(folder / "events" / "b00.clips.parquet", clip_summaries)
    for layer in (2, 4):
        write_json(
            folder / "certificates" / f"layer{layer}.json", certificate(layer, passed=not (refused and layer == 4))
        )

    probes = []
    for role, (a, b) in fields["horizons"].items():
        horizon = horizon_name(a, b)
        write_parquet(folder / "labels" / f"{horizon}.parquet", label_rows(table, clips, a, b))
        hooks = [("embedding", "embedding")] + [(r, f"layer{i}") for r in ("resid", "sae") for i in (2, 4)]
        for representation, hook in hooks:
            gain = 0.004 if representation == "embedding" else gains.get(role, 0.0) - 0.013 * (representation == "sae")
            record = probe_record(name, horizon, representation, hook, gain, 0.01 if gain > 0.05 else 0.43)
            if not gains:
                empty = [k for k in record if k.startswith(("auroc", "bits", "gain", "swap_gain", "p_", "learned"))]
                record |= dict.fromkeys(empty, np.nan) | {"note": "one class: no positive rows", "n_positive_clips": 0}
            probe = hook if hook == "embedding" else f"{representation}-{hook}"
            write_json(folder / "probes" / horizon / f"{probe}.json", record)
            layer = -1 if hook == "embedding" else int(hook[-1])
            probes.append(record | {"layer": layer, "role": role})

    chosen = CANDIDATES if candidates else CANDIDATES.head(0)
    write_parquet(folder / "candidates.parquet", chosen)
    write_parquet(folder / "deciding_heads.parquet", deciding_rows())
    matched = sufficiency = pd.DataFrame()
    if candidates:
        # Of the candidate, one of two other SAEs of layer 2 has it again.
        cosines = pd.DataFrame({"latent": [116, 117] * 2, "seed": [1, 1, 2, 2], "cosine": [0.2, 0.9, 0.1, 0.69]})
        write_parquet(folder / "saes" / "layer2.seeds.parquet", cosines)
        from reprise.interventions.matched_damage import matched_damage
        from reprise.interventions.sufficiency import sufficiency_summary

        returning = [c for c in clips if returns[c["prompt_id"]]]
        # Enough prompts for an interval to say something.
        copies = [{key: f"{c[key]}-{n}" for key in ("clip_id", "prompt_id")} for n in range(1, 6) for c in returning]
        effects = effects_rows([*returning, *copies])
        matched = matched_damage(effects).assign(candidate=NAME)
        sufficiency = sufficiency_summary(effects).assign(candidate=NAME)
        write_parquet(folder / "effects" / f"{NAME}.parquet", effects)
        write_parquet(folder / "effects" / f"{NAME}.matched.parquet", matched)
        write_parquet(folder / "effects" / f"{NAME}.sufficiency.parquet", sufficiency)
        write_parquet(folder / "heads" / f"{NAME}.parquet", heads_rows())
        write_parquet(folder / "maps" / f"{NAME}.parquet", map_rows())
        with write_folder(
            folder / "effects" / f"{NAME}.audio", meta={"clips": ["p00-s0", "p00-s1", "p01-s0"]}
        ) as players:
            for clip_id, return_s in (("p00-s0", 10.0), ("p00-s1", 10.0), ("p01-s0", 12.0)):
                whole, without = (clip_audio(1, return_s=s) for s in (return_s, None))
                soundfile.write(players / f"{clip_id}--baseline.flac", whole, RATE_HZ, subtype="PCM_16")
                for kind in ("target", "random_subspace", "matched_feature"):
                    file = players / f"{clip_id}--{kind}-until_event-d1.flac"
                    soundfile.write(file, without if kind == "target" else whole, RATE_HZ, subtype="PCM_16")

    thresholds = Thresholds(**fields["verdict"], alpha=fields["probes"]["alpha"])
    declared = preregistration(thresholds, {"seeds": fields["seeds"]})
    declared |= {"declarations": summary(declare([], declared, known="nothing")), "problems": []}
    judged = chosen.rename(columns=lambda c: c.removeprefix("confirm_")).reset_index(drop=True)
    counts = {"n_clips": 192, "n_usable": 192, "unusable": {}, "n_with_event": 96 if gains else 0}
    counts |= {"n_prompts_with_event": 40 if gains else 0}
    record = verdict(
        clips=counts,
        probes=pd.DataFrame(probes),
        candidates=judged,
        matched=matched,
        sufficiency=sufficiency,
        thresholds=thresholds,
        long_role="long",
    )
    record |= {"study": name, "model": model, "seeds": fields["seeds"], "preregistration": declared}
    record["horizons"] = {role: horizon_name(a, b) for role, (a, b) in fields["horizons"].items()}
    write_json(folder / "verdict.json", record | {"versions": {"python": "3.11.9", "torch": "2.13.0"}})
    bench = root / "results" / "benchmarks" / name
    for stage, job_s in (("generate/b00", 61.5), ("generate/b01", 58.5), ("candidates", 4.25)):
        (bench / stage).parent.mkdir(parents=True, exist_ok=True)
        text = f"s\th:m:s\tmax_rss\n{job_s}\t0:01:00\t{1200.5 if 'b00' in stage else '-'}\n"
        (bench / f"{stage}.tsv").write_text(text)
    return fields


def write_card(root: Path, name: str, expected: str) -> str:
    card = {"name": name, "kind": "model organism: a tiny model whose answer is known"}
    truth = {"verdict": expected, "because": "the cue in its first bar decides"}
    write_json(root / "resources" / name / "card.json", card | {"ground_truth": truth})
    return f"resources/{name}/card.json"


def run_script(root: Path, monkeypatch: pytest.MonkeyPatch, studies: dict[str, dict], cards: list[str]) -> str:
    """The rule's script on the results under `root`; the page."""
    monkeypatch.chdir(root)
    monkeypatch.setattr("reprise.workflow.job.start", lambda snakemake: snakemake.params.settings)

    def found(pattern: str, *, without: tuple[str, ...] = ()) -> list[str]:
        folders = [Path("results", f) for n in studies for f in (f"corpora/{n}-0a", n)]
        paths = [p for folder in folders for p in sorted(folder.glob(pattern))]
        return [str(p) for p in paths if not set(without) & set(p.suffixes)]

    inputs = {
        "models": found("model.json"),
        "cards": cards,
        "verdicts": found("verdict.json"),
        "certificates": found("certificates/*.json", without=(".measured",)),
        "probes": found("probes/*/*.json"),
        "events": found("events/*.parquet", without=(".clips",)),
        "clip_summaries": found("events/*.clips.parquet"),
        "reviews": found("reviews.parquet"),
        "review_summaries": found("reviews.json"),
        "labels": found("labels/*.parquet"),
        "audio": found("audio/*.manifest.json"),
        "candidates": found("candidates.parquet"),
        "seeds": found("saes/*.seeds.parquet"),
        "effects": found("effects/*.parquet", without=(".matched", ".sufficiency")),
        "matched": found("effects/*.matched.parquet"),
        "sufficiency": found("effects/*.sufficiency.parquet"),
        "players": found("effects/*.audio.manifest.json"),
        "heads": found("heads/*.parquet"),
        "deciding": found("deciding_heads.parquet"),
        "maps": found("maps/*.parquet"),
    }

    class Inputs(SimpleNamespace):
        def __getitem__(self, key: str) -> list[str]:
            return getattr(self, key)

    settings = {"title": "Does <it> plan?", "studies": studies, "corpora": {n: f"{n}-0a" for n in studies}}
    settings |= {"code": "x", "calibration": {}}
    snakemake = SimpleNamespace(
        input=Inputs(**inputs),
        output=["results/report/index.html"],
        params=SimpleNamespace(settings=settings),
    )
    runpy.run_path(str(ROOT / "workflow_scripts" / "report.py"), init_globals={"snakemake": snakemake})
    return Path("results/report/index.html").read_text(encoding="utf-8")


GAINS = {
    "planner": {"local": 0.31, "medium": 0.27, "long": 0.214},
    "improviser": {"local": 0.002, "medium": -0.004, "long": 0.007},
    "quiet": {},
}
