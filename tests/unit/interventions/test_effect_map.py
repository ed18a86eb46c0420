"""The map's windows, edits and means, worked out by hand; an edit of several layers is one after the other."""

import numpy as np
import pandas as pd
import pytest
import torch

from reprise.interventions.edits import Edits, batch_edit
from reprise.interventions.effect_map import ALL, clips_of_map, edited_layers, map_summary, map_table, map_windows
from reprise.interventions.subspace import linear

D = 4
AXES = {layer: linear("mean_difference", np.eye(D)[layer]) for layer in (0, 1, 2)}
SETTINGS = {"reference": "zero", "prefix_s": 8.0, "frame_rate_hz": 25.0}
CLIPS = pd.DataFrame({"clip_id": ["a", "b"], "prompt": ["x", "y"], "prompt_id": ["x", "y"]})


def test_clips_are_chosen_by_their_names_and_not_by_their_place() -> None:
    clips = pd.DataFrame({"clip_id": [f"c{i:02d}" for i in range(24)]})
    chosen = clips_of_map(clips, 12)["clip_id"].tolist()
    assert len(chosen) == 12 and chosen == sorted(chosen) and chosen != clips["clip_id"].tolist()[:12]
    assert sorted(clips_of_map(clips[::-1], 12)["clip_id"]) == chosen
    assert len(clips_of_map(clips.head(3), 12)) == 3


def test_windows_cover_the_time_without_a_gap() -> None:
    assert map_windows(5.0, 2.0) == [(0.0, 2.0), (2.0, 4.0), (4.0, 5.0)]
    assert map_windows(4.0, 2.0) == [(0.0, 2.0), (2.0, 4.0)]


def test_the_candidate_takes_the_place_of_its_layers_mean_difference() -> None:
    own = linear("das", np.eye(D)[3])
    found = edited_layers(1, own, AXES)
    assert [(layer, name) for layer, (name, _) in found.items()] == [(0, "layer0"), (1, "candidate"), (2, "layer2")]
    assert found[1][1] is own and found[2][1] is AXES[2]
    # A layer without a difference of means is left out, and the candidate's stays.
    assert list(edited_layers(1, own, {2: AXES[2]})) == [1, 2]


def table() -> pd.DataFrame:
    return map_table(CLIPS, {0: "layer0", 1: "candidate"}, [(0.0, 2.0), (2.0, 3.0)], **SETTINGS)


def test_one_row_for_each_clip_place_and_window() -> None:
    found = table()
    assert len(found) == 2 * 3 * 2 and not found.duplicated(["clip_id", "where", "from_s"]).any()
    assert found.drop_duplicates("where")[["where", "layer", "edit"]].to_numpy().tolist() == [
        ["layer 0", 0, "layer0"],
        ["layer 1", 1, "candidate"],
        [ALL, 0, ALL],
    ]
    assert found["start_position"].unique().tolist() == [0, 50] and found["stop_position"].unique().tolist() == [
        50,
        75,
    ]
    assert (found["n_prefix_frames"] == 200).all() and (found["dose"] == 1).all() and found["donor"].isna().all()
    # One layer alone is all there is.
    assert ALL not in set(map_table(CLIPS, {0: "layer0"}, [(0.0, 2.0)], **SETTINGS)["where"])


def test_means_are_of_clips_that_have_the_event() -> None:
    rows = table().assign(found_baseline=1.0, effect_rate=0.0, damage_nats=0.1)
    late = (rows["where"] == ALL) & (rows["from_s"] == 2)
    rows.loc[late, "effect_rate"] = [1.0, 0.0]
    rows.loc[late & (rows["clip_id"] == "b"), ["found_baseline", "damage_nats"]] = 0.0
    found = map_summary(rows).set_index(["where", "from_s"])
    assert found.loc[(ALL, 2.0), "effect"] == 1 and found.loc[(ALL, 2.0), "n_clips"] == 1
    assert found.loc[(ALL, 2.0), "damage"] == pytest.approx(0.1) and found.loc[("layer 0", 2.0), "effect"] == 0
    assert found.loc[(ALL, 2.0), "effect_low"] < 1  # one clip is no proof
    nothing = map_summary(rows.assign(found_baseline=0.0))
    assert (nothing["n_clips"] == 0).all() and nothing["effect"].isna().all()


def test_rows_of_one_batch_edit_different_layers_and_all() -> None:
    names = {layer: f"layer{layer}" for layer in AXES}
    subspaces = {names[layer]: each for layer, each in AXES.items()}
    references = {(name, "zero"): np.zeros(1) for name in names.values()}
    edits = Edits(subspaces, references, joint={ALL: {0: "layer0", 2: "layer2"}})
    rows = pd.DataFrame({"edit": ["layer0", "layer2", ALL, ""], "layer": [0, 2, 0, 0], "dose": [1.0, 1.0, 1.0, 0.0]})
    rows = rows.assign(kind=["target"] * 3 + ["untouched"], control=0, reference="zero", donor=None)
    rows = rows.assign(start_position=1, stop_position=[3, 3, 3, 0])
    edit = batch_edit(rows, edits, d_model=D, device="cpu", guided=False)
    x = torch.ones(4, 5, D)
    after = edit(2, 0, edit(1, 0, edit(0, 0, x)))
    expected = x.clone()
    expected[0, 1:3, 0] = expected[1, 1:3, 2] = 0
    expected[2, 1:3, [0]] = expected[2, 1:3, [2]] = 0
    assert torch.equal(after, expected)
