"""Edits by difference on the residual stream: what is changed in each row of a batch inside the model.

A table says which edit each row gets (reprise/interventions/conditions.py). `row_edits` turns the rows of a batch into
tensors. `edit_function` makes the function that a forward pass calls at every layer.

The stream is never replaced by the SAE's reconstruction, so the part that the SAE does not explain stays. z_j is read
from the stream at that position, which already includes the effects of earlier edits.

Exactness. A row that is not edited at a position comes back bit for bit (it is selected, not multiplied by zero).

Degenerate input: an inactive feature with z* = 0 gives an edit of norm 0.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from reprise.checkpoints.finite import NotFiniteError, layer_text
from reprise.interventions.conditions import UNEDITED
from reprise.models.forward import EditFunction
from reprise.saes.sae import ActivationsError, Sae, decoder_direction, encode, write_scale

Halves = Literal["both", "conditional"]


class Direction(NamedTuple):
    """A direction in the residual stream: unit `vector` float32 `[d_model]`, and the projection it is moved to."""

    vector: np.ndarray
    reference: float


class RowEdits(NamedTuple):
    """The edit of each row of a batch, at one `layer`.

    All tensors are `[row]` unless stated otherwise. `feature` int64: the feature read at every position (0 where
    unused). `reference` `[row, position]`: z*, or v's reference; its last position also holds for all later ones.
    `dose`. `stop` int64: positions below it are edited (0: none). `by_norm` bool: the edit's size is |z - z*| `norm`,
    where `norm` is that of the feature's decoder direction. `by_probe` bool: the size is probe.x - reference.
    `direction` and `probe` are `[row, d_model]`.
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
    """A unit vector float32 `[d_model]`, uniform on the sphere.

    It depends only on d_model, layer, feature and control (the number of the random direction).
    """
    vector = np.random.default_rng([layer + 1, feature, control, 77]).standard_normal(d_model)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def feature_trajectory(values: np.ndarray, indices: np.ndarray, feature: int) -> np.ndarray:
    """Activation of one feature at every position, float32 `[position]`.

    values, indices: a clip's sparse SAE latents, `[position, k]` (`reprise.saes.sae`).
    """
    # An unused slot holds value 0, so its index does not matter.
    return (values * (indices == feature)).sum(axis=-1, dtype=np.float32)


def row_edits(
    sae: Sae,
    table: pd.DataFrame,
    directions: Mapping[int, Direction] | None = None,
    donated: Mapping[tuple[str, int], np.ndarray] | None = None,
) -> RowEdits:
    """Prepare the edits of a batch from rows of a condition table (one layer).

    Parameters
    ----------
    sae : Sae
        The SAE of that layer.
    table : DataFrame
        Rows of `reprise.interventions.conditions.condition_table`.
    directions : mapping, optional
        The direction of each `mean_difference` row, by its `control` number.
    donated : mapping, optional
        Activations `[position]` by (donor, feature), for rows whose z_star is NaN.

    Raises
    ------
    ValueError
        If rows differ in layer, a feature is outside the SAE, a direction is missing or of another width, or a donor's
        activations are missing or end before the edit does.
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
    """z* of every row, float `[row, position]`.

    It has one position if all rows have a number, otherwise one for every edited position.
    """
    z_star = table["z_star"].to_numpy(float)
    by_position = np.flatnonzero(np.isnan(z_star))
    width = max(1, int(stop.max(initial=0))) if len(by_position) else 1
    reference = np.repeat(z_star[:, None], width, axis=1)
    for row in by_position:
        donor, feature = table["donor"].iloc[row], int(table["edit_feature"].iloc[row])
        if (donor, feature) not in donated:
            raise ValueError(f"row_edits: no activations given for donor {donor}, feature {feature} (row {row})")
        found = donated[donor, feature]
        if len(found) < stop[row]:
            raise ValueError(
                f"row_edits: donor {donor} has {len(found)} positions; row {row} is edited up to {stop[row]}"
            )
        reference[row] = np.pad(found[:width], (0, max(0, width - len(found))))
    return reference


def edit_function(sae: Sae, edits: RowEdits, *, guided: bool, cfg_branches: Halves = "both") -> EditFunction:
    """The `edit` that `generation.generate` and `forward.teacher_forced` call at every layer.

    Parameters
    ----------
    sae : Sae
        The SAE that the edits were made with.
    edits : RowEdits
        The edit of each row.
    guided : bool
        Whether the batch holds the conditional rows followed by the unconditional ones.
    cfg_branches : {"both", "conditional"}
        "both" edits a row in both branches, "conditional" only in the first.

    Returns
    -------
    EditFunction
        At other layers, and at positions past every window, it returns x itself. It raises ValueError if the batch has
        another number of rows.

    Raises
    ------
    ValueError
        For unknown `cfg_branches`.
    """
    if cfg_branches not in ("both", "conditional"):
        raise ValueError(f"edit_function: cfg_branches is {cfg_branches!r}; valid: both, conditional")
    if guided:
        twice = {n: f.repeat(2, *[1] * (f.ndim - 1)) for n, f in edits._asdict().items() if n != "layer"}
        edits = RowEdits(layer=edits.layer, **twice)
        if cfg_branches == "conditional":
            edits.stop[len(edits.stop) // 2 :] = 0
    rows, last_stop = len(edits.stop), int(edits.stop.max())

    def size(x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Signed size `[row, position]` of the edit along each row's direction, before the dose."""
        try:
            values, indices = encode(sae, x)
        except ActivationsError:
            # The SAE did not cause this. The caller of the pass adds which layer it was.
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
            # What the SAE writes is rescaled on its way into the stream. A direction fitted in the stream is not.
            by = by * torch.where(edits.by_probe[:, None], 1.0, write_scale(sae, exact)[..., 0])
        moved = exact - by[..., None] * edits.direction[:, None]
        inside = position[None] < edits.stop[:, None]
        return torch.where(inside[..., None], moved.to(x.dtype), x)

    return edit
