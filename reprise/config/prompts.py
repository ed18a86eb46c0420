"""How a prompts file is read, and when two prompts are one."""

import json
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from reprise.config.errors import ConfigError, not_one_line, read_cells, repeated_columns
from reprise.config.messages import show

PROMPT_COLUMNS = ["prompt_id", "prompt", "group"]
_PROMPT_ID = re.compile(r"[A-Za-z0-9-]+")
# The longest name that an id is part of is <id>-s<seed>--random_direction-prefix_only-d1.flac, and file systems take
# 255 bytes, encrypted ones 143.
MAX_ID = 80
# What T5's tokenizer reads as a space beside those of Unicode: marks of direction, spaces of no width, its own sign of
# a space and the sign of a character that was lost.
_AS_SPACE = "[\u061c\u200b\u200c\u200e\u200f\ufeff\u2581\ufffd]"


class Prompt(NamedTuple):
    """One row of the prompts file; `group` "": of no group."""

    prompt_id: str
    prompt: str
    group: str = ""


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read a tab-separated prompts file with the header `prompt_id<tab>prompt`, perhaps `<tab>group`, in its order.

    An id is letters, digits and hyphens, and names files, so ids differ in more than case and are no longer than
    `MAX_ID`. A prompt is one line. It is the unit of evidence, so no two may be the same to a model: see
    `as_models_read`. Raises ConfigError listing every bad line.
    """
    problems: list[str] = []
    prompts: list[Prompt] = []
    first_id: dict[str, int] = {}
    first_text: dict[str, tuple[Prompt, int]] = {}
    header = None
    for line, cells in read_cells(
        Path(path), "excel-tab", problems, valid="cells separated by a tab, quotes in pairs"
    ):
        where = f"{path}: line {line}"
        if header is None:
            header = cells
            if twice := repeated_columns(header):
                text = f"the header has {' and '.join(twice)} twice; valid: each column once"
                raise ConfigError([f"{where}: {text}"])
            if header not in (PROMPT_COLUMNS, PROMPT_COLUMNS[:2]):
                valid = "the columns prompt_id, prompt and (if wanted) group, separated by a tab"
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
            problems.append(f"{where}: {text}; valid: at most {MAX_ID}, since it names files")
        if key and (other_line := first_id.setdefault(key, line)) != line:
            text = f"prompt_id {show(row.prompt_id)} is on line {other_line} already; valid: each only once"
            problems.append(f"{where}: {text}")
        key = as_models_read(row.prompt)
        if fault := not_one_line(row.prompt):
            problems.append(f"{of_prompt} is {json.dumps(row.prompt)}, which {fault}; valid: one line of text")
        elif not key:
            problems.append(f"{of_prompt} is empty; valid: some text")
        elif (found := first_text.setdefault(key, (row, line)))[0] is not row:
            other, other_line = found
            what = "the same as" if other.prompt == row.prompt else "to a model the same as"
            text = f"{show(other.prompt_id)} on line {other_line}, {show(row.prompt)}"
            problems.append(f"{of_prompt} is {what} {text}; valid: each text once, under one id")
        prompts.append(row)
    if not prompts and not problems:
        problems.append(f"{path}: no prompts; valid: a header and at least one prompt")
    if problems:
        raise ConfigError(problems)
    return prompts


def as_models_read(prompt: str) -> str:
    """A prompt without what some supported model does not see of it.

    T5's tokenizer takes every form of a character for its compatibility form (NFKC), what is invisible for a space,
    and any space for one. The models with a lookup table of words fold case too.
    """
    visible = re.sub(_AS_SPACE, " ", prompt)
    return " ".join(unicodedata.normalize("NFKC", visible).split()).lower()
