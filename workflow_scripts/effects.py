"""Measure the effect of each edit on the event and on everything else, and write excerpts to listen to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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
from reprise.targets.target import ScoreCurve
from reprise.threads import in_threads
from reprise.workflow.job import progress, start

Made = TypeVar("Made")
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
rows = list(table.itertuples())


def scorer(row: Any) -> Callable[[np.ndarray], ScoreCurve]:
    """How a clip's continuations are scored. The reference is taken from the untouched one, because all of them start
    from the same prefix."""
    audio = decode_audio(model, edited[row.Index])
    extent = {"start_s": row.reference_start_s, "duration_s": row.reference_duration_s}
    return target.scorer(audio, model.sample_rate_hz, events, **extent)


def continuation(row: Any) -> Continuation:
    audio = decode_audio(model, edited[row.Index])
    return Continuation(edited[row.Index], audio, nll[row.Index], scorers[row.clip_id](audio))


def measured(row: Any) -> tuple[dict[str, float], np.ndarray]:
    """The effects of an edit, and the audio."""
    baseline = baselines[row.clip_id]
    same = np.array_equal(edited[row.Index], baseline.tokens)
    made = baseline if same else continuation(row)
    # An event lasts as long as what it refers to, or else as its target says.
    event_s = row.reference_duration_s or settings["event_s"]
    record = compare(
        made,
        baseline,
        EventWindow(prefix_s, row.target_start_s, row.target_stop_s, event_s),
        kl=kl[row.Index],
        frame_rate_hz=model.frame_rate_hz,
        sample_rate_hz=model.sample_rate_hz,
        min_score=events["min_score"],
    )
    return record, made.audio


def of_untouched(work: Callable[[Any], Made]) -> dict[str, Made]:
    """The result for the untouched row of each clip."""
    chosen = [rows[i] for i in np.flatnonzero(table["kind"] == "untouched")]
    found = in_threads(work, chosen, threads=snakemake.threads)
    return {row.clip_id: one for row, one in zip(chosen, found, strict=True)}


scorers = of_untouched(scorer)
baselines = of_untouched(continuation)
records = []
played = sorted(table.loc[table["arm"] == "necessity", "clip_id"].unique())[:N_PLAYED_CLIPS]
with write_folder(Path(outputs.players), meta={"clips": played}) as folder:

    def play(name: str, audio: np.ndarray) -> None:
        soundfile.write(folder / f"{name}.flac", audio, model.sample_rate_hz, subtype="PCM_16")

    for clip_id in played:
        play(f"{clip_id}--baseline", baselines[clip_id].audio)
    found = progress(in_threads(measured, rows, threads=snakemake.threads), total=len(rows), what="effects")
    for row, (record, audio) in zip(rows, found, strict=True):
        records.append(record)
        shown = row.kind in PLAYED and row.control == 0 and row.dose == 1
        if shown and row.arm == "necessity" and row.clip_id in played:
            play(f"{row.clip_id}--{row.kind}-{row.window}-d1", audio)
effects = pd.concat([table.drop(columns=["prompt"]), pd.DataFrame(records)], axis=1)
write_parquet(Path(outputs.effects), effects)
