"""Measure the effect of each edit on the event and on everything else, and write excerpts to listen to."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from reprise.interventions.effects import Continuation, EventWindow, compare, continuation_nll
from reprise.models.codec import decode_audio
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
target, events, prefix_s = target_of(settings["target"]["name"]), settings["events"], settings["ablation"]["prefix_s"]
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
nll = continuation_nll(model, edited, table["prompt"].tolist(), batch_size=batch_size)
reference_of = {row.clip_id: (row.reference_start_s, row.reference_duration_s) for row in table.itertuples()}
scorers, baselines = {}, {}


def continuation(clip_id: str, clip_tokens: np.ndarray, clip_nll: np.ndarray) -> Continuation:
    audio = decode_audio(model, clip_tokens)
    if clip_id not in scorers:
        # The reference is taken from the untouched clip, because all conditions start from the same prefix.
        start_s, duration_s = reference_of[clip_id]
        scorers[clip_id] = target.scorer(audio, model.sample_rate_hz, events, start_s=start_s, duration_s=duration_s)
    return Continuation(clip_tokens, audio, clip_nll, scorers[clip_id](audio))


for i in np.flatnonzero(table["kind"] == "untouched"):
    clip_id = table["clip_id"][i]
    baselines[clip_id] = continuation(clip_id, edited[i], nll[i])

records = []
played = sorted(table.loc[table["arm"] == "necessity", "clip_id"].unique())[:N_PLAYED_CLIPS]
with write_folder(Path(outputs.players), meta={"clips": played}) as folder:

    def play(name: str, audio: np.ndarray) -> None:
        soundfile.write(folder / f"{name}.flac", audio, model.sample_rate_hz, subtype="PCM_16")

    for clip_id in played:
        play(f"{clip_id}--baseline", baselines[clip_id].audio)
    for i, row in progress(enumerate(table.itertuples()), total=len(table), what="effects"):
        baseline = baselines[row.clip_id]
        same = np.array_equal(edited[i], baseline.tokens)
        made = baseline if same else continuation(row.clip_id, edited[i], nll[i])
        # An event lasts as long as what it refers to, or else as its target says.
        event_s = row.reference_duration_s or settings["event_s"]
        window = EventWindow(prefix_s, row.target_start_s, row.target_stop_s, event_s)
        records.append(
            compare(
                made,
                baseline,
                window,
                kl=kl[i],
                frame_rate_hz=model.frame_rate_hz,
                sample_rate_hz=model.sample_rate_hz,
                min_score=events["min_score"],
            )
        )
        shown = row.kind in PLAYED and row.control == 0 and row.dose == 1
        if shown and row.arm == "necessity" and row.clip_id in played:
            play(f"{row.clip_id}--{row.kind}-{row.window}-d1", made.audio)
effects = pd.concat([table.drop(columns=["prompt"]), pd.DataFrame(records)], axis=1)
write_parquet(Path(outputs.effects), effects)
