"""The input of the report: all results of one study, and the edited clips that it plays."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reprise.recordings.manifest import Track
from reprise.report.sound import ExampleClip
from reprise.targets.target import Target


class Edited(NamedTuple):
    """One clip continued under one condition; `kind` "baseline" is the unedited one."""

    clip_id: str
    kind: str
    window: str
    audio: np.ndarray
    sample_rate_hz: int
    file: str


class Results(NamedTuple):
    """Everything that the report shows of one study.

    settings: the study's leaf settings as plain builtins. target: the kind of event that it is about. model, verdict,
    certificates: the JSON files. card: the model card, {} without one. probes: one row per probe record. events: all
    events after reviews were applied (reprise/review/apply.py). labels: by horizon name. candidates: the candidates
    table. effects, matched, sufficiency: by candidate name. examples: clips as generated. edited: by candidate name.
    stages: stage, jobs, seconds, peak_mb, one row per stage (may be empty). clip_summaries: one row per clip, with why
    it has no events ("" if it has any). reviews: the summary of imported reviews, {} without any. tracks: the
    recordings that clips were cut from, none if the clips come from prompts. left_out: recordings that could not be
    used (track_id, path, reason). cuts_left_out: cuts of other recordings that could not be used (with cut). damaged:
    recordings that could not be decoded in some places. seeds: by layer, how similar a latent of its trained SAE is to
    the most similar one of SAEs from other seeds (latent, seed, cosine). heads: by candidate name, what its attention
    heads do (`reprise.interventions.heads.head_table`). maps: by candidate name, where and when its edit acts
    (`reprise.interventions.effect_map.map_summary`). deciding: the heads that decide an event
    (`reprise.interventions.deciding.deciding_table`), empty if not looked at.
    """

    name: str
    settings: Mapping[str, Any]
    target: Target
    model: Mapping[str, Any]
    card: Mapping[str, Any]
    verdict: Mapping[str, Any]
    certificates: Sequence[Mapping[str, Any]]
    probes: pd.DataFrame
    events: pd.DataFrame
    labels: Mapping[str, pd.DataFrame]
    candidates: pd.DataFrame
    effects: Mapping[str, pd.DataFrame]
    matched: Mapping[str, pd.DataFrame]
    sufficiency: Mapping[str, pd.DataFrame]
    examples: Sequence[ExampleClip]
    edited: Mapping[str, Sequence[Edited]]
    stages: pd.DataFrame
    clip_summaries: pd.DataFrame
    reviews: Mapping[str, Any]
    tracks: Sequence[Track] = ()
    left_out: Sequence[Mapping[str, str]] = ()
    cuts_left_out: Sequence[Mapping[str, Any]] = ()
    damaged: Sequence[Mapping[str, str]] = ()
    seeds: Mapping[int, pd.DataFrame] = MappingProxyType({})
    heads: Mapping[str, pd.DataFrame] = MappingProxyType({})
    maps: Mapping[str, pd.DataFrame] = MappingProxyType({})
    deciding: pd.DataFrame = pd.DataFrame()
