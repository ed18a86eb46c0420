"""Edits by difference on the residual stream, each condition a row of one batch.

A condition says what is taken out of one layer, over which positions and how much. With z_j the SAE's activation of
feature j at a position, z* its reference and W_dec[j] its decoder direction:

    untouched          x
    resampled          x, but with other sampling noise after the prefix
    target             x - dose (z_j - z*) W_dec[j]                    j: the candidate feature
    matched_feature    the same with another active feature of that layer, matched on rate and edit norm
    random_direction   x - dose |z_j - z*| ||W_dec[j]|| r              r: a fixed unit vector, j: the candidate feature
    mean_difference    x - dose (v.x - reference) v                    v: a given unit vector
    local_feature      as matched_feature, with the strongest feature that predicts a return at a short horizon only
    steer              as target, in a clip that does not return: z* is what the feature is in clips that do
    steer_random       as random_direction, with the z* of steer

z* is 0, a mean, or what the same feature is at the same position of another clip, the donor (resampling). The donor's
activations are those of its conditional pass, also where the edit moves both halves of a guided batch.

The SAE's reconstruction is never put in the stream's place: whatever the SAE does not explain stays. z_j is read from
the stream as it is at that position, with the effects of the earlier edits in it.

`resampled` guards against regression to the mean. Clips are chosen because they return, so any edit that makes the
sampling take another path loses the returns that were luck, at no damage at all. What `resampled` loses is luck.

Windows. `until_event`: every position up to the end of the row's target window, in which its return is expected,
prefix and generated (is the feature used?). `prefix_only`: positions before the prefix's end; their keys and values
persist, and every position that chooses a frame of the continuation is left alone (is the plan stored there?).
Position p chooses codebook 0 of frame p, so a window ends before its `stop_position`: the prefix's length in frames,
or the target window's last frame + 1.

Exactness. A row that is not edited at a position comes back bit for bit (selected, not multiplied by zero). Batches
have a fixed number of rows, the last padded with repeats, and every step encodes all rows: matrix products of one
shape give a row the same bits whatever its neighbours are, other shapes may not.

Teacher-forced KL. How much an edit changes what the model would play next, on the baseline's own tokens: no sampling
is in it, so it shows small edits that choose no other token. See `teacher_forced_kl`.

Degenerate input: no clips or no doses give an empty table; an inactive feature with z* = 0 gives an edit of norm 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from reprise.checkpoints.finite import NotFiniteError, layer_text
from reprise.models.decoding import EditFunction, Sampling, generate, teacher_forced
from reprise.models.musicgen import Model, encode_prompts
from reprise.saes.sae import ActivationsError, Sae, decoder_direction, encode, write_scale

KINDS = (
    "untouched",
    "resampled",
    "target",
    "matched_feature",
    "random_direction",
    "mean_difference",
    "local_feature",
)
STEERING_KINDS = ("untouched", "steer", "steer_random")
UNEDITED = ("untouched", "resampled")
WINDOWS = ("until_event", "prefix_only")
# Appended to a clip's noise key for `resampled` rows.
RESAMPLED_KEY = 0x5EED
Halves = Literal["both", "conditional"]


class Candidate(NamedTuple):
    """A feature to test: `layer` and `feature` indices, and the features of that layer it is compared with;
    `local_feature` None where there is none."""

    layer: int
    feature: int
    matched_features: tuple[int, ...] = ()
    local_feature: int | None = None


class Direction(NamedTuple):
    """A direction in the residual stream: unit `vector` float32 `[d_model]`, and the projection it is moved to."""

    vector: np.ndarray
    reference: float


class RowEdits(NamedTuple):
    """What each row of a batch has done to it, at one `layer`.

    All tensors `[row]` unless said: `feature` int64 read at every position (0 where unused), `reference` (z* or v's)
    `[row, position]`, whose last position holds for all later ones, `dose`, `stop` int64 (positions below it are
    edited; 0: none), `by_norm` bool (the edit's size is |z - z*| `norm`, `norm` that of the feature's decoder
    direction), `by_probe` bool (its size is probe.x - reference), `direction` and `probe` `[row, d_model]`.
    """

    layer: int
    feature: torch.Tensor
    reference: torch.Tensor
    dose: torch.Tensor
    stop: torch.Tensor
    by_norm: torch.Tensor
    by_probe: torch.Tensor
    direction: torch.Tensor
    probe: torch.Tensor
    norm: torch.Tensor


def random_direction(d_model: int, *, layer: int, feature: int, control: int) -> np.ndarray:
    """A unit vector float32 `[d_model]`, uniform on the sphere, that depends on its identity alone."""
    vector = np.random.default_rng([layer + 1, feature, control, 77]).standard_normal(d_model)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def condition_table(
    candidate: Candidate,
    clips: pd.DataFrame,
    doses: Sequence[float],
    windows: Sequence[str],
    kinds: Sequence[str],
    *,
    prefix_s: float,
    frame_rate_hz: float,
    n_random: int = 1,
    n_resampled: int = 1,
    z_star: Mapping[int, float] | None = None,
) -> pd.DataFrame:
    """One row per (clip, condition), the conditions of a clip together.

    clips: a row a clip with columns clip_id, prompt_id, prompt, seed, target_start_s and target_stop_s, between which
    its return is expected to begin (onset +- tolerance, or a horizon as seen from the prefix's end: see
    `reprise/interventions/effects.py`); other columns are carried along. z_star: reference activation by feature, 0
    where absent. A column donor names the clip whose activations are the reference instead: z_star is NaN there.

    Adds layer, feature (the candidate's), kind, window, control (which matched feature, random direction, resampling),
    dose, edit_feature (the feature read, -1 if none), z_star, n_prefix_frames, stop_position (positions below it are
    edited) and condition, a name unique within the candidate. `untouched` is one row a clip and `resampled`
    `n_resampled`, with window "none" and dose 0. Dose 0 of another kind is kept where asked for: its tokens must be
    those of the untouched row.

    Raises ValueError for an unknown kind or window, or a target window that does not lie after `prefix_s`.
    """
    for name, given, valid in (("kinds", kinds, (*KINDS, *STEERING_KINDS[1:])), ("windows", windows, WINDOWS)):
        if unknown := [g for g in given if g not in valid]:
            raise ValueError(f"condition_table: {name} has {unknown[0]!r}; valid: {', '.join(valid)}")
    start_s, stop_s = (clips[c].to_numpy(float) for c in ("target_start_s", "target_stop_s"))
    if len(wrong := np.flatnonzero(~((start_s >= prefix_s) & (stop_s >= start_s)))):
        i = int(wrong[0])
        raise ValueError(
            f"condition_table: clip {clips['clip_id'].iloc[i]} has the target window {start_s[i]:g}-{stop_s[i]:g} s; "
            f"valid: after the prefix of {prefix_s:g} s"
        )
    reference = dict(z_star or {})
    edited = {
        "target": [candidate.feature],
        "matched_feature": list(candidate.matched_features),
        "random_direction": [candidate.feature] * n_random,
        "mean_difference": [-1],
        "local_feature": [] if candidate.local_feature is None else [candidate.local_feature],
        "steer": [candidate.feature],
        "steer_random": [candidate.feature] * n_random,
    }
    conditions = []
    for kind in (k for k in UNEDITED if k in kinds):
        for control in range(n_resampled if kind == "resampled" else 1):
            conditions.append((f"{kind}{control}", kind, "none", control, 0.0, -1, 0.0))
    for window in windows:
        for kind in (k for k in kinds if k not in UNEDITED):
            for control, feature in enumerate(edited[kind]):
                for dose in doses:
                    name = f"{kind}{control}-{window}-d{dose:g}"
                    conditions.append((name, kind, window, control, dose, feature, reference.get(feature, 0.0)))
    columns = ["condition", "kind", "window", "control", "dose", "edit_feature", "z_star"]
    table = clips.merge(pd.DataFrame(conditions, columns=columns), how="cross")
    n_prefix = round(prefix_s * frame_rate_hz)
    event_stop = np.rint(table["target_stop_s"] * frame_rate_hz) + 1
    stop = {"none": 0, "prefix_only": n_prefix, "until_event": event_stop}
    table["layer"], table["feature"], table["n_prefix_frames"] = candidate.layer, candidate.feature, n_prefix
    table["stop_position"] = np.select([table["window"] == w for w in stop], list(stop.values()), 0).astype(np.int64)
    if "donor" in table:
        table["z_star"] = table["z_star"].mask(table["donor"].notna() & (table["edit_feature"] >= 0))
    return table.astype({"dose": float, "z_star": float})


def feature_trajectory(values: np.ndarray, indices: np.ndarray, feature: int) -> np.ndarray:
    """Activation of one feature at every position, float32 `[position]`, from a clip's sparse code, `values` and
    `indices` `[position, k]` (`reprise.saes.sae`)."""
    # An unused slot holds value 0, so its index does no harm.
    return (values * (indices == feature)).sum(axis=-1, dtype=np.float32)


def row_edits(
    sae: Sae,
    table: pd.DataFrame,
    directions: Mapping[int, Direction] | None = None,
    donated: Mapping[tuple[str, int], np.ndarray] | None = None,
) -> RowEdits:
    """Precompute a batch's edits from rows of a condition table (one layer).

    directions: of `mean_difference` rows, by their `control` number. donated: activations `[position]` by (donor,
    feature), of rows whose z_star is NaN. Raises ValueError when rows differ in layer, a feature is outside the SAE,
    a direction is missing or of another width, or a donor's activations are missing or end before the edit does.
    """
    layers = table["layer"].unique()
    if len(layers) != 1:
        raise ValueError(f"row_edits: rows of layers {sorted(layers)}; a batch edits one layer")
    kind, feature = table["kind"].to_numpy(), table["edit_feature"].to_numpy(np.int64)
    by_probe, unread = kind == "mean_difference", np.isin(kind, UNEDITED)
    device = sae.W_dec.device
    read = np.where(by_probe | unread, 0, feature)
    direction = torch.stack([decoder_direction(sae, int(j)) for j in read])
    norm = direction.norm(dim=-1)
    probe = torch.zeros_like(direction)
    dose = table["dose"].to_numpy(float)
    stop = np.where(unread | (dose == 0), 0, table["stop_position"].to_numpy(np.int64))
    reference = _references(table, stop, donated or {})
    for row, (what, layer, target, control) in enumerate(
        table[["kind", "layer", "feature", "control"]].itertuples(index=False)
    ):
        if what in ("random_direction", "steer_random"):
            r = random_direction(sae.d_in, layer=int(layer), feature=int(target), control=int(control))
            direction[row] = torch.from_numpy(r).to(device)
        elif what == "mean_difference":
            if directions is None or control not in directions:
                raise ValueError(f"row_edits: no direction given for mean_difference row {row} (control {control})")
            v = directions[control]
            if v.vector.shape != (sae.d_in,):
                raise ValueError(f"row_edits: direction {control} has shape {v.vector.shape}; valid: ({sae.d_in},)")
            direction[row] = probe[row] = torch.from_numpy(v.vector).float().to(device)
            reference[row] = v.reference

    def column(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(values, device=device, dtype=dtype)

    return RowEdits(
        layer=int(layers[0]),
        feature=column(read, torch.int64),
        reference=column(reference, torch.float32),
        dose=column(dose, torch.float32),
        stop=column(stop, torch.int64),
        by_norm=column(np.isin(kind, ("random_direction", "steer_random")), torch.bool),
        by_probe=column(by_probe, torch.bool),
        direction=direction,
        probe=probe,
        norm=norm,
    )


def _references(table: pd.DataFrame, stop: np.ndarray, donated: Mapping[tuple[str, int], np.ndarray]) -> np.ndarray:
    """z* of every row, float `[row, position]`: one position where all rows have a number, else every edited one."""
    z_star = table["z_star"].to_numpy(float)
    by_position = np.flatnonzero(np.isnan(z_star))
    width = max(1, int(stop.max(initial=0))) if len(by_position) else 1
    reference = np.repeat(z_star[:, None], width, axis=1)
    for row in by_position:
        donor, feature = table["donor"].iloc[row], int(table["edit_feature"].iloc[row])
        if (donor, feature) not in donated:
            raise ValueError(f"row_edits: no activations given of the donor {donor}, feature {feature} (row {row})")
        found = donated[donor, feature]
        if len(found) < stop[row]:
            raise ValueError(
                f"row_edits: the donor {donor} has {len(found)} positions; row {row} is edited at {stop[row]}"
            )
        reference[row] = np.pad(found[:width], (0, max(0, width - len(found))))
    return reference


def edit_function(sae: Sae, edits: RowEdits, *, guided: bool, halves: Halves = "both") -> EditFunction:
    """The `edit` that `decoding.generate` and `decoding.teacher_forced` call at every layer.

    guided: the batch holds the conditional rows, then the unconditional ones. halves: "both" edits a row in each of
    them, "conditional" in the first alone. Other layers, and positions past every window, return x itself.
    """
    if halves not in ("both", "conditional"):
        raise ValueError(f"edit_function: halves is {halves!r}; valid: both, conditional")
    if guided:
        twice = [f.repeat(2, *[1] * (f.ndim - 1)) if isinstance(f, torch.Tensor) else f for f in edits]
        edits = RowEdits(*twice)
        if halves == "conditional":
            edits.stop[len(edits.stop) // 2 :] = 0
    rows, last_stop = len(edits.stop), int(edits.stop.max())

    def size(x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Signed size `[row, position]` of the edit along each row's direction, before the dose."""
        try:
            values, indices = encode(sae, x)
        except ActivationsError:
            # Not the SAE's doing: whoever runs the pass finds out which layer's.
            raise NotFiniteError(f"model: {layer_text(edits.layer)} are not all finite") from None
        z = (values * (indices == edits.feature[:, None, None])).sum(dim=-1)
        along = (x * edits.probe[:, None]).sum(dim=-1)
        difference = torch.where(edits.by_probe[:, None], along, z)
        difference = difference - edits.reference[:, position.clamp(max=edits.reference.shape[1] - 1)]
        return torch.where(edits.by_norm[:, None], difference.abs() * edits.norm[:, None], difference)

    def edit(layer: int, start: int, x: torch.Tensor) -> torch.Tensor:
        if layer != edits.layer or start >= last_stop:
            return x
        if len(x) != rows:
            raise ValueError(f"edit: the batch has {len(x)} rows; the edits were made for {rows} (guided={guided})")
        exact = x.float()
        position = torch.arange(start, start + x.shape[1], device=x.device)
        by = edits.dose[:, None] * size(exact, position)
        if sae.normalize_activations != "none":
            # What the SAE writes is stretched on its way into the stream; a direction of the stream's own is not.
            by = by * torch.where(edits.by_probe[:, None], 1.0, write_scale(sae, exact)[..., 0])
        moved = exact - by[..., None] * edits.direction[:, None]
        inside = position[None] < edits.stop[:, None]
        return torch.where(inside[..., None], moved.to(x.dtype), x)

    return edit


def run_conditions(
    model: Model,
    sae: Sae,
    table: pd.DataFrame,
    baseline: Mapping[str, np.ndarray],
    noise_keys: Mapping[str, Sequence[int]],
    *,
    rows: int,
    sampling: Sampling,
    directions: Mapping[int, Direction] | None = None,
    donated: Mapping[tuple[str, int], np.ndarray] | None = None,
    halves: Halves = "both",
    n_frames: int | None = None,
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Generate every condition of a table, in batches of `rows` rows, the last one padded with repeats.

    baseline: tokens integer `[codebook, frame]` by clip_id; the first `n_prefix_frames` are imposed. noise_keys: by
    clip_id, the keys the baseline was generated with, so that a clip's conditions share its noise. directions,
    donated: as in `row_edits`. n_frames: length of the continuation with its prefix, the shortest baseline's by
    default. Yields (rows of the table, tokens uint16 `[row, codebook, frame]`) a batch; nothing of an earlier batch is
    kept. A row's tokens do not depend on the other rows, but may on `rows` (the shape of the arithmetic): record it.

    Raises ValueError when a clip lacks a baseline or a noise key, or a prefix is longer than its baseline.
    """
    if rows < 2:
        raise ValueError(f"run_conditions: rows is {rows}; valid: 2 or more (one row is computed by other arithmetic)")
    for name, given in (("baseline", baseline), ("noise key", noise_keys)):
        if missing := [c for c in table["clip_id"].unique() if c not in given]:
            raise ValueError(f"run_conditions: clip {missing[0]} has no {name}")
    if n_frames is None:
        n_frames = min((baseline[c].shape[-1] for c in table["clip_id"].unique()), default=0)
    longest = int(table["n_prefix_frames"].max()) if len(table) else 0
    if longest > n_frames:
        raise ValueError(f"run_conditions: a prefix of {longest} frames does not fit in {n_frames}")
    for start in range(0, len(table), rows):
        part = table.iloc[start : start + rows]
        padded = part.iloc[np.minimum(np.arange(rows), len(part) - 1)]
        clips = padded["clip_id"].tolist()
        noise = zip(clips, padded["kind"], padded["control"], strict=True)
        n_prefix = padded["n_prefix_frames"].tolist()
        width = max(1, max(n_prefix))
        prefix = np.stack([baseline[c][:, :width].astype(np.int64) for c in clips])
        edits = row_edits(sae, padded, directions, donated)
        tokens = generate(
            model,
            padded["prompt"].tolist(),
            [_noise_key(noise_keys[clip], kind, control) for clip, kind, control in noise],
            n_frames=n_frames,
            sampling=sampling,
            prefix=torch.from_numpy(prefix).to(model.device),
            n_prefix_frames=n_prefix,
            edit=edit_function(sae, edits, guided=sampling.cfg_coef != 1.0, halves=halves),
        )
        yield part, tokens[: len(part)].cpu().numpy().astype(np.uint16)


def _noise_key(key: Sequence[int], kind: str, control: int) -> tuple[int, ...]:
    return (*key, RESAMPLED_KEY, int(control)) if kind == "resampled" else tuple(key)


@torch.no_grad()
def teacher_forced_kl(
    model: Model,
    sae: Sae,
    table: pd.DataFrame,
    baseline: Mapping[str, np.ndarray],
    *,
    rows: int,
    directions: Mapping[int, Direction] | None = None,
    donated: Mapping[tuple[str, int], np.ndarray] | None = None,
) -> np.ndarray:
    """KL(unedited || edited) of every condition on its baseline's own tokens: nats, float32 `[row, frame]`, mean over
    codebooks; 0 in rows without an edit.

    The distributions are those of the unguided conditional model at temperature 1, whatever the clips were sampled
    with. Arguments as in `run_conditions`. In batches of `rows` rows, the last padded with repeats; a clip's unedited
    pass is run once. Memory: two batches of logits, each rows x codebooks x frames x card floats. Raises ValueError
    when a clip lacks a baseline.
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
        return teacher_forced(model, torch.from_numpy(tokens).to(model.device), text, edit=edit, with_logits=True)[1]

    for start in range(0, len(clips), rows):
        some = clips.iloc[np.minimum(np.arange(start, start + rows), len(clips) - 1)]
        unedited = logits(some, None)
        # A clip that pads the batch is there more than once; its first place serves.
        place = {clip: i for i, clip in reversed(list(enumerate(some["clip_id"])))}
        mine = np.flatnonzero(is_edited & table["clip_id"].isin(place))
        for first in range(0, len(mine), rows):
            chosen = mine[np.minimum(np.arange(first, first + rows), len(mine) - 1)]
            part = table.iloc[chosen]
            edit = edit_function(sae, row_edits(sae, part, directions, donated), guided=False)
            of_row = torch.tensor([place[c] for c in part["clip_id"]], device=model.device)
            found = _kl(unedited, of_row, logits(part, edit)).cpu().numpy()
            out[mine[first : first + rows]] = found[: len(mine) - first]
    return out


def _kl(unedited: torch.Tensor, of_row: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """KL `[row, frame]`, mean over codebooks, between logits `[row, codebook, frame + 1, card]`; `of_row` `[row]` is
    the unedited row that belongs to each edited one."""
    rows, n_codebooks, n_positions, _ = edited.shape
    total, count = (torch.zeros(rows, n_positions - 1, device=edited.device) for _ in range(2))
    for k in range(n_codebooks):
        # Position p predicts codebook k of frame p - k; the last frames lack the later codebooks.
        known = min(n_positions - 1, n_positions - k)
        q, p = edited[:, k, k : k + known].float(), unedited[of_row, k, k : k + known].float()
        p, q = p.log_softmax(dim=-1), q.log_softmax(dim=-1)
        total[:, :known] += (p.exp() * (p - q)).sum(dim=-1)
        count[:, :known] += 1
    # Rounding may leave a trace below 0.
    return (total / count).clamp(min=0)
