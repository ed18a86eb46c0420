"""Edits by difference on the residual stream: what is changed in each row of a batch inside the model.

A table says which edit each row gets (reprise/interventions/conditions.py), and a `Subspace` what it moves
(reprise/interventions/subspace.py). `row_edits` turns the rows of a batch into tensors. `edit_function` makes the
function that a forward pass calls at every layer.

The stream is never replaced by the SAE's reconstruction, so the part that the SAE does not explain stays. Coordinates
are read from the stream at that position, which already includes the effects of earlier edits.

Exactness. A row that is not edited at a position comes back bit for bit (it is selected, not multiplied by zero).

Degenerate input: coordinates that equal their reference give an edit of norm 0.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from reprise.checkpoints.finite import NotFiniteError, layer_text
from reprise.interventions.conditions import RANDOM_KINDS, UNEDITED
from reprise.interventions.subspace import Subspace, random_frame
from reprise.models.forward import EditFunction, Start
from reprise.saes.sae import ActivationsError, Sae, decoder_direction, encode, write_scale

Halves = Literal["both", "conditional"]


class Edits(NamedTuple):
    """Everything that a condition table refers to by name, for one layer.

    Attributes
    ----------
    subspaces
        By the name in the column `edit`.
    references
        By (edit, reference): the coordinates that dose 1 moves a position to, float `[rank]`.
    donated
        By (donor clip, edit): the coordinates of that clip, float `[position, rank]`, for rows with a donor.
    sae
        The SAE of the layer; None if no subspace is read through it.
    joint
        Edits of several layers at once: by name, the subspace that is edited at each layer.
    """

    subspaces: Mapping[str, Subspace]
    references: Mapping[tuple[str, str], NDArray[np.floating]]
    donated: Mapping[tuple[str, str], NDArray[np.floating]] = {}
    sae: Sae | None = None
    joint: Mapping[str, Mapping[int, str]] = {}


class RowEdits(NamedTuple):
    """The edit of each row of a batch, at one `layer`. Rows of a lower rank than the highest are filled with zeros.

    `latents` int64 `[row, rank]`: the SAE latent that is a coordinate; -1 where it is linear. `read`, `write` `[row,
    rank, d_model]` and `offset` `[row, rank]`: see `Subspace`. `reference` `[row, position, rank]`: its last position
    also holds for all later ones. `dose` `[row]`. `start`, `stop` int64 `[row]`: positions from `start` to before
    `stop` are edited (stop 0: none).
    """

    layer: int
    latents: torch.Tensor
    read: torch.Tensor
    offset: torch.Tensor
    write: torch.Tensor
    reference: torch.Tensor
    dose: torch.Tensor
    start: torch.Tensor
    stop: torch.Tensor


def write_directions(subspace: Subspace, sae: Sae | None) -> NDArray[np.float32]:
    """The directions that a subspace's coordinates move the stream along, float32 `[rank, d_model]`.

    Raises ValueError for latents without an SAE, or outside it.
    """
    if not subspace.latents:
        return subspace.write
    if sae is None:
        raise ValueError(f"edits: latents {list(subspace.latents)} are read through an SAE, and there is none")
    if max(subspace.latents) >= sae.d_sae:
        raise ValueError(f"edits: latent {max(subspace.latents)}; valid: below d_sae, {sae.d_sae}")
    return np.stack([decoder_direction(sae, j).cpu().numpy() for j in subspace.latents])


def row_edits(table: pd.DataFrame, edits: Edits, *, d_model: int, device: torch.device | str) -> RowEdits:
    """Prepare the edits of a batch from rows of a condition table (one layer).

    Parameters
    ----------
    table : DataFrame
        Rows of `reprise.interventions.conditions.condition_table`.
    edits : Edits
        What the rows refer to.
    d_model : int
        Width of the stream.
    device : torch device
        Where the tensors are made.

    Returns
    -------
    RowEdits

    Raises
    ------
    ValueError
        If rows differ in layer, a subspace, a reference or a donor's coordinates are missing or of another size, or a
        donor's end before the edit does.
    """
    layers = table["layer"].unique()
    if len(layers) != 1:
        raise ValueError(f"row_edits: rows of layers {sorted(layers)}; a batch edits one layer")
    idle = np.isin(table["kind"], UNEDITED) | (table["dose"].to_numpy(float) == 0)
    stop = np.where(idle, 0, table["stop_position"].to_numpy(np.int64))
    used = {name: edits.subspaces[name] for name in table["edit"].unique() if name in edits.subspaces}
    if missing := [name for name in table.loc[~idle, "edit"].unique() if name not in used]:
        raise ValueError(f"row_edits: no subspace is called {missing[0]!r}; valid: {', '.join(edits.subspaces)}")
    rank = max((subspace.rank for subspace in used.values()), default=1)
    width = max(1, int(stop.max(initial=0))) if table["donor"].notna().any() else 1
    shape = (len(table), rank)
    latents, offset = np.full(shape, -1, np.int64), np.zeros(shape, np.float32)
    read, write = (np.zeros((*shape, d_model), np.float32) for _ in range(2))
    reference = np.zeros((len(table), width, rank), np.float32)
    for row, (kind, name, layer, control) in enumerate(
        table[["kind", "edit", "layer", "control"]].itertuples(index=False)
    ):
        if idle[row]:
            continue
        subspace, r = used[name], used[name].rank
        directions = write_directions(subspace, edits.sae)
        if directions.shape[1] != d_model:
            raise ValueError(f"row_edits: {name} has directions of width {directions.shape[1]}; valid: {d_model}")
        if kind in RANDOM_KINDS:
            directions = random_frame(subspace, directions, layer=int(layer), control=int(control))
        latents[row, : len(subspace.latents)] = subspace.latents
        if not subspace.latents:
            read[row, :r], offset[row, :r] = subspace.read, subspace.offset
        write[row, :r] = directions
        reference[row, :, :r] = _reference(table.iloc[row], edits, width=width, stop=int(stop[row]), rank=r)

    def on_device(values: np.ndarray) -> torch.Tensor:
        # A copy: columns of a table may be read-only.
        return torch.tensor(values, device=device)

    return RowEdits(
        layer=int(layers[0]),
        latents=on_device(latents),
        read=on_device(read),
        offset=on_device(offset),
        write=on_device(write),
        reference=on_device(reference),
        dose=on_device(table["dose"].to_numpy(np.float32)),
        start=on_device(table["start_position"].to_numpy(np.int64)),
        stop=on_device(stop),
    )


def _reference(row: pd.Series, edits: Edits, *, width: int, stop: int, rank: int) -> NDArray[np.floating]:
    """The coordinates that a row's edit moves to, `[1 or width, rank]`."""
    if pd.isna(row["donor"]):
        key = (row["edit"], row["reference"])
        if key not in edits.references:
            raise ValueError(f"row_edits: {key[0]} has no reference {key[1]!r}")
        found = np.asarray(edits.references[key])[None]
    else:
        key = (row["donor"], row["edit"])
        if key not in edits.donated:
            raise ValueError(f"row_edits: no coordinates are given of the donor {key[0]} for {key[1]}")
        found = edits.donated[key]
        if len(found) < stop:
            raise ValueError(f"row_edits: the donor {key[0]} has {len(found)} positions; the edit ends at {stop}")
        found = np.pad(found[:width], ((0, max(0, width - len(found))), (0, 0)))
    if found.shape[1] != rank:
        raise ValueError(f"row_edits: the reference of {row['edit']} has {found.shape[1]} coordinates; valid: {rank}")
    return found


