"""A job that was cut off goes on where it was, and never from what something else left."""

from collections.abc import Iterator

import numpy as np
import pytest

from reprise.workflow.resume import kept_passes, remove_unfinished, unfinished_folder


def passes_from(n: int, made: list[int], fails_at: int | None = None):
    def make(first: int) -> Iterator[np.ndarray]:
        for i in range(first, n):
            if i == fails_at:
                raise KeyboardInterrupt
            made.append(i)
            yield np.full((2, 3), i, np.uint16)

    return make


def test_passes_that_are_there_are_not_made_again(tmp_path):
    made: list[int] = []
    folder = unfinished_folder(tmp_path / "b00", {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        list(kept_passes(folder, passes_from(5, made, fails_at=3)))
    # A pass that was cut off while it was written.
    (folder / ".partial.npy").write_bytes(b"\x93NUMPY")
    arrays = list(kept_passes(folder, passes_from(5, made)))
    assert made == [0, 1, 2, 3, 4] and [int(a[0, 0]) for a in arrays] == made
    assert {(a.shape, a.dtype.name) for a in arrays} == {((2, 3), "uint16")}
    remove_unfinished(tmp_path / "b00")
    assert list(tmp_path.iterdir()) == []


def test_what_rests_on_something_else_is_not_gone_on_from(tmp_path):
    made: list[int] = []
    first = unfinished_folder(tmp_path / "b00", {"temperature": 1.0})
    list(kept_passes(first, passes_from(2, made)))
    other = unfinished_folder(tmp_path / "b01", {"temperature": 1.0})
    assert other.parent != first.parent, "another output's is left alone"
    second = unfinished_folder(tmp_path / "b00", {"temperature": 0.9})
    assert not first.exists() and list(second.iterdir()) == [] and other.exists()
    assert unfinished_folder(tmp_path / "b00", {"temperature": 0.9}) == second
