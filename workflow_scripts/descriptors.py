"""Causal acoustic descriptors of one batch of clips."""

import json
from pathlib import Path

import numpy as np
import soundfile

from reprise.descriptors import causal_descriptors
from reprise.job import progress, start
from reprise.recurrence import causal_match
from reprise.stores import ArraySpec, read_manifest, write_store

settings = start(snakemake)
identity = json.loads(Path(snakemake.input.model).read_text())
audio_path = Path(snakemake.input.audio.removesuffix(".manifest.json"))
clips = read_manifest(audio_path)["meta"]["clips"]
context_s = settings["descriptors"]["context_s"]
# The codec's decoder looks ahead, so what is known at a position ends that much earlier.
lookahead_positions = int(np.ceil(identity["codec_lookahead_s"] * identity["frame_rate_hz"] - 1e-9))


def describe(clip: dict) -> tuple[np.ndarray, list[str]]:
    audio, sample_rate_hz = soundfile.read(audio_path / f"{clip['clip_id']}.flac", dtype="float32")
    heard, names = causal_descriptors(
        audio, sample_rate_hz, frame_rate_hz=identity["frame_rate_hz"], context_s=context_s
    )
    matched, match_names = causal_match(
        audio,
        sample_rate_hz,
        frame_rate_hz=identity["frame_rate_hz"],
        motif_start_s=settings["motif"]["start_s"],
        motif_duration_s=settings["motif"]["duration_s"],
    )
    table = np.column_stack([heard, matched])
    delayed = np.concatenate([np.repeat(table[:1], lookahead_positions, axis=0), table])[: len(table)]
    return delayed.astype(np.float32), names + match_names


first, names = describe(clips[0])
meta = {"clips": clips, "names": names, "lookahead_positions": lookahead_positions, "context_s": context_s}
arrays = {"descriptors": ArraySpec((len(clips), *first.shape), "float32")}
with write_store(Path(snakemake.output.store), arrays, meta=meta) as store:
    for clip in progress(clips, total=len(clips), what="descriptors"):
        store.append("descriptors", describe(clip)[0][None])
