"""Answers that take long to find and depend on files alone, kept from one process to the next.

Each answer is kept under a digest of all that it depends on, so none can be out of date. The files are in
`$XDG_CACHE_HOME/reprise` (by default `~/.cache/reprise`), and may be deleted at any time.

Degenerate input: where a file can't be read or written, or isn't what was written, the answer is found again.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FORGOTTEN_AFTER_S = 30 * 24 * 3600


def kept(digest: str, question: str, answer: Callable[[], str]) -> str:
    """The answer to a question. It is asked for only if it is not known for this digest.

    digest: of all that the answer depends on. Errors of `answer` pass through, and are not kept.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reprise"
    except RuntimeError:  # there is no home
        return answer()
    file = folder / f"{digest}.json"
    known = _read(file)
    if question not in known:
        known = _read(file) | {question: answer()}
        with suppress(OSError):
            _write(file, known)
    return known[question]


def _read(file: Path) -> dict[str, str]:
    """What a file knows: nothing if it is missing or damaged."""
    with suppress(OSError, ValueError):
        known = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
            return known
    return {}


def _write(file: Path, known: dict[str, str]) -> None:
    """Write a file as a whole. Another process may write it at the same time; the later one counts."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob("*.json"):
            if time.time() - old.stat().st_mtime > FORGOTTEN_AFTER_S:
                old.unlink(missing_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(known, sort_keys=True), encoding="utf-8")
    os.replace(partial, file)
