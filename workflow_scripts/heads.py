"""Attribute what a candidate's edit does to the event to attention heads, and patch the strongest of them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reprise.interventions.edits import batch_edit
from reprise.interventions.heads import (
    HeadClips,
    attribute_heads,
    choosing_half,
    head_table,
    patched_effects,
    strongest,
)
from reprise.interventions.reading import certified_sae, read_edits
from reprise.models.device import pick_device
from reprise.models.loading import load_identified
from reprise.models.prompts import encode_prompts
from reprise.storage.artifacts import store_of
from reprise.storage.files import read_manifest, write_parquet
from reprise.workflow.job import log, progress, start

CLIPS_PER_PASS = 1
N_PATCHED = 8

settings = start(snakemake)
inputs = snakemake.input
identity, spec = (json.loads(Path(p).read_text()) for p in (inputs.model, inputs.candidate))
ablation, layer = store_of(inputs.ablation), spec["layer"]
read_manifest(ablation)
table, tokens = pd.read_parquet(ablation / "conditions.parquet"), np.load(ablation / "tokens.npy")
effects = pd.read_parquet(inputs.effects)
of_arm = table["arm"] == "necessity"
own = {table["clip_id"][i]: i for i in np.flatnonzero(of_arm & (table["kind"] == "untouched"))}
onset_s = effects["onset_s"].to_numpy()
edited = of_arm & (table["kind"] == "target") & (table["window"] == "until_event") & (table["dose"] == 1)
# Clips that have their event untouched, and lose it under the edit.
rows = table[edited & (effects["effect_rate"] == 1)]
log.info("%d of %d clips lose their event under the edit", len(rows), int(edited.sum()))

device = pick_device(snakemake.resources.device)
sae = certified_sae(inputs.certificate, settings["sae"], device=device)
edits = read_edits(spec, rows, inputs.donated, sae)
model = load_identified(settings["model"], identity, device=device)
rate_hz = model.frame_rate_hz


def on_device(indices: list[int]) -> torch.Tensor:
    return torch.from_numpy(tokens[indices].astype(np.int64)).to(device)


def batches(part: pd.DataFrame):
    """The clips of some rows and the edit of both of their continuations, a few at a time."""
    for first in range(0, len(part), CLIPS_PER_PASS):
        some = part.iloc[first : first + CLIPS_PER_PASS]
        untouched = [own[clip_id] for clip_id in some["clip_id"]]
        reference_s = np.stack(
            [some["reference_start_s"], some["reference_start_s"] + some["reference_duration_s"]], 1
        )
        clips = HeadClips(
            own=on_device(untouched),
            edited=on_device(some.index.tolist()),
            onset=np.rint(onset_s[untouched] * rate_hz).astype(np.int64),
            reference=np.rint(reference_s * rate_hz).astype(np.int64),
            text=encode_prompts(model, some["prompt"].tolist()),
        )
        yield clips, batch_edit(pd.concat([some, some]), edits, d_model=model.d_model, device=device, guided=False)


mine = [own[clip_id] for clip_id in rows["clip_id"]]
n_batches = -(-len(rows) // CLIPS_PER_PASS)
found = [
    attribute_heads(model, clips, edit, layer=layer)
    for clips, edit in progress(batches(rows), total=n_batches, what="attribution")
]
# The heads to patch are chosen in some prompts, and patched in the others.
chosen_in = choosing_half(rows["prompt_id"].to_numpy())
heads = strongest(found, chosen_in, n=N_PATCHED)
patched = [
    patched_effects(model, clips, edit, heads)
    for clips, edit in progress(batches(rows[~chosen_in] if heads else rows.head(0)), total=n_batches, what="patching")
]
write_parquet(
    Path(snakemake.output[0]),
    head_table(
        found,
        heads,
        patched,
        rows["prompt_id"].to_numpy(),
        patched_in=~chosen_in,
        shape=(model.n_layers, model.transformer.layers[0].self_attention.n_heads),
    ).assign(reference_share=float((rows["reference_duration_s"] / onset_s[mine]).mean())),
)
