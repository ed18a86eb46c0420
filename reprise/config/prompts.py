"""Reading a prompts file, and deciding when two prompts are the same to a model."""

import json
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from reprise.config.errors import ConfigError, not_one_line, read_cells, repeated_columns
from reprise.config.messages import show

PROMPT_COLUMNS = ["prompt_id", "prompt", "group"]
_PROMPT_ID = re.compile(r"[A-Za-z0-9-]+")
# The longest file name with an id in it is <id>-s<seed>--random_direction-prefix_only-d1.flac. File systems allow 255
# bytes, encrypted ones 143.
MAX_ID = 80
# Characters that T5's tokenizer reads as a space, besides those that are white space in Unicode: direction marks,
# zero-width spaces, its own symbol for a space (U+2581) and the replacement character (U+FFFD).
_AS_SPACE = "[\u061c\u200b\u200c\u200e\u200f\ufeff\u2581\ufffd]"


class Prompt(NamedTuple):
    """One row of the prompts file. `group` is "" for a prompt without a group."""

    prompt_id: str
    prompt: str
    group: str = ""


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read a tab-separated prompts file with the header `prompt_id<tab>prompt` or `prompt_id<tab>prompt<tab>group`.

    The rows are returned in the file's order. An id consists of letters, digits and hyphens. It is part of file names,
    so ids must differ in more than case and have at most `MAX_ID` characters. A prompt is one line. Prompts are the
    unit of evidence, so no two may be the same to a model; see `as_models_read`.

    Raises ConfigError that lists every bad line.
    """
    problems: list[str] = []
    prompts: list[Prompt] = []
    first_id: dict[str, int] = {}
    first_text: dict[str, tuple[Prompt, int]] = {}
    header = None
    for line, cells in read_cells(
        Path(path), "excel-tab", problems, valid="cells separated by tabs, with quotes in pairs"
    ):
        where = f"{path}: line {line}"
        if header is None:
            header = cells
            if twice := repeated_columns(header):
                text = f"the header has {' and '.join(twice)} twice; valid: each column once"
                raise ConfigError([f"{where}: {text}"])
            if header not in (PROMPT_COLUMNS, PROMPT_COLUMNS[:2]):
                valid = "the columns prompt_id, prompt and (optional) group, separated by tabs"
                raise ConfigError([f"{where}: the header is {show(header)}; valid: {valid}"])
            continue
        if len(cells) != len(header):
            valid = " and ".join([", ".join(header[:-1]), header[-1]])
            problems.append(f"{where}: {len(cells)} cells; valid: {valid}, separated by one tab")
            continue
        row = Prompt(*cells)
        of_prompt, key = f"{where}: prompt {show(row.prompt_id)}", row.prompt_id.casefold()
        if not _PROMPT_ID.fullmatch(row.prompt_id):
            problems.append(f"{where}: prompt_id {show(row.prompt_id)}; valid: letters, digits and hyphens")
        elif (n := len(row.prompt_id)) > MAX_ID:
            text = f"prompt_id {show(row.prompt_id)} has {n} characters"
            problems.append(f"{where}: {text}; valid: at most {MAX_ID}, because it is part of file names")
        if key and (other_line := first_id.setdefault(key, line)) != line:
            text = f"prompt_id {show(row.prompt_id)} is also on line {other_line}; valid: each id only once"
            problems.append(f"{where}: {text}")
        key = as_models_read(row.prompt)
        if fault := not_one_line(row.prompt):
            problems.append(f"{of_prompt} is {json.dumps(row.prompt)}, which {fault}; valid: one line of text")
        elif not key:
            problems.append(f"{of_prompt} is empty; valid: some text")
        elif (found := first_text.setdefault(key, (row, line)))[0] is not row:
            other, other_line = found
            what = "the same as" if other.prompt == row.prompt else "the same to a model as"
            text = f"{show(other.prompt_id)} on line {other_line}, {show(row.prompt)}"
            problems.append(f"{of_prompt} is {what} {text}; valid: each text once, under one id")
        prompts.append(row)
    if not prompts and not problems:
        problems.append(f"{path}: no prompts; valid: a header and at least one prompt")
    if problems:
        raise ConfigError(problems)
    return prompts


def as_models_read(prompt: str) -> str:
    """A prompt without the differences that some supported model cannot see.

    T5's tokenizer normalizes characters to their compatibility form (NFKC), reads invisible characters as spaces, and
    merges white space into one space. Models with a lookup table of words also ignore case.
    """
    visible = re.sub(_AS_SPACE, " ", prompt)
    return " ".join(unicodedata.normalize("NFKC", visible).split()).lower()
