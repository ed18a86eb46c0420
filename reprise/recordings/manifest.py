"""Read and check the manifest of a study's recordings, before any job runs.

Conventions. A manifest is a CSV file with a header, or a JSONL file with one object per line. Both have the fields
`path` (relative to the folder of recordings), `sha256` (of the file), `licence`, `source`, `tags` (separated by
semicolons in CSV, a list in JSONL) and `prompt` (empty or null for none). A manifest can also be a metadata file of
MTG-Jamendo as published (`.tsv`), whose tracks have no prompt. Its checksums come from a separate file with lines
`<sha256> <path>`, in the format of MTG-Jamendo and sha256sum. If that file lists 48/948.low.mp3 but not 48/948.mp3,
it belongs to the low-quality set, and 48/948.low.mp3 is the track's file.

A track is the unit of evidence, as a prompt is in other studies. Its id is part of file names. The same recording
under two names would count twice. So among tracks with the same checksum only the one with the smallest id is used,
and the others name it in `same_as`. Published data sets have such duplicates (126 of the 18,486 tracks of
MTG-Jamendo's mood/theme subset), so this is not an error.

Paths and prompts must be single lines. Other cells are read as CSV or JSON defines them, with line breaks.

Problems of a manifest are collected in one ConfigError, one line each. Problems of an audio file are found by the job
that reads it (reprise/recordings/cutting.py). The Snakefile imports this module at every parse, so nothing heavy is
imported here.

Reference: Bogdanov, Won, Tovstogan, Porter & Serra 2019, The MTG-Jamendo Dataset for Automatic Music Tagging.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reprise.config.errors import ConfigError, not_one_line, parse_json, read_cells, read_text, repeated_columns
from reprise.identity import stable_fraction

COLUMNS = ("path", "sha256", "licence", "source", "tags", "prompt")
JAMENDO_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
JAMENDO_LICENCE = "Creative Commons, see MTG-Jamendo's audio_licenses.txt"
# Maximum number of problems that are listed for one file.
MAX_PROBLEMS = 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHECKSUM_LINE = re.compile(r"([0-9A-Fa-f]{64}) [ *]?(\S.*)")
_MAX_ID = 60


class Track(NamedTuple):
    """One recording.

    `path` is relative to the folder of recordings. `prompt` is "" for none. `same_as` is the id of the track with the
    same recording that is used instead, "" for none.
    """

    track_id: str
    path: str
    sha256: str
    prompt: str
    licence: str
    source: str
    tags: tuple[str, ...]
    same_as: str = ""


class _Row(NamedTuple):
    """One row of a manifest: its line number, the track's fields, and its id if the manifest has one."""

    line: int
    fields: dict[str, Any]
    track_id: str = ""


