"""How bad input is told, and how the text files that a configuration names are read.

The Snakefile imports this at every parse, so nothing heavy is imported here.
"""

from collections.abc import Sequence
from pathlib import Path


class ConfigError(ValueError):
    """Everything that is wrong with a configuration; `problems` holds one readable line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


def read_text(path: Path) -> str:
    """A file's text. Raises ConfigError where it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror}); valid: a readable text file"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}; valid: a text file in UTF-8"]) from error
