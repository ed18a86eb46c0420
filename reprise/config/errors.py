"""How bad input is told, and how the text files that a configuration names are read.

The Snakefile imports this at every parse, so nothing heavy is imported here.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


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


def read_cells(path: Path, dialect: str, problems: list[str], *, valid: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty: the number of a row's first line, and its cells without the space
    around them. A quoted cell may go on over lines, and nothing but CR and LF ends one.

    A row that is no CSV ends it, and is added to `problems`, which say what is `valid`.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), dialect, strict=True)
    first = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield first, [cell.strip() for cell in cells]
            first = reader.line_num + 1
    except csv.Error as error:
        problems.append(f"{path}: line {first}: {error}; valid: {valid}")


def repeated_columns(header: Sequence[str]) -> list[str]:
    """The names that a header has more than once; columns without a name are nobody's."""
    return [name for name in dict.fromkeys(header) if name and header.count(name) > 1]


def parse_json(text: str) -> Any:
    """JSON, of which no object has a key twice: the last would win without a word. Raises ValueError (a
    JSONDecodeError where it is no JSON), which says what is wrong."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := repeated_columns([key for key, _ in pairs]):
            raise ValueError(f"{' and '.join(map(json.dumps, twice))} is there twice")
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("brackets within brackets without end") from None
    if any(unicodedata.category(character) == "Cs" for character in json.dumps(found, ensure_ascii=False)):
        raise ValueError("half of a surrogate pair, which is no character")
    return found


def not_one_line(text: str) -> str:
    """What keeps a text from being one line ("" where it is one): a line break of any alphabet, or a character that
    controls something, such as NUL."""
    for character in text:
        if character in _LINE_BREAKS:
            return f"holds a line break (U+{ord(character):04X})"
        if unicodedata.category(character) == "Cc" and character != "\t":
            return f"holds a control character (U+{ord(character):04X})"
    return ""
