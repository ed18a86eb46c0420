"""Run conditions: generate every row of a condition table, and measure what the model would play next.

Exactness. All batches have the same number of rows, the last one padded with repeats, and every step encodes all rows.
Matrix products of one shape give a row the same bits whatever the other rows are; other shapes may not.

Teacher-forced KL. It measures how much an edit changes what the model would play next, on the baseline's own tokens.
No sampling is involved, so it also shows edits too small to change a token. See `teacher_forced_kl`.

Degenerate input: a table without rows gives no batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from reprise.interventions.conditions import UNEDITED
from reprise.interventions.edits import Edits, Halves, batch_edit
from reprise.models.adapter import Model
from reprise.models.delay_pattern import predictions
from reprise.models.forward import EditFunction, teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.opening import Opening, opening_of, rows_of
from reprise.models.prompts import encode_prompts
from reprise.threads import in_threads

# Appended to a clip's noise key for `resampled` rows.
RESAMPLED_KEY = 0x5EED


def run_conditions(
    model: Model,
    edits: Edits,
    table: pd.DataFrame,
    baseline: Mapping[str, np.ndarray],
    noise_keys: Mapping[str, Sequence[int]],
    *,
    batch_size: int,
    sampling: Sampling,
    cfg_branches: Halves = "both",
    n_frames: int | None = None,
    threads: int = 1,
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Generate every condition of a table in batches.

    Parameters
    ----------
    model : Model
        The model that generates.
    edits : Edits
        What the rows of the table refer to.
    table : DataFrame
        Rows of `reprise.interventions.conditions.condition_table`.
    baseline : mapping
        Integer tokens `[codebook, frame]` by clip_id. The first `n_prefix_frames` of them are kept as the prefix.
    noise_keys : mapping
        By clip_id, the keys that the baseline was generated with, so that all conditions of a clip share its noise.
    batch_size : int
        Rows per batch, 2 or more. The last batch is padded with repeats.
    sampling : Sampling
        Sampling settings.
    cfg_branches : {"both", "conditional"}
        Which branches of a guided batch are edited.
    n_frames : int, optional
        Length of a clip including its prefix, in frames. Default: the length of the shortest baseline.
    threads : int
        Batches at the same time, each on one thread. More than 1 is of no use on a GPU.

    Yields
    ------
    part : DataFrame
        The rows of the table in this batch.
    tokens : uint16 array `[row, codebook, frame]`
        What was generated. A row's tokens do not depend on the other rows, but may depend on `batch_size` (the shape
        of the arithmetic), so record it. No earlier batch is kept in memory.

    Raises
    ------
    ValueError
        If `batch_size` is below 2, a clip lacks a baseline or a noise key, or a prefix is longer than its baseline.
    """
    n_frames = _checked_n_frames(table, baseline, noise_keys, batch_size, n_frames)
    guided = sampling.cfg_coef != 1.0
    of_edit: dict[str, Any] = {"d_model": model.d_model, "device": model.device, "guided": guided}
    openings = _openings(model, edits, table, baseline, batch_size=batch_size, guided=guided)

    def run(batch: tuple[pd.DataFrame, Opening | None]) -> tuple[pd.DataFrame, np.ndarray]:
        part, opening = batch
        padded = _padded(part, batch_size)
        clips = padded["clip_id"].tolist()
        noise = zip(clips, padded["kind"], padded["control"], strict=True)
        n_prefix = padded["n_prefix_frames"].tolist()
        width = max(1, max(n_prefix))
        prefix = np.stack([baseline[c][:, :width].astype(np.int64) for c in clips])
        first_edit = _first_edit(padded, edits)
        tokens = generate(
            model,
            padded["prompt"].tolist(),
            [_noise_key(noise_keys[clip], kind, control) for clip, kind, control in noise],
            n_frames=n_frames,
            sampling=sampling,
            prefix=torch.from_numpy(prefix).to(model.device),
            n_prefix_frames=n_prefix,
            edit=batch_edit(padded, edits, cfg_branches=cfg_branches, **of_edit) if first_edit else None,
            opening=opening,
            first_edit=first_edit or (0, 0),
        )
        return part, tokens[: len(part)].cpu().numpy().astype(np.uint16)

    yield from in_threads(run, zip(_parts(table, batch_size), openings, strict=True), threads=threads)


