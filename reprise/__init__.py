"""Reprise: do autoregressive music models plan a musical return, or stumble into it?"""

from typing import Any

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # Only when it is asked for: the Snakefile imports this package at every parse.
    if name == "open_study":
        from reprise.study import open_study

        return open_study
    if name in ("read_direction", "write_direction"):
        from reprise.interventions import direction_files

        return getattr(direction_files, name)
    raise AttributeError(f"module 'reprise' has no attribute {name!r}")
