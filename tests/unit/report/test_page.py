"""The page says what the results say: every verdict and number is in it, and it needs nothing but itself.

The fixture is a results folder as the rules leave it, of two organisms and one other model: `planner` with one
confirmed candidate, `improviser` without any, `quiet` whose motif never returned and whose SAE was refused.
"""

import base64
import io
import json
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from reprise.audio.synth import Note, render
from reprise.config.schema import ReportSettings, Study, horizon_name
from reprise.interventions.matched_damage import matched_damage
from reprise.report import figures
from reprise.report import page as report
from reprise.report.templating import encode_flac
from reprise.review.decisions import event_ids, import_reviews, read_audio_digests
from reprise.review.files import Decision, ReviewFile
from reprise.storage.files import read_manifest, write_folder, write_json, write_parquet
from reprise.targets.recurrence.events import EVENT_COLUMNS
from reprise.verdict.gates import VERDICTS, verdict
from reprise.verdict.preregistration import Thresholds, declare, preregistration, summary
from tests.places import ROOT

RATE_HZ, FRAME_RATE_HZ, CLIP_S = 16000, 25.0, 16.0
MOTIF = [(60, 0.5), (64, 0.25), (67, 0.25), (69, 0.5), (65, 0.5)]
FILLERS = [[(62, 0.5), (66, 0.5), (61, 0.5), (63, 0.5)], [(58, 1.0), (61, 0.5), (56, 0.5)]]
NAME = "layer2-f117-1a2b3c4d"


# --- a results folder -----------------------------------------------------------------------------------------


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
    row = {"motif_start_s": 2.0, "motif_duration_s": 2.0, "onset_s": onset_s, "duration_s": 2.0, "transposition": 0}
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
    for window in ("until_event", "prefix_only"):
        for kind, n in (("target", 1), ("matched_feature", 2), ("random_direction", 1), ("mean_difference", 1)):
            conditions += [(kind, window, c, d) for c in range(n) for d in (0.25, 0.5, 1.0, 2.0)]
    power = {"target": 0.75, "mean_difference": 0.9, "random_direction": 0.12, "matched_feature": 0.08}
    harm = {"target": 0.06, "mean_difference": 0.15, "random_direction": 0.7, "matched_feature": 0.3}
    for clip in clips:
        for kind, window, control, dose in conditions:
            share = power.get(kind, 0.0) * min(1.0, dose) * (1.0 if window == "until_event" else 0.7)
            lost = float(rng.random() < (0.1 if kind == "resampled" else share))
            damage = harm.get(kind, 0.0) * dose**1.5 * (1 + 0.2 * rng.random())
            row = {
                "clip_id": clip["clip_id"],
                "prompt_id": clip["prompt_id"],
                "layer": 2,
                "feature": 117,
                "kind": kind,
            }
            row |= {
                "window": window,
                "control": control,
                "dose": dose,
                "condition": f"{kind}{control}-{window}-d{dose:g}",
            }
            row |= {"motif_start_s": 2.0, "motif_duration_s": 2.0, "target_start_s": 10.0, "target_stop_s": 14.0}
            row |= {"score_baseline": 0.93, "score": 0.93 - 0.5 * lost}
            row |= {"found": 1.0 - lost, "found_baseline": 1.0, "effect_score": 0.5 * lost, "effect_rate": lost}
            row |= {"damage_nats": damage, "first_difference_s": 8.4 if dose else np.nan}
            row |= {"shift_loudness_db": -0.3 * dose, "shift_centroid_hz": 12.0 * dose, "shift_onset_rate_hz": 0.05}
            row |= {"shift_silence_share": 0.0, "effect_score_lag0": 0.01, "effect_score_lag1": 0.02}
            kl = 0.1 * harm.get(kind, 0.0) * dose
            rows.append(row | {"arm": "ablate", "kl_nats": kl, "kl_lag0": 2 * kl, "kl_lag1": kl})
    for row in [r for r in rows if r["kind"] == "target" and r["dose"] == 1 and r["window"] == "until_event"]:
        for kind, back in (("untouched", 0.0), ("steer", 1.0), ("steer_random", 0.0)):
            rows.append(row | {"arm": "steer", "kind": kind, "found": back, "found_baseline": 0.0})
    return pd.DataFrame(rows)


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
    common = {"l0": 15.6, "cosine": 0.94, "dead_share": 0.02}
    record |= {"hooks": [{"layer": i, "normed": False, "fvu": f, **common} for i, f in fvu.items()]}
    trained_here = {"n_clips": 128, "n_positions": 51328, "prompts_apart": True} if layer == 2 else None
    record |= {"unconditional": None, "trained_here": trained_here}
    record |= {"neighbour_ratio": 3.3 if passed else 0.6, "fvu": fvu[layer], "l0": 15.6, "l0_max": 16, "bins": bins}
    record |= {"dead_share": 0.031, "cosine": 0.94, "n_vectors": 6416, "sae": f"sae/layer{layer}", "n_clips": 16}
    return record | {"sae_digest": f"5ae{layer}" * 8, "settings": {"max_fvu": 0.5, "min_neighbour_ratio": 1.2}}


