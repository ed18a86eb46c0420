"""Compute the causal acoustic descriptors of one batch of clips, and what is known so far of the target's events."""

import json
from pathlib import Path

import numpy as np

from reprise.audio.descriptors import causal_descriptors
from reprise.audio.io import read_sounding
from reprise.storage.files import read_manifest
from reprise.storage.stores import ArraySpec, write_store
from reprise.targets.registry import target_of
from reprise.workflow.job import log, progress, start

settings = start(snakemake)
target = target_of(settings["target"]["name"])
identity = json.loads(Path(snakemake.input.model).read_text())
audio_path = Path(snakemake.input.audio.removesuffix(".manifest.json"))
audio_meta = read_manifest(audio_path)["meta"]
clips, duration_s = audio_meta["clips"], audio_meta["duration_s"]
n_positions = round(duration_s * identity["frame_rate_hz"]) + 1
context_s = settings["descriptors"]["context_s"]
# How far ahead of a position the clip is heard. The codec's decoder looks ahead, so in generated clips the last bit of
# audio before a position is not yet determined (the value is negative). The encoder also looks ahead, so in recordings
# the tokens before a position have information about what follows (the value is positive).
heard_ahead_positions = audio_meta.get(
    "encoder_lookahead_positions", -int(np.ceil(identity["codec_lookahead_s"] * identity["frame_rate_hz"] - 1e-9))
)


def describe(audio: np.ndarray) -> tuple[np.ndarray, list[str]]:
    heard, names = causal_descriptors(
        audio, identity["sample_rate_hz"], frame_rate_hz=identity["frame_rate_hz"], context_s=context_s
    )
    if len(heard) != n_positions:
        raise ValueError(f"audio: lasts {len(audio) / identity['sample_rate_hz']:g} s; valid: {duration_s:g} s")
    known, known_names = target.so_far(
        audio, identity["sample_rate_hz"], settings["known"], frame_rate_hz=identity["frame_rate_hz"]
    )
    if known.shape != (n_positions, len(known_names)):
        raise RuntimeError(
            f"target {target.name}: so_far gives {known.shape} numbers and {len(known_names)} names; valid: "
            f"{n_positions} positions x the names"
        )
    table = np.column_stack([heard, known])
    heard_until = np.clip(np.arange(len(table)) + heard_ahead_positions, 0, len(table) - 1)
    return table[heard_until].astype(np.float32), names + known_names


tables: dict[str, np.ndarray] = {}
names: list[str] = []
for clip in progress(clips, total=len(clips), what="descriptors"):
    try:
        audio = read_sounding(audio_path, clip["clip_id"], sample_rate_hz=identity["sample_rate_hz"])
        tables[clip["clip_id"]], names = describe(audio)
    except ValueError as error:
        # Its descriptors are NaN. All of its labels are unusable, and using a descriptor by mistake would be noticed.
        log.warning("%s: left out, %s", clip["clip_id"], error)
if clips and not tables:
    log.warning("%s: none of its %d clips can be used", audio_path, len(clips))
    # The table needs the same columns as those of the other batches.
    _, names = describe(np.zeros(round(duration_s * identity["sample_rate_hz"]), np.float32))
unknown = np.full((n_positions, len(names)), np.nan, dtype=np.float32)
meta = {"clips": clips, "names": names, "heard_ahead_positions": heard_ahead_positions, "context_s": context_s}
arrays = {"descriptors": ArraySpec((len(clips), *unknown.shape), "float32")}
with write_store(Path(snakemake.output.store), arrays, meta=meta) as store:
    for clip in clips:
        store.append("descriptors", tables.get(clip["clip_id"], unknown)[None])
