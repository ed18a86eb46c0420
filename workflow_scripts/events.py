"""Find where the motif returns in one batch of clips."""

from pathlib import Path

import pandas as pd
import soundfile

from reprise.identity import seed_from
from reprise.job import log, progress, start
from reprise.recurrence import EventSettings, find_events
from reprise.stores import read_manifest, write_parquet

settings = start(snakemake)["events"]
thresholds = EventSettings(**{name: settings[name] for name in EventSettings._fields})
audio_path = Path(snakemake.input.audio.removesuffix(".manifest.json"))
clips = read_manifest(audio_path)["meta"]["clips"]
tables = []
for clip in progress(clips, total=len(clips), what="events"):
    audio, sample_rate_hz = soundfile.read(audio_path / f"{clip['clip_id']}.flac", dtype="float32")
    found = find_events(
        audio,
        sample_rate_hz,
        motif_start_s=settings["motif_start_s"],
        motif_duration_s=settings["motif_duration_s"],
        settings=thresholds,
        seed=seed_from("surrogates", clip["prompt"], clip["seed"]),
    )
    if found.empty:
        log.info("%s: no events because %s", clip["clip_id"], found.attrs["no_events_because"])
    tables.append(found.assign(clip_id=clip["clip_id"], prompt_id=clip["prompt_id"]))
write_parquet(Path(snakemake.output[0]), pd.concat(tables, ignore_index=True))
