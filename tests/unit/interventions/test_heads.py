"""Attribution to heads: for a small edit it is what patching measures; and the table, worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from reprise.interventions.head_clips import losing_clips
from reprise.interventions.heads import (
    Attribution,
    HeadClips,
    attribute_heads,
    choosing_half,
    head_table,
    patched_effects,
    strongest,
)
from reprise.models.adapter import Model
from reprise.models.prompts import encode_prompts

LAYER, N_FRAMES = 1, 60


@pytest.fixture(scope="module")
def clips(random_model: Model) -> HeadClips:
    rng = np.random.default_rng(1)
    own, edited = torch.from_numpy(
        rng.integers(0, random_model.codebook_size, (2, 3, random_model.n_codebooks, N_FRAMES))
    )
    return HeadClips(
        own,
        edited,
        onset=np.array([30, 34, 31]),
        reference=np.array([[5, 15], [0, 30], [0, 0]]),
        text=encode_prompts(random_model, ["a", "b", "c"]),
    )


def edit_of(model: Model, size: float):
    along = torch.from_numpy(np.random.default_rng(2).standard_normal(model.d_model).astype(np.float32))

    def edit(layer: int, start: int, x: torch.Tensor) -> torch.Tensor:
        return x + size * along if layer == LAYER else x

    return edit


def test_a_small_edit_is_attributed_as_it_is_measured(random_model: Model, clips: HeadClips) -> None:
    edit = edit_of(random_model, 3e-2)
    found = attribute_heads(random_model, clips, edit, layer=LAYER)
    n_heads = found.attribution.shape[2]
    heads = [(layer, head) for layer in range(random_model.n_layers) for head in range(n_heads)]
    measured = patched_effects(random_model, clips, edit, heads).reshape(found.attribution.shape)
    assert np.allclose(found.attribution, measured, atol=0.1 * np.abs(measured).max())
    assert np.abs(measured[:, LAYER + 1 :]).max() > 1e-4
    # What comes before the edited layer's output cannot depend on it.
    assert not found.attribution[:, : LAYER + 1].any() and not measured[:, : LAYER + 1].any()


def test_the_next_layer_reads_the_edit_directly_and_later_ones_in_part(random_model: Model, clips: HeadClips) -> None:
    found = attribute_heads(random_model, clips, edit_of(random_model, 3e-2), layer=LAYER)
    assert np.allclose(found.direct[:, LAYER + 1], found.attribution[:, LAYER + 1], atol=1e-6)
    assert not np.allclose(found.direct[:, LAYER + 2], found.attribution[:, LAYER + 2], atol=1e-6)


def test_after_the_last_layer_no_head_is_left(random_model: Model, clips: HeadClips) -> None:
    last = random_model.n_layers - 1

    def edit(layer: int, start: int, x: torch.Tensor) -> torch.Tensor:
        return x + 1.0 if layer == last else x

    found = attribute_heads(random_model, clips, edit, layer=last)
    assert not found.attribution.any() and found.total.any()


def test_no_edit_no_attribution(random_model: Model, clips: HeadClips) -> None:
    found = attribute_heads(random_model, clips, edit_of(random_model, 0.0), layer=LAYER)
    assert not found.attribution.any() and not found.total.any()


def test_a_clip_is_attributed_as_if_it_were_alone(random_model: Model, clips: HeadClips) -> None:
    edit = edit_of(random_model, 1.0)
    together = attribute_heads(random_model, clips, edit, layer=LAYER)
    alone = HeadClips(
        clips.own[1:2],
        clips.edited[1:2],
        clips.onset[1:2],
        clips.reference[1:2],
        encode_prompts(random_model, ["b"]),
    )
    found = attribute_heads(random_model, alone, edit, layer=LAYER)
    for name in Attribution._fields:
        assert np.allclose(getattr(found, name)[0], getattr(together, name)[1], atol=1e-4)


def test_attention_to_the_reference_is_a_share(random_model: Model, clips: HeadClips) -> None:
    share = attribute_heads(random_model, clips, edit_of(random_model, 0.0), layer=LAYER).to_reference
    assert (share >= 0).all() and (share <= 1).all()
    # All that sounded before the event, and nothing.
    assert share[1].mean() > share[0].mean() > 0 and not share[2].any()


def attribution(values: list[list[list[float]]]) -> Attribution:
    made = np.array(values, np.float32)
    return Attribution(made, made / 2, made * 0 + 0.25, made.sum(axis=(1, 2)))


def test_the_table() -> None:
    # Four clips of two prompts, two layers of two heads.
    found = [attribution([[[0, 0], [4, 1]], [[0, 0], [2, -3]]]), attribution([[[0, 0], [1, 2]], [[0, 0], [1, 4]]])]
    prompt = np.array(["a", "a", "b", "b"])
    assert strongest([each.attribution for each in found], np.array([True, True, False, False]), n=3) == [(1, 0)]
    assert strongest([each.attribution for each in found], np.array([False, False, True, True]), n=3) == [
        (1, 1),
        (1, 0),
    ]
    assert strongest([each.attribution for each in found], np.zeros(4, bool), n=3) == []
    patched = [np.array([[3.0], [1.0]])]
    table = head_table(found, [(1, 0)], patched, prompt, patched_in=prompt == "b", shape=(2, 2))
    assert table[["layer", "head"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert table["attribution"].tolist() == [0, 0, 2, 1] and table["direct"].tolist() == [0, 0, 1, 0.5]
    assert table["effect"].dropna().tolist() == [2.0] and table["effect"].notna().tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert table["effect_low"].isna().all()  # of a single prompt
    assert (table["n_clips"] == 4).all() and (table["n_patched"] == 2).all()
    assert table["total"].iloc[0] == 3.0 and table["total_patched"].iloc[0] == 4.0


def test_an_interval_over_prompts() -> None:
    found = [attribution([[[1.0]]] * 4)]
    patched = [np.array([[1.0], [2.0], [3.0], [4.0]])]
    prompt = np.array(["a", "b", "c", "d"])
    table = head_table(found, [(0, 0)], patched, prompt, patched_in=np.ones(4, bool), shape=(1, 1))
    # Student: 2.5 +- 3.182 * 1.291 / 2
    assert np.allclose(table[["effect", "effect_low", "effect_high"]], [[2.5, 0.4457, 4.5543]], atol=1e-3)


def test_the_table_without_clips() -> None:
    table = head_table([], [], [], np.array([]), patched_in=np.zeros(0, bool), shape=(2, 2))
    assert len(table) == 4 and (table["n_clips"] == 0).all()
    assert table[["attribution", "effect", "total"]].isna().all(axis=None)


def test_half_of_the_prompts_choose() -> None:
    prompt = np.array(["a", "b", "a", "c", "d", "b"])
    chosen = choosing_half(prompt)
    assert len(set(prompt[chosen])) == 2 and not set(prompt[chosen]) & set(prompt[~chosen])
    assert not choosing_half(np.array(["a", "a"])).any()


def test_the_clips_are_those_that_lose_their_event() -> None:
    rows = [("a", "untouched", "none", 0.0), ("a", "target", "until_event", 1.0), ("a", "target", "until_event", 2.0)]
    rows += [("b", "untouched", "none", 0.0), ("b", "target", "until_event", 1.0), ("b", "target", "prefix_only", 1.0)]
    table = pd.DataFrame(rows, columns=["clip_id", "kind", "window", "dose"]).assign(arm="necessity")
    other = table.iloc[:2].assign(arm="sufficiency")
    table = pd.concat([other, table], ignore_index=True)
    effects = pd.DataFrame({"effect_rate": [0.0, 1, 0, 1, 1, 0, 0, 1], "onset_s": [9, 9, 10, 0, 0, 11, 0, 0.0]})
    found = losing_clips(table, effects)
    # b loses it only in the prefix; what the other arm does is another matter.
    assert found.index.tolist() == [3] and found["untouched"].tolist() == [2] and found["onset_s"].tolist() == [10.0]