def batch_edit(
    table: pd.DataFrame,
    edits: Edits,
    *,
    d_model: int,
    device: torch.device | str,
    guided: bool,
    cfg_branches: Halves = "both",
) -> EditFunction:
    """The edit of a batch, whose rows may edit different layers, or several at once (`Edits.joint`).

    Parameters and errors: as in `row_edits` and `edit_function`. A row's own layer does not matter for a joint edit.
    """
    of_row = [
        edits.joint.get(name, {int(layer): name}) for name, layer in table[["edit", "layer"]].itertuples(index=False)
    ]
    functions = []
    for layer in sorted({layer for names in of_row for layer in names}):
        acts = np.array([layer in names for names in of_row])
        names = [names.get(layer, "") for names in of_row]
        part = table.assign(layer=layer, edit=names, dose=table["dose"].where(acts, 0.0))
        rows = row_edits(part, edits, d_model=d_model, device=device)
        functions.append(edit_function(rows, edits.sae, guided=guided, cfg_branches=cfg_branches))

    def edit(layer: int, start: Start, x: torch.Tensor) -> torch.Tensor:
        for function in functions:
            x = function(layer, start, x)
        return x

    return edit


def edit_function(edits: RowEdits, sae: Sae | None, *, guided: bool, cfg_branches: Halves = "both") -> EditFunction:
    """The `edit` that `generation.generate` and `forward.teacher_forced` call at every layer.

    Parameters
    ----------
    edits : RowEdits
        The edit of each row.
    sae : Sae or None
        The SAE that latents are read through.
    guided : bool
        Whether the batch holds the conditional rows followed by the unconditional ones.
    cfg_branches : {"both", "conditional"}
        "both" edits a row in both branches, "conditional" only in the first.

    Returns
    -------
    EditFunction
        At other layers, and at positions outside every window, it returns x itself. It raises ValueError if the batch
        has another number of rows.

    Raises
    ------
    ValueError
        For unknown `cfg_branches`, or latents without an SAE.
    """
    if cfg_branches not in ("both", "conditional"):
        raise ValueError(f"edit_function: cfg_branches is {cfg_branches!r}; valid: both, conditional")
    if guided:
        twice = {n: f.repeat(2, *[1] * (f.ndim - 1)) for n, f in edits._asdict().items() if n != "layer"}
        edits = RowEdits(layer=edits.layer, **twice)
        if cfg_branches == "conditional":
            edits.stop[len(edits.stop) // 2 :] = 0
    rows, first_start, last_stop = len(edits.stop), int(edits.start.min()), int(edits.stop.max())
    through_sae = edits.latents >= 0
    reads_latents = bool(through_sae.any())
    if reads_latents and sae is None:
        raise ValueError("edit_function: latents are read, and there is no SAE")

    def coordinates(x: torch.Tensor, *, check: bool) -> torch.Tensor:
        """Coordinates of each row's subspace, `[row, position, rank]`."""
        linear = torch.einsum("bpd,brd->bpr", x, edits.read) - edits.offset[:, None]
        if not reads_latents:
            return linear
        try:
            values, indices = encode(cast(Sae, sae), x, check=check)
        except ActivationsError:
            # The SAE did not cause this. The caller of the pass adds which layer it was.
            raise NotFiniteError(f"model: {layer_text(edits.layer)} are not all finite") from None
        # One coordinate at a time, because all at once would take rank times the memory of the latents.
        z = [(values * (indices == edits.latents[:, None, i, None])).sum(dim=-1) for i in range(linear.shape[-1])]
        return torch.where(through_sae[:, None], torch.stack(z, dim=-1), linear)

    def edit(layer: int, start: Start, x: torch.Tensor) -> torch.Tensor:
        if layer != edits.layer:
            return x
        # A recorded pass has its position on the device, and can't choose by it.
        recorded = isinstance(start, torch.Tensor)
        if not recorded and (start >= last_stop or start + x.shape[1] <= first_start):
            return x
        if len(x) != rows:
            raise ValueError(f"edit: the batch has {len(x)} rows; the edits were made for {rows} (guided={guided})")
        exact = x.float()
        position = start + torch.arange(x.shape[1], device=x.device)
        reference = edits.reference[:, position.clamp(max=edits.reference.shape[1] - 1)]
        by = edits.dose[:, None, None] * (coordinates(exact, check=not recorded) - reference)
        if sae is not None and sae.normalize_activations != "none":
            # What the SAE writes is rescaled on its way into the stream. A direction fitted in the stream is not.
            by = by * torch.where(through_sae[:, None], write_scale(sae, exact), 1.0)
        moved = exact - torch.einsum("bpr,brd->bpd", by, edits.write)
        inside = (position[None] >= edits.start[:, None]) & (position[None] < edits.stop[:, None])
        return torch.where(inside[..., None], moved.to(x.dtype), x)

    return edit
