"""A job's log: it goes on whatever a library does to logging."""

import logging
import logging.config
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reprise.workflow.job import log, start


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_the_log_goes_on_after_a_library_has_configured_logging(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.excepthook", None)
    path = tmp_path / "logs" / "job.log"
    path.parent.mkdir()
    path.write_text("of an earlier run\n")
    job = SimpleNamespace(
        log=[path],
        rule="probe",
        wildcards={"batch": "b00"},
        threads=1,
        resources={"gpu": 0},
        params=SimpleNamespace(settings={"a": 1}),
    )
    assert start(job) == {"a": 1}
    # As audiocraft's dependencies do when they are imported: every handler is closed.
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    log.info("three of four")
    lines = path.read_text().splitlines()
    assert len(lines) == 2 and "rule probe" in lines[0] and lines[1].endswith("three of four")


def test_a_result_does_not_follow_the_cores_of_its_job(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.excepthook", None)
    job = SimpleNamespace(
        log=[tmp_path / "job.log"],
        rule="fit_das",
        wildcards={},
        threads=2,
        resources={"gpu": 0},
        params=SimpleNamespace(settings={}),
    )
    before = torch.get_num_threads()
    try:
        start(job)
        assert torch.get_num_threads() == 1
        start(job, threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
