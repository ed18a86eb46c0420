"""Write the page for reviewing a study's events."""

import sys
from pathlib import Path

import pandas as pd
import soundfile

from reprise.report.sound import ExampleClip
from reprise.review.event_ids import event_ids, read_audio_digests
from reprise.review.order import to_review
from reprise.review.page import render_review
from reprise.storage.artifacts import store_of
from reprise.storage.files import read_manifest, write_text
from reprise.targets.registry import target_of
from reprise.targets.target import concat_events
from reprise.workflow.job import log, start

settings = start(snakemake)
inputs = snakemake.input
events = concat_events(map(pd.read_parquet, inputs.events))
events["event_id"] = event_ids(events, read_audio_digests(inputs.audio))
view = target_of(settings["target"]["name"]).view
chosen = to_review(events, view.shares(events, settings["events"]), max_events=settings["review"]["max_events"])
left_out = set(events["event_id"][events["accepted"]]) - set(chosen["event_id"])
if left_out:
    text = f"{len(left_out)} events that the tests accepted are not on the page, because of review.max_events"
    log.warning(text)
    print(f"review_page: {settings['study']}: {text}", file=sys.stderr)
wanted, clips = set(chosen["clip_id"]), {}
for folder in map(store_of, inputs.audio):
    for clip in read_manifest(folder)["meta"]["clips"]:
        if (clip_id := clip["clip_id"]) in wanted:
            file = folder / f"{clip_id}.flac"
            clips[clip_id] = ExampleClip(
                clip_id, *soundfile.read(file, dtype="float32"), file.as_posix(), clip["prompt"]
            )
page = render_review(chosen, clips, settings, view, n_events=len(events))
log.info("%d of %d events, %.1f MB", len(chosen), len(events), len(page) / 1e6)
write_text(Path(snakemake.output[0]), page)
