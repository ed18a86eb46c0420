"""The table of edits to run: one row per clip and condition.

A condition says which subspace of one layer is moved, to which reference, at which positions and how far. With c(x)
the coordinates of a position in the subspace and W its write directions (reprise/interventions/subspace.py):

    untouched          x
    resampled          x, but with other sampling noise after the prefix
    target             x - dose (c(x) - reference) W                   the candidate
    second_target      the same with another kind of reference, which must agree
    matched_feature    as target, with other active latents of that layer, matched on rate and edit norm
    swapped_fit        as target, with a subspace fitted in the same way on labels exchanged between prompts
    random_subspace    as target, but written along random directions of the same sizes and angles
    local_feature      as target, with the strongest latent that predicts an event at a short horizon only

The reference is that of the other class: of clips without an event where the edited clip has one (necessity), and of
clips with an event where it has none (sufficiency). It is the coordinates of one such clip at the same position, the
donor (resampling), or their mean, or 0. A donor's coordinates come from its conditional pass. This also holds where
the edit changes both branches of a guided batch.

`resampled` guards against regression to the mean. Clips are chosen because they have an event. Any edit that sends the
sampling along another path therefore loses the events that were luck, even if it does no damage. The events that
`resampled` loses are this luck.

Windows. `until_event` edits every position up to the end of the row's target window, in which its event is expected.
This includes prefix and generated positions, and asks whether the subspace is used. `prefix_only` edits the positions
before the end of the prefix. Their keys and values persist, and no position that chooses a frame of the continuation
is edited. This asks whether the plan is stored there. Only `target` is edited so, at dose 1. Position p chooses
codebook 0 of frame p, so a window ends before its `stop_position`: the prefix's length in frames, or the last frame of
the target window + 1.

Degenerate input: no clips or no doses give an empty table.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

UNEDITED = ("untouched", "resampled")
RANDOM_KINDS = ("random_subspace",)
# Kinds that are edited at every dose, because a control is compared at the candidate's damage.
DOSED = ("target", "matched_feature", "swapped_fit", *RANDOM_KINDS)
KINDS = (*UNEDITED, *DOSED, "second_target", "local_feature")
WINDOWS = ("until_event", "prefix_only")


def condition_table(
    edits: Mapping[str, Sequence[str]],
    clips: pd.DataFrame,
    doses: Sequence[float],
    windows: Sequence[str],
    *,
    layer: int,
    reference: str,
    second_reference: str,
    prefix_s: float,
    frame_rate_hz: float,
    n_random: int = 1,
    n_resampled: int = 1,
) -> pd.DataFrame:
    """Make the table of edits: one row per (clip, condition), with the conditions of a clip next to each other.

    Parameters
    ----------
    edits : mapping
        By kind, the names of the subspaces that are edited. `target` names the candidate; it is also that of
        `second_target` and `random_subspace`. Kinds without a name are left out.
    clips : DataFrame
        One row per clip with columns clip_id, prompt_id, prompt, seed, target_start_s and target_stop_s. Its event is
        expected to begin between the last two (onset +- tolerance, or a horizon counted from the prefix's end: see
        `reprise/interventions/effects.py`). A column donor, if present, names the clip whose coordinates are the
        reference. Other columns are copied.
    doses : sequence of float
        1 moves the coordinates to the reference. Dose 0 is kept if listed: its tokens must equal the untouched row's.
    windows : sequence of str
        From `WINDOWS`.
    layer : int
        The layer.
    reference, second_reference : str
        Names of the references of all kinds, and of `second_target`. With a column donor, the donor takes the place of
        the first.
    prefix_s, frame_rate_hz : float
        Length of the prefix in seconds, and frames per second.
    n_random, n_resampled : int
        Number of random subspaces, and of resampled rows per clip.

    Returns
    -------
    DataFrame
        The columns of `clips`, and layer, kind, window, control (number of the control of its kind), dose, edit (name
        of the subspace, "" for none), reference (name), donor (None where there is none), n_prefix_frames,
        start_position and stop_position (positions from the first to before the second are edited) and condition, a
        name that is unique within the candidate.
        `untouched` has one row per clip and `resampled` has `n_resampled`, with window "none" and dose 0.

    Raises
    ------
    ValueError
        For an unknown kind or window, or a target window that does not lie after `prefix_s`.
    """
    for name, given, valid in (("edits", edits, KINDS), ("windows", windows, WINDOWS)):
        if unknown := [g for g in given if g not in valid]:
            raise ValueError(f"condition_table: {name} has {unknown[0]!r}; valid: {', '.join(valid)}")
    start_s, stop_s = (clips[c].to_numpy(float) for c in ("target_start_s", "target_stop_s"))
    if len(wrong := np.flatnonzero(~((start_s >= prefix_s) & (stop_s >= start_s)))):
        i = int(wrong[0])
        raise ValueError(
            f"condition_table: clip {clips['clip_id'].iloc[i]} has the target window {start_s[i]:g}-{stop_s[i]:g} s; "
            f"valid: after the prefix of {prefix_s:g} s"
        )
    names = {
        **edits,
        "random_subspace": [*edits.get("target", ())] * n_random,
        "second_target": edits.get("target", ()) if second_reference else (),
    }
    conditions = pd.DataFrame(
        _conditions(names, doses, windows, n_resampled),
        columns=["condition", "kind", "window", "control", "dose", "edit"],
    )
    table = clips.merge(conditions, how="cross")
    second = table["kind"] == "second_target"
    table["reference"] = np.where(second, second_reference, reference)
    table["donor"] = (table["donor"] if "donor" in table else pd.Series(None, table.index, object)).mask(
        second | (table["edit"] == ""), None
    )
    n_prefix = round(prefix_s * frame_rate_hz)
    event_stop = np.rint(table["target_stop_s"] * frame_rate_hz) + 1
    stop = {"none": 0, "prefix_only": n_prefix, "until_event": event_stop}
    table["layer"], table["n_prefix_frames"] = layer, n_prefix
    table["start_position"] = 0
    table["stop_position"] = np.select([table["window"] == w for w in stop], list(stop.values()), 0).astype(np.int64)
    return table.astype({"dose": float})


def _conditions(
    names: Mapping[str, Sequence[str]], doses: Sequence[float], windows: Sequence[str], n_resampled: int
) -> list[tuple[str, str, str, int, float, str]]:
    """The conditions of one clip: condition, kind, window, control, dose and edit of each."""
    conditions: list[tuple[str, str, str, int, float, str]] = [("untouched0", "untouched", "none", 0, 0.0, "")]
    conditions += [(f"resampled{i}", "resampled", "none", i, 0.0, "") for i in range(n_resampled)]
    for window in windows:
        for kind in (k for k in KINDS if k in names):
            if window == "prefix_only" and kind != "target":
                continue
            every = kind in DOSED and window == "until_event"
            for control, edit in enumerate(names[kind]):
                for dose in doses if every else [d for d in doses if d == 1]:
                    name = f"{kind}{control}-{window}-d{dose:g}"
                    conditions.append((name, kind, window, control, dose, edit))
    return conditions
