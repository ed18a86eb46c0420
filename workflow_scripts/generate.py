"""Generate one batch of clips: tokens in a store, audio as FLAC."""

import json
from pathlib import Path

import numpy as np
import soundfile

from reprise.artifacts import token_arrays
from reprise.decoding import Sampling, generate_clips
from reprise.device import pick_device
from reprise.identity import seed_from
from reprise.job import progress, start
from reprise.memory import check_memory, free_memory, generation_need
from reprise.musicgen import decode_audio, load_identified
from reprise.stores import write_folder, write_store

settings = start(snakemake)
identity = json.loads(Path(snakemake.input.model).read_text())
generation, dtype = settings["generation"], settings["model"]["dtype"]
n_frames = round(generation["duration_s"] * identity["frame_rate_hz"])
device = pick_device(snakemake.resources.device)
need = generation_need(identity, n_frames=n_frames, dtype=dtype, guided=generation["cfg_coef"] != 1)
check_memory(need, rows=generation["rows"], free=free_memory(device))
model = load_identified(settings["model"], identity, device=device)
clips = [dict(zip(("clip_id", "prompt_id", "prompt", "seed"), clip, strict=True)) for clip in settings["clips"]]
meta = {
    "clips": clips,
    "model": identity,
    "sampling": {key: generation[key] for key in Sampling._fields},
    "duration_s": n_frames / model.frame_rate_hz,
}

batches = generate_clips(
    model,
    [clip["prompt"] for clip in clips],
    # The text is part of a clip's identity and the study is not: studies that ask the same of the same model share.
    [seed_from("generate", clip["prompt"], clip["seed"]) for clip in clips],
    n_frames=n_frames,
    sampling=Sampling(**meta["sampling"]),
    rows=generation["rows"],
)
n_batches = -(-len(clips) // generation["rows"])
tokens = np.concatenate(list(progress(batches, total=n_batches, what="generation"))).astype(np.uint16)

arrays = token_arrays(len(clips), n_codebooks=model.n_codebooks, n_frames=n_frames)
with write_store(Path(snakemake.output.tokens), arrays, meta=meta) as store:
    store.append("tokens", tokens)
with write_folder(Path(snakemake.output.audio), meta=meta) as folder:
    for clip, clip_tokens in progress(zip(clips, tokens, strict=True), total=len(clips), what="audio"):
        audio = decode_audio(model, clip_tokens)
        soundfile.write(folder / f"{clip['clip_id']}.flac", audio, model.sample_rate_hz, subtype="PCM_16")
