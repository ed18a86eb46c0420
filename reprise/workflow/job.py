"""What every workflow script does first: its log file, its threads, and how it reports progress."""

import atexit
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
log = logging.getLogger("reprise")
LOG_EVERY_S = 15.0


def start(snakemake: Any) -> Any:
    """Send logging and uncaught exceptions to the rule's log file; give numerical libraries the job's threads.

    Returns the job's settings (`snakemake.params.settings`).
    """
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    # Appended to, since a library that configures logging when it is imported closes every handler there is: one that
    # appends opens its file again.
    file = logging.FileHandler(path, mode="a")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[file], force=True)

    def report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        log.critical("failed", exc_info=(kind, error, trace))
        print(f"{snakemake.rule}: {kind.__name__}: {error}\n  full log: {path}", file=sys.stderr)

    sys.excepthook = report
    import threadpoolctl

    threadpoolctl.threadpool_limits(snakemake.threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(snakemake.threads)
    # The benchmark of overhead reads these two lines: imports are over, and the job is.
    log.info("rule %s, wildcards %s, %d threads", snakemake.rule, dict(snakemake.wildcards), snakemake.threads)
    atexit.register(log.info, "end")
    return snakemake.params.settings


def progress(items: Iterable[Item], *, total: int, what: str) -> Iterator[Item]:
    """Yield `items` with a progress bar on a terminal and a line in the log every 15 s."""
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
