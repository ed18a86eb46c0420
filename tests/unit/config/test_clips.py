"""Clips: their names, and batches that are stable."""

from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.config.clips import ClipRow, assign_batches, clips_table
from reprise.config.prompts import Prompt, read_prompts
from tests.places import ROOT

ids = st.lists(st.text("abcXYZ019-", min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(prompt_ids=ids, n_batches=st.integers(1, 12), data=st.data())
def test_a_prompts_batch_depends_on_nothing_else(prompt_ids: list[str], n_batches: int, data: st.DataObject) -> None:
    batches = assign_batches(prompt_ids, n_batches)
    shuffled = data.draw(st.permutations(prompt_ids))
    fewer = shuffled[: data.draw(st.integers(0, len(shuffled)))]
    assert assign_batches(fewer, n_batches) == {i: batches[i] for i in fewer}


def test_batches_are_what_they_were() -> None:
    # Written down once: a change here would regenerate everyone's audio.
    known = {"piano-c-amber": "b00", "organ-eb-heath": "b02", "a": "b00"}
    assert assign_batches(list(known), 4) == known


def test_appending_or_deleting_a_prompt_changes_one_batch_of_the_clips_table() -> None:
    prompts = read_prompts(ROOT / "config" / "prompts.tsv")

    def stores(chosen: list[Prompt]) -> dict[str, list[ClipRow]]:
        rows = clips_table(chosen, seeds=[0, 1], n_batches=4, duration_s=16)
        return {batch: [row for row in rows if row.batch == batch] for batch in ("b00", "b01", "b02", "b03")}

    before = stores(prompts)
    assert all(before.values()), "every batch of the demo has clips"
    assert stores(prompts[::-1]) == before
    for changed in ([*prompts, Prompt("new-one", "a new one")], prompts[1:]):
        after = stores(changed)
        assert sum(after[batch] != before[batch] for batch in before) == 1


def test_clips_are_named_by_prompt_and_seed() -> None:
    rows = clips_table([Prompt("a", "b c")], seeds=[3, 1], n_batches=1, duration_s=16)
    assert rows == [ClipRow("a-s1", "a", "b c", 1, "b00", 16.0), ClipRow("a-s3", "a", "b c", 3, "b00", 16.0)]
