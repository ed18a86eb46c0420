"""Edit one layer, or all, in one window of time after the other, and measure the effect."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reprise.identity import clip_seed
from reprise.interventions.edits import Edits
from reprise.interventions.effect_map import ALL, OWN, clips_of_map, edited_layers, map_summary, map_table, map_windows
from reprise.interventions.effect_table import Measured, edit_effects, untouched_clips
from reprise.interventions.effects import continuation_nll
from reprise.interventions.reading import certified_sae, read_edits
from reprise.interventions.run import run_conditions
from reprise.interventions.subspace import from_record
from reprise.models.device import pick_device
from reprise.models.generation import Sampling
from reprise.models.loading import load_identified
from reprise.models.memory import check_memory, free_memory, generation_need
from reprise.storage.artifacts import store_of
from reprise.storage.files import read_manifest, write_parquet
from reprise.targets.registry import target_of
from reprise.workflow.job import log, progress, start
from reprise.workflow.resume import kept_passes, remove_unfinished, unfinished_folder

NLL_ROWS = 16

settings = start(snakemake)
inputs, ablation, sampling = snakemake.input, settings["ablation"], settings["sampling"]
identity, spec, of_layers = (json.loads(Path(p).read_text()) for p in (inputs.model, inputs.candidate, inputs.layers))
folder = store_of(inputs.ablation)
digests = [read_manifest(folder)["digest"], *(read_manifest(store_of(m))["digest"] for m in inputs.donated)]
conditions, tokens = pd.read_parquet(folder / "conditions.parquet"), np.load(folder / "tokens.npy")
untouched = np.flatnonzero((conditions["kind"] == "untouched") & (conditions["arm"] == "necessity"))
baseline = {conditions["clip_id"][i]: tokens[i] for i in untouched}

others = {int(layer): from_record(each["subspace"]) for layer, each in of_layers.items()}
layers = edited_layers(spec["layer"], from_record(spec["subspaces"]["target"]), others)
names = {layer: name for layer, (name, _) in layers.items()}
found = {name: of_layers.get(str(layer)) for layer, name in names.items()}
found[OWN] = {"subspace": spec["subspaces"]["target"], "references": spec["references"]["target"]}
device = pick_device(snakemake.resources.device)
sae = certified_sae(inputs.certificate, settings["sae"], device=device)
batch_size = sampling["batch_size"]
need = generation_need(
    identity, n_frames=tokens.shape[-1], dtype=settings["model"]["dtype"], guided=sampling["cfg_coef"] != 1
)
check_memory(need, batch_size=batch_size, free=free_memory(device))
model = load_identified(settings["model"], identity, device=device)

clips = clips_of_map(pd.DataFrame(spec["clips"]), settings["n_map_clips"])
references = {"zero": "zero", "mean": "without", "resample": "without"}
table = map_table(
    clips,
    names,
    map_windows(float(clips["target_stop_s"].max()), settings["map_step_s"]),
    reference=references[ablation["target"]],
    prefix_s=ablation["prefix_s"],
    frame_rate_hz=model.frame_rate_hz,
)
edits = Edits({}, {}, {}, sae, joint={ALL: names})
for layer, name in names.items():
    of_layer = {"subspaces": {name: found[name]["subspace"]}, "references": {name: found[name]["references"]}}
    # The coordinates of donors are read where the subspace is: from latents, or from the stream.
    kind = "latents" if found[name]["subspace"]["latents"] else "activations"
    donated = [m for m in inputs.donated if f"/{kind}/layer{layer}/" in m]
    read = read_edits(of_layer, table[table["edit"] == name], donated, sae)
    edits.subspaces.update(read.subspaces)
    edits.references.update(read.references)
    edits.donated.update(read.donated)
log.info("%d clips, %d continuations, layers %s", len(clips), len(table), list(names))
output = Path(snakemake.output[0])


def passes(first: int) -> Iterator[np.ndarray]:
    runs = run_conditions(
        model,
        edits,
        table.iloc[first * batch_size :],
        baseline,
        {clip["clip_id"]: clip_seed("generate", clip) for clip in clips.to_dict("records")},
        batch_size=batch_size,
        sampling=Sampling(**{key: sampling[key] for key in Sampling._fields}),
        cfg_branches=ablation["cfg_branches"],
        n_frames=tokens.shape[-1],
        threads=1 if device == "cuda" else snakemake.threads,
    )
    return (part for _, part in runs)


depends_on = [settings, identity, spec, of_layers, sae.digest if sae else "", digests, device, torch.__version__]
kept = kept_passes(unfinished_folder(output, depends_on), passes)
made = np.concatenate(list(progress(kept, total=-(-len(table) // batch_size), what="continuations")))

prompts, threads = clips["prompt"].tolist(), snakemake.threads
before = np.stack([baseline[clip_id] for clip_id in clips["clip_id"]])
of_nll = {"batch_size": NLL_ROWS, "threads": 1 if device == "cuda" else threads}
nll_before = continuation_nll(model, before, prompts, **of_nll)
nll = continuation_nll(model, made, table["prompt"].tolist(), **of_nll)
how = Measured(target_of(settings["target"]["name"]), settings["events"], ablation["prefix_s"], settings["event_s"])
untouched_of = untouched_clips(model, clips, before, nll_before, how, threads=threads)
measured = edit_effects(model, table, made, nll, untouched_of, how, threads=threads)
records = [record for record, _ in progress(measured, total=len(table), what="effects")]
write_parquet(output, map_summary(pd.concat([table, pd.DataFrame(records)], axis=1)))
remove_unfinished(output)
