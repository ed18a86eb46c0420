"""Find the returns in one batch of clips.

Clips that cannot be read or are silent are listed with the reason. They do not affect the others.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from reprise.audio.chroma import check_motif, clip_features
from reprise.audio.io import read_sounding
from reprise.identity import clip_seed
from reprise.storage.files import read_manifest, write_parquet
from reprise.targets.recurrence.detection import EventSettings, empty_events
from reprise.targets.recurrence.motifs import ClipEvents, clip_events
from reprise.workflow.job import log, progress, start

CLIP_SUMMARY = {"clip_id": str, "prompt_id": str, "usable": bool, "motif_end_s": float, "no_events_because": str}

settings = start(snakemake)
events, groups = settings["events"], settings["groups"]
thresholds = EventSettings(**{name: events[name] for name in EventSettings._fields})
audio_path = Path(snakemake.input.audio.removesuffix(".manifest.json"))
meta = read_manifest(audio_path)["meta"]
clips = meta["clips"]


sample_rate_hz = meta["model"]["sample_rate_hz"]


def read_searched(clip_id: str) -> np.ndarray:
    audio = read_sounding(audio_path, clip_id, sample_rate_hz=sample_rate_hz)
    if events["motif"] != "discovered":
        check_motif(audio, sample_rate_hz, events["motif_start_s"], events["motif_duration_s"])
    return audio


def is_other(clip: dict, other: dict) -> bool:
    """Whether `other` is one of the clips in which this clip's motif should not be found."""
    same_prompt = clip["prompt_id"] == other["prompt_id"]
    if same_prompt:
        return "prompt" in events["others"] and clip["clip_id"] != other["clip_id"]
    return "group" in events["others"] and groups[clip["prompt_id"]] == groups[other["prompt_id"]] != ""


chroma: dict[str, np.ndarray] = {}
for clip in clips if events["others"] else []:
    # Clips that cannot be read are reported below.
    with suppress(ValueError):
        chroma[clip["clip_id"]] = clip_features(read_searched(clip["clip_id"]), sample_rate_hz).chroma
tables, rows = [], []
for clip in progress(clips, total=len(clips), what="events"):
    clip_id, prompt_id = clip["clip_id"], clip["prompt_id"]
    try:
        audio = read_searched(clip_id)
    except ValueError as error:
        log.warning("%s: left out, %s", clip_id, error)
        usable, found = False, ClipEvents([], empty_events(), f"unusable: {error}")
    else:
        # Errors after reading the clip are bugs, so they fail the job.
        usable = True
        found = clip_events(
            audio,
            sample_rate_hz,
            motif=events["motif"],
            start_s=events["motif_start_s"],
            duration_s=events["motif_duration_s"],
            settings=thresholds,
            seed=clip_seed("surrogates", clip),
            others=[
                chroma[other["clip_id"]] for other in clips if other["clip_id"] in chroma and is_other(clip, other)
            ],
        )
    if found.no_events_because:
        log.info("%s: no events because %s", clip_id, found.no_events_because)
    tables.append(found.events.assign(clip_id=clip_id, prompt_id=prompt_id))
    rows.append(
        {
            "clip_id": clip_id,
            "prompt_id": prompt_id,
            "usable": usable,
            "motif_end_s": min((m.start_s + m.duration_s for m in found.motifs), default=np.nan),
            "no_events_because": found.no_events_because,
        }
    )
# There are no clips if all recordings of the batch were excluded.
tables = tables or [empty_events().assign(clip_id="", prompt_id="")]
write_parquet(Path(snakemake.output.events), pd.concat(tables, ignore_index=True))
write_parquet(Path(snakemake.output.clips), pd.DataFrame(rows, columns=list(CLIP_SUMMARY)).astype(CLIP_SUMMARY))
