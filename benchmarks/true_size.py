"""Every stage on a model of musicgen-small's true size: time and peak memory on a CPU.

The model is randomly initialised: 24 layers of width 1,024, four codebooks of 2,048, EnCodec at 32 kHz, saved in
audiocraft's own format. A lookup table replaces T5 for its prompts. It plays noise without returns, so no candidate is
found, and the ablation is measured separately. The SAE is trained here on few positions, so it is narrow, and the
bounds of its certificate are loose. This is enough to measure the cost of the stages. The cost of encoding with an SAE
of the published size is in benchmarks/capture.py.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from omegaconf import OmegaConf

from benchmarks.capture import CARD, D_MODEL, FRAME_RATE_HZ, N_HEADS, N_LAYERS
from benchmarks.processes import in_fresh_process, peak_memory_mb
from benchmarks.workflow import run_snakemake
from reprise.identity import seed_from
from reprise.organisms.codec import codec_config
from reprise.organisms.lm import lm_config

SAMPLE_RATE_HZ, LAYER = 32_000, 11
PROMPTS = ("a slow piano", "fast drums", "a choir", "strings and a flute", "an organ in c", "a guitar")
DURATION_S, PREFIX_S, CFG_COEF = 12.0, 6.0, 3.0
SAE_TRAINING = {"expansion": 2, "k": 64, "n_steps": 300, "batch_size": 512}


def save_model(folder: Path) -> None:
    """Write the two checkpoint files, with float16 weights."""
    from audiocraft.models.builders import get_compression_model, get_lm_model

    lm, codec = lm_config(), codec_config()
    size = {"dim": D_MODEL, "num_heads": N_HEADS, "num_layers": N_LAYERS, "card": CARD}
    lm |= {"sample_rate": SAMPLE_RATE_HZ, "compression_model_framerate": FRAME_RATE_HZ}
    lm["transformer_lm"] |= size
    lm["dataset"] = {"segment_duration": 30.0}
    codec["sample_rate"] = codec["encodec"]["sample_rate"] = SAMPLE_RATE_HZ
    codec["seanet"] |= {"dimension": 128, "n_filters": 64, "lstm": 2}
    codec["rvq"] |= {"bins": CARD, "kmeans_init": False}
    torch.manual_seed(seed_from("benchmark", "true size")[0])
    for name, build, config in (
        ("state_dict", get_lm_model, lm),
        ("compression_state_dict", get_compression_model, codec),
    ):
        state = build(OmegaConf.create(config)).state_dict()
        half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        torch.save({"best_state": half, "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config))}, folder / f"{name}.bin")


def study_config(model: Path) -> dict[str, Any]:
    """The configuration of the smallest study that has every stage."""
    return {
        "studies": {
            "small": {
                "model": {"name": str(model)},
                "prompts": "prompts.tsv",
                "seeds": [0],
                "generation": {
                    "duration_s": DURATION_S,
                    "top_k": 250,
                    "temperature": 1.0,
                    "cfg_coef": CFG_COEF,
                    "n_batches": 1,
                    "batch_size": len(PROMPTS),
                },
                "saes": {LAYER: "train"},
                "sae_training": SAE_TRAINING,
                "certificate": {"n_clips": 2, "max_fvu": 0.999, "min_neighbour_ratio": 1.0},
                "descriptors": {"context_s": 2},
                "events": {"motif_start_s": 0},
                "horizons": {"local": [0.5, 2], "long": [2, 4]},
                "probes": {"n_folds": 2},
                "ablation": {"n_clips": 2, "prefix_s": PREFIX_S, "return_window_s": [1, 3]},
            }
        }
    }


def ablate(folder: str) -> dict[str, float]:
    """Continue two clips under every kind of edit. Returns seconds, this process's peak memory in MB, and rows."""
    from reprise.interventions.conditions import condition_table
    from reprise.interventions.edits import Edits
    from reprise.interventions.run import run_conditions
    from reprise.interventions.subspace import linear, of_latents
    from reprise.models.generation import Sampling
    from reprise.models.loading import load_model
    from reprise.saes.loading import load_sae
    from reprise.storage.artifacts import read_array, read_clips

    began, results = time.monotonic(), Path(folder, "results", "small")
    manifests = sorted(map(str, results.glob("../corpora/*/tokens/*.manifest.json")))
    clips = read_clips(manifests).head(2).assign(target_start_s=PREFIX_S + 1, target_stop_s=PREFIX_S + 3)
    tokens = dict(zip(clips["clip_id"], read_array(manifests, "tokens"), strict=False))
    model, sae = load_model(str(Path(folder, "model"))), load_sae(results / "saes" / f"layer{LAYER}")
    subspaces = {
        "target": of_latents("feature", [0]),
        "matched_feature0": of_latents("matched", [1]),
        "swapped_fit0": linear("mean_difference", np.eye(D_MODEL)[0]),
    }
    table = condition_table(
        {name.rstrip("0"): [name] for name in subspaces},
        clips,
        [1.0],
        ["until_event"],
        layer=LAYER,
        reference="zero",
        second_reference="zero",
        prefix_s=PREFIX_S,
        frame_rate_hz=model.frame_rate_hz,
    )
    edits = Edits(subspaces, {(name, "zero"): np.zeros(1) for name in subspaces}, sae=sae)
    runs = run_conditions(
        model,
        edits,
        table,
        tokens,
        {c.clip_id: seed_from("generate", c.prompt, c.seed) for c in clips.itertuples()},
        batch_size=8,
        sampling=Sampling(1.0, 250, CFG_COEF),
    )
    n_rows = sum(len(made) for _, made in runs)
    return {"seconds": time.monotonic() - began, "peak_mb": peak_memory_mb(), "rows": n_rows}


