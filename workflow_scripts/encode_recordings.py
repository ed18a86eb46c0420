"""Verify, cut and encode one batch of recordings. For continuations, only the opening of each cut is encoded.

Recordings and cuts that cannot be used are listed with the reason. They do not affect the others.
"""

import json
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import soundfile

from reprise.models.codec import encode_audio
from reprise.models.device import pick_device
from reprise.models.loading import load_identified
from reprise.recordings.cutting import RecordingError, gaps_in_words, kind_of, read_recording, usable_cuts
from reprise.storage.files import write_folder
from reprise.storage.stores import ArraySpec, write_store
from reprise.workflow.job import log, progress, start

settings = start(snakemake)
outputs = snakemake.output
identity = json.loads(Path(snakemake.input.model).read_text())
model = load_identified(settings["model"], identity, device=pick_device(snakemake.resources.device))
n_frames, n_encoded = (round(settings[key] * model.frame_rate_hz) for key in ("clip_s", "encoded_s"))
samples_per_frame = model.sample_rate_hz / model.frame_rate_hz
asked = settings["recordings"]
# The encoder looks ahead, so it must not see anything after the opening.
n_heard = round(n_encoded * samples_per_frame)
cutting = {"n_samples": round(n_frames * samples_per_frame), "n_heard": n_heard, "to_hz": model.sample_rate_hz}

clips: list[dict] = []
left_out: list[dict] = []
cuts_left_out: list[dict] = []
damaged: list[dict] = []
meta = {
    "clips": clips,
    "model": identity,
    "duration_s": n_encoded / model.frame_rate_hz,
    "encoder_lookahead_positions": round(identity["encoder_lookahead_s"] * model.frame_rate_hz),
    "n_tracks": len(settings["tracks"]),
    "left_out": left_out,
    "cuts_left_out": cuts_left_out,
    "damaged": damaged,
}
tokens = [np.empty((0, model.n_codebooks, n_encoded), np.uint16)]
with write_folder(Path(outputs.audio), meta=meta) if outputs.get("audio") else nullcontext() as folder:
    tracks = progress(settings["tracks"], total=len(settings["tracks"]), what="recordings")
    for track_id, path, sha256, prompt, same_as in tracks:
        of_track = {"track_id": track_id, "path": path}
        try:
            if same_as:
                raise RecordingError(f"the same recording as {same_as}, by its checksum")
            recording = read_recording(Path(asked["folder"]) / path, sha256)
            if places := gaps_in_words(recording):
                log.warning("%s: cannot be decoded at %s", path, places)
                damaged.append(of_track | {"reason": f"cannot be decoded at {places}"})
            pieces, faults = usable_cuts(recording, max_cuts=asked["max_clips_per_track"], **cutting)
        except RecordingError as error:
            log.warning("%s: left out, %s", path, error)
            left_out.append(of_track | {"reason": str(error)})
            continue
        for cut, reason in faults.items():
            log.warning("%s: cut %d left out, %s", path, cut, reason)
            cuts_left_out.append(of_track | {"cut": cut, "reason": reason})
        for cut, audio in pieces.items():
            clip_id = f"{track_id}-c{cut}"
            named = {"clip_id": clip_id, "prompt_id": track_id, "prompt": prompt, "seed": 0}
            clips.append(named | {"recording": sha256, "cut": cut})
            tokens.append(encode_audio(model, audio)[None])
            if folder:
                soundfile.write(folder / f"{clip_id}.flac", audio, model.sample_rate_hz, subtype="PCM_16")

found = np.concatenate(tokens)
with write_store(Path(outputs.tokens), {"tokens": ArraySpec(found.shape, "uint16")}, meta=meta) as store:
    store.append("tokens", found)
log.info("%d clips of %d recordings, %d left out", len(clips), meta["n_tracks"] - len(left_out), len(left_out))
corpus, batch = snakemake.wildcards.corpus, snakemake.wildcards.batch
counted = {"recordings": (left_out, meta["n_tracks"]), "cuts": (cuts_left_out, len(clips) + len(cuts_left_out))}
for what, (gone, n) in counted.items():
    if gone:
        kinds = Counter(kind_of(one["reason"]) for one in gone)
        text = f"{len(gone)} of {n} {what} of batch {batch} are left out: {outputs.tokens_manifest} lists them"
        counts = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        print(f"{snakemake.rule}: {corpus}: {text} ({counts})", file=sys.stderr)
