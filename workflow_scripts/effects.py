"""Measure the effect of each edit on the event and on everything else, and write excerpts to listen to."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from reprise.interventions.effect_table import Measured, edit_effects, untouched_clips
from reprise.interventions.effects import continuation_nll
from reprise.models.device import pick_device
from reprise.models.loading import load_identified
from reprise.models.memory import check_memory, decoding_bytes, free_memory, pass_need
from reprise.storage.artifacts import store_of
from reprise.storage.files import read_manifest, write_folder, write_parquet
from reprise.targets.registry import target_of
from reprise.workflow.job import progress, start

N_PLAYED_CLIPS = 3
PLAYED = ("target", "random_subspace", "matched_feature", "swapped_fit")

settings = start(snakemake)
inputs, outputs = snakemake.input, snakemake.output
how = Measured(
    target_of(settings["target"]["name"]), settings["events"], settings["ablation"]["prefix_s"], settings["event_s"]
)
identity = json.loads(Path(inputs.model).read_text())
ablation = store_of(inputs.ablation)
read_manifest(ablation)
table = pd.read_parquet(ablation / "conditions.parquet")
edited, kl = (np.load(ablation / name) for name in ("tokens.npy", "kl.npy"))

device, batch_size = pick_device(snakemake.resources.device), min(settings["batch_size"], 32)
dtype = settings["model"]["dtype"]
need = pass_need(identity, n_frames=edited.shape[-1], dtype=dtype, n_logits=1)
need = need._replace(afterwards=decoding_bytes(identity, n_frames=edited.shape[-1]))
check_memory(need, batch_size=batch_size, free=free_memory(device))
model = load_identified(settings["model"], identity, device=device)
threads = 1 if device == "cuda" else snakemake.threads
nll = continuation_nll(model, edited, table["prompt"].tolist(), batch_size=batch_size, threads=threads)
chosen = np.flatnonzero(table["kind"] == "untouched")
untouched = untouched_clips(model, table.iloc[chosen], edited[chosen], nll[chosen], how, threads=snakemake.threads)
records = []
played = sorted(table.loc[table["arm"] == "necessity", "clip_id"].unique())[:N_PLAYED_CLIPS]
with write_folder(Path(outputs.players), meta={"clips": played}) as folder:

    def play(name: str, audio: np.ndarray) -> None:
        soundfile.write(folder / f"{name}.flac", audio, model.sample_rate_hz, subtype="PCM_16")

    for clip_id in played:
        play(f"{clip_id}--baseline", untouched[clip_id].made.audio)
    measured = edit_effects(model, table, edited, nll, untouched, how, kl=kl, threads=snakemake.threads)
    measured = progress(measured, total=len(table), what="effects")
    for row, (record, audio) in zip(table.itertuples(), measured, strict=True):
        records.append(record)
        shown = row.kind in PLAYED and row.control == 0 and row.dose == 1
        if shown and row.arm == "necessity" and row.clip_id in played:
            play(f"{row.clip_id}--{row.kind}-{row.window}-d1", audio)
effects = pd.concat([table.drop(columns=["prompt"]), pd.DataFrame(records)], axis=1)
write_parquet(Path(outputs.effects), effects)
