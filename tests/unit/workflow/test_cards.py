"""Cards of a machine: each job gets one of its own, and gives it back however it ends."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from reprise.workflow import cards

# Takes a card, says which, and holds it until it is told to end.
JOB = """
import os, sys
from pathlib import Path
from reprise.workflow.cards import take_card
print(take_card(Path(sys.argv[1])), os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.readline()
"""
Job = Callable[..., subprocess.Popen]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Starts a job that sees some cards."""
    begun = []

    def begin(visible: str = "0,1") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", JOB, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": visible},
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def said(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_jobs_take_different_cards_and_wait_for_a_free_one(job: Job) -> None:
    first, second = job(), job()
    assert sorted([said(first), said(second)]) == ["0 0", "1 1"]
    third = job()
    time.sleep(1)
    assert third.poll() is None
    # A killed job holds nothing.
    second.kill()
    second.wait()
    assert said(third) in ("0 0", "1 1")


def test_a_card_that_a_scheduler_gave_is_kept(job: Job) -> None:
    """Here by its identifier, as of a part of a card."""
    first, other = job("MIG-7a/1"), job("3")
    assert said(first) == "MIG-7a/1 MIG-7a/1" and said(other) == "3 3"


def test_jobs_that_see_one_card_each_under_the_same_number_do_not_wait(job: Job) -> None:
    """A scheduler may show every job its own card as number 0."""
    first, second = job("0"), job("0")
    assert said(first) == "0 0" and said(second) == "0 0"


def test_without_cards_there_is_nothing_to_take(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv(cards.VISIBLE, "")
    assert cards.take_card(tmp_path / "locks") is None
    assert not (tmp_path / "locks").exists()


def test_the_driver_is_asked_where_nothing_is_said(monkeypatch) -> None:
    monkeypatch.delenv(cards.VISIBLE, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert cards.visible_cards() == ["0", "1", "2"]


def test_a_card_is_chosen_even_if_cuda_has_begun(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv(cards.VISIBLE, "4,5")
    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", lambda: 2, raising=False)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(cards, "_held", [])
    blocked = tmp_path / "4"
    with open(blocked, "a") as file:
        cards.fcntl.flock(file, cards.fcntl.LOCK_EX)
        assert cards.take_card(tmp_path) == "5"
    assert chosen == [1] and os.environ[cards.VISIBLE] == "5"


def test_a_folder_that_takes_no_locks_stops_no_job(monkeypatch, tmp_path: Path, caplog) -> None:
    monkeypatch.setenv(cards.VISIBLE, "0,1")
    (tmp_path / "locks").write_text("not a folder")
    assert cards.take_card(tmp_path / "locks") is None
    assert "no card is reserved" in caplog.text and os.environ[cards.VISIBLE] == "0,1"
