"""The error for bad input, and readers for the text files that a configuration names.

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
    """Everything that is wrong with a configuration. `problems` holds one readable line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


def read_text(path: Path) -> str:
    """The text of a file. Raises ConfigError if it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror}); valid: a readable text file"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}; valid: a text file in UTF-8"]) from error


def read_cells(path: Path, dialect: str, problems: list[str], *, valid: str) -> Iterator[tuple[int, list[str]]]:
    """Iterate over the rows of a CSV file that are not empty.

    A quoted cell may span several lines. Only CR and LF end a line. Reading stops at the first row that is not valid
    CSV, and a message about it is added to `problems`.

    Parameters
    ----------
    path
        The file.
    dialect
        A dialect of the `csv` module, such as "excel" or "excel-tab".
    problems
        The list that a message about a malformed row is added to.
    valid
        What is valid, in words, for that message.

    Yields
    ------
    tuple of int and list of str
        The number of the row's first line (from 1), and its cells without surrounding white space.

    Raises
    ------
    ConfigError
        If the file cannot be read or is not UTF-8.
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
    """The names that a header has more than once. Columns without a name are ignored."""
    return [name for name in dict.fromkeys(header) if name and header.count(name) > 1]


def parse_json(text: str) -> Any:
    """Parse JSON, and reject objects that have a key twice. (Python's parser would silently keep the last one.)

    Raises ValueError that says what is wrong; it is a JSONDecodeError if the text is not JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := repeated_columns([key for key, _ in pairs]):
            raise ValueError(f"{' and '.join(map(json.dumps, twice))} is given twice")
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("too many nested brackets") from None
    if any(unicodedata.category(character) == "Cs" for character in json.dumps(found, ensure_ascii=False)):
        raise ValueError("half of a surrogate pair, which is not a character")
    return found


def not_one_line(text: str) -> str:
    """Why a text is not a single line, or "" if it is one.

    A single line has no line break (also none of Unicode's) and no control character such as NUL. Tabs are allowed.
    """
    for character in text:
        if character in _LINE_BREAKS:
            return f"contains a line break (U+{ord(character):04X})"
        if unicodedata.category(character) == "Cc" and character != "\t":
            return f"contains a control character (U+{ord(character):04X})"
    return ""
