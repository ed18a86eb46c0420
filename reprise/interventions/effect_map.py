"""Where and when an edit acts: its effect by layer and time window, one layer at a time and all at once.

At its own layer a candidate is edited itself. At every other layer it is the difference of the class means, which
needs neither an SAE nor the model. `all` edits all of these layers at once: a model may repair the edit of a single
layer from the others, so effects of single layers are lower bounds.

Windows are consecutive and as long as `map_step_s`, from the start of the clip to the end of the time in which the
event is expected. An edit in one window shows when the plan is made, or until when it is needed. Where it is made
again at every position, no window before the decision has an effect.

Effect and damage are those of reprise/interventions/effects.py. Intervals are over prompts, 95 % each, not corrected
for the number of cells: the map describes a candidate that has passed, and decides nothing.

Degenerate input: without clips whose untouched continuation has the event, effects are NaN.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reprise.identity import stable_fraction
from reprise.interventions.subspace import Subspace
from reprise.statistics import bounded_interval

ALL = "all"
OWN = "candidate"


def clips_of_map(clips: pd.DataFrame, n: int) -> pd.DataFrame:
    """Up to `n` of the clips of an ablation, by a hash of their names, in their order."""
    order = clips["clip_id"].map(lambda clip_id: stable_fraction(f"map {clip_id}")).sort_values().index[:n]
    return clips.loc[clips.index.isin(order)].reset_index(drop=True)


def map_windows(stop_s: float, step_s: float) -> list[tuple[float, float]]:
    """Consecutive windows from 0 to `stop_s`, in seconds. The last one may be shorter than `step_s`."""
    starts = np.arange(0, stop_s - 1e-9, step_s)
    return [(float(a), float(min(a + step_s, stop_s))) for a in starts]


def edited_layers(own: int, subspace: Subspace, others: Mapping[int, Subspace]) -> dict[int, tuple[str, Subspace]]:
    """What is edited at each layer: by layer, the edit's name and its subspace.

    Parameters
    ----------
    own : int
        The candidate's layer.
    subspace : Subspace
        The candidate.
    others : mapping
        The difference of the class means, by layer.

    Returns
    -------
    dict
        Sorted by layer.
    """
    found = {layer: (f"layer{layer}", each) for layer, each in others.items() if layer != own}
    return dict(sorted((found | {own: (OWN, subspace)}).items()))


def map_table(
    clips: pd.DataFrame,
    layers: Mapping[int, str],
    windows: Sequence[tuple[float, float]],
    *,
    reference: str,
    prefix_s: float,
    frame_rate_hz: float,
) -> pd.DataFrame:
    """The edits of the map: one row per clip, window and place.

    Parameters
    ----------
    clips : DataFrame
        As in `condition_table`.
    layers : mapping
        The name of the edit of each layer.
    windows : sequence of (float, float)
        Edited times in seconds.
    reference : str
        Name of the reference, for clips without a donor.
    prefix_s, frame_rate_hz : float
        Length of the prefix in seconds, and frames per second.

    Returns
    -------
    DataFrame
        The columns of `clips`, those that `run_conditions` reads, and where (`layer 2`, or `all`), from_s and to_s.
        `all` is left out if there is only one layer.
    """
    places = [(f"layer {layer}", layer, name) for layer, name in layers.items()]
    if len(layers) > 1:
        places.append((ALL, min(layers), ALL))
    cells = pd.DataFrame(
        [(*place, *window) for place in places for window in windows],
        columns=["where", "layer", "edit", "from_s", "to_s"],
    )
    table = clips.merge(cells, how="cross")
    n_prefix = round(prefix_s * frame_rate_hz)
    start, stop = (np.rint(table[name] * frame_rate_hz).astype(np.int64) for name in ("from_s", "to_s"))
    donor = table["donor"] if "donor" in table else pd.Series(None, table.index, object)
    return table.assign(
        kind="target",
        control=0,
        dose=1.0,
        reference=reference,
        donor=donor,
        n_prefix_frames=n_prefix,
        start_position=start,
        stop_position=stop,
    )


def map_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean effect and damage of each cell.

    Parameters
    ----------
    table : DataFrame
        Rows of `map_table` with found_baseline, effect_rate (0 or 1, or -1 for an event that came about) and
        damage_nats.

    Returns
    -------
    DataFrame
        where, from_s, to_s; effect with effect_low and effect_high; damage; n_clips. Only clips count whose untouched
        continuation has the event.
    """
    rows = []
    for (where, from_s, to_s), part in table.groupby(["where", "from_s", "to_s"], sort=False):
        counted = part[part["found_baseline"] == 1]
        low, high = bounded_interval(counted["effect_rate"], counted["prompt_id"], (0.0, 1.0))
        means = {"effect": counted["effect_rate"].mean(), "damage": counted["damage_nats"].mean()}
        rows.append(
            {"where": where, "from_s": from_s, "to_s": to_s, **means, "effect_low": low, "effect_high": high}
            | {"n_clips": len(counted)}
        )
    return pd.DataFrame(rows)
