"""The effects of many edits: clips are decoded, scored and compared with the untouched continuation of their clip.

Clips take turns in threads. Each is measured alone, so nothing depends on their number or order.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reprise.interventions.effects import Continuation, EventWindow, compare
from reprise.models.adapter import Model
from reprise.models.codec import decode_again, decode_audio, decoder_reach
from reprise.targets.target import ScoreCurve, Target
from reprise.threads import in_threads


class Measured(NamedTuple):
    """How events are found in continuations.

    target: the study's, with its settings `events`. prefix_s: where continuations begin. event_s: how long an event
    is heard (`Extent.heard_for_s`) if it does not refer to an earlier passage; otherwise as long as that.
    """

    target: Target
    events: Mapping[str, Any]
    prefix_s: float
    event_s: float


class Untouched(NamedTuple):
    """The untouched continuation of a clip, and how the clip's continuations are scored."""

    made: Continuation
    scorer: Callable[[np.ndarray], ScoreCurve]


def untouched_clips(
    model: Model, clips: pd.DataFrame, tokens: np.ndarray, nll: np.ndarray, how: Measured, *, threads: int
) -> dict[str, Untouched]:
    """Decode and score the untouched continuation of each clip.

    Parameters
    ----------
    model : Model
        Decodes.
    clips : DataFrame
        One row per clip with clip_id, reference_start_s and reference_duration_s. All continuations of a clip start
        from the same prefix, so its reference is taken from the untouched one.
    tokens : integer array `[clip, codebook, frame]`
        In the same order.
    nll : array `[clip, frame]`
        Of `continuation_nll`.
    how : Measured
        How events are found.
    threads : int
        Clips that are decoded at the same time.

    Returns
    -------
    dict
        By clip_id.
    """

    def of(row: Any) -> Untouched:
        i, clip = row
        audio = decode_audio(model, tokens[i])
        extent = {"start_s": clip.reference_start_s, "duration_s": clip.reference_duration_s}
        scorer = how.target.scorer(audio, model.sample_rate_hz, how.events, **extent)
        return Untouched(Continuation(tokens[i], audio, nll[i], scorer(audio)), scorer)

    found = in_threads(of, enumerate(clips.itertuples()), threads=threads)
    return dict(zip(clips["clip_id"], found, strict=True))


def edit_effects(
    model: Model,
    table: pd.DataFrame,
    tokens: np.ndarray,
    nll: np.ndarray,
    untouched: Mapping[str, Untouched],
    how: Measured,
    *,
    kl: np.ndarray | None = None,
    threads: int,
) -> Iterator[tuple[dict[str, float], np.ndarray]]:
    """Compare each edited continuation with the untouched one of its clip.

    Parameters
    ----------
    model : Model
        Decodes.
    table : DataFrame
        One row per continuation with clip_id, target_start_s, target_stop_s and reference_duration_s.
    tokens, nll
        Of the continuations, as in `untouched_clips`.
    untouched : mapping
        Of `untouched_clips`.
    how : Measured
        How events are found.
    kl : array `[row, frame]`, optional
        Teacher-forced KL in nats; 0 by default.
    threads : int
        Continuations that are decoded at the same time.

    Yields
    ------
    (dict, float array `[sample]`)
        The record of `compare`, and the audio; in the order of the rows.
    """
    no_kl, reach = np.zeros(tokens.shape[-1], np.float32), decoder_reach(model)

    def of(row: Any) -> tuple[dict[str, float], np.ndarray]:
        i, edited = row
        before = untouched[edited.clip_id]
        made = before.made
        if not np.array_equal(tokens[i], made.tokens):
            audio = decode_again(model, tokens[i], made.tokens, made.audio, reach)
            made = Continuation(tokens[i], audio, nll[i], before.scorer(audio))
        event_s = edited.reference_duration_s or how.event_s
        record = compare(
            made,
            before.made,
            EventWindow(how.prefix_s, edited.target_start_s, edited.target_stop_s, event_s),
            kl=no_kl if kl is None else kl[i],
            frame_rate_hz=model.frame_rate_hz,
            sample_rate_hz=model.sample_rate_hz,
            min_score=how.events["min_score"],
        )
        return record, made.audio

    return in_threads(of, enumerate(table.itertuples()), threads=threads)
