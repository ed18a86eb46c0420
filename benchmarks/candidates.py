"""Candidates of every kind on models whose answer is known: what they find, and how often they find what is not there.

- `own_sae`: the planner with SAEs that are trained on its own clips, each time with another training seed. Such SAEs
  often split the plan over latents.
- `no_sae`: the planner and the improviser without any SAE, each time with other seeds of the same prompts.
- `settings`: the planner without its medium horizon, and with labels at other steps.
- `null_fits`: candidates of every kind that needs labels and no SAE, fitted on labels exchanged between prompts and
  confirmed on held-out prompts with the true ones. A fit that is confirmed counts as passed, although it would still
  have to be selective, so this bounds the rate of the whole way from above.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy.stats import spearmanr

from benchmarks.workflow import ROOT, run_snakemake
from reprise.candidates.confirmation import confirm
from reprise.candidates.controls import featurize, fit_layer
from reprise.candidates.featurizers.das import interchanges_of
from reprise.candidates.featurizers.data import swapped
from reprise.candidates.study_clips import read_study_clips
from reprise.config.schema import Study
from reprise.interventions.head_clips import head_batches, losing_clips
from reprise.interventions.heads import attribute_heads, patched_effects
from reprise.interventions.reading import read_edits
from reprise.interventions.subspace import coordinates
from reprise.models.loading import load_model
from reprise.probing.questions import read_question
from reprise.storage.artifacts import read_array
from reprise.targets.labels import label_grid, without_local
from reprise.targets.registry import target_of

N_OWN_SAE, N_NO_SAE, N_NULL, N_NULL_DAS = 10, 10, 200, 30
LAYERS, LONG, LOCAL = (2, 4), "h4-8", "h0.5-2"
MODELS, SECTIONS = ("planner", "improviser"), ("settings", "no_sae", "own_sae")
NULL_KINDS = ("mean_difference", "probe", "leace", "das")


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
    others: dict[str, Any] = {name: dict(measured.get(name, {})) for name in ("null_fits", "heads")}
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
                    yield summary(studies) | others
        for model in MODELS if n_null else ():
            if model not in others["null_fits"]:
                folder = finished(f"{model}-0", no_sae_studies(1)[f"{model}-0"])
                others["null_fits"][model] = null_fits(folder, n_null, N_NULL_DAS)
                yield summary(studies) | others
        if n_null and not others["heads"]:
            others["heads"] = heads(finished("planner-0", no_sae_studies(1)["planner-0"]))
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


def stores(folder: Path) -> list[str]:
    """Manifests of the stores in a folder."""
    return sorted(str(path) for path in folder.glob("b??.manifest.json"))


def corpus_of(folder: Path) -> Path:
    """The folder of the corpus of a finished study."""
    return folder / json.loads((folder / "clips.json").read_text())["corpus"]


def null_fits(folder: Path, n: int, n_das: int) -> dict[str, dict[str, int]]:
    """How many of `n` fits of each kind (of `n_das` searches) on exchanged labels are confirmed, at layer 2."""
    corpus, settings = corpus_of(folder), yaml.safe_load((folder.parents[1] / f"{folder.name}.yaml").read_text())
    study_settings = Study.model_validate(settings["defaults"] | settings["studies"][folder.name])
    extent = target_of(study_settings.target).extent(study_settings.events.model_dump(mode="json"))
    events = [str(path) for path in sorted(folder.glob("events/b??.parquet"))]
    inputs = SimpleNamespace(
        tokens=stores(corpus / "tokens"),
        activations=stores(corpus / "activations" / f"layer{LAYERS[0]}"),
        events=events,
        clip_summaries=[path.replace(".parquet", ".clips.parquet") for path in events],
        reviews=[],
    )
    of_clips = {
        "confirm_fraction": study_settings.screen.confirm_fraction,
        "prefix_s": study_settings.ablation.prefix_s,
        "return_window_s": study_settings.ablation.return_window_s,
        "context_s": study_settings.descriptors.context_s,
        "earliest_s": extent.earliest_s,
        "reference_s": extent.reference_s,
        "reviewed_only": False,
    }
    study = read_study_clips(inputs, of_clips)
    acts = read_array(inputs.activations, "resid_post")
    labels, local = (pd.read_parquet(folder / "labels" / f"{h}.parquet") for h in (LONG, LOCAL))
    grid = label_grid(without_local(labels, local), study.clips["clip_id"])
    question = read_question(stores(folder / "descriptors"), study.clips, grid)
    prompt = study.clips["prompt_id"].to_numpy()
    layer = fit_layer(acts[:, study.positions], study.could_plan, study.has_event, prompt, fitted=study.fitted)
    model = load_model(str(ROOT / study_settings.model.name))
    clips = interchanges_of(
        model,
        LAYERS[0],
        tokens=read_array(inputs.tokens, "tokens")[study.fitted],
        prompts=study.clips.loc[study.fitted, "prompt"].tolist(),
        stream=acts[study.fitted],
        onset_s=study.onset_s[study.fitted],
    )
    layer = layer._replace(interchanges=clips)
    counts = {}
    for kind in NULL_KINDS:
        passed, n_fits = 0, n_das if kind == "das" else n
        for seed in range(n_fits):
            exchanged = layer._replace(data=swapped(layer.data, seed=seed))
            values = coordinates(featurize(kind, exchanged, seed=seed), acts[:, grid.positions])
            tried = confirm(
                pd.DataFrame({"horizon": [LONG]}),
                {LONG: question},
                lambda _, values=values: values,
                study.held_out,
                alpha=0.05,
                seed_of=lambda _: 0,
            )
            passed += bool(tried["confirmed"].iloc[0])
        counts[kind] = {"fits": n_fits, "passed": passed}
    return counts


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
