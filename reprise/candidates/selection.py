"""From screens to candidates: which features are tested, and how their ablations are named.

Everything that an ablation depends on is decided here without reading a horizon, so that a changed horizon that leads
to the same features does not generate anything again. Clips and controls (reprise/candidates/clips.py,
reprise/candidates/controls.py) follow from whether a clip has an event. The only control that a horizon defines is the
strongest local feature. It is a feature like the candidate, so it is part of the specification of an ablation.

Degenerate input: if no feature predicts at the local horizon only, that control is missing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import pandas as pd


def rank_features(screens: pd.DataFrame, *, fdr: float, horizons: list[str]) -> pd.DataFrame:
    """Features that a longer horizon singles out, best first.

    Parameters
    ----------
    screens : DataFrame
        All screens joined, with q over the whole family.
    fdr : float
        Maximum q.
    horizons : list of str
        The longer horizons.

    Returns
    -------
    DataFrame
        One row per (layer, feature), at its strongest horizon. Features are kept if they are *more* active before a
        return (z > 0: removing one should remove the return) with q <= fdr in one of `horizons`.
    """
    found = screens[screens["horizon"].isin(horizons) & (screens["q"] <= fdr) & (screens["z"] > 0)]
    found = found.sort_values(["z", "layer", "feature"], ascending=[False, True, True], kind="stable")
    return found.drop_duplicates(["layer", "feature"]).reset_index(drop=True)


def strongest_local_feature(
    screens: pd.DataFrame, *, layer: int, excluded: int, fdr: float, local: str, longer: list[str]
) -> int | None:
    """The feature of a layer that the local horizon singles out most and that no longer horizon singles out.

    Parameters
    ----------
    screens : DataFrame
        All screens joined, with q over the whole family.
    layer : int
        The layer.
    excluded : int
        The candidate, which is never taken.
    fdr : float
        Maximum q.
    local : str
        The local horizon. It singles out features as in `rank_features`.
    longer : list of str
        The longer horizons. None of them may single out the feature, in either direction.

    Returns
    -------
    int or None
    """
    found = screens[(screens["layer"] == layer) & (screens["q"] <= fdr) & (screens["feature"] != excluded)]
    far = found.loc[found["horizon"].isin(longer), "feature"]
    near = found[(found["horizon"] == local) & (found["z"] > 0) & ~found["feature"].isin(far)]
    near = near.sort_values(["z", "feature"], ascending=[False, True], kind="stable")
    return None if near.empty else int(near["feature"].iloc[0])


def candidate_title(layer: int, kind: str, latents: Sequence[int], file: str = "") -> str:
    """A candidate in words: `layer 2, feature 117`, `layer 2, features 1 and 7`, `layer 2, mean difference`; one that
    was given in a file, by its name."""
    if file:
        return f"layer {layer}, direction {PurePath(file).stem}"
    if kind == "feature":
        return f"layer {layer}, feature {latents[0]}"
    if latents:
        *first, last = map(str, latents)
        # A set of one is edited as a set, and says so.
        return f"layer {layer}, " + (
            f"features {', '.join(first)} and {last}" if first else f"feature {last} as a set"
        )
    return f"layer {layer}, {kind.upper() if kind in ('leace', 'das') else kind.replace('_', ' ')}"


def candidate_name(spec: Mapping[str, Any]) -> str:
    """Name of an ablation by its specification: layer2-f117-1a2b3c4d, layer2-set3-..., layer2-leace-....

    Equal specifications have equal names.
    """
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
    kind, latents = spec["kind"], spec["subspaces"]["target"]["latents"]
    label = f"f{latents[0]}" if kind == "feature" else f"set{len(latents)}" if latents else kind.replace("_", "")
    return f"layer{spec['layer']}-{label}-{digest}"
