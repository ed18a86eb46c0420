"""Event ids that do not change in a rerun.

An event is identified by its content, not by its row in a table. `event_id` is a hash of the clip's audio and of the
event's times and transposition (0 for a target that has none). If a rerun finds the same event in the same audio, its
review still applies. An event that moved by a millisecond is a different event.

Degenerate input: in clips with equal audio, equal events have the same id.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reprise.storage.artifacts import store_of
from reprise.storage.files import read_manifest

# These columns identify an event within its clip. Times are compared in whole milliseconds.
TIMES_S = ("reference_start_s", "reference_duration_s", "onset_s", "duration_s")
EVENT_KEY = [*(name.removesuffix("_s") + "_ms" for name in TIMES_S), "transposition"]


def event_keys(events: pd.DataFrame) -> pd.DataFrame:
    """The columns `EVENT_KEY` of an events table, all int64: times in milliseconds, and the transposition."""
    times = {name.removesuffix("_s") + "_ms": (events[name] * 1000).round().astype(np.int64) for name in TIMES_S}
    steps = events["transposition"].astype(np.int64) if "transposition" in events else 0
    return pd.DataFrame({**times, "transposition": steps}, index=events.index)[EVENT_KEY]


def event_id(audio_digest: str, key: Sequence[int]) -> str:
    """The id of an event, 16 hex digits, from its clip's audio digest and the values of `EVENT_KEY`."""
    return hashlib.sha256(" ".join([audio_digest, *(str(int(v)) for v in key)]).encode()).hexdigest()[:16]


def event_ids(events: pd.DataFrame, audio_digests: Mapping[str, str]) -> list[str]:
    """The id of every row of an events table. `audio_digests`: SHA-256 of each clip's FLAC, by clip_id."""
    keys = event_keys(events).itertuples(index=False)
    return [event_id(audio_digests[clip], key) for clip, key in zip(events["clip_id"], keys, strict=True)]


def read_audio_digests(manifests: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each clip's FLAC, by clip_id, from the manifests of the audio stores."""
    files = [file for m in manifests for file in read_manifest(store_of(m))["files"]]
    return {file["path"].removesuffix(".flac"): file["sha256"] for file in files}
