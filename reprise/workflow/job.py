"""Set up the job of a workflow script: its log file, its threads and its progress messages."""

import atexit
import ctypes
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from reprise.workflow.cards import take_card

Item = TypeVar("Item")
log = logging.getLogger("reprise")
LOG_EVERY_S = 15.0


def start(snakemake: Any, *, threads: int = 1) -> Any:
    """Send logging and uncaught exceptions to the rule's log file, limit the threads of numerical libraries, and take
    a card if the job has a GPU.

    Parameters
    ----------
    snakemake
        What Snakemake gives the script.
    threads : int
        Threads of numerical libraries. The last digits of a result depend on it, so it is fixed for a script, and does
        not follow the cores that Snakemake grants. A script that uses them works on several items at once
        (`reprise.threads.in_threads`).

    Returns
    -------
    Any
        The job's settings (`snakemake.params.settings`).
    """
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    # Some libraries configure logging when they are imported, and close all existing handlers. A handler in append
    # mode then opens its file again.
    file = logging.FileHandler(path, mode="a")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[file], force=True)

    def report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        log.critical("failed", exc_info=(kind, error, trace))
        print(f"{snakemake.rule}: {kind.__name__}: {error}\n  full log: {path}", file=sys.stderr)

    sys.excepthook = report
    keep_freed_memory()
    if snakemake.resources.get("gpu", 0):
        take_card()
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    # The overhead benchmark reads these two lines. They mark the end of the imports and the end of the job.
    log.info("rule %s, wildcards %s, %d threads", snakemake.rule, dict(snakemake.wildcards), snakemake.threads)
    atexit.register(log.info, "end")
    return snakemake.params.settings


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed arrays, instead of handing it back and asking for it again.

    The system clears what it hands out, which costs time for large arrays. Only glibc has these settings; their
    numbers are those of its malloc.h.
    """
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
        # Threads share one pool of memory: what one of them frees is used by the others.
        mallopt(arena_max, 1)


def progress(items: Iterable[Item], *, total: int, what: str) -> Iterator[Item]:
    """Iterate over items, with a progress bar on a terminal and a line in the log every 15 s.

    Parameters
    ----------
    items
        The items.
    total
        Their number.
    what
        What is processed, for the progress bar and the log.

    Yields
    ------
    Item
        The items, unchanged.
    """
    began = last = time.monotonic()
    for done, item in enumerate(tqdm(items, total=total, desc=what, disable=None, leave=False), start=1):
        yield item
        now = time.monotonic()
        if now - last >= LOG_EVERY_S or done == total:
            log.info(
                "%s: %d of %d, %.0f s, about %.0f s left",
                what,
                done,
                total,
                now - began,
                (now - began) * (total - done) / done,
            )
            last = now