def _parts(table: pd.DataFrame, batch_size: int) -> Iterator[pd.DataFrame]:
    for start in range(0, len(table), batch_size):
        yield table.iloc[start : start + batch_size]


def _padded(part: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    return part.iloc[np.minimum(np.arange(batch_size), len(part) - 1)]


def _openings(
    model: Model,
    edits: Edits,
    table: pd.DataFrame,
    baseline: Mapping[str, np.ndarray],
    *,
    batch_size: int,
    guided: bool,
) -> Iterator[Opening | None]:
    """The opening of each batch, or None for all where to compute them first would cost more than it saves.

    Clips are opened in batches of `batch_size`, in the order of the table, and kept until the next such batch.
    """
    n_batches, n_passes = -(-len(table) // batch_size), -(-table["clip_id"].nunique() // batch_size)
    n_positions, found = int(table["n_prefix_frames"].min()) if len(table) else 0, _edited_layers(table, edits)
    # A batch still computes the layers above its first edit.
    saved = n_batches * (min(found, default=model.n_layers - 1) + 1) / model.n_layers
    if not n_positions or saved <= n_passes:
        yield from [None] * n_batches
        return
    known: dict[str, tuple[Opening, int]] = {}
    for start in range(0, len(table), batch_size):
        clips = _padded(table.iloc[start : start + batch_size], batch_size)["clip_id"].tolist()
        if not all(clip in known for clip in clips):
            ahead = table.iloc[start:].drop_duplicates("clip_id").head(batch_size)
            opened = _padded(ahead, batch_size)
            tokens = np.stack([baseline[c][:, :n_positions].astype(np.int64) for c in opened["clip_id"]])
            of_clips = opening_of(
                model,
                opened["prompt"].tolist(),
                torch.from_numpy(tokens).to(model.device),
                layers=found,
                guided=guided,
            )
            known = {clip: (of_clips, i) for i, clip in enumerate(ahead["clip_id"])}
        yield rows_of([known[clip] for clip in clips], guided=guided)


def _is_edited(table: pd.DataFrame) -> pd.Series:
    return ~table["kind"].isin(UNEDITED) & (table["dose"] != 0) & (table["stop_position"] > 0)


def _first_layers(table: pd.DataFrame, edits: Edits) -> pd.Series:
    """The first layer that each row edits."""
    joint = table["edit"].map({name: min(layers) for name, layers in edits.joint.items()})
    return joint.fillna(table["layer"]).astype(int)


def _edited_layers(table: pd.DataFrame, edits: Edits) -> list[int]:
    """The layers that are the first ones that a row edits."""
    return sorted(_first_layers(table[_is_edited(table)], edits).unique().tolist())


def _first_edit(batch: pd.DataFrame, edits: Edits) -> tuple[int, int] | None:
    """The first layer and position that a batch edits; None without an edit."""
    edited = batch[_is_edited(batch)]
    if edited.empty:
        return None
    return int(_first_layers(edited, edits).min()), int(edited["start_position"].min())


def _checked_n_frames(
    table: pd.DataFrame,
    baseline: Mapping[str, np.ndarray],
    noise_keys: Mapping[str, Sequence[int]],
    batch_size: int,
    n_frames: int | None,
) -> int:
    """The number of frames to generate, after the checks of `run_conditions`."""
    if batch_size < 2:
        raise ValueError(
            f"run_conditions: batch_size is {batch_size}; valid: 2 or more (a single row is computed differently)"
        )
    for name, given in (("baseline", baseline), ("noise key", noise_keys)):
        if missing := [c for c in table["clip_id"].unique() if c not in given]:
            raise ValueError(f"run_conditions: clip {missing[0]} has no {name}")
    if n_frames is None:
        n_frames = min((baseline[c].shape[-1] for c in table["clip_id"].unique()), default=0)
    longest = int(table["n_prefix_frames"].max()) if len(table) else 0
    if longest > n_frames:
        raise ValueError(f"run_conditions: a prefix of {longest} frames does not fit in {n_frames}")
    return n_frames


def _noise_key(key: Sequence[int], kind: str, control: int) -> tuple[int, ...]:
    return (*key, RESAMPLED_KEY, int(control)) if kind == "resampled" else tuple(key)


@torch.no_grad()
def teacher_forced_kl(
    model: Model,
    edits: Edits,
    table: pd.DataFrame,
    baseline: Mapping[str, np.ndarray],
    *,
    batch_size: int,
) -> np.ndarray:
    """KL(unedited || edited) of every condition, on the tokens of its baseline.

    The distributions are those of the unguided conditional model at temperature 1, whatever settings the clips were
    sampled with. A clip's unedited pass is run once. Memory: two batches of logits, each batch_size x codebooks x
    frames x codebook_size floats.

    Parameters
    ----------
    model, edits, table, baseline
        As in `run_conditions`.
    batch_size : int
        Rows per batch; the last batch is padded with repeats.

    Returns
    -------
    float32 array `[row, frame]`
        In nats, mean over codebooks. 0 in rows without an edit.

    Raises
    ------
    ValueError
        If a clip lacks a baseline.
    """
    clips = table.drop_duplicates("clip_id")
    if missing := [c for c in clips["clip_id"] if c not in baseline]:
        raise ValueError(f"teacher_forced_kl: clip {missing[0]} has no baseline")
    n_frames = min((baseline[c].shape[-1] for c in clips["clip_id"]), default=0)
    out = np.zeros((len(table), n_frames), np.float32)
    is_edited = ~table["kind"].isin(UNEDITED) & (table["dose"] != 0)

    def logits(part: pd.DataFrame, edit: EditFunction | None) -> torch.Tensor:
        tokens = np.stack([baseline[c][:, :n_frames].astype(np.int64) for c in part["clip_id"]])
        text = encode_prompts(model, part["prompt"].tolist())
        found = teacher_forced(model, torch.from_numpy(tokens).to(model.device), text, edit=edit, with_logits=True)[1]
        return cast(torch.Tensor, found)

    for start in range(0, len(clips), batch_size):
        some = clips.iloc[np.minimum(np.arange(start, start + batch_size), len(clips) - 1)]
        unedited = logits(some, None)
        # A clip that pads the batch appears more than once; the first place is used.
        place = {clip: i for i, clip in reversed(list(enumerate(some["clip_id"])))}
        mine = np.flatnonzero(is_edited & table["clip_id"].isin(place))
        for first in range(0, len(mine), batch_size):
            chosen = mine[np.minimum(np.arange(first, first + batch_size), len(mine) - 1)]
            part = table.iloc[chosen]
            edit = batch_edit(part, edits, d_model=model.d_model, device=model.device, guided=False)
            of_row = torch.tensor([place[c] for c in part["clip_id"]], device=model.device)
            found = _kl(unedited, of_row, logits(part, edit), model.delays).cpu().numpy()
            out[mine[first : first + batch_size]] = found[: len(mine) - first]
    return out


def _kl(unedited: torch.Tensor, of_row: torch.Tensor, edited: torch.Tensor, delays: Sequence[int]) -> torch.Tensor:
    """KL `[row, frame]`, mean over codebooks, of logits `[row, codebook, frame + 1, codebook_size]`.

    of_row: for each edited row, the index of its unedited row, `[row]`. delays: of the codebooks.
    """
    total, count = (torch.zeros(len(edited), edited.shape[2] - 1, device=edited.device) for _ in range(2))
    both = zip(predictions(unedited, delays), predictions(edited, delays), strict=True)
    for (_, before), (_, after) in both:
        n = after.shape[1]
        p, q = before[of_row].float().log_softmax(dim=-1), after.float().log_softmax(dim=-1)
        total[:, :n] += (p.exp() * (p - q)).sum(dim=-1)
        count[:, :n] += 1
    # Rounding may give values slightly below 0.
    return (total / count).clamp(min=0)
