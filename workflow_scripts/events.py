"""Find the events of the study's target in one batch of clips.

Clips that cannot be read or are silent are listed with the reason. They do not affect the others.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reprise.audio.io import read_sounding
from reprise.identity import clip_seed
from reprise.storage.files import read_manifest, write_parquet
from reprise.targets.registry import target_of
from reprise.targets.target import (
    ClipEvents,
    UnusableClipError,
    check_events,
    compared_with,
    concat_events,
    empty_events,
)
from reprise.workflow.job import log, progress, start

CLIP_SUMMARY = {"clip_id": str, "prompt_id": str, "usable": bool, "reference_end_s": float, "no_events_because": str}

settings = start(snakemake)
target = target_of(settings["target"]["name"])
events, groups = settings["events"], settings["groups"]
kinds_of_others = compared_with(events) if target.features else ()
audio_path = Path(snakemake.input.audio.removesuffix(".manifest.json"))
meta = read_manifest(audio_path)["meta"]
clips = meta["clips"]
sample_rate_hz = meta["model"]["sample_rate_hz"]


def is_other(clip: dict, other: dict) -> bool:
    """Whether `other` is one of the clips in which this clip's events should not be found."""
    same_prompt = clip["prompt_id"] == other["prompt_id"]
    if same_prompt:
        return "prompt" in kinds_of_others and clip["clip_id"] != other["clip_id"]
    return "group" in kinds_of_others and groups[clip["prompt_id"]] == groups[other["prompt_id"]] != ""


features: dict[str, Any] = {}
for clip in clips if kinds_of_others else []:
    # Clips that cannot be read are reported below.
    with suppress(ValueError):
        audio = read_sounding(audio_path, clip["clip_id"], sample_rate_hz=sample_rate_hz)
        features[clip["clip_id"]] = target.features(audio, sample_rate_hz)


def find(clip: dict) -> ClipEvents:
    """Raises UnusableClipError if the clip cannot be used. Any other error is a bug and fails the job."""
    try:
        audio = read_sounding(audio_path, clip["clip_id"], sample_rate_hz=sample_rate_hz)
    except ValueError as error:
        raise UnusableClipError(str(error)) from error
    others = [features[other["clip_id"]] for other in clips if other["clip_id"] in features and is_other(clip, other)]
    found = target.find(audio, sample_rate_hz, events, seed=clip_seed("surrogates", clip), others=others)
    return check_events(found, duration_s=len(audio) / sample_rate_hz)


tables, rows = [], []
for clip in progress(clips, total=len(clips), what="events"):
    clip_id, prompt_id = clip["clip_id"], clip["prompt_id"]
    try:
        usable, found = True, find(clip)
    except UnusableClipError as error:
        log.warning("%s: left out, %s", clip_id, error)
        usable, found = False, ClipEvents(empty_events(), np.nan, f"unusable: {error}")
    if found.no_events_because:
        log.info("%s: no events because %s", clip_id, found.no_events_because)
    tables.append(found.events.assign(clip_id=clip_id, prompt_id=prompt_id))
    rows.append(
        {
            "clip_id": clip_id,
            "prompt_id": prompt_id,
            "usable": usable,
            "reference_end_s": found.reference_end_s,
            "no_events_because": found.no_events_because,
        }
    )
# There are no clips if all recordings of the batch were excluded.
tables = tables or [empty_events().assign(clip_id="", prompt_id="")]
write_parquet(Path(snakemake.output.events), concat_events(tables))
write_parquet(Path(snakemake.output.clips), pd.DataFrame(rows, columns=list(CLIP_SUMMARY)).astype(CLIP_SUMMARY))
