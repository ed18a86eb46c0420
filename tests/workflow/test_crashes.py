"""A run that is killed anywhere goes on by the same command, computes nothing twice, and ends with the same bytes."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from reprise.workflow.run_lock import local_jobs
from tests.workflow.conftest import ROOT, corpus_of, digests, jobs, snakemake, tiny_config, write_config

pytestmark = pytest.mark.slow

N_KILLS = 14
SEED = 6
STARTED = re.compile(r"(?:local)?(?:rule|checkpoint) (\w+):")


class Run:
    """Snakemake at work in a directory: what it says, job by job, while it says it."""

    def __init__(self, directory: Path, *targets: str) -> None:
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", directory]
        command += ["--configfile", directory / "config.yaml", "--cores", "2", *targets]
        self.process = subprocess.Popen(
            list(map(str, command)),
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Where the tests run in a shell's background, it is ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.said: list[str] = []
        self.started: list[str] = []
        self.finished: list[str] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        """Jobs are told apart by their outputs, since their numbers change from run to run."""
        outputs, output = {}, ""
        for line in self.process.stderr:
            self.said.append(line)
            if STARTED.fullmatch(line.strip()):
                output = ""
            elif line.startswith("    output: "):
                output = line.removeprefix("    output: ").strip()
            elif (found := re.match(r"    jobid: (\d+)", line)) and output:
                outputs[found[1]] = output
                self.started.append(output)
            elif (found := re.match(r"Finished jobid: (\d+)", line)) and found[1] in outputs:
                self.finished.append(outputs[found[1]])

    def wait_for(self, n_started: int, n_finished: int = 0) -> bool:
        """Wait until so many jobs were started and finished; False where the run ended before."""
        while len(self.started) < n_started or len(self.finished) < n_finished:
            if self.process.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    def end(self) -> int:
        code = self.process.wait(timeout=600)
        self._listener.join(timeout=60)
        return code


def kill(run: Run, directory: Path, how: str) -> None:
    if how == "run":  # its jobs live on
        run.process.kill()
    elif how == "machine":
        os.killpg(run.process.pid, signal.SIGKILL)
    elif how == "keyboard":
        os.killpg(run.process.pid, signal.SIGINT)
    elif how == "job":  # as where memory runs out; the run says so, and goes on with what does not need it
        until = time.monotonic() + 5  # the job may have ended of itself in that moment
        for process in local_jobs(directory)[:1]:
            process.kill()
        while not any("Error in rule" in line for line in run.said) and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(run.process.pid, signal.SIGKILL)


@pytest.mark.timeout(1500)
def test_killed_anywhere_it_goes_on_and_ends_with_the_same_bytes(finished, tmp_path):
    directory, rng = tmp_path.resolve(), random.Random(SEED)
    shutil.copy(finished / "prompts.tsv", directory)
    write_config(directory, tiny_config())
    done: list[str] = []
    kills = 0
    while True:
        run = Run(directory)
        # Mostly at once, or the study ends before all kills; else a job later. And then at any moment.
        alive = kills < N_KILLS and run.wait_for(1, rng.choice([0, 0, 0, 1]))
        if alive:
            time.sleep(rng.uniform(0, rng.choice([1, 1, 3])))
            how = rng.choice(["run", "run", "machine", "keyboard", "job"])
            kills += run.process.poll() is None
            with suppress(ProcessLookupError):  # it has just ended of itself
                kill(run, directory, how)
        code = run.end()
        again = set(done) & set(run.started)
        assert not again, f"computed twice: {again}\n{''.join(run.said)}"
        done += run.finished
        if code == 0:
            break
        assert alive, f"not killed, and failed all the same:\n{''.join(run.said)}"
    assert not local_jobs(directory)
    assert kills >= 12, "the study ended before it was killed often enough"
    made, expected = digests(directory), digests(finished)
    assert made.keys() == expected.keys()
    assert [path for path in made if made[path] != expected[path]] == []


def test_a_second_run_is_told_of_the_first(finished, tmp_path):
    directory = tmp_path.resolve()
    shutil.copy(finished / "prompts.tsv", directory)
    write_config(directory, tiny_config())
    first = Run(directory)
    assert first.wait_for(1)
    try:
        said = snakemake(directory, "--cores", "1", check=False)
        assert f"nothing was run: another run is active in {directory} (process {first.process.pid} on " in said
        assert "Traceback" not in said
        # To look is no run.
        assert jobs(snakemake(directory, "--dry-run", "--cores", "1"))["report"] == 1
        assert "stores are intact, 0 are damaged" in snakemake(directory, "--cores", "1", "verify")
        assert first.process.poll() is None and local_jobs(directory)
    finally:
        os.killpg(first.process.pid, signal.SIGKILL)
        first.end()


def test_a_run_that_ended_is_followed_from_any_host_and_one_that_may_live_is_not(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    lock = study / ".snakemake" / "reprise.lock"
    force = ("--cores", "1", "--forcerun", "point_to_clips", "results/tiny/clips.json")
    snakemake(study, *force)
    assert lock.read_text() == ""
    lock.write_text('{"pid": 12, "host": "another", "since": "2026-01-02 03:04:05"}')
    said = snakemake(study, *force, check=False)
    assert "nothing was run: another run began in" in said and "process 12 on another, since 2026-01-02" in said
    assert f"if it is dead, delete {lock.resolve()}" in said and "Traceback" not in said
    lock.unlink()
    snakemake(study, *force)


def test_leftovers_are_this_directorys_alone(tmp_path):
    (tmp_path / ".snakemake/scripts").mkdir(parents=True)
    script = tmp_path / ".snakemake/scripts/tmp1.generate.py"
    script.write_text("import time\ntime.sleep(60)\n")
    (tmp_path / "elsewhere").mkdir()
    here, there = (
        subprocess.Popen([sys.executable, str(script)], cwd=cwd) for cwd in (tmp_path, tmp_path / "elsewhere")
    )
    shell = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        assert psutil.pid_exists(here.pid)
        assert [process.pid for process in local_jobs(tmp_path.resolve())] == [here.pid]
    finally:
        for process in (here, there, shell):
            process.kill()
            process.wait()


def test_what_was_altered_is_found_and_mended_by_the_command_that_is_told(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    before = digests(study)
    whole = snakemake(study, "--cores", "1", "verify")
    n_stores = int(re.search(r"(\d+) stores are intact, 0 are damaged, 0 do not exist yet", whole)[1])
    latents = study / "results/tiny/latents/layer2/b00"
    folders = (corpus_of(study) / "activations/layer2/b01", latents / "values", corpus_of(study) / "tokens/b00")
    altered, cut, gone = (next(path for path in sorted(f.rglob("c/**/*")) if path.is_file()) for f in folders)
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-7])
    gone.unlink()
    # By dates and sizes of folders nothing shows.
    said = snakemake(study, "--cores", "1", "verify", check=False)
    assert f"{n_stores - 3} stores are intact, 3 are damaged, 0 do not exist yet" in said
    told = dict(re.findall(r"^- store (\S+): .*; make it again with: (snakemake --cores 1 --force \S+)", said, re.M))
    assert len(told) == 3 and "was altered" in said and "bytes; the manifest says" in said and "is missing" in said
    # Whoever reads a store that is not whole stops; no number comes of it.
    stopped = snakemake(study, "--cores", "1", "--forcerun", "screen", check=False)
    assert "StoreError: store results/tiny/latents/layer2/b00: file values/" in stopped
    for command in sorted(told.values(), key=lambda command: "latents" in command):
        snakemake(study, *command.split()[1:])
    snakemake(study, "--cores", "1")
    assert f"{n_stores} stores are intact, 0 are damaged" in snakemake(study, "--cores", "1", "verify")
    assert digests(study) == before


def test_a_disk_that_is_full_stops_a_job_and_costs_no_other(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    before = digests(study)
    store = corpus_of(study) / "activations/layer2/b00"
    shutil.rmtree(store)
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
    limited += "sys.argv = ['snakemake', *sys.argv[1:]]; runpy.run_module('snakemake', run_name='__main__')"
    command = [sys.executable, "-c", limited, "--snakefile", ROOT / "Snakefile", "--directory", study]
    command += ["--configfile", study / "config.yaml", "--cores", "1"]
    full = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=study)
    said = full.stdout + full.stderr
    assert full.returncode != 0 and "File too large" in said and "full log: results/logs/corpora" in said
    assert not store.exists() and not list(store.parent.glob(".*"))
    snakemake(study, "--cores", "1")
    assert digests(study) == before


def test_a_generation_goes_on_after_its_last_whole_pass(tmp_path):
    config = tiny_config()
    config["defaults"]["generation"] = {"n_batches": 1, "batch_size": 4}
    config["defaults"]["seeds"] = [0]
    config["defaults"]["certificate"] = config["defaults"]["ablation"] = {"n_clips": 2}
    prompts = (ROOT / "config" / "prompts.tsv").read_text().splitlines()
    made = {}
    for name in ("undisturbed", "killed"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "prompts.tsv").write_text("\n".join([prompts[0], *prompts[1:49:4]]) + "\n")
        write_config(directory, config)
        tokens = corpus_of(directory) / "tokens"
        target = f"{tokens.relative_to(directory)}/b00.manifest.json"
        if name == "killed":
            run = Run(directory, target)
            while not list(tokens.glob(".b00.unfinished/*/000000.npy")) and run.process.poll() is None:
                time.sleep(0.05)
            kill(run, directory, "machine")
            run.end()
            assert not (tokens / "b00").exists()
        snakemake(directory, "--cores", "1", target)
        made[name] = digests(directory)
        assert not list(tokens.glob(".*"))
    log = (tmp_path / "killed/results/logs/corpora").rglob("b00.log")
    assert "passes are reused from an interrupted job" in next(log).read_text()
    assert made["killed"] == made["undisturbed"]
