"""Who may run in a directory, and whose jobs may be ended, where hosts share it and locks are each host's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprise.workflow import run_lock
from reprise.workflow.run_lock import OtherRunError, take_directory


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.setattr(run_lock, "_held", [])
    monkeypatch.setattr(run_lock, "end_slurm_jobs", lambda directory: ["SLURM job 7"])
    monkeypatch.setattr(run_lock, "end_local_jobs", lambda directory: [])
    monkeypatch.setattr(run_lock.socket, "gethostname", lambda: "login1")
    return tmp_path.resolve()


def lock(directory: Path) -> Path:
    return directory / ".snakemake" / "reprise.lock"


def held_by(host: str, directory: Path) -> str:
    text = json.dumps({"pid": 4321, "host": host, "since": "2026-01-02 03:04:05"})
    lock(directory).write_text(text)
    return text


def test_a_run_of_another_host_is_neither_joined_nor_robbed_of_its_jobs(directory: Path) -> None:
    """The lock itself is free here: it is the other host's own."""
    text, told = held_by("login2", directory), []
    for _ in range(2):
        with pytest.raises(OtherRunError) as caught:
            take_directory(directory, tell=told.append)
    said = str(caught.value)
    assert "process 4321 on login2, since 2026-01-02 03:04:05" in said and "cannot be seen from login1" in said
    assert "ps -p 4321" in said and said.endswith(f"if it is dead, delete {lock(directory)}")
    assert "\n" not in said and told == [] and lock(directory).read_text() == text
    # The advice helps: what that run left at work is ended then.
    lock(directory).unlink()
    take_directory(directory, tell=told.append)
    assert told == ["jobs of a killed run were still running here and were stopped: SLURM job 7"]


@pytest.mark.parametrize("text", ["{", "[]", '{"pid": 3}', "null", "hands off"])
def test_who_cannot_be_read_may_be_anyone(directory: Path, text: str) -> None:
    lock(directory).write_text(text)
    with pytest.raises(OtherRunError, match="unknown process"):
        take_directory(directory, tell=pytest.fail)
    assert lock(directory).read_text() == text


def test_a_run_that_was_killed_on_this_host_is_followed_at_once(directory: Path) -> None:
    held_by("login1", directory)
    told = []
    take_directory(directory, tell=told.append)
    assert len(told) == 1 and "SLURM job 7" in told[0]
    said = json.loads(lock(directory).read_text())
    assert (said["pid"], said["host"]) == (os.getpid(), "login1")
    # And is told of, here, by who comes next.
    with pytest.raises(
        OtherRunError, match=rf"another run is active in {directory} \(process {os.getpid()} on login1"
    ):
        take_directory(directory, tell=pytest.fail)


HOLD = """
import os, signal, sys
from pathlib import Path
from reprise.workflow import run_lock
run_lock.socket.gethostname = lambda: "login2"
run_lock.end_slurm_jobs = run_lock.end_local_jobs = lambda directory: []
run_lock.take_directory(Path(sys.argv[1]), tell=print)
if os.fork() == 0:
    sys.exit()  # a child's end is not the run's
os.wait()
assert (Path(sys.argv[1]) / ".snakemake/reprise.lock").read_text()
{ends}
"""
ENDS = {
    "well": "",
    "with an error": "raise SystemExit(1)",
    "by an exception": "raise RuntimeError('x')",
    # It is ignored in a shell's background, which a child inherits.
    "by Ctrl-C": "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT)",
}


@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS)
def test_a_run_that_ends_leaves_the_directory_to_any_host(directory: Path, ends: str) -> None:
    subprocess.run([sys.executable, "-c", HOLD.format(ends=ends), directory], capture_output=True)
    assert lock(directory).read_text() == ""
    take_directory(directory, tell=lambda text: None)


def test_a_run_that_is_killed_leaves_its_name(directory: Path) -> None:
    killed = HOLD.format(ends="os.kill(os.getpid(), signal.SIGKILL)")
    subprocess.run([sys.executable, "-c", killed, directory], capture_output=True)
    with pytest.raises(OtherRunError, match="on login2"):
        take_directory(directory, tell=pytest.fail)


def test_without_locks_nothing_is_ended(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(*_: object) -> None:
        raise OSError("No locks available")

    monkeypatch.setattr(run_lock.fcntl, "flock", no_lock)
    monkeypatch.setattr(run_lock, "end_slurm_jobs", pytest.fail)
    told = []
    take_directory(directory, tell=told.append)
    assert len(told) == 1 and "has no locks (No locks available)" in told[0]
