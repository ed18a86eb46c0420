"""Generate one batch of clips, from prompts or from the openings of recordings. Writes tokens and FLAC audio."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from reprise.identity import clip_seed
from reprise.models.codec import decode_audio
from reprise.models.device import pick_device
from reprise.models.generation import Sampling, generate_clips
from reprise.models.loading import check_fits, load_identified
from reprise.models.memory import check_memory, free_memory, generation_need
from reprise.storage.artifacts import token_arrays
from reprise.storage.files import read_manifest, write_folder
from reprise.storage.stores import read_store, write_store
from reprise.workflow.job import progress, start
from reprise.workflow.resume import kept_passes, remove_unfinished, unfinished_folder

settings = start(snakemake)
identity = json.loads(Path(snakemake.input.model).read_text())
generation, dtype = settings["generation"], settings["model"]["dtype"]
n_frames = round(generation["duration_s"] * identity["frame_rate_hz"])
device = pick_device(snakemake.resources.device)
need = generation_need(identity, n_frames=n_frames, dtype=dtype, guided=generation["cfg_coef"] != 1)
check_memory(need, batch_size=generation["batch_size"], free=free_memory(device))
about = {"name": identity["name"], "corpus": snakemake.wildcards.corpus}
check_fits(identity, **about, layers=(), duration_s=generation["duration_s"])
model = load_identified(settings["model"], identity, device=device)
clips = [dict(zip(("clip_id", "prompt_id", "prompt", "seed"), clip, strict=True)) for clip in settings["clips"]]
openings, recorded = None, {}
if snakemake.input.openings:
    path = Path(snakemake.input.openings[0].removesuffix(".manifest.json"))
    manifest, seeds = read_manifest(path), settings["seeds"]
    about = manifest["meta"]
    clips = [c | {"clip_id": f"{c['clip_id']}-s{seed}", "seed": seed} for c in about["clips"] for seed in seeds]
    openings = np.repeat(read_store(path)["tokens"][:], len(seeds), axis=0)
    copied = ("n_tracks", "left_out", "cuts_left_out", "damaged")
    recorded = {name: about[name] for name in copied} | {"openings": manifest["digest"]}
meta = {
    "clips": clips,
    "model": identity,
    "sampling": {key: generation[key] for key in Sampling._fields},
    "duration_s": n_frames / model.frame_rate_hz,
    **recorded,
}

output, batch_size = Path(snakemake.output.tokens), generation["batch_size"]


def passes(first: int) -> Iterator[np.ndarray]:
    left = slice(first * batch_size, None)
    return generate_clips(
        model,
        [clip["prompt"] for clip in clips[left]],
        [clip_seed("generate", clip) for clip in clips[left]],
        n_frames=n_frames,
        sampling=Sampling(**meta["sampling"]),
        batch_size=batch_size,
        openings=None if openings is None else openings[left],
    )


made = kept_passes(unfinished_folder(output, [settings, meta, device, torch.__version__]), passes)
n_passes = -(-len(clips) // batch_size)
arrays = token_arrays(len(clips), n_codebooks=model.n_codebooks, n_frames=n_frames)
# There are no clips if all recordings of the batch were excluded.
none = np.empty((0, model.n_codebooks, n_frames), np.int64)
tokens = np.concatenate([none, *progress(made, total=n_passes, what="generation")]).astype(np.uint16)

with write_store(output, arrays, meta=meta) as store:
    store.append("tokens", tokens)
with write_folder(Path(snakemake.output.audio), meta=meta) as folder:
    for clip, clip_tokens in progress(zip(clips, tokens, strict=True), total=len(clips), what="audio"):
        audio = decode_audio(model, clip_tokens)
        soundfile.write(folder / f"{clip['clip_id']}.flac", audio, model.sample_rate_hz, subtype="PCM_16")
remove_unfinished(output)
