"""The clips of an ablation that attention heads are looked at in, with the candidate's edit of each."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from reprise.interventions.edits import Edits, batch_edit
from reprise.interventions.heads import HeadClips
from reprise.models.adapter import Model
from reprise.models.forward import EditFunction
from reprise.models.prompts import encode_prompts

# Both continuations of a clip are a batch, so that the gradient through a large model fits into memory.
CLIPS_PER_PASS = 1


def losing_clips(table: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """The clips that have their event untouched, and lose it under the candidate's edit at dose 1.

    Parameters
    ----------
    table, effects : DataFrame
        The conditions of an ablation and their effects, row by row, with the index 0, 1, 2, ...

    Returns
    -------
    DataFrame
        The rows of `table` with the edited continuations, in their order; untouched (the row of the clip's untouched
        continuation) and onset_s (when its event begins).
    """
    necessity = table["arm"] == "necessity"
    rows = np.flatnonzero(necessity & (table["kind"] == "untouched"))
    untouched = pd.Series(rows, table["clip_id"].iloc[rows])
    edited = necessity & (table["kind"] == "target") & (table["window"] == "until_event") & (table["dose"] == 1)
    lost = table[edited & (effects["effect_rate"] == 1)]
    own = untouched.loc[lost["clip_id"]].to_numpy()
    return lost.assign(untouched=own, onset_s=effects["onset_s"].to_numpy()[own])


def head_batches(
    model: Model, rows: pd.DataFrame, tokens: NDArray[np.integer], edits: Edits
) -> Iterator[tuple[HeadClips, EditFunction]]:
    """The clips, a few at a time, each with the edit of both of its continuations.

    Parameters
    ----------
    model : Model
        The model.
    rows : DataFrame
        Rows of `losing_clips`.
    tokens : array `[row, codebook, frame]`
        All continuations of the ablation.
    edits : Edits
        What the rows refer to.

    Yields
    ------
    HeadClips, EditFunction
        As `attribute_heads` takes them.
    """

    def on_device(indices: list[int]) -> torch.Tensor:
        return torch.from_numpy(tokens[indices].astype(np.int64)).to(model.device)

    for first in range(0, len(rows), CLIPS_PER_PASS):
        some = rows.iloc[first : first + CLIPS_PER_PASS]
        start_s = some["reference_start_s"].to_numpy()
        reference_s = np.stack([start_s, start_s + some["reference_duration_s"].to_numpy()], axis=1)
        clips = HeadClips(
            own=on_device(some["untouched"].tolist()),
            edited=on_device(some.index.tolist()),
            onset=np.rint(some["onset_s"].to_numpy() * model.frame_rate_hz).astype(np.int64),
            reference=np.rint(reference_s * model.frame_rate_hz).astype(np.int64),
            text=encode_prompts(model, some["prompt"].tolist()),
        )
        twice = pd.concat([some, some])
        yield clips, batch_edit(twice, edits, d_model=model.d_model, device=model.device, guided=False)
