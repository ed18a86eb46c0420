"""Attribute the event to attention heads at the moment it begins, and patch the strongest, without any candidate."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from reprise.candidates.clips import clips_to_continue, donors
from reprise.candidates.study_clips import read_study_clips
from reprise.interventions.deciding import Deciding, attribute_deciding, deciding_table, patched_deciding
from reprise.interventions.head_clips import CLIPS_PER_PASS
from reprise.interventions.heads import HeadClips, choosing_half, strongest
from reprise.models.device import pick_device
from reprise.models.loading import load_identified
from reprise.models.memory import free_memory, gradient_need, rows_that_fit
from reprise.models.prompts import encode_prompts
from reprise.storage.artifacts import read_array
from reprise.storage.files import write_parquet
from reprise.threads import in_threads
from reprise.workflow.job import log, progress, start
from reprise.workflow.resources import N_PATCHED

settings = start(snakemake)
inputs, threads = snakemake.input, snakemake.threads
identity = json.loads(Path(inputs.model).read_text())
study = read_study_clips(inputs, settings["of_clips"])
tokens = read_array(inputs.tokens, "tokens")
# Nothing is fitted, so no clip is held out.
rows = clips_to_continue(study.clips, study.has_event, np.ones(len(study.clips), bool), settings["n_clips"])
rows = rows.assign(donor=donors(rows, study.clips, study.without_event, same_prompt=True)).dropna(
    subset="donor", ignore_index=True
)
index_of = pd.Series(np.arange(len(study.clips)), study.clips["clip_id"])
rows["onset_s"] = study.onset_s[index_of[rows["clip_id"]]]
log.info("%d clips with an event have a donor", len(rows))

device = pick_device(snakemake.resources.device)
need = gradient_need(identity, n_frames=tokens.shape[-1], dtype=settings["model"]["dtype"], layer=-1)
rows_that_fit(need, wanted=2 * CLIPS_PER_PASS, least=2 * CLIPS_PER_PASS, free=free_memory(device))
model = load_identified(settings["model"], identity, device=device)


def batches(part: pd.DataFrame) -> Iterator[HeadClips]:
    for first in range(0, len(part), CLIPS_PER_PASS):
        some = part.iloc[first : first + CLIPS_PER_PASS]
        own, donated = (
            torch.from_numpy(tokens[index_of[some[column]]].astype(np.int64)).to(model.device)
            for column in ("clip_id", "donor")
        )
        onset = np.rint(some["onset_s"].to_numpy() * model.frame_rate_hz).astype(np.int64)
        no_reference = np.zeros((len(some), 2), np.int64)
        yield HeadClips(own, donated, onset, no_reference, encode_prompts(model, some["prompt"].tolist()))


def of_batches(work: Callable[..., Any], part: pd.DataFrame, what: str) -> list[Any]:
    some = progress(batches(part), total=-(-len(part) // CLIPS_PER_PASS), what=what)
    return list(in_threads(partial(work, model), some, threads=1 if device == "cuda" else threads))


found: list[Deciding] = of_batches(attribute_deciding, rows, "attribution")
# The heads to patch are chosen in some prompts, and patched in the others.
chosen_in = choosing_half(rows["prompt_id"].to_numpy())
heads = strongest([each.attribution for each in found], chosen_in, n=N_PATCHED)
others = rows[~chosen_in] if heads else rows.head(0)
patched = of_batches(partial(patched_deciding, heads=heads), others, "patching")
table = deciding_table(
    found,
    heads,
    patched,
    rows["prompt_id"].to_numpy(),
    patched_in=~chosen_in,
    shape=(model.n_layers, model.transformer.layers[0].self_attention.n_heads),
)
write_parquet(Path(snakemake.output[0]), table)
