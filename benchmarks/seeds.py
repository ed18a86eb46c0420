"""The demo at other seeds: its verdicts, and whether a study of the advised size decides as often as promised.

Every organism of the demo is studied four times, each time with other seeds of the same prompts. Then half of the
prompts of one study is a pilot. Its `advice` for 80% power names a number of prompts, and studies of that size are
drawn from the other three sets of seeds, where a prompt with another set of seeds counts as another prompt. They are
judged by the real probes, not by the shortcuts of reprise/power.py.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy.stats import binomtest

from benchmarks.workflow import ROOT, demo_figures, run_snakemake
from reprise.artifacts import read_array, read_clips
from reprise.codes import read_codes
from reprise.labels import label_grid, without_local
from reprise.learned import learned_gain
from reprise.power import advice, make_pilot, power
from reprise.preregistration import Thresholds
from reprise.probes import Question, fit_question, probe
from reprise.questions import read_question
from reprise.verdict import EVIDENCE, _best_test, _excluded, _tests

SETS = ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15))
LAYER, LONG, LOCAL = 2, "h4-8", "h0.5-2"
KINDS = ("resid", "sae", "random_model")
N_DRAWS, N_SWAPS, POWER = 8, 99, "80%"


def configuration() -> dict[str, Any]:
    """The demo's configuration, every study at each of the four sets of seeds."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    config["studies"] = {
        f"{name}-{seeds[0]}-{seeds[-1]}": {**fields, "seeds": list(seeds)}
        for name, fields in config["studies"].items()
        for seeds in SETS
    }
    return config


