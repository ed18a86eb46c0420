"""Candidates of every kind on models whose answer is known: what they find, and how often they find what is not there.

- `own_sae`: the planner with SAEs that are trained on its own clips, each time with another training seed. Such SAEs
  often split the plan over latents.
- `no_sae`: the planner and the improviser without any SAE, each time with other seeds of the same prompts.
- `settings`: the planner without its medium horizon, and with labels at other steps.
- `null_fits`: candidates that are fitted on labels exchanged between prompts (benchmarks/null_candidates.py).
- `heads`: attribution to heads against patching every head, for a study's own candidate.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy.stats import spearmanr

from benchmarks.null_candidates import KINDS, null_rates, subject_of
from benchmarks.studies import corpus_of, stores
from benchmarks.workflow import ROOT, run_snakemake
from reprise.interventions.head_clips import head_batches, losing_clips
from reprise.interventions.heads import attribute_heads, patched_effects
from reprise.interventions.reading import read_edits
from reprise.models.loading import load_model

N_OWN_SAE, N_NO_SAE, N_NULL, N_NULL_DAS = 10, 10, 200, 30
LAYERS = (2, 4)
MODELS, SECTIONS = ("planner", "improviser"), ("settings", "no_sae", "own_sae")


def defaults(study: dict[str, Any]) -> dict[str, Any]:
    """The fields that the demo's studies share, but for those that the study sets as a whole."""
    shared = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["defaults"]
    return {name: value for name, value in shared.items() if name not in study}


def own_sae_studies(n: int) -> dict[str, Any]:
    """Studies that differ in the seed of their SAEs' training, which follows from the study's name."""
    model = {"name": "resources/planner"}
    return {f"own-{i}": {"model": model, "saes": dict.fromkeys(LAYERS, "train")} for i in range(n)}


def no_sae_studies(n: int) -> dict[str, Any]:
    """Studies of both models that differ in the seeds of their clips."""
    return {
        f"{name}-{i}": {
            "model": {"name": f"resources/{name}"},
            "layers": list(LAYERS),
            "seeds": list(range(4 * i, 4 * i + 4)),
        }
        for i in range(n)
        for name in ("planner", "improviser")
    }


def shipped(model: str) -> dict[str, Any]:
    """A study of a shipped model with the SAEs that are shipped for it."""
    name = f"resources/{model}"
    return {"model": {"name": name}, "saes": {layer: f"{name}/sae/layer{layer}" for layer in LAYERS}}


def setting_studies() -> dict[str, Any]:
    """The planner with other settings, that do not bear on the question."""
    planner = shipped("planner")
    return {
        "no-medium-horizon": planner | {"horizons": {"local": [0.5, 2], "long": [4, 8]}},
        "step-250-ms": planner | {"labels": {"step_s": 0.25}},
        "step-1000-ms": planner | {"labels": {"step_s": 1.0}},
    }


def run(
    measured: dict[str, Any], *, n_own_sae: int = N_OWN_SAE, n_no_sae: int = N_NO_SAE, n_null: int = N_NULL
) -> Iterator[dict[str, Any]]:
    """Run the studies that are not in `measured` yet, and yield the content of `candidates.json` after each."""
    studies: dict[str, dict[str, Any]] = {name: dict(measured.get("studies", {}).get(name, {})) for name in SECTIONS}
    others: dict[str, Any] = {name: dict(measured.get(name, {})) for name in ("null_fits", "heads")}
    asked = {"settings": setting_studies(), "no_sae": no_sae_studies(n_no_sae), "own_sae": own_sae_studies(n_own_sae)}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for needed in ("resources", "config"):
            (directory / needed).symlink_to(ROOT / needed)

        def finished(study: str, fields: dict[str, Any]) -> Path:
            path = directory / f"{study}.yaml"
            path.write_text(yaml.safe_dump({"studies": {study: fields}, "defaults": defaults(fields)}))
            run_snakemake(directory, path, "verdicts")
            return directory / "results" / study

        for section, wanted in asked.items():
            for study, fields in wanted.items():
                if study not in studies[section]:
                    studies[section][study] = judged(finished(study, fields))
                    yield summary(studies) | others
        for model in MODELS if n_null else ():
            measured_kinds = others["null_fits"].setdefault(model, {})
            if missing := [kind for kind in KINDS if kind not in measured_kinds]:
                subject = subject_of(finished(model, shipped(model)), root=ROOT, layer=LAYERS[0])
                for kind in missing:
                    measured_kinds[kind] = null_rates(subject, kind, N_NULL_DAS if kind == "das" else n_null)
                    yield summary(studies) | others
        if n_null and not others["heads"]:
            others["heads"] = heads(finished("planner", shipped("planner")))
            yield summary(studies) | others


def judged(folder: Path) -> dict[str, Any]:
    """The verdict of a study, and that of each candidate that was edited, by kind."""
    record = json.loads((folder / "verdict.json").read_text())
    edited = {c["kind"]: c["verdict"] for c in record["candidates"] if c["edited"]}
    return {"verdict": record["verdict"], "reason": record["reason"], "by_kind": edited}


def summary(studies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Counts of verdicts, and of studies in which a kind of candidate showed foresight."""
    own, without = studies["own_sae"], studies["no_sae"]
    by_kind = Counter(kind for one in own.values() for kind, name in one["by_kind"].items() if name == "foresight")
    return {
        "own_sae": {
            "runs": len(own),
            "foresight": sum(one["verdict"] == "foresight" for one in own.values()),
            "by_kind": dict(by_kind),
        },
        "no_sae": {
            model: dict(Counter(one["verdict"] for study, one in without.items() if study.startswith(model)))
            for model in MODELS
        },
        "settings": {study: one["verdict"] for study, one in studies["settings"].items()},
        "studies": studies,
    }


def heads(folder: Path) -> dict[str, Any]:
    """How well attribution to heads agrees with patching every head, and what it costs, for a study's candidate."""
    name = next(c["name"] for c in json.loads((folder / "verdict.json").read_text())["candidates"] if c["edited"])
    spec = json.loads((folder / "candidates" / f"{name}.json").read_text())
    table = pd.read_parquet(folder / "ablations" / name / "conditions.parquet")
    tokens = np.load(folder / "ablations" / name / "tokens.npy")
    rows = losing_clips(table, pd.read_parquet(folder / "effects" / f"{name}.parquet"))
    donated = stores(corpus_of(folder) / "activations" / f"layer{spec['layer']}")
    edits, model = read_edits(spec, rows, donated, None), load_model(str(ROOT / "resources" / "planner"))
    n_heads = model.transformer.layers[0].self_attention.n_heads
    later = [(layer, head) for layer in range(spec["layer"] + 1, model.n_layers) for head in range(n_heads)]
    attributed, patched, seconds = [], [], [0.0, 0.0]
    for clips, edit in head_batches(model, rows, tokens, edits):
        began = time.monotonic()
        found = attribute_heads(model, clips, edit, layer=spec["layer"]).attribution
        seconds[0] += time.monotonic() - began
        began = time.monotonic()
        patched.append(patched_effects(model, clips, edit, later))
        # Of all heads: those of earlier layers take as long.
        seconds[1] += (time.monotonic() - began) * model.n_layers * n_heads / len(later)
        attributed.append(found[:, spec["layer"] + 1 :].reshape(len(found), -1))
    means = (np.concatenate(each).mean(axis=0) for each in (attributed, patched))
    return {
        "rank_correlation": round(float(spearmanr(*means).statistic), 3),
        "cost_ratio": round(seconds[0] / seconds[1], 4),
        "n_clips": len(rows),
        "n_heads": model.n_layers * n_heads,
    }
