"""Answers that are kept: found once, never out of date, and found again where a file is damaged or missing."""

import os
import time
from pathlib import Path

import pytest

from reprise.workflow.answers import FORGOTTEN_AFTER_S, kept


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "reprise"


class Asked:
    """An answer that counts how often it was asked for."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        return f"answer {self.times}"


def test_an_answer_is_found_once_for_each_digest(cache: Path) -> None:
    asked = Asked()
    assert [kept("a", "why", asked), kept("a", "why", asked)] == ["answer 1"] * 2
    assert kept("a", "how", asked) == "answer 2" and kept("b", "why", asked) == "answer 3"
    assert kept("a", "why", asked) == "answer 1" and asked.times == 3
    assert sorted(path.name for path in cache.iterdir()) == ["a.json", "b.json"]


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"why": 3}'])
def test_a_damaged_file_is_written_again(cache: Path, damaged: str) -> None:
    asked = Asked()
    kept("a", "why", asked)
    (cache / "a.json").write_text(damaged)
    assert kept("a", "why", asked) == kept("a", "why", asked) == "answer 2"


def test_where_nothing_can_be_written_it_is_found_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    asked = Asked()
    assert [kept("a", "why", asked), kept("a", "why", asked)] == ["answer 1", "answer 2"]


def test_an_error_is_not_kept(cache: Path) -> None:
    def fails() -> str:
        raise FileNotFoundError("no such script")

    with pytest.raises(FileNotFoundError, match="no such script"):
        kept("a", "why", fails)
    assert kept("a", "why", Asked()) == "answer 1"


def test_what_was_long_unused_is_forgotten(cache: Path) -> None:
    asked = Asked()
    kept("old", "why", asked)
    kept("new", "why", asked)
    then = time.time() - FORGOTTEN_AFTER_S - 60
    os.utime(cache / "old.json", (then, then))
    kept("newest", "why", asked)
    assert sorted(path.stem for path in cache.iterdir()) == ["new", "newest"]
