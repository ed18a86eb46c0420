"""What plain methods find in a study: a latent is set to zero, and the mean difference moved, in clips with an event.

Nothing is held out, confirmed or compared with controls. Calibrations use it to show what the safeguards are for.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reprise.candidates.clips import clips_to_continue
from reprise.candidates.controls import clip_coordinates, featurize, fit_layer, references_of
from reprise.candidates.study_clips import read_study_clips
from reprise.checkpoints.hub import sae_folder
from reprise.identity import clip_seed
from reprise.interventions.conditions import condition_table
from reprise.interventions.edits import Edits
from reprise.interventions.effect_table import Measured, edit_effects, untouched_clips
from reprise.interventions.run import run_conditions
from reprise.interventions.subspace import of_latents
from reprise.models.device import pick_device
from reprise.models.generation import Sampling
from reprise.models.loading import load_identified
from reprise.probing.scores import auroc
from reprise.saes.latents import read_latents
from reprise.saes.loading import load_sae
from reprise.storage.artifacts import read_array
from reprise.storage.files import write_json
from reprise.targets.registry import target_of
from reprise.workflow.job import log, start

settings = start(snakemake)
inputs, ablation, sampling = snakemake.input, settings["ablation"], settings["sampling"]
study = read_study_clips(inputs, settings["of_clips"])
tokens = read_array(inputs.tokens, "tokens")
continued = clips_to_continue(study.clips, study.has_event, np.ones(len(study.clips), bool), ablation["n_clips"])
continued = continued.assign(target_start_s=study.window_s[0], target_stop_s=study.window_s[1])
continued = continued.merge(study.references, on="clip_id")


def of_layer(paths: list[str], layer: int) -> list[str]:
    return [path for path in paths if f"/layer{layer}/" in path]


# Of each kind the one that separates the clips best: (AUROC, layer, subspace, coordinates to move to).
best: dict[str, tuple] = {}
saes = {int(layer): load_sae(sae_folder(path)) for layer, path in settings["saes"].items()}
for layer, sae in saes.items() if study.known.any() else ():
    fit = fit_layer(
        read_array(of_layer(inputs.activations, layer), "resid_post", study.positions),
        study.could_plan,
        study.has_event,
        study.clips["prompt_id"].to_numpy(),
        fitted=study.known,
        latents=read_latents(of_layer(inputs.latents, layer), study.positions),
        decoder=sae.W_dec.numpy(),
    )
    assert fit.statistics is not None
    separates = fit.statistics["auroc"]
    feature = of_latents("feature", [int(separates.argmax())])
    difference = featurize("mean_difference", fit, seed=0)
    by_difference = auroc(clip_coordinates(difference, fit)[:, 0], fit.data.has_event.astype(float))
    for name, score, subspace in (
        ("feature", separates.max(), feature),
        ("mean_difference", by_difference, difference),
    ):
        if name not in best or score > best[name][0]:
            best[name] = (float(score), layer, subspace, references_of({name: subspace}, fit)[name])

found = {}
if best and len(continued):
    identity = json.loads(Path(inputs.model).read_text())
    model = load_identified(settings["model"], identity, device=pick_device(snakemake.resources.device))
    baseline = dict(zip(study.clips["clip_id"], tokens, strict=True))
    how = Measured(
        target_of(settings["target"]["name"]), settings["events"], ablation["prefix_s"], settings["event_s"]
    )
    measured = partial(edit_effects, model, how=how, threads=snakemake.threads)
    for name, (score, layer, subspace, references) in best.items():
        table = condition_table(
            {"target": [name]},
            continued,
            [1.0],
            ["until_event"],
            layer=layer,
            reference={"feature": "zero", "mean_difference": "without"}[name],
            second_reference="",
            prefix_s=ablation["prefix_s"],
            frame_rate_hz=model.frame_rate_hz,
            n_random=0,
            n_resampled=0,
        )
        edits = Edits({name: subspace}, {(name, what): np.array(c) for what, c in references.items()}, {}, saes[layer])
        runs = run_conditions(
            model,
            edits,
            table,
            baseline,
            {clip["clip_id"]: clip_seed("generate", clip) for clip in continued.to_dict("records")},
            batch_size=sampling["batch_size"],
            sampling=Sampling(**{key: sampling[key] for key in Sampling._fields}),
            n_frames=tokens.shape[-1],
            threads=snakemake.threads,
        )
        made = np.concatenate([part for _, part in runs])
        # Damage is not looked at.
        nll = np.zeros((len(made), made.shape[-1]), np.float32)
        own = np.flatnonzero(table["kind"] == "untouched")
        untouched = untouched_clips(model, table.iloc[own], made[own], nll[own], how, threads=snakemake.threads)
        records = pd.DataFrame([record for record, _ in measured(table, made, nll, untouched)])
        counted = (table["kind"] == "target").to_numpy() & (records["found_baseline"] == 1).to_numpy()
        effect = float(records.loc[counted, "effect_rate"].mean()) if counted.any() else None
        found[name] = {"layer": layer, "auroc": score, "n_clips": int(counted.sum()), "effect": effect}
        log.info("%s: %s", name, found[name])
write_json(Path(snakemake.output[0]), found)
