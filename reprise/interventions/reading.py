"""Read what a candidate's edits need, from its specification and the stores of a study."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import zarr

from reprise.checkpoints.hub import sae_folder
from reprise.interventions.edits import Edits
from reprise.interventions.subspace import coordinates, from_record, latent_coordinates
from reprise.saes.certificate import require_passed
from reprise.saes.errors import SaeError
from reprise.saes.latents import clip_latents
from reprise.saes.loading import load_sae
from reprise.saes.sae import Sae
from reprise.storage.artifacts import read_clips, store_of
from reprise.storage.stores import read_store


def certified_sae(certificates: Sequence[str], names: Sequence[str], *, device: str) -> Sae | None:
    """The SAE of a candidate that is read through one.

    Parameters
    ----------
    certificates
        Path of its certificate; empty for a candidate that needs no SAE.
    names
        Its name or directory.
    device
        Where it is loaded.

    Returns
    -------
    Sae or None

    Raises
    ------
    SaeError
        If the certificate says that it failed, or was given for another SAE.
    """
    for see, name in zip(certificates, names, strict=True):
        certificate = json.loads(Path(see).read_text())
        require_passed(certificate, see=see)
        sae = load_sae(sae_folder(name), device=device)
        if sae.digest != certificate["sae_digest"]:
            raise SaeError(f"{name} is not the SAE that was certified; run snakemake again to certify it")
        return sae
    return None


def read_edits(spec: Mapping[str, Any], table: pd.DataFrame, donated: Sequence[str], sae: Sae | None) -> Edits:
    """What the rows of a condition table refer to.

    Parameters
    ----------
    spec
        The candidate's specification.
    table
        Rows of `reprise.interventions.conditions.condition_table`.
    donated
        Manifests of the stores that have the donors' activations or latents, if the target is to resample.
    sae
        The SAE of the layer, if the candidate is read through it.

    Returns
    -------
    Edits
    """
    subspaces = {name: from_record(record) for name, record in spec["subspaces"].items()}
    references = {
        (name, what): np.array(values, np.float32)
        for name, of_subspace in spec["references"].items()
        for what, values in of_subspace.items()
    }
    given = {}
    asked = table.loc[table["donor"].notna(), ["donor", "edit"]].drop_duplicates()
    for manifest in donated:
        place = {clip_id: i for i, clip_id in enumerate(read_clips([manifest])["clip_id"])}
        for donor, name in asked[asked["donor"].isin(place)].itertuples(index=False):
            subspace = subspaces[name]
            if subspace.latents:
                given[donor, name] = latent_coordinates(subspace, *clip_latents(manifest, place[donor]))
            else:
                stream = cast(zarr.Array, read_store(store_of(manifest))["resid_post"])
                given[donor, name] = coordinates(subspace, cast(np.ndarray, stream[place[donor]]))
    return Edits(subspaces, references, given, sae)