def run() -> dict[str, Any]:
    """The content of `true_size.json`: jobs, seconds and peak memory in MB of each stage."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").mkdir()
        save_model(folder / "model")
        lines = ["prompt_id\tprompt", *(f"p{i}\t{prompt}" for i, prompt in enumerate(PROMPTS))]
        (folder / "prompts.tsv").write_text("\n".join(lines) + "\n")
        (folder / "config.yaml").write_text(yaml.safe_dump(study_config(folder / "model")))
        run_snakemake(folder, folder / "config.yaml")
        return collect(folder)


def collect(folder: Path) -> dict[str, Any]:
    """The cost of the finished study in `folder`, and of an ablation on it."""
    stages: dict[str, dict[str, float]] = {}
    benchmarks = folder / "results" / "benchmarks"
    for path in sorted(benchmarks.rglob("*.tsv")):
        below = 2 if path.is_relative_to(benchmarks / "corpora") else 1
        stage = path.relative_to(benchmarks).parts[below].removesuffix(".tsv")
        measured = pd.read_csv(path, sep="\t").iloc[0]
        so_far = stages.setdefault(stage, {"jobs": 0, "seconds": 0.0, "peak_mb": 0.0})
        so_far["jobs"] += 1
        so_far["seconds"] += float(measured["s"])
        so_far["peak_mb"] = max(so_far["peak_mb"], float(measured["max_rss"]))
    certificate = json.loads((folder / "results" / "small" / "certificates" / f"layer{LAYER}.json").read_text())
    verdict = json.loads((folder / "results" / "small" / "verdict.json").read_text())
    edited = in_fresh_process("true_size", f"ablate({str(folder)!r})", threads=2)
    return {
        "ablation": {key: round(value, 1) for key, value in edited.items()},
        "certificate": {key: certificate[key] for key in ("passed", "fvu", "l0", "neighbour_ratio")},
        "n_clips": len(PROMPTS),
        "duration_s": DURATION_S,
        "stages": {stage: {k: round(v, 1) for k, v in of.items()} for stage, of in stages.items()},
        "verdict": verdict["verdict"],
    }
