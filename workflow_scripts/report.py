"""Write the report from the results of all studies."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile

from reprise.recordings.manifest import Track, read_tracks
from reprise.report.examples import example_clips
from reprise.report.page import render
from reprise.report.results import Edited, Results
from reprise.report.sound import ExampleClip
from reprise.review.apply import read_events
from reprise.storage.artifacts import hook_layer, store_of
from reprise.storage.files import read_manifest, write_text
from reprise.targets.registry import target_of
from reprise.targets.view import Words
from reprise.workflow.job import log, start
from reprise.workflow.stages import by_stage, read_jobs

# Lists of problems in the metadata of a batch of recordings.
PROBLEM_LISTS = ("left_out", "cuts_left_out", "damaged")

settings = start(snakemake)
inputs = snakemake.input
RESULTS = Path(snakemake.output[0]).parents[1]


def of_study(kind: str, study: str) -> list[str]:
    """The inputs of one kind that are in the study's folder, results/<study>/, or in its corpus's folder."""
    folders = RESULTS / study, RESULTS / "corpora" / settings["corpora"][study]
    return [path for path in inputs[kind] if any(Path(path).is_relative_to(folder) for folder in folders)]


def read_jsons(kind: str, study: str) -> list[dict[str, Any]]:
    return [json.loads(Path(path).read_text()) for path in of_study(kind, study)]


def read_tables(kind: str, study: str, ending: str = ".parquet") -> dict[str, pd.DataFrame]:
    return {Path(path).name.removesuffix(ending): pd.read_parquet(path) for path in of_study(kind, study)}


def read_examples(events: pd.DataFrame, audio: list[str], words: Words) -> list[ExampleClip]:
    found = {
        clip["clip_id"]: (clip, store_of(m)) for m in audio for clip in read_manifest(store_of(m))["meta"]["clips"]
    }
    examples_read = []
    # A clip can only be an example if it is known whether it has an event.
    unknown = events["unknown"].astype(bool)
    known = [c for c in found if c not in set(events.loc[unknown, "clip_id"])]
    examples = example_clips(events[~unknown], known, words)
    for clip_id, why in examples:
        clip, folder = found[clip_id]
        file = folder / f"{clip_id}.flac"
        examples_read.append(
            ExampleClip(clip_id, *soundfile.read(file, dtype="float32"), file.as_posix(), clip["prompt"], why)
        )
    return examples_read


def read_recordings(study: str, audio: list[str]) -> tuple[list[Track], dict[str, list[dict[str, Any]]]]:
    """The recordings of a study, and the lists of recordings and cuts left out and of damaged recordings.

    Both are empty for a study of prompts.
    """
    fields = settings["studies"][study]
    if fields["source"] == "prompts":
        return [], {}
    asked = fields["recordings"]
    tracks = read_tracks(asked["manifest"], checksums=asked["checksums"], max_tracks=asked["max_tracks"])
    metas = [read_manifest(store_of(manifest))["meta"] for manifest in audio]
    listed = {name: [one for meta in metas for one in meta.get(name, [])] for name in PROBLEM_LISTS}
    for name, what in (("left_out", f"of {len(tracks)} recordings"), ("cuts_left_out", "cuts of recordings")):
        if listed[name]:
            text = f"{len(listed[name])} {what} are left out: {snakemake.output[0]} lists them"
            print(f"report: {study}: {text}", file=sys.stderr)
    return tracks, listed


def read_edited(manifest: str) -> list[Edited]:
    folder = store_of(manifest)
    found = []
    for file in read_manifest(folder)["files"]:
        clip_id, condition = file["path"].removesuffix(".flac").split("--")
        kind, _, rest = condition.partition("-")
        path = folder / file["path"]
        window = rest.removesuffix("-d1")
        found.append(Edited(clip_id, kind, window, *soundfile.read(path, dtype="float32"), path.as_posix()))
    return found


def read_stages(study: str) -> pd.DataFrame:
    """Time and memory of each stage. The benchmarks are not inputs, so that new timings do not rerun the report."""
    folders = [RESULTS / "benchmarks" / name for name in (f"corpora/{settings['corpora'][study]}", study)]
    return by_stage(read_jobs(folders))


cards = {Path(path).parent.as_posix(): json.loads(Path(path).read_text()) for path in inputs.cards}
studies = []
for study, fields in settings["studies"].items():
    (model,), (verdict,) = read_jsons("models", study), read_jsons("verdicts", study)
    reviewed_only = fields["labels"]["reviewed_only"]
    events = read_events(of_study("events", study), of_study("reviews", study), reviewed_only=reviewed_only)
    audio, target = of_study("audio", study), target_of(fields["target"])
    tracks, listed = read_recordings(study, audio)
    (candidates,) = read_tables("candidates", study).values()
    players = {store_of(m).name.removesuffix(".audio"): read_edited(m) for m in of_study("players", study)}
    studies.append(
        Results(
            name=study,
            settings=fields,
            target=target,
            model=model,
            card=cards.get(Path(model["name"]).as_posix(), {}),
            verdict=verdict,
            certificates=read_jsons("certificates", study),
            probes=pd.DataFrame(read_jsons("probes", study)),
            events=events,
            labels=read_tables("labels", study),
            candidates=candidates,
            seeds={hook_layer(name): t for name, t in read_tables("seeds", study, ".seeds.parquet").items()},
            effects=read_tables("effects", study),
            matched=read_tables("matched", study, ".matched.parquet"),
            maps=read_tables("maps", study),
            heads=read_tables("heads", study),
            deciding=next(iter(read_tables("deciding", study).values())),
            sufficiency=read_tables("sufficiency", study, ".sufficiency.parquet"),
            examples=read_examples(events, audio, target.view.words),
            edited=players,
            stages=read_stages(study),
            clip_summaries=pd.concat(
                [pd.read_parquet(path) for path in of_study("clip_summaries", study)], ignore_index=True
            ),
            reviews=next(iter(read_jsons("review_summaries", study)), {}),
            tracks=tracks,
            **listed,
        )
    )
page = render(studies, title=settings["title"], calibration=settings["calibration"])
log.info("%d studies, %.1f MB", len(studies), len(page) / 1e6)
write_text(Path(snakemake.output[0]), page)
