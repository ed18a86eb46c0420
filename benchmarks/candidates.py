"""Candidates of every kind on models whose answer is known: what they find, and how often they find what is not there.

- `own_sae`: the planner with SAEs that are trained on its own clips, each time with another training seed. Such SAEs
  often split the plan over latents.
- `no_sae`: the planner and the improviser without any SAE, each time with other seeds of the same prompts.
- `settings`: the planner without its medium horizon, and with labels at other steps.
- `null_fits`: candidates of every kind that is fitted with labels, fitted on labels exchanged between prompts and
  confirmed on held-out prompts with the true ones. A fit that is confirmed counts as passed, although it would still
  have to be selective, so this bounds the rate of the whole way from above.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.workflow import ROOT, run_snakemake
from reprise.candidates.confirmation import confirm
from reprise.candidates.controls import LayerFit, featurize, fit_layer
from reprise.candidates.featurizers.data import swapped
from reprise.identity import stable_fraction
from reprise.interventions.subspace import coordinates
from reprise.probing.questions import read_question
from reprise.storage.artifacts import read_array, read_clips
from reprise.targets.labels import label_grid, without_local

N_OWN_SAE, N_NO_SAE, N_NULL = 10, 10, 200
LAYERS, LONG, LOCAL = (2, 4), "h4-8", "h0.5-2"
MODELS, SECTIONS = ("planner", "improviser"), ("settings", "no_sae", "own_sae")
NULL_KINDS = ("mean_difference", "probe", "leace")
# Where a plan could be held: after the motif and the baseline's window, and before the continuation.
PLANNED_S = (7.0, 8.0)
RATE_HZ = 25.0


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


def setting_studies() -> dict[str, Any]:
    """The planner with other settings, that do not bear on the question."""
    planner = {"model": {"name": "resources/planner"}}
    planner["saes"] = {layer: f"resources/planner/sae/layer{layer}" for layer in LAYERS}
    return {
        "no-medium-horizon": planner | {"horizons": {"local": [0.5, 2], "long": [4, 8]}},
        "step-0.25-s": planner | {"labels": {"step_s": 0.25}},
        "step-1-s": planner | {"labels": {"step_s": 1.0}},
    }


def run(
    measured: dict[str, Any], *, n_own_sae: int = N_OWN_SAE, n_no_sae: int = N_NO_SAE, n_null: int = N_NULL
) -> Iterator[dict[str, Any]]:
    """Run the studies that are not in `measured` yet, and yield the content of `candidates.json` after each."""
    studies: dict[str, dict[str, Any]] = {name: dict(measured.get("studies", {}).get(name, {})) for name in SECTIONS}
    null = dict(measured.get("null_fits", {}))
    asked = {"settings": setting_studies(), "no_sae": no_sae_studies(n_no_sae), "own_sae": own_sae_studies(n_own_sae)}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for needed in ("resources", "config"):
            (directory / needed).symlink_to(ROOT / needed)

        def finished(study: str, fields: dict[str, Any]) -> Path:
            path = directory / f"{study}.yaml"
            path.write_text(yaml.safe_dump({"studies": {study: fields}, "defaults": defaults(fields)}))
            run_snakemake(directory, path)
            return directory / "results" / study

        for section, wanted in asked.items():
            for study, fields in wanted.items():
                if study not in studies[section]:
                    studies[section][study] = judged(finished(study, fields))
                    yield summary(studies) | {"null_fits": null}
        for model in MODELS if n_null else ():
            if model not in null:
                null[model] = null_fits(finished(f"{model}-0", no_sae_studies(1)[f"{model}-0"]), n_null)
                yield summary(studies) | {"null_fits": null}


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


def null_fits(folder: Path, n: int) -> dict[str, dict[str, int]]:
    """How many of `n` fits of each kind on exchanged labels are confirmed, in a finished study of layer 2."""
    shared = folder / json.loads((folder / "clips.json").read_text())["corpus"]

    def stores(of: Path) -> list[str]:
        return sorted(str(path) for path in of.glob("b*.manifest.json"))

    activations = stores(shared / "activations" / f"layer{LAYERS[0]}")
    clips = read_clips(stores(folder / "descriptors"))
    labels, local = (pd.read_parquet(folder / "labels" / f"{h}.parquet") for h in (LONG, LOCAL))
    grid = label_grid(without_local(labels, local), clips["clip_id"])
    question = read_question(stores(folder / "descriptors"), clips, grid)
    on_grid = read_array(activations, "resid_post", grid.positions).astype(np.float32)
    held_out = clips["prompt_id"].map(stable_fraction).to_numpy() < 0.5
    layer = _fit(folder, activations, clips, ~held_out)
    counts = {}
    for kind in NULL_KINDS:
        passed = 0
        for seed in range(n):
            exchanged = layer._replace(data=swapped(layer.data, seed=seed))
            values = coordinates(featurize(kind, exchanged, seed=seed), on_grid)
            tried = confirm(
                pd.DataFrame({"horizon": [LONG]}),
                {LONG: question},
                lambda _, values=values: values,
                held_out,
                alpha=0.05,
                seed_of=lambda _: 0,
            )
            passed += bool(tried["confirmed"].iloc[0])
        counts[kind] = {"fits": n, "passed": passed}
    return counts


def _fit(folder: Path, activations: list[str], clips: pd.DataFrame, fitted: np.ndarray) -> LayerFit:
    """What candidates of the study are fitted on."""
    events = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("events/b??.parquet"))])
    inside = events["accepted"].astype(bool) & events["onset_s"].between(9.5, 12.5)
    has_event = clips["clip_id"].isin(events.loc[inside, "clip_id"]).to_numpy()
    positions = np.arange(*(round(s * RATE_HZ) for s in PLANNED_S))
    acts = read_array(activations, "resid_post", positions.tolist())
    could_plan = np.ones((len(clips), len(positions)), bool)
    return fit_layer(acts, could_plan, has_event, clips["prompt_id"].to_numpy(), fitted=fitted)