CANDIDATE_COLUMNS = ["name", "layer", "feature", "horizon", "z", "p", "q", "auroc", "active_share"]
CANDIDATE_COLUMNS += [
    "confirm_gain_auroc",
    "confirm_gain_auroc_low",
    "confirm_gain_auroc_high",
    "confirm_p_adjusted",
]
CANDIDATE_COLUMNS += ["confirmed", "n_clips"]
CANDIDATES = pd.DataFrame(
    [
        [NAME, 2, 117, "h4-8", 9.41, 1e-9, 4e-7, 0.881, 0.47, 0.193, 0.141, 0.239, 0.005, True, 12],
        ["", 4, 30, "h4-8", 4.02, 6e-5, 0.031, 0.642, 0.22, 0.011, -0.02, 0.05, 0.31, False, 12],
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
    model |= {"sample_rate_hz": RATE_HZ, "n_codebooks": 4, "card": 256, "n_layers": 6, "d_model": 128}
    write_json(corpus / "model.json", model | {"max_duration_s": 16.0, "codec_lookahead_s": 0.2})
    with write_folder(corpus / "audio" / "b00", meta={"clips": clips, "duration_s": CLIP_S}) as audio:
        for i, clip in enumerate(clips):
            wave = clip_audio(i, return_s=returns[clip["prompt_id"]])
            soundfile.write(audio / f"{clip['clip_id']}.flac", wave, RATE_HZ, subtype="PCM_16")
    write_parquet(folder / "events" / "b00.parquet", table)
    heard = pd.DataFrame(clips)[["clip_id", "prompt_id"]].assign(no_events_because="")
    if not gains:
        heard["no_events_because"] = [f"motif: has {i % 2} note onsets, below 3" for i in range(len(clips))]
        heard.loc[0, "no_events_because"] = "unusable: audio: 1 samples are NaN or infinite; valid: none"
    write_parquet(folder / "events" / "b00.clips.parquet", heard)
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
    matched = pd.DataFrame()
    if candidates:
        from reprise.interventions.matched_damage import matched_damage
        from reprise.interventions.steering import steering_summary

        returning = [c for c in clips if returns[c["prompt_id"]]]
        # Enough prompts for an interval to say something.
        copies = [{key: f"{c[key]}-{n}" for key in ("clip_id", "prompt_id")} for n in range(1, 6) for c in returning]
        effects = effects_rows([*returning, *copies])
        matched = matched_damage(effects)
        write_parquet(folder / "effects" / f"{NAME}.parquet", effects)
        write_parquet(folder / "effects" / f"{NAME}.matched.parquet", matched)
        write_parquet(folder / "effects" / f"{NAME}.steered.parquet", steering_summary(effects))
        with write_folder(
            folder / "effects" / f"{NAME}.audio", meta={"clips": ["p00-s0", "p00-s1", "p01-s0"]}
        ) as players:
            for clip_id, return_s in (("p00-s0", 10.0), ("p00-s1", 10.0), ("p01-s0", 12.0)):
                whole, without = (clip_audio(1, return_s=s) for s in (return_s, None))
                soundfile.write(players / f"{clip_id}--baseline.flac", whole, RATE_HZ, subtype="PCM_16")
                for kind in ("target", "random_direction", "matched_feature"):
                    for window in ("until_event", "prefix_only"):
                        file = players / f"{clip_id}--{kind}-{window}-d1.flac"
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
        "heard": found("events/*.clips.parquet"),
        "reviews": found("reviews.parquet"),
        "review_summaries": found("reviews.json"),
        "labels": found("labels/*.parquet"),
        "audio": found("audio/*.manifest.json"),
        "candidates": found("candidates.parquet"),
        "effects": found("effects/*.parquet", without=(".matched", ".steered")),
        "matched": found("effects/*.matched.parquet"),
        "steered": found("effects/*.steered.parquet"),
        "players": found("effects/*.audio.manifest.json"),
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("study")
    studies = {
        name: write_study(root, name, gains=gains, candidates=name == "planner", refused=name == "quiet")
        for name, gains in GAINS.items()
    }
    cards = [write_card(root, "planner", "foresight"), write_card(root, "improviser", "none")]
    with pytest.MonkeyPatch.context() as patch:
        page = run_script(root, patch, studies, cards)
    return SimpleNamespace(root=root, studies=studies, cards=cards, page=page)


class Page(HTMLParser):
    """Tags, attributes and text by section; fails on a tag that is closed out of turn."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, list[str]] = {"": []}
        self.section = ""
        self.headings: list[int] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        given = dict(attrs)
        if tag == "section" and given.get("class") == "study":
            self.section = given["id"]
            self.text[self.section] = []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.text[self.section].append(data)

    def said(self, section: str = "") -> str:
        return " ".join(" ".join(self.text[section]).split())


@pytest.fixture(scope="module")
def page(made: SimpleNamespace) -> Page:
    return Page(made.page)


# --- the whole page -------------------------------------------------------------------------------------------


def test_page_is_well_formed_and_needs_nothing_but_itself(made: SimpleNamespace, page: Page) -> None:
    assert not page.open
    sources = [value for _, key, value in page.attributes if key in ("src", "href", "srcset", "poster", "action")]
    assert sources
    assert all(value.startswith(("data:", "#")) for value in sources)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", made.page)
    assert len(made.page) < 12e6
    assert str(made.root) not in made.page


def test_headings_skip_no_level_and_figures_have_words(made: SimpleNamespace, page: Page) -> None:
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    n_images = sum((tag, key, value) == ("svg", "role", "img") for tag, key, value in page.attributes)
    assert n_images == sum(
        tag == "svg" and key == "aria-label" and len(value) > 10 for tag, key, value in page.attributes
    )
    assert n_images > 20
    ids = [value for _, key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, key, value in page.attributes if key == "href" and value.startswith("#")} <= set(ids)


@pytest.mark.parametrize("study", GAINS)
def test_every_verdict_and_gate_number_is_said(made: SimpleNamespace, page: Page, study: str) -> None:
    record = json.loads((made.root / "results" / study / "verdict.json").read_text())
    said = page.said(study)
    assert record["verdict"] == {"planner": "foresight", "improviser": "none", "quiet": "none"}[study]
    assert f"{study} {record['verdict']}" in said
    assert record["reason"] in said
    for gate in [*record["gates"], *record["checks"]]:
        title, digits, _, sense = report.GATES[gate["name"]]
        assert title in said
        assert (gate["sentence"] if gate["outcome"] != "not reached" else f"{title} not reached") in said
        if gate["value"] is not None:
            assert figures.interval(gate["value"], gate["low"], gate["high"], digits) in said
            assert f"{sense} {gate['threshold']:g}" in said


def test_truth_stands_beside_the_verdict_of_organisms_only(page: Page) -> None:
    said = page.said()
    assert "agrees with the truth for 2 of 2" in said
    assert "planner foresight foresight ✓ yes 0.21 [0.17, 0.26]" in said
    assert "improviser none none ✓ yes 0.01 [−0.04, 0.05] — — 5 of 11 gates passed; first not to" in said
    assert "Calibration · model organism" in page.said("planner")
    assert "Calibration" not in page.said("quiet") and "Built to be" not in page.said("quiet")
    # What is evidence comes before what is calibration.
    assert list(page.text) == ["", "quiet", "planner", "improviser"]
    assert "Only model organisms" not in said


def test_a_wrong_verdict_is_not_hidden(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path
    studies = {"improviser": write_study(root, "improviser", gains=GAINS["improviser"], candidates=False)}
    page = Page(run_script(root, monkeypatch, studies, [write_card(root, "improviser", "foresight")]))
    assert "agrees with the truth for 0 of 1" in page.said() and "✗ no" in page.said()
    assert "The verdict does not agree" in page.said("improviser")
    assert "Only model organisms were studied here" in page.said()


def test_numbers_of_each_section(page: Page) -> None:
    said = page.said("planner")
    for text in (
        "+0.214",  # conditional gain at the long horizon
        "0.214 [0.167, 0.257]",
        "8 of 12 clips hold at least one valid return",
        "match too weak 1",  # of the rejected
        "0.117 (at most 0.5)",  # FVU at the hook
        "on 51,328 positions of 128 clips; no clip or prompt of them is measured here",
        "15.6, 16 (k = 16)",
        "layer 2, feature 117",
        "0.193 [0.141, 0.239]",
        "layer 4, feature 30",
        "not confirmed",
        "Edited until the event",
        "Edited in the prefix only",
        "planner-abab",  # weights digest
        "5ae2",  # SAE digest
        "torch 2.13.0",
        "min_effect 0.2",
        "generate 2 2 min 00 s 1200 MB",
        "2 min 04 s of work in all",
    ):
        assert text in said, text


def test_null_results_are_said_plainly(page: Page) -> None:
    improviser, quiet = page.said("improviser"), page.said("quiet")
    assert report.MEANINGS["none"] in improviser
    assert "No feature passed the screen, so none was ablated." in improviser
    assert "There was no candidate to ablate." in improviser
    assert report.NO_EVENTS in quiet and report.MEANINGS["none"] not in quiet
    assert "11 clips: motif: has 1 note onsets, below 3 (for one)" in quiet and "1 clip: unusable: audio" in quiet
    assert "Clips without any candidate" not in improviser
    assert "0 of 12 clips hold" in quiet and "there are no events to show" in quiet
    assert "No probe could be scored: one class: no positive rows" in quiet
    assert "refused" in quiet and "layer 5 is the better hook" in quiet
    assert "refused" not in improviser


def test_players_hold_the_very_clips(made: SimpleNamespace, page: Page) -> None:
    players = [value for tag, key, value in page.attributes if (tag, key) == ("audio", "src")]
    # Three examples each for planner and improviser, one for quiet; four conditions of two clips.
    assert len(players) == 3 + 3 + 1 + 8
    first = made.root / "results" / "corpora" / "quiet-0a" / "audio" / "b00" / "p00-s0.flac"
    expected, rate_hz = soundfile.read(first, dtype="float32")
    assert players[0] == report.embed([(expected, rate_hz)], 10**9)[0]


def test_same_results_same_bytes(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = {"quiet": made.studies["quiet"]}
    pages = [run_script(made.root, monkeypatch, studies, []) for _ in range(2)]
    assert pages[0] == pages[1]
    assert "Does &lt;it&gt; plan?" in pages[0]


# --- parts ----------------------------------------------------------------------------------------------------


def test_every_verdict_and_gate_has_words() -> None:
    assert set(report.MEANINGS) == set(VERDICTS)
    gates = {"events", "positive_clips", "negative_clips", "positive_prompts", "prediction"}
    assert gates | {"confirmation", "effect", "damage", "selectivity", "shorter_horizons"} <= set(report.GATES)
    assert ReportSettings().title


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (0.2149, 2, False, "0.21"),
        (-0.2149, 2, True, "−0.21"),
        (0.2149, 2, True, "+0.21"),
        (-0.001, 2, True, "0.00"),
        (float("nan"), 2, False, "—"),
        (None, 2, False, "—"),
        (float("inf"), 2, False, "—"),
        (41.0, 0, False, "41"),
    ],
)
def test_number(value: float | None, digits: int, sign: bool, text: str) -> None:
    assert figures.number(value, digits, sign=sign) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.25, "4.2 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_seconds_text(seconds: float, text: str) -> None:
    assert figures.seconds_text(seconds) == text


def test_axis_places_values_and_keeps_those_outside_on_its_ends() -> None:
    axis = figures.Axis(-1.0, 3.0)
    assert [axis.share(v) for v in (-5, -1, 0, 3, 9)] == [0, 0, 0.25, 1, 1]
    assert axis.ticks(4) == [-1, 0, 1, 2, 3]
    root = figures.Axis(0.0, 4.0, root=True)
    assert root.share(1.0) == 0.5 and root.share(-1.0) == 0.0
    ticks = root.ticks()
    assert ticks[0] == 0 and all(root.share(b) - root.share(a) > 0.125 for a, b in zip(ticks, ticks[1:], strict=False))


def test_axis_around_needs_no_values() -> None:
    for values in ([], [float("nan")], [0.5, 0.5]):
        axis = figures.axis_around(values)
        assert axis.low < axis.high and np.isfinite(axis).all()


def test_interval_plot_draws_values_where_they_are() -> None:
    row, axis = figures.Row("a<b", 0.5, 0.25, 0.75, "x"), figures.Axis(0, 1)
    svg = figures.interval_plot([row], axis, label="l", threshold=0.1)
    assert 'class="whisker" x1="25.00%" x2="75.00%"' in svg
    assert '<svg class="mark " x="50.00%"' in svg
    assert 'class="needed" x1="10.00%"' in svg
    assert "a&lt;b" in svg
    unknown = figures.interval_plot([figures.Row("a", float("nan"), text="not scored")], figures.Axis(0, 1), label="l")
    assert "not scored" in unknown and "mark" not in unknown and "nan" not in unknown


def test_chroma_png_is_a_picture_of_the_chroma() -> None:
    chroma = np.zeros((5, 12), np.float32)
    chroma[3, 0], chroma[1, 11], chroma[2, 5] = 1.0, 0.5, -1.0
    png = base64.b64decode(figures.chroma_png(chroma).split(",")[1])
    alpha = np.asarray(Image.open(io.BytesIO(png)))[..., 3]
    assert alpha.shape == (12, 5)
    # Pitch class c is the lowest row, b the highest; what is below zero is not seen.
    assert alpha[11, 3] == 255 and alpha[0, 1] == round(255 * 0.5**1.3)
    assert np.count_nonzero(alpha) == 2


def test_encode_flac_halves_a_high_rate_and_keeps_a_low_one() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32000) / 32000).astype(np.float32)
    heard, rate_hz = soundfile.read(io.BytesIO(encode_flac(tone, 32000)))
    assert rate_hz == 16000 and len(heard) == 16000
    assert abs(np.abs(np.fft.rfft(heard)).argmax() - 440) == 0
    same, rate_hz = soundfile.read(io.BytesIO(encode_flac(tone, 8000)), dtype="float32")
    assert rate_hz == 8000 and np.abs(same - tone).max() < 1e-4


def test_embed_stops_at_its_allowance_but_takes_what_still_fits() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    long, short = (noise, 16000), (noise[:1600], 16000)
    allowance = len(encode_flac(*long)) + len(encode_flac(*short))
    assert [bool(uri) for uri in report.embed([long, long, short, short], allowance)] == [True, False, True, False]


def test_example_clips_are_chosen_by_rule() -> None:
    rows = [event(f"a-s{i}", 10.0, score) for i, score in enumerate((0.9, 0.7, 0.8))]
    rows += [event("b-s0", 9.0, 0.6, "score"), event("b-s1", 9.0, 0.65, "gap"), event("a-s0", 14.0, 0.69, "gap")]
    clips = ["b-s1", "a-s2", "a-s1", "a-s0", "b-s0", "b-s2"]
    assert [c for c, _ in report.example_clips(pd.DataFrame(rows), clips)] == ["a-s2", "b-s2", "b-s1"]
    nothing = pd.DataFrame(rows).head(0)
    assert [c for c, _ in report.example_clips(nothing, clips)] == ["a-s0"]
    assert [c for c, _ in report.example_clips(pd.DataFrame(rows[:3]), ["a-s0", "a-s1", "a-s2"])] == ["a-s2"]


def test_match_curve_of_a_return_peaks_where_it_returns() -> None:
    from reprise.targets.recurrence.matching import motif_template

    audio = clip_audio(0, return_s=10.0)
    template = motif_template(audio, RATE_HZ, start_s=2.0, duration_s=2.0)
    windows = [figures.Window(2.0, 4.0, "motif", "motif")]
    svg = figures.clip_figure(audio, RATE_HZ, template, windows, min_score=0.7, label="l")
    points = re.search('points="([^"]+)"', svg)[1].split()
    x, y = np.array([list(map(float, p.split(","))) for p in points]).T
    # Times in thousandths of the clip, upwards is less.
    assert abs(x[y.argmin()] / 1000 * CLIP_S - 10.0) < 0.1 and y.min() < 5
    assert x.min() >= 1000 * 4.0 / CLIP_S - 1


def test_labels_add_up(made: SimpleNamespace) -> None:
    clips = [{"clip_id": "p00-s0", "prompt_id": "p00"}, {"clip_id": "p01-s0", "prompt_id": "p01"}]
    labels = {"h4-8": label_rows(pd.DataFrame([event("p00-s0", 12.0, 0.9)]), clips, 4, 8)}
    study = SimpleNamespace(settings=made.studies["planner"], labels=labels)
    (row,) = report.labels_view(study)
    # Times 7-8 are usable (b_s = 8 of 16 s): both precede the return at 12 s by 4 to 8 s, but for 8.0, open at a_s.
    assert row["usable"] == "6" and row["clips"] == "1 / 1" and row["prompts"] == "1"
    widths = [float(w) for w in re.findall(r'width="([\d.]+)%" height="16"', row["bar"])]
    assert sum(widths[-5:]) == pytest.approx(100, abs=0.05)


def test_reviews_are_told_where_there_are_any(
    made: SimpleNamespace, page: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "What reviewers decided" not in page.said("planner")
    fields = write_study(tmp_path, "improviser", gains=GAINS["improviser"], candidates=False)
    folder = tmp_path / "results" / "improviser"
    events = pd.read_parquet(folder / "events" / "b00.parquet")
    digests = read_audio_digests([str(tmp_path / "results/corpora/improviser-0a/audio/b00.manifest.json")])
    ids = event_ids(events, digests)
    assert events["accepted"].tolist() == [True] * 8 + [False] * 2
    given = [{ids[0]: "reject", ids[8]: "accept", ids[1]: "accept", "0" * 16: "reject"}]
    given.append({ids[0]: "reject", ids[8]: "accept", ids[1]: "unsure", ids[4]: "unsure"})
    files = [
        ReviewFile(
            format="reprise review 1",
            study="improviser",
            reviewer=name,
            decisions=(
                *(Decision(event_id=i, decision=d) for i, d in decisions.items()),
                Decision(event_id=ids[5], decision=None, note=f"{name} <b>hears</b> two voices", onset_s=12.0),
            ),
        )
        for name, decisions in zip(("Ann", "Bob"), given, strict=True)
    ]
    table, summary = import_reviews(events, digests, files, study="improviser")
    write_parquet(folder / "reviews.parquet", table)
    write_json(folder / "reviews.json", summary)
    said = Page(run_script(tmp_path, monkeypatch, {"improviser": fields}, [])).said("improviser")
    for text in (
        "4 of 10 events were reviewed by Ann, Bob: 1 accepted, 1 rejected, 1 unsure, 1 disputed.",
        "1 that the tests had rejected were accepted, 1 that they had accepted were rejected.",
        "the tests decide",
        # Two of three alike, by chance one: reject 1/9 and accept 2/9.
        "Ann and Bob: kappa 0.50 over 3 events, 67 % alike",
        "Orphaned decisions: 1, about events that no longer exist",
        f"Ann: reject, clip not stated at 0.00 s (event {'0' * 16})",
        # A note without a decision is told as well.
        "Bob, clip not stated at 12.00 s (no decision): Bob <b>hears</b> two voices",
        "(8 in all)",
        "rejected by a reviewer 1",
    ):
        assert text in said, text
    fields["labels"]["reviewed_only"] = True
    said = Page(run_script(tmp_path, monkeypatch, {"improviser": fields}, [])).said("improviser")
    assert "(1 in all)" in said and "A return counts only if a reviewer accepted it." in said
    # Eight that passed, less the one rejected: a dispute decides nothing.
    assert "7 more passed the tests, but reviewers have not decided about them" in said


def test_manifests_are_checked_before_audio_is_read(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made.root / "results" / "corpora" / "quiet-0a" / "audio" / "b00"
    read_manifest(folder)
    file = folder / "p05-s1.flac"
    content = file.read_bytes()
    try:
        file.unlink()
        with pytest.raises(ValueError, match=r"p05-s1\.flac is missing"):
            run_script(made.root, monkeypatch, {"quiet": made.studies["quiet"]}, [])
    finally:
        file.write_bytes(content)


def test_recordings_are_credited_and_what_was_left_out_is_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    fields = write_study(tmp_path, "planner", gains=GAINS["planner"], candidates=True)
    asked = {"folder": "none", "manifest": "m.csv", "checksums": "", "max_tracks": 0, "continue_from_s": 8.0}
    fields |= {"source": "audio", "recordings": asked}
    cards = [write_card(tmp_path, "planner", "foresight")]
    rows = [f"p{i:02d}.wav,{i:064x},{'CC0' if i else 'CC <BY>'},set {i},slow;sad,\n" for i in range(6)]
    rows += [f"lost{i}.mp3,{i + 9:064x},CC0,,fast,\n" for i in range(3)]
    (tmp_path / "m.csv").write_text("path,sha256,licence,source,tags,prompt\n" + "".join(rows))
    reasons = ("missing", "missing", "cannot be decoded: Invalid data <found>")
    left_out = [{"track_id": f"lost{i}", "path": f"lost{i}.mp3", "reason": r} for i, r in enumerate(reasons)]
    cuts = [{"track_id": "p01", "path": "p01.wav", "cut": 1, "reason": "silent: 16.00-32.00 s peaks at -inf dBFS"}]
    damaged = [{"track_id": "p02", "path": "p02.wav", "reason": "cannot be decoded at 1.00-1.05 s"}]
    for manifest in (tmp_path / "results/corpora/planner-0a/audio").glob("*.manifest.json"):
        content = json.loads(manifest.read_text())
        content["meta"] |= {"n_tracks": 9, "left_out": left_out, "cuts_left_out": cuts, "damaged": damaged}
        manifest.write_text(json.dumps(content))

    page = Page(run_script(tmp_path, monkeypatch, {"planner": fields}, cards))
    said, told = page.said("planner"), capsys.readouterr().err
    assert "report: planner: 3 of 9 recordings are left out: results/report/index.html lists them" in told
    assert "report: planner: 1 cuts of recordings are left out: results/report/index.html lists them" in told
    for text in (
        "12 clips of 6 recordings. The model reads them and plays nothing",
        "3 of 9 were left out (missing 2, cannot be decoded 1).",
        "licences CC0: 5; CC <BY>: 1",
        "tags slow 6, sad 6",
        "lost2.mp3: cannot be decoded: Invalid data <found>",
        "Of the others 1 cuts were left out (silent 1).",
        "Cuts that were left out: 1 p01.wav: silent: 16.00-32.00 s peaks at -inf dBFS",
        "Recordings that are damaged: 1 p02.wav: cannot be decoded at 1.00-1.05 s",
        "p00: set 0 (CC <BY>)",
        "prompts that return were continued from 8 s on. 48 are judged: those in which the untouched continuation",
        # One clip of each cut: no seeds.
        "clips 12 SAE",
    ):
        assert text in said, text
    # A model organism's truth is about its own music.
    assert "built to be" not in said and "planner not stated foresight" in page.said()

    # The model itself returns nowhere: what was edited is judged by nothing.
    effects = next((tmp_path / "results/planner/effects").glob(f"{NAME}.parquet"))
    table = pd.read_parquet(effects).assign(found_baseline=0.0)
    write_parquet(effects, table)
    write_parquet(effects.with_name(f"{NAME}.matched.parquet"), matched_damage(table[:0]))
    said = Page(run_script(tmp_path, monkeypatch, {"planner": fields}, cards)).said("planner")
    assert "In no clip did the model's own continuation return" in said and "were continued" not in said


def test_an_organism_without_a_stated_truth_is_still_kept_apart(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    studies = {"quiet": write_study(tmp_path, "quiet", gains={}, candidates=False)}
    write_json(tmp_path / "resources" / "quiet" / "card.json", {"kind": "model organism"})
    page = Page(run_script(tmp_path, monkeypatch, studies, ["resources/quiet/card.json"]))
    assert "quiet not stated none —" in page.said() and "agrees with the truth" not in page.said()
    assert "Only model organisms were studied here" in page.said()
    assert "Calibration · model organism" in page.said("quiet")


def test_steering_is_told_and_kept_out_of_the_ablation(made: SimpleNamespace) -> None:
    page = re.sub(r"\s+", " ", made.page)
    assert "the feature brings the return to 1.00 [0.86, 1.00] of them, against 0.00" in page
    assert "KL, nats a token" in page and "fall of the best match" in page


def test_how_often_verdicts_are_right_is_told_with_intervals() -> None:
    none = dict.fromkeys(VERDICTS, 0)
    counts = {"planner": none | {"foresight": 9, "unresolved": 1}, "loop": none | {"none": 10}}
    planner, loop = report.calibration_view(counts)
    assert planner["verdicts"] == "foresight 9, unresolved 1" and planner["truth"] == "foresight"
    assert planner["right"].startswith("90 %") and "to 100 %" in planner["right"]
    assert loop["foresight"] == "0 % (0 % to 31 %)"
    assert report.calibration_view({}) == []