def read_tracks(manifest: str | Path, *, checksums: str | Path = "", max_tracks: int = 0) -> list[Track]:
    """Read the tracks of a manifest.

    Parameters
    ----------
    manifest
        The manifest, a .csv, .jsonl or .tsv file.
    checksums
        A file with the tracks' checksums, used instead of the manifest's; "" for none.
    max_tracks
        Maximum number of tracks; 0 for all. Tracks are chosen by a hash of their ids, so a larger number only adds
        tracks.

    Returns
    -------
    list of Track
        The tracks, sorted by id.

    Raises
    ------
    ConfigError
        With one line for each bad row (up to `MAX_PROBLEMS`): missing fields, a path outside the folder, no SHA-256,
        or a track named twice. Tracks without a checksum in the checksums file are reported in one line.
    """
    manifest = Path(manifest)
    problems: list[str] = []
    rows = list(_rows(manifest, problems, with_sha256=not checksums))
    digests = _read_checksums(Path(checksums)) if checksums else {}
    tracks: list[Track] = []
    first: dict[str, int] = {}
    without: list[_Row] = []
    for row in rows:
        where, fields = f"{manifest}: line {row.line}", row.fields
        path = posixpath.normpath(fields["path"])
        quoted = json.dumps(fields["path"], ensure_ascii=False)
        faults = {name: fault for name in ("path", "prompt") if (fault := not_one_line(fields[name]))}
        for name, fault in faults.items():
            problems.append(f"{where}: {name} is {json.dumps(fields[name])}, which {fault}; valid: one line of text")
        if "path" in faults:
            continue
        if path.startswith(("/", "../")) or path in (".", ".."):
            problems.append(f"{where}: path is {quoted}; valid: a file below recordings.folder, relative to it")
            continue
        if checksums:
            low = ".low".join(posixpath.splitext(path))
            path = low if path not in digests and low in digests else path
            if path not in digests:
                without.append(row)
                continue
            fields["sha256"] = digests[path]
        elif not _SHA256.fullmatch(fields["sha256"].lower()):
            got = json.dumps(fields["sha256"], ensure_ascii=False)
            problems.append(f"{where}: sha256 is {got}; valid: the 64 hex digits of the file's SHA-256")
        track_id = row.track_id or _track_id(path)
        if (line := first.setdefault(track_id.casefold(), row.line)) != row.line:
            valid = "each track once; names must differ in more than case and file extension"
            problems.append(f"{where}: {quoted} names the track {track_id}, as does line {line}; valid: {valid}")
        rest = {name: fields[name] for name in ("prompt", "licence", "source", "tags")}
        tracks.append(Track(track_id, path, fields["sha256"].lower(), **rest))
    if without:
        lacking = f"{len(without)} of {len(rows)} tracks have no checksum in {checksums}"
        problems.append(
            f"{manifest}: {lacking}, the first is {without[0].fields['path']} on line {without[0].line}; valid: the "
            "checksums of these tracks' files"
        )
    if not rows and not problems:
        problems.append(f"{manifest}: no recordings; valid: at least one")
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise ConfigError(problems[:MAX_PROBLEMS] + [f"{manifest}: and {more} more such lines"] * (more > 0))
    tracks.sort()
    standing: dict[str, str] = {}
    for i, track in enumerate(tracks):
        other = standing.setdefault(track.sha256, track.track_id)
        if other != track.track_id:
            tracks[i] = track._replace(same_as=other)
    if max_tracks:
        tracks = sorted(sorted(tracks, key=lambda t: stable_fraction(f"recording {t.track_id}"))[:max_tracks])
    return tracks


def _rows(path: Path, problems: list[str], *, with_sha256: bool) -> Iterator[_Row]:
    """The rows of a manifest of any format. Rows that cannot be read are added to `problems` instead."""
    needed = [name for name in COLUMNS if with_sha256 or name != "sha256"]
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".tsv": _jamendo_rows}
    if path.suffix not in readers:
        raise ConfigError(
            [f"{path}: not a manifest; valid: a file ending in .csv, .jsonl or (MTG-Jamendo's metadata) .tsv"]
        )
    yield from readers[path.suffix](path, needed, problems)


_CELLS = "cells with quotes in pairs"


def _csv_rows(path: Path, needed: Sequence[str], problems: list[str]) -> Iterator[_Row]:
    header: list[str] = []
    for line, cells in read_cells(path, "excel", problems, valid=_CELLS):
        if not header:
            header = cells
            if missing := [name for name in needed if name not in header]:
                text = f"the header has no {' and no '.join(missing)}; valid: the columns {', '.join(needed)}"
                raise ConfigError([f"{path}: line {line}: {text}"])
            if twice := repeated_columns(header):
                text = f"the header has {' and '.join(twice)} twice; valid: each column once"
                raise ConfigError([f"{path}: line {line}: {text}"])
        elif len(cells) != len(header):
            problems.append(f"{path}: line {line}: {len(cells)} cells; valid: {len(header)}, as in the header")
        else:
            fields: dict[str, Any] = dict(zip(header, cells, strict=True))
            fields["tags"] = tuple(tag.strip() for tag in fields["tags"].split(";") if tag.strip())
            yield _Row(line, fields)


