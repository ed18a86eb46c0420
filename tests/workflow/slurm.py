"""A SLURM cluster of one node, started by a test: real daemons, their files in a scratch directory.

Without accounting and cgroups, so that no root is needed. Conventions and traps: https://slurm.schedmd.com/quickstart.html
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.log
MinJobAge=600
EnforcePartLimits=ALL
MailProg=/bin/true
SlurmdParameters=config_overrides
KillWait=5
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 Sockets=1 CoresPerSocket={cores} ThreadsPerCore=1 RealMemory={mb} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=10000 DefaultTime=10 State=UP
"""
# Snakemake's job step drops SLURM's variables before its srun, which then finds no configuration.
SRUN = """#!/bin/sh
export SLURM_CONF={folder}/slurm.conf
exec {srun} "$@"
"""


def found(program: str) -> str | None:
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A running cluster with its files in `folder`; yields the environment in which its commands find it."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    folder.chmod(0o755)
    about = {"host": host, "user": getuser(), "folder": folder, "ports": free_ports(2), "srun": found("srun")}
    about |= {"cores": len(os.sched_getaffinity(0)), "mb": psutil.virtual_memory().total // 2**20}
    (folder / "slurm.conf").write_text(CONF.format(**about))
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    (folder / "bin" / "srun").write_text(SRUN.format(**about))
    (folder / "bin" / "srun").chmod(0o755)
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    munge = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("pid", "log", "seed")]
    munge += [f"--key-file={key}", f"--socket={folder}/munge.sock", "--force"]
    try:
        for command in (["munged", *munge], ["slurmctld"], ["slurmd", "-N", host]):
            subprocess.run([found(command[0]), *command[1:]], env=env, check=True, capture_output=True)
        until = time.monotonic() + 30
        while state(env) != "idle":
            assert time.monotonic() < until, (folder / "slurmctld.log").read_text()
            time.sleep(0.2)
        yield env
    finally:
        subprocess.run(["scancel", f"--user={getuser()}"], env=env, capture_output=True)
        for name in ("slurmd", "slurmctld", "munge"):
            pid = folder / f"{name}.pid"
            if pid.exists():
                subprocess.run(["kill", pid.read_text().strip()], capture_output=True)


def state(env: dict[str, str]) -> str:
    return subprocess.run(["sinfo", "-h", "-o", "%T"], env=env, capture_output=True, text=True).stdout.strip()


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
