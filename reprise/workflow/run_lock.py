"""One run at a time in a directory, whatever became of the last one.

Snakemake's own lock outlives a killed run, and then asks to be removed by hand; jobs of a killed run live on, and a
new run would start them a second time beside themselves. Here the lock is one that the operating system drops when its
holder dies (flock), and once it is held, jobs that still work in the directory can only be leftovers: they are ended
before new ones start. Local ones are found by their working directory and script, SLURM's by their working directory
and the name that Snakemake's executor gives its jobs (it ends in a UUID), where there is a `squeue`.

A file system that several hosts share may keep locks to each host, so that a lock that is free says nothing of the
others. So the lock's file says who holds it, and is emptied by every run that is not killed. Where it names another
host, whether that run lives is not known from here, and nothing is run nor ended.

Degenerate input: on a file system without locks two runs are not kept apart and nothing is ended, and the log says so.
"""

import atexit
import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import psutil

SCRIPTS = f"{os.sep}.snakemake{os.sep}scripts{os.sep}"
_RUN_NAME = re.compile(r"(.*_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PATIENCE_S = 30.0
# Open files of the locks this process holds: closing one lets go of it.
_held: list[IO[str]] = []


class OtherRunError(RuntimeError):
    """Another run works in the directory, or may: says which, since when and what to do."""


def take_directory(directory: Path, *, tell: Callable[[str], Any]) -> None:
    """Lock `directory` until this process ends, and end what an earlier run left at work in it.

    tell: takes what is worth saying. Raises OtherRunError where another run is alive, or may be, on another host.
    """
    directory = directory.resolve()
    path = directory / ".snakemake" / "reprise.lock"
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  held until the end
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OtherRunError(_at_work(_holder(file), directory)) from None
    except OSError as error:
        # Whose the jobs are that work here is not known then, so none is ended.
        tell(f"the file system of {directory} has no locks ({error}): see to it that only one run works there")
        return
    host, holder = socket.gethostname(), _holder(file)
    if holder is not None and holder.get("host") != host:
        file.close()
        raise OtherRunError(_out_of_sight(holder, path, host))
    file.truncate(0)
    json.dump({"pid": os.getpid(), "host": host, "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}, file)
    file.flush()
    # Else another host does not see it until the file is closed.
    os.fsync(file.fileno())
    _held.append(file)
    atexit.register(_let_go, file, os.getpid())
    # SLURM's first: where one works on this very machine, it is gone then, and not told twice.
    if names := end_slurm_jobs(directory) + end_local_jobs(directory):
        tell(f"jobs of a run that was killed were still at work here and were ended: {', '.join(names)}")


def _let_go(file: IO[str], pid: int) -> None:
    """Say in the lock's file that the run has ended, however it did, as long as it was not killed."""
    if os.getpid() == pid:
        file.truncate(0)
        file.close()


def _holder(file: IO[str]) -> dict[str, Any] | None:
    """What the lock's file says of the last run, {} where that is not to be read; None where it ended and said so."""
    file.seek(0)
    text = file.read()
    if not text.strip():
        return None
    try:
        said = json.loads(text)
    except ValueError:
        said = {}
    return said if isinstance(said, dict) else {}


def local_jobs(directory: Path) -> list[psutil.Process]:
    """Processes that run a script of the workflow in `directory`."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == directory and any(SCRIPTS in part for part in process.cmdline()):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it has ended, or is somebody else's
    return found


def end_local_jobs(directory: Path) -> list[str]:
    """End the processes of `local_jobs`, and wait until they have; what they were."""
    processes = local_jobs(directory)
    names = []
    for process in processes:
        try:
            script = next(Path(part).name for part in process.cmdline() if SCRIPTS in part)
            process.terminate()
            names.append(f"process {process.pid} ({script.partition('.')[2]})")
        except (psutil.Error, StopIteration):
            continue
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=PATIENCE_S)
    return names


def slurm_jobs(directory: Path) -> list[str]:
    """Ids of this user's SLURM jobs that a run of Snakemake in `directory` submitted; none without SLURM."""
    if shutil.which("squeue") is None:
        return []
    listed = subprocess.run(["squeue", "--me", "-h", "-o", "%i|%j|%Z"], capture_output=True, text=True).stdout
    jobs = [line.split("|", 2) for line in listed.splitlines() if line.count("|") >= 2]
    return [
        job
        for job, name, where in jobs
        if _RUN_NAME.fullmatch(name) and Path(where) == directory and job != os.environ.get("SLURM_JOB_ID")
    ]


def end_slurm_jobs(directory: Path) -> list[str]:
    """Cancel the jobs of `slurm_jobs`, and wait until they are gone; what they were."""
    jobs = slurm_jobs(directory)
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)
        until = time.monotonic() + 4 * PATIENCE_S
        while slurm_jobs(directory) and time.monotonic() < until:
            time.sleep(1)
    return [f"SLURM job {job}" for job in jobs]


def _who(holder: dict[str, Any]) -> str:
    if not {"pid", "host", "since"} <= holder.keys():
        return "it has not said which"
    return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"


def _at_work(holder: dict[str, Any] | None, directory: Path) -> str:
    return f"another run is at work in {directory} ({_who(holder or {})}); wait for it, or stop it"


def _out_of_sight(holder: dict[str, Any], path: Path, host: str) -> str:
    look = f"look there, with: ps -p {holder['pid']}" if "pid" in holder else "look on the hosts that work there"
    return (
        f"another run began in {path.parents[1]} ({_who(holder)}) and has not said that it ended; whether it is at "
        f"work cannot be seen from {host}: {look}; wait for it or stop it there, or, if it is dead, delete {path}"
    )