def _jsonl_rows(path: Path, needed: Sequence[str], problems: list[str]) -> Iterator[_Row]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where, found = f"{path}: line {number}", None
        with_problem = len(problems)
        try:
            found = parse_json(line)
        except ValueError as error:
            text = getattr(error, "msg", str(error))
            problems.append(f"{where}: {text}; valid: an object with {', '.join(needed)}, each once")
            continue
        if not isinstance(found, dict) or (missing := [name for name in needed if name not in found]):
            lacks = f"no {' and no '.join(missing)}" if isinstance(found, dict) else "not an object"
            problems.append(f"{where}: {lacks}; valid: an object with {', '.join(needed)}")
            continue
        fields = {name: "" if found[name] is None else found[name] for name in needed}
        for name, value in fields.items():
            of_text = isinstance(value, list) and all(isinstance(v, str) for v in value)
            if not (of_text if name == "tags" else isinstance(value, str)):
                valid = "a list of text" if name == "tags" else "text"
                problems.append(f"{where}: {name} is {json.dumps(found[name], ensure_ascii=False)}; valid: {valid}")
        if len(problems) == with_problem:
            stripped = {name: value.strip() for name, value in fields.items() if name != "tags"}
            yield _Row(number, stripped | {"tags": tuple(fields["tags"])})


def _jamendo_rows(path: Path, needed: Sequence[str], problems: list[str]) -> Iterator[_Row]:
    if "sha256" in needed:
        text = "MTG-Jamendo's metadata have no checksums; valid: set recordings.checksums to its file of checksums"
        raise ConfigError([f"{path}: {text}"])
    seen_header = False
    for line, cells in read_cells(path, "excel-tab", problems, valid=_CELLS):
        if not seen_header:
            seen_header = True
            if cells != JAMENDO_COLUMNS:
                valid = f"MTG-Jamendo's, {', '.join(JAMENDO_COLUMNS)} (a manifest of your own is .csv or .jsonl)"
                raise ConfigError([f"{path}: line {line}: the header is {json.dumps(cells)}; valid: {valid}"])
        elif len(cells) < len(JAMENDO_COLUMNS):
            problems.append(f"{path}: line {line}: {len(cells)} cells; valid: {', '.join(JAMENDO_COLUMNS)}")
        else:
            track, artist, album, file = cells[:4]
            fields = {"path": file, "licence": JAMENDO_LICENCE, "tags": tuple(cells[5:]), "prompt": ""}
            fields["source"] = f"MTG-Jamendo {track}, {artist}, {album}"
            yield _Row(line, fields, _slug(track))


def _read_checksums(path: Path) -> dict[str, str]:
    """SHA-256 by path."""
    digests: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if match := _CHECKSUM_LINE.fullmatch(line.rstrip()):
            file, digest = match[2].removeprefix("./"), match[1].lower()
            if digests.setdefault(file, digest) != digest:
                quoted = json.dumps(file, ensure_ascii=False)
                text = f"{quoted} has another checksum on an earlier line; valid: one checksum per file"
                raise ConfigError([f"{path}: line {number}: {text}"])
        elif line.strip():
            got = json.dumps(line[:80], ensure_ascii=False)
            raise ConfigError([f"{path}: line {number}: got {got}; valid: a SHA-256 of 64 hex digits and a path"])
    if not digests:
        raise ConfigError([f"{path}: no checksums; valid: lines with a SHA-256 and a path"])
    return digests


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:_MAX_ID]


def _track_id(path: str) -> str:
    """A path as an id of letters, digits and hyphens. If this changes it, a digest of the path is appended."""
    stem = posixpath.splitext(path)[0]
    slug = _slug(stem)
    return slug if slug == stem else f"{slug}-{hashlib.sha256(path.encode()).hexdigest()[:6]}".lstrip("-")
