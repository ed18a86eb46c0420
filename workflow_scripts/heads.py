"""Attribute what a candidate's edit does to the event to attention heads, and patch the strongest of them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reprise.interventions.head_clips import CLIPS_PER_PASS, head_batches, losing_clips
from reprise.interventions.heads import attribute_heads, choosing_half, head_table, patched_effects, strongest
from reprise.interventions.reading import certified_sae, read_edits
from reprise.models.device import pick_device
from reprise.models.loading import load_identified
from reprise.models.memory import free_memory, gradient_need, rows_that_fit
from reprise.storage.artifacts import store_of
from reprise.storage.files import read_manifest, write_parquet
from reprise.threads import in_threads
from reprise.workflow.job import log, progress, start
from reprise.workflow.resources import N_PATCHED

settings = start(snakemake)
inputs, threads = snakemake.input, snakemake.threads
identity, spec = (json.loads(Path(p).read_text()) for p in (inputs.model, inputs.candidate))
ablation = store_of(inputs.ablation)
read_manifest(ablation)
table, tokens = pd.read_parquet(ablation / "conditions.parquet"), np.load(ablation / "tokens.npy")
rows = losing_clips(table, pd.read_parquet(inputs.effects))
log.info("%d of %d clips lose their event under the edit", len(rows), len(spec["clips"]))

device = pick_device(snakemake.resources.device)
sae = certified_sae(inputs.certificate, settings["sae"], device=device)
edits = read_edits(spec, rows, inputs.donated, sae)
need = gradient_need(identity, n_frames=tokens.shape[-1], dtype=settings["model"]["dtype"], layer=spec["layer"])
# Both continuations of a clip are rows of a pass.
rows_that_fit(need, wanted=2 * CLIPS_PER_PASS, least=2 * CLIPS_PER_PASS, free=free_memory(device))
model = load_identified(settings["model"], identity, device=device)


def of_batches(work: Callable[..., Any], part: pd.DataFrame, what: str) -> list[Any]:
    batches = progress(head_batches(model, part, tokens, edits), total=-(-len(part) // CLIPS_PER_PASS), what=what)
    return list(in_threads(lambda batch: work(model, *batch), batches, threads=1 if device == "cuda" else threads))


found = of_batches(partial(attribute_heads, layer=spec["layer"]), rows, "attribution")
# The heads to patch are chosen in some prompts, and patched in the others.
chosen_in = choosing_half(rows["prompt_id"].to_numpy())
heads = strongest([each.attribution for each in found], chosen_in, n=N_PATCHED)
others = rows[~chosen_in] if heads else rows.head(0)
patched = of_batches(partial(patched_effects, heads=heads), others, "patching")
made = head_table(
    found,
    heads,
    patched,
    rows["prompt_id"].to_numpy(),
    patched_in=~chosen_in,
    shape=(model.n_layers, model.transformer.layers[0].self_attention.n_heads),
)
share = (rows["reference_duration_s"] / rows["onset_s"]).mean()
write_parquet(Path(snakemake.output[0]), made.assign(reference_share=float(share)))
