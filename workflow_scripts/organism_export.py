"""Export one organism in audiocraft's format, train its SAEs, evaluate it, and write its card.

To ship newly trained organisms, check the gates on their cards, then copy `results/organisms/resources/` to
`resources/`.
"""

import json
from pathlib import Path

import numpy as np
import torch

from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling
from reprise.models.loading import load_model
from reprise.models.prompts import encode_prompts
from reprise.organisms import evaluate, score
from reprise.organisms.card import card
from reprise.organisms.checks import checked, judged
from reprise.organisms.codec import build_codec
from reprise.organisms.dataset import load
from reprise.organisms.evaluate_tunes import tune_figures
from reprise.organisms.export import save_audiocraft_checkpoint
from reprise.organisms.lm import build_lm
from reprise.organisms.sae import sae_clips, train_and_save
from reprise.storage.files import write_json
from reprise.workflow.job import log, progress, start

# Clips of each brute-force check.
N_CHECKED = 96

settings = start(snakemake, threads=snakemake.threads)
organism, sampling = settings["organism"], Sampling(temperature=0.9, top_k=100, cfg_coef=1.0)
folder = Path(snakemake.output.model)

codec, lm = build_codec(), build_lm()
codec.load_state_dict(torch.load(snakemake.input.codec))
lm.load_state_dict(torch.load(snakemake.input.lm))
save_audiocraft_checkpoint(folder, lm=lm, codec=codec)
# From here on, use the exported model, whose weights have float16 precision.
model = load_model(str(folder))

data = load(snakemake.input.clips)
chosen = sae_clips(data.cue, settings["sae_clips"], settings["sae_planned_fraction"], settings["seed"])
acts: dict[int, list[torch.Tensor]] = {layer: [] for layer in settings["sae_layers"]}
starts = range(0, len(chosen), 32)
for first in progress(starts, total=len(starts), what="activations"):
    rows = chosen[first : first + 32]
    text = encode_prompts(model, [str(p) for p in data.prompts[rows]])
    captured, _ = teacher_forced(model, torch.from_numpy(data.tokens[rows].astype(np.int64)), text, layers=list(acts))
    for layer, x in captured.items():
        acts[layer].append(x)
figures: dict[str, dict] = {"sae": {}}
for layer, parts in acts.items():
    figures["sae"][f"layer{layer}"] = train_and_save(
        torch.cat(parts).numpy(),
        folder / "sae" / f"layer{layer}",
        hook_layer=layer,
        model_name=settings["organism"],
        model_digest=model.weights_digest,
        context_size=evaluate.N_FRAMES + 1,
        d_sae=settings["d_sae"],
        k=settings["k"],
        seed=settings["seed"] + layer,
    )
    log.info("SAE at layer %d: %s", layer, figures["sae"][f"layer{layer}"])

figures["codec"] = evaluate.codec_figures(model, 48, settings["seed"] + 1)
seeds = range(100, 100 + -(-settings["eval_clips"] // len(score.prompts())))
if organism == "wild":
    held_out = load([snakemake.input.held_out])
    figures["generation"] = tune_figures(model, data, held_out, seeds, sampling=sampling, n=settings["eval_clips"])
else:
    figures["generation"] = evaluate.generation_figures(
        model, score.prompts(), seeds, sampling=sampling, kind=score.kind_of(organism)
    )
figures["checks"] = checked(model, organism, n=N_CHECKED, seed=settings["seed"] + 1, sampling=sampling)
gates = judged(organism, figures["generation"] | figures["checks"])
for gate in gates:
    if not gate["passed"]:
        log.warning("a gate is not passed, so it should not be shipped: %s", gate)
log.info("figures: %s", json.dumps(figures))
record = card(settings, figures, gates, model)
write_json(Path(snakemake.output.card), record)
write_json(folder / "card.json", record)
