"""A subspace of one layer's residual stream, of any rank: what a candidate is, and what an edit moves.

Conventions. A subspace of rank r has r coordinates at every position. They are either SAE latents (z_j of each of its
`latents`) or linear in the stream: c(x) = read @ x - offset. An edit by difference moves the stream along the rows of
`write`, one for each coordinate:

    x' = x - dose * (c(x) - reference) @ write

For SAE latents `write` has the decoder directions. For a linear subspace read @ write.T is the identity, so that dose
1 sets the coordinates to the reference exactly, and whatever is outside the subspace stays. Read and write rows may
differ (an oblique projection, as in LEACE).

The offset puts the mean of the clips that a subspace was fitted on at 0. So the reference 0 is "no activation" for
latents, and the mean for a linear subspace.

Degenerate input: a subspace without coordinates, rows that are not finite, and read and write rows that do not fit
together are refused when it is made.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# read @ write.T may differ from the identity by this much.
TOLERANCE = 1e-4


class Subspace(NamedTuple):
    """One subspace.

    Attributes
    ----------
    kind
        How it was found: a kind of candidate (`candidates.kinds`), `given` for one from a file, or `matched` and
        `local` for latents of controls.
    latents
        SAE latents, for a subspace that is read through the SAE; else empty.
    read, write
        float32 `[rank, d_model]`, for a subspace that is read from the stream. Empty `[0, 0]` for latents, whose
        directions are those of the SAE's decoder.
    offset
        float32 `[rank]`; empty for latents.
    """

    kind: str
    latents: tuple[int, ...] = ()
    read: NDArray[np.float32] = np.zeros((0, 0), np.float32)
    write: NDArray[np.float32] = np.zeros((0, 0), np.float32)
    offset: NDArray[np.float32] = np.zeros(0, np.float32)

    @property
    def rank(self) -> int:
        """The number of coordinates."""
        return len(self.latents) or len(self.read)


def of_latents(kind: str, latents: Iterable[int]) -> Subspace:
    """A subspace that is read through the SAE. Raises ValueError without latents, or where one is repeated."""
    listed = tuple(int(j) for j in latents)
    if not listed or len(set(listed)) < len(listed) or min(listed) < 0:
        raise ValueError(f"subspace: latents are {list(listed)}; valid: one or more, each once, from 0")
    return Subspace(kind, latents=listed)


def linear(kind: str, read: ArrayLike, write: ArrayLike | None = None, *, mean: ArrayLike | None = None) -> Subspace:
    """A subspace that is read from the stream.

    Parameters
    ----------
    kind : str
        How it was found.
    read : array `[rank, d_model]` or `[d_model]`
        Directions that coordinates are read along.
    write : array of the same shape, optional
        Directions that the stream is moved along. By default the pseudo-inverse of `read`, which makes an orthogonal
        projection.
    mean : array `[d_model]`, optional
        The stream whose coordinates are 0. By default the origin.

    Returns
    -------
    Subspace

    Raises
    ------
    ValueError
        For rows that are not finite, of different shapes, or with read @ write.T other than the identity.
    """
    rows = np.atleast_2d(np.asarray(read, np.float64))
    if not np.isfinite(rows).all():
        raise ValueError("subspace: read is not finite; valid: finite numbers")
    along = np.linalg.pinv(rows).T if write is None else np.atleast_2d(np.asarray(write, np.float64))
    if rows.shape != along.shape or not rows.size:
        raise ValueError(f"subspace: read is {rows.shape}, write {along.shape}; valid: both [rank, d_model]")
    if not np.isfinite(along).all():
        raise ValueError("subspace: write is not finite; valid: finite numbers")
    off = float(np.abs(rows @ along.T - np.eye(len(rows))).max())
    if off > TOLERANCE:
        raise ValueError(
            f"subspace: read @ write.T differs from the identity by {off:.2g}; valid: {TOLERANCE:g} or less"
        )
    centre = rows @ np.asarray(mean, np.float64) if mean is not None else np.zeros(len(rows))
    return Subspace(kind, (), rows.astype(np.float32), along.astype(np.float32), centre.astype(np.float32))


def coordinates(subspace: Subspace, x: NDArray[np.floating]) -> NDArray[np.float32]:
    """Coordinates of the stream `[..., d_model]` in a linear subspace, float32 `[..., rank]`.

    Those of latents are read through the SAE: `latent_coordinates`.
    """
    return (x.astype(np.float32) @ subspace.read.T - subspace.offset).astype(np.float32)


def latent_coordinates(
    subspace: Subspace, values: NDArray[np.floating], indices: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Coordinates from a clip's sparse SAE latents.

    Parameters
    ----------
    subspace : Subspace
        One that is read through the SAE.
    values, indices : arrays `[position, k]`
        Activations and their features (`reprise.saes.sae.encode`).

    Returns
    -------
    float32 array `[position, rank]`
    """
    # An unused slot has value 0, so its index does not matter.
    return np.stack([(values * (indices == j)).sum(axis=-1, dtype=np.float32) for j in subspace.latents], axis=-1)


def random_frame(subspace: Subspace, write: NDArray[np.floating], *, layer: int, control: int) -> NDArray[np.float32]:
    """Write directions of the same size in a random subspace of the same rank: the control that shares only the size.

    Parameters
    ----------
    subspace : Subspace
        The candidate. It seeds the choice, with the layer and the number of the control.
    write : array `[rank, d_model]`
        Its write directions (for latents, the decoder's).
    layer, control : int
        Layer, and number of the control.

    Returns
    -------
    float32 array `[rank, d_model]`
        Rows with the same lengths and angles as those of `write`, so every edit has the same norm. They span a
        subspace that is uniformly distributed.
    """
    rows = np.asarray(write, np.float64)
    key = subspace.latents or (int(hashlib.sha256(subspace.read.tobytes()).hexdigest()[:15], 16),)
    rng = np.random.default_rng([layer + 1, *key, control, 77])
    return (_triangle(rows) @ _orthonormal(rng.standard_normal(rows.shape))).astype(np.float32)


def _triangle(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """L of rows = L Q with orthonormal Q and a diagonal >= 0."""
    _, r = np.linalg.qr(rows.T)
    return r.T * _signs(np.diag(r))


def _orthonormal(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q of rows = L Q with a diagonal of L >= 0: the rows, made orthonormal in their order."""
    q, r = np.linalg.qr(rows.T)
    return (q * _signs(np.diag(r))).T


def _signs(diagonal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(diagonal < 0, -1.0, 1.0)


def to_record(subspace: Subspace) -> dict[str, Any]:
    """A subspace as plain builtins, for JSON. float32 numbers survive it exactly."""
    return {
        "kind": subspace.kind,
        "latents": list(subspace.latents),
        **{name: getattr(subspace, name).tolist() for name in ("read", "write", "offset")},
    }


def from_record(record: Mapping[str, Any]) -> Subspace:
    """The subspace of a record (`to_record`)."""
    if record["latents"]:
        return of_latents(record["kind"], record["latents"])
    read, write, offset = (np.array(record[name], np.float32) for name in ("read", "write", "offset"))
    return Subspace(record["kind"], (), read, write, offset)
