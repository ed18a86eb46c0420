"""Allow only one run at a time in a directory, even after a run was killed.

Snakemake's own lock survives a killed run and must then be removed by hand. Also, jobs of a killed run may still be
running, and a new run would start them a second time. This module uses a lock that the operating system releases when
its holder dies (flock). Once we hold the lock, jobs that still run in the directory can only be left over from a
killed run. They are stopped before new ones start. Local jobs are found by their working directory and script. SLURM
jobs are found with `squeue`, if there is one, by their working directory and the name that Snakemake's executor gives
them (it ends in a UUID).

On a file system that several hosts share, locks may only work within each host. So a free lock does not mean that no
other host has a run. Therefore the lock file also says who holds it, and every run empties it at its end unless it is
killed. If the file names another host, we can't know whether that run is alive. Then nothing is run and nothing is
stopped.

Degenerate input: on a file system without locks, two runs at once are not prevented, no jobs are stopped, and the log
says so.
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
# Open lock files of this process. Closing a file releases its lock.
_held: list[IO[str]] = []


class OtherRunError(RuntimeError):
    """Another run is active in the directory, or may be. The message says which, since when, and what to do."""


def take_directory(directory: Path, *, tell: Callable[[str], Any]) -> None:
    """Lock `directory` until this process ends, and stop jobs that a killed run left running in it.

    `tell` is called with messages for the user. Raises OtherRunError if another run is alive, or may be alive on
    another host.
    """
    directory = directory.resolve()
    path = directory / ".snakemake" / "reprise.lock"
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  kept open until the end
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OtherRunError(_at_work(_holder(file), directory)) from None
    except OSError as error:
        # Without a lock we can't tell whose jobs these are, so none is cancelled.
        tell(f"the file system of {directory} has no locks ({error}): make sure that only one run uses it")
        return
    host, holder = socket.gethostname(), _holder(file)
    if holder is not None and holder.get("host") != host:
        file.close()
        raise OtherRunError(_out_of_sight(holder, path, host))
    file.truncate(0)
    json.dump({"pid": os.getpid(), "host": host, "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}, file)
    file.flush()
    # Otherwise other hosts would not see it until the file is closed.
    os.fsync(file.fileno())
    _held.append(file)
    atexit.register(_let_go, file, os.getpid())
    # SLURM jobs first: one that runs on this machine is then gone, and is not reported twice.
    if names := end_slurm_jobs(directory) + end_local_jobs(directory):
        tell(f"jobs of a killed run were still running here and were stopped: {', '.join(names)}")


def _let_go(file: IO[str], pid: int) -> None:
    """Empty the lock file, which means that the run has ended. Only a killed run does not do this."""
    if os.getpid() == pid:
        file.truncate(0)
        file.close()


def _holder(file: IO[str]) -> dict[str, Any] | None:
    """What the lock file says about the last run; {} if it cannot be read, None if the run has ended."""
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
            continue  # it has ended, or belongs to another user
    return found


def end_local_jobs(directory: Path) -> list[str]:
    """Stop the processes of `local_jobs`, and wait until they have ended. Returns their descriptions."""
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
    """Cancel the jobs of `slurm_jobs`, and wait until they are gone. Returns their descriptions."""
    jobs = slurm_jobs(directory)
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)
        until = time.monotonic() + 4 * PATIENCE_S
        while slurm_jobs(directory) and time.monotonic() < until:
            time.sleep(1)
    return [f"SLURM job {job}" for job in jobs]


def _who(holder: dict[str, Any]) -> str:
    if not {"pid", "host", "since"} <= holder.keys():
        return "unknown process"
    return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"


def _at_work(holder: dict[str, Any] | None, directory: Path) -> str:
    return f"another run is active in {directory} ({_who(holder or {})}); wait for it, or stop it"


def _out_of_sight(holder: dict[str, Any], path: Path, host: str) -> str:
    look = f"check there with: ps -p {holder['pid']}" if "pid" in holder else "check the hosts that use the directory"
    return (
        f"another run began in {path.parents[1]} ({_who(holder)}), and there is no record that it ended; whether it "
        f"is active cannot be seen from {host}: {look}; wait for it or stop it there, or, if it is dead, delete {path}"
    )