def run() -> dict[str, Any]:
    """What `seeds.json` holds."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for needed in ("resources", "config"):
            (directory / needed).symlink_to(ROOT / needed)
        path = directory / "study.yaml"
        path.write_text(yaml.safe_dump(configuration()))
        run_snakemake(directory, path)
        return collect(directory / "results")


def collect(results: Path) -> dict[str, Any]:
    """The verdicts, and power promised against power found, of finished studies."""
    thresholds = json.loads(next(results.glob("planner-*/verdict.json")).read_text())["thresholds"]
    pools = [read_pool(results, f"planner-{seeds[0]}-{seeds[-1]}") for seeds in SETS]
    return {"verdicts": demo_figures(results), "power": power_found(pools, Thresholds(**thresholds))}


# A study's question, under `question`, and its representations `[clip, time, d]` by kind.
Pool = dict[str, Any]


def read_pool(results: Path, study: str) -> Pool:
    """What the probes of one layer at the long horizon read."""
    folder = results / study
    shared = folder / json.loads((folder / "clips.json").read_text())["corpus"]

    def stores(of: Path) -> list[str]:
        return sorted(str(path) for path in of.glob("b*.manifest.json"))

    descriptors = stores(folder / "descriptors")
    clips = read_clips(descriptors)
    labels, local = (pd.read_parquet(folder / "labels" / f"{h}.parquet") for h in (LONG, LOCAL))
    grid = label_grid(without_local(labels, local), clips["clip_id"])
    hooks = {"resid": f"layer{LAYER}", "random_model": f"random-layer{LAYER}"}
    pool: Pool = {
        kind: read_array(stores(shared / "activations" / hook), "resid_post", grid.positions).astype(np.float32)
        for kind, hook in hooks.items()
    }
    codes = read_codes(stores(folder / "codes" / f"layer{LAYER}"), grid.positions)
    pool["sae"] = codes.toarray().reshape(*grid.y.shape, -1).astype(np.float32)
    pool["question"] = read_question(descriptors, clips, grid)
    return pool


def part(pools: list[Pool], chosen: list[tuple[int, str]]) -> Pool:
    """The clips of some (pool, prompt), each a prompt of its own."""
    joined: dict[str, list] = {key: [] for key in ("y", "usable", "prompt", "clip_ids", "x", *KINDS)}
    for n, (number, prompt) in enumerate(chosen):
        pool = pools[number]
        question: Question = pool["question"]
        mine = np.flatnonzero(np.asarray(question.prompt) == prompt)
        joined["prompt"].append(np.full(len(mine), f"{n:04d}"))
        joined["clip_ids"].append([f"{n:04d}-{question.clip_ids[i]}" for i in mine])
        for key in ("y", "usable", "x"):
            joined[key].append(np.asarray(getattr(question, key))[mine])
        for kind in KINDS:
            joined[kind].append(pool[kind][mine])
    whole = {key: np.concatenate(values) for key, values in joined.items()}
    question = Question(
        *(whole[key] for key in ("y", "usable", "prompt")),
        whole["clip_ids"].tolist(),
        whole["x"],
        pools[0]["question"].names,
    )
    return {"question": question, **{kind: whole[kind] for kind in KINDS}}


def probed(pool: Pool, seed: int) -> tuple[dict[str, pd.DataFrame], dict[str, dict]]:
    """Predictions and records of the probes, by name."""
    question = pool["question"]
    baseline = fit_question(question, seed=seed)
    predictions, records = {}, {}
    for kind in KINDS:
        n_swaps = N_SWAPS if kind in EVIDENCE else 1
        result = probe(question, pool[kind], seed=seed, baseline=baseline, n_swaps=n_swaps, n_bootstrap=1000)
        table = result.predictions
        table["clip_id"] = np.asarray(question.clip_ids)[table.pop("clip")]
        table["time_s"] = table.pop("time").astype(float)
        name = f"{kind}-layer{LAYER}"
        predictions[name], records[name] = table, result.record
    return predictions, records


def decides(pool: Pool, t: Thresholds, seed: int) -> str:
    """What the gates that read probes say of a study: passes, excludes or undecided."""
    predictions, records = probed(pool, seed)
    rows = []
    for kind in EVIDENCE:
        name = f"{kind}-layer{LAYER}"
        learned = learned_gain(
            predictions[name], predictions[f"random_model-layer{LAYER}"], seed=seed, n_bootstrap=1000
        )
        rows.append(records[name] | learned | {"representation": kind, "layer": LAYER, "role": "long"})
    tests = _tests(pd.DataFrame(rows))
    first = tests.iloc[0]
    enough = (
        first["n_positive_clips"] >= t.min_positive_clips
        and first["n_clips"] - first["n_positive_clips"] >= t.min_negative_clips
        and first["n_positive_prompts"] >= t.min_positive_prompts
    )
    best = _best_test(tests, t)
    if not enough or best is None:
        return "undecided"
    if best["both"]:
        return "passes"
    if best["predicts"]:
        return "excludes" if (tests["learned_auroc_high"] < t.min_learned_gain_auroc).all() else "undecided"
    return "excludes" if _excluded(tests["gain_auroc_high"] - tests["null_gain"].clip(lower=0), t) else "undecided"


def power_found(pools: list[Pool], t: Thresholds) -> dict[str, Any]:
    """How often studies of the advised size decide, against what their pilots promised."""
    prompts = sorted(set(pools[0]["question"].prompt))
    rows = []
    for number in range(len(pools)):
        for half in (0, 1):
            seed = 10 * number + half
            pilot = part(pools, [(number, p) for p in prompts[half::2]])
            predictions, records = probed(pilot, seed)
            drawn_from = make_pilot(predictions, records, evidence=EVIDENCE, seed=seed)
            table = power(drawn_from, t, seed=seed)
            size = advice(table)[POWER]["prompts"]
            others = [(n, p) for n in range(len(pools)) if n != number for p in prompts]
            if size is None or size > len(others):
                rows.append({"pilot": seed, "n_prompts": size, "promised": None, "decided": None, "n": 0})
                continue
            promised = table[(table["axis"] == "prompts") & (table["n_prompts"] == size)]["decides"].item()
            rng = np.random.default_rng([seed, 9])
            outcomes = []
            for draw in range(N_DRAWS):
                chosen = [others[i] for i in rng.permutation(len(others))[: int(size)]]
                outcomes.append(decides(part(pools, chosen), t, 100 * seed + draw))
            decided = sum(outcome != "undecided" for outcome in outcomes)
            rows.append({"pilot": seed, "n_prompts": size, "promised": promised, "decided": decided, "n": N_DRAWS})
    known = [row for row in rows if row["n"]]
    n, decided = (int(sum(row[key] for row in known)) for key in ("n", "decided"))
    low, high = map(float, binomtest(decided, n).proportion_ci()) if n else (None, None)
    mean = float(np.mean([row["promised"] for row in known])) if known else None
    return {
        "pilots": rows,
        "promised": mean,
        "found": decided / n if n else None,
        "low": low,
        "high": high,
        "n": n,
    }
