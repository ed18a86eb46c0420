"""Manifests of recordings: our own in both forms and MTG-Jamendo's as published; bad lines are named, one each."""

import hashlib
import json
from pathlib import Path

import pytest

from reprise.config.clips import assign_batches, study_tracks
from reprise.config.errors import ConfigError
from reprise.config.schema import Config
from reprise.config.validation import validate
from reprise.recordings.manifest import JAMENDO_LICENCE, MAX_PROBLEMS, Track, read_tracks
from tests.places import PLANNER

A, B = "a" * 64, "b" * 64
# Lines of MTG-Jamendo's autotagging_moodtheme.tsv, which end as in Windows, and of its two files of checksums for it.
JAMENDO = (
    "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\r\n"
    "track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\tmood/theme---background\r\n"
    "track_1422056\tartist_496314\talbum_165847\t56/1422056.mp3\t516.0\tmood/theme---advertising\tmood/theme---dramatic"
    "\tmood/theme---epic\tmood/theme---movie\r\n"
)
FULL = (
    "ec66aee245c7785b9607137d579becd20a1bd05555cf8cfb0b12371c9ec5aa40 48/948.mp3\n"
    "6effece7d10f3aa70fe5fbb5f53ae688309d3036a5b66504cd1d65cd0bc29625 56/1422056.mp3\n"
)
LOW = (
    "404148389e1be25c644f67cb797c327ab25eed3637607edc55d117909d54d01d 48/948.low.mp3\n"
    "07634bc5261628e6908992151928c0f012f9981dea69f694e5b649302346b4c4 56/1422056.low.mp3\n"
)


def file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def problems(manifest: Path, **more: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read_tracks(manifest, **more)
    return tuple(line.removeprefix(f"{manifest.parent}/") for line in caught.value.problems)


def test_a_csv_and_a_jsonl_of_the_same_recordings_are_read_alike(tmp_path: Path) -> None:
    csv = file(
        tmp_path,
        "m.csv",
        "path,sha256,licence,source,tags,prompt,title\n"
        f'sonata.flac,{A},CC0,"archive.org, a set",slow; piano ,a piano sonata,ignored\n'
        "\n"
        f"jazz/Lée's tune (live).mp3,{B.upper()},CC BY 4.0,,,,\n",
    )
    rows = [
        {"path": "sonata.flac", "sha256": A, "licence": "CC0", "source": "archive.org, a set"}
        | {"tags": ["slow", "piano"], "prompt": "a piano sonata", "title": "ignored"},
        {"path": "jazz/Lée's tune (live).mp3", "sha256": B, "licence": "CC BY 4.0", "source": None}
        | {"tags": [], "prompt": None},
    ]
    jsonl = file(tmp_path, "m.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n")
    found = read_tracks(csv)
    assert found == read_tracks(jsonl)
    live, sonata = found
    assert sonata == Track(
        "sonata", "sonata.flac", A, "a piano sonata", "CC0", "archive.org, a set", ("slow", "piano")
    )
    # A name for files: letters, digits and hyphens, and whatever had to go is told apart by a digest of the path.
    digest = hashlib.sha256("jazz/Lée's tune (live).mp3".encode()).hexdigest()[:6]
    assert live.track_id == f"jazz-L-e-s-tune-live-{digest}"
    assert (live.prompt, live.source, live.tags, live.sha256) == ("", "", (), B)


@pytest.mark.parametrize("checksums, low", [(FULL, ""), (LOW, ".low")])
def test_mtg_jamendos_files_are_read_as_published(tmp_path: Path, checksums: str, low: str) -> None:
    manifest = file(tmp_path, "autotagging_moodtheme.tsv", JAMENDO)
    first, second = read_tracks(manifest, checksums=file(tmp_path, "sha256_tracks.txt", checksums))
    assert first == Track(
        "track-0000948",
        f"48/948{low}.mp3",
        checksums[:64],
        "",
        JAMENDO_LICENCE,
        "MTG-Jamendo track_0000948, artist_000087, album_000149",
        ("mood/theme---background",),
    )
    assert second.tags == tuple(f"mood/theme---{tag}" for tag in ("advertising", "dramatic", "epic", "movie"))
    assert second.path == f"56/1422056{low}.mp3"


def test_tracks_without_a_checksum_are_one_problem(tmp_path: Path) -> None:
    manifest = file(tmp_path, "a.tsv", JAMENDO)
    short = file(tmp_path, "short.txt", FULL.splitlines()[0])
    lacking = f"a.tsv: 1 of 2 tracks have no checksum in {short}, the first is 56/1422056.mp3 on line 3"
    assert problems(manifest, checksums=short) == (f"{lacking}; valid: the checksums of these tracks' files",)
    assert problems(manifest) == (
        "a.tsv: MTG-Jamendo's metadata have no checksums; valid: set recordings.checksums to its file of checksums",
    )


def test_checksums_as_sha256sum_writes_them_stand_for_a_column(tmp_path: Path) -> None:
    manifest = file(tmp_path, "m.csv", "path,licence,source,tags,prompt\nx/1.wav,CC0,,,\nx/2.wav,CC0,,,\n")
    sums = file(tmp_path, "SHA256SUMS", f"{A}  ./x/1.wav\n{B.upper()} *x/2.wav\n")
    assert [track.sha256 for track in read_tracks(manifest, checksums=sums)] == [A, B]


HEADER = "path,sha256,licence,source,tags,prompt\n"
BAD = {
    "a missing column": ("path,sha256,source,tags\n", "m.csv: line 1: the header has no licence and no prompt; "),
    "a path that leads out": (f"{HEADER}../x.wav,{A},,,,\n", 'm.csv: line 2: path is "../x.wav"; valid: a file below'),
    "an absolute path": (f"{HEADER}/x.wav,{A},,,,\n", 'm.csv: line 2: path is "/x.wav"; valid: a file below'),
    "a detour": (f"{HEADER}a/../../x.wav,{A},,,,\n", 'm.csv: line 2: path is "a/../../x.wav"; valid: a file below'),
    "no path": (f"{HEADER},{A},,,,\n", 'm.csv: line 2: path is ""; valid: a file below'),
    "no SHA-256": (
        f"{HEADER}x.wav,d41d8cd98f,,,,\n",
        'm.csv: line 2: sha256 is "d41d8cd98f"; valid: the 64 hex digits',
    ),
    "a track twice": (
        f"{HEADER}x.wav,{A},,,,\n./X.flac,{B},,,,\n",
        'm.csv: line 3: "./X.flac" names the track X, as does line 2; valid: each track once',
    ),
    "too few cells": (f"{HEADER}x.wav,{A},,\n", "m.csv: line 2: 4 cells; valid: 6, as in the header"),
    "an open quote": (f'{HEADER}"x.wav,{A},,,,\n', "m.csv: line 2: unexpected end of data; valid: cells with"),
    "nothing": (HEADER, "m.csv: no recordings; valid: at least one"),
}


@pytest.mark.parametrize(("text", "line"), BAD.values(), ids=BAD)
def test_a_bad_line_is_named(tmp_path: Path, text: str, line: str) -> None:
    (found,) = problems(file(tmp_path, "m.csv", text))
    assert found.startswith(line)


def test_bad_lines_of_jsonl_are_named_all_at_once(tmp_path: Path) -> None:
    good = {"path": "x.wav", "sha256": A, "licence": "", "source": "", "tags": [], "prompt": ""}
    lines = ["{", "[]", '{"path": "x.wav"}', json.dumps(good | {"tags": "slow"}), json.dumps(good | {"prompt": 3})]
    found = problems(file(tmp_path, "m.jsonl", "\n".join(lines)))
    assert [line.partition(";")[0] for line in found] == [
        "m.jsonl: line 1: Expecting property name enclosed in double quotes",
        "m.jsonl: line 2: not an object",
        "m.jsonl: line 3: no sha256 and no licence and no source and no tags and no prompt",
        'm.jsonl: line 4: tags is "slow"',
        "m.jsonl: line 5: prompt is 3",
    ]


BREAKS = {"LF": "\n", "CR LF": "\r\n", "VT": "\x0b", "FF": "\x0c", "NEL": "\x85", "LS": "\u2028", "PS": "\u2029"}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_a_line_break_in_a_cell_is_kept_and_in_a_prompt_refused(tmp_path: Path, broken: str) -> None:
    """The words on both sides of it never run together, and lines are counted as an editor counts them."""
    n_lines = 1 + broken.endswith("\n")
    rows = f'x.wav,{A},"CC0{broken}or so",me,,\n'
    (track,) = read_tracks(file(tmp_path, "m.csv", HEADER + rows))
    assert track.licence == f"CC0{broken}or so".replace("\r\n", "\n")
    rows += f'y.wav,{B},,,,"warm piano{broken}slow"\n'
    rows += 'z.wav,no,,,,"warm piano"\n'
    prompt, checksum = problems(file(tmp_path, "m.csv", HEADER + rows))
    assert prompt.startswith(f"m.csv: line {2 + n_lines}: prompt is ") and "contains a line break (U+" in prompt
    assert checksum.startswith(f"m.csv: line {2 + 2 * n_lines}: sha256 is")
    (path,) = problems(file(tmp_path, "m.csv", f'{HEADER}"x{broken}y.wav",{A},,,,\n'))
    assert path.startswith("m.csv: line 2: path is ") and path.endswith("valid: one line of text")


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_a_line_break_in_jsonl_is_what_json_says(tmp_path: Path, broken: str) -> None:
    good = {"path": "x.wav", "sha256": A, "licence": f"CC0{broken}or so", "source": "", "tags": [], "prompt": ""}
    bad = good | {"path": "y.wav", "sha256": B, "prompt": f"warm piano{broken}slow"}
    # Not escaped where JSON allows it.
    one, two = (json.dumps(row, ensure_ascii=False) for row in (good, bad))
    assert read_tracks(file(tmp_path, "m.jsonl", one + "\n"))[0].licence == f"CC0{broken}or so"
    (line,) = problems(file(tmp_path, "m.jsonl", f"{one}\n{two}\n"))
    assert line.startswith("m.jsonl: line 2: prompt is ") and "contains a line break (U+" in line


def test_a_line_separator_splits_no_line_of_checksums(tmp_path: Path) -> None:
    manifest = file(tmp_path, "m.csv", "path,licence,source,tags,prompt\nx.wav,CC0,,,\n")
    bad = file(tmp_path, "SHA256SUMS", f"{A}  x.wav\n{B}  y\u2028z.wav\nnone\n")
    with pytest.raises(ConfigError, match='SHA256SUMS: line 3: got "none"; valid'):
        read_tracks(manifest, checksums=bad)


def test_what_is_said_twice_is_refused_and_named(tmp_path: Path) -> None:
    """The last one would win, without a word."""
    twice = "path,sha256,licence,source,tags,prompt,prompt\n"
    assert problems(file(tmp_path, "m.csv", f"{twice}x.wav,{A},CC0,me,rock,warm piano,\n")) == (
        "m.csv: line 1: the header has prompt twice; valid: each column once",
    )
    (found,) = read_tracks(file(tmp_path, "m.csv", f"{HEADER[:-1]},,\nx.wav,{A},,,,warm piano,,\n"))
    assert found.prompt == "warm piano"  # columns without a name are nobody's
    row = json.dumps({"path": "x.wav", "sha256": A, "licence": "", "source": "", "tags": [], "prompt": "piano"})
    (line,) = problems(file(tmp_path, "m.jsonl", row[:-1] + ', "prompt": ""}\n'))
    assert line.startswith('m.jsonl: line 1: "prompt" is given twice; valid: an object with path')
    manifest = file(tmp_path, "m2.csv", "path,licence,source,tags,prompt\nx.wav,CC0,,,\n")
    sums = file(tmp_path, "sums", f"{A}  x.wav\n{A.upper()} *./x.wav\n")
    assert read_tracks(manifest, checksums=sums)[0].sha256 == A
    with pytest.raises(ConfigError, match=r'line 3: "x\.wav" has another checksum on an earlier line; valid: '):
        read_tracks(manifest, checksums=file(tmp_path, "sums", f"{A}  x.wav\n\n{B}  x.wav\n"))


def test_half_a_character_of_jsonl_is_refused(tmp_path: Path) -> None:
    row = f'{{"path": "x\\ud800.wav", "sha256": "{A}", "licence": "", "source": "", "tags": [], "prompt": ""}}\n'
    (line,) = problems(file(tmp_path, "m.jsonl", row))
    assert line.startswith("m.jsonl: line 1: half of a surrogate pair, which is not a character; valid: an object")


def test_thousands_of_bad_lines_are_not_all_told(tmp_path: Path) -> None:
    found = problems(file(tmp_path, "m.csv", HEADER + "".join(f"{i}.wav,no,,,,\n" for i in range(5000))))
    assert len(found) == MAX_PROBLEMS + 1 and found[-1] == f"m.csv: and {5000 - MAX_PROBLEMS} more such lines"


def test_another_table_is_no_manifest(tmp_path: Path) -> None:
    assert "a file ending in .csv, .jsonl or" in problems(file(tmp_path, "m.txt", HEADER))[0]
    sums = file(tmp_path, "sums", FULL)
    assert "the header is" in problems(file(tmp_path, "m.tsv", HEADER.replace(",", "\t")), checksums=sums)[0]
    bad = file(tmp_path, "bad", FULL + "not a checksum\n")
    with pytest.raises(ConfigError, match='bad: line 3: got "not a checksum"; valid: a SHA-256'):
        read_tracks(file(tmp_path, "a.tsv", JAMENDO), checksums=bad)


def test_one_recording_under_two_names_stands_once(tmp_path: Path) -> None:
    """As 126 tracks of MTG-Jamendo's mood/theme subset do: no error, but never counted twice."""
    rows = f"b.wav,{A},,,,\nc.wav,{B},,,,\na.wav,{A},,,,\n"
    found = read_tracks(file(tmp_path, "m.csv", HEADER + rows))
    assert [(track.track_id, track.same_as) for track in found] == [("a", ""), ("b", "a"), ("c", "")]


def test_more_tracks_add_some_and_move_none(tmp_path: Path) -> None:
    rows = [f"t{i:03d}.wav,{hashlib.sha256(str(i).encode()).hexdigest()},,,,\n" for i in range(200)]
    few, more, shuffled = (
        {t.track_id for t in read_tracks(file(tmp_path, "m.csv", HEADER + "".join(lines)), max_tracks=n)}
        for lines, n in ((rows, 20), (rows, 50), (rows[::-1], 20))
    )
    assert len(few) == 20 and few < more and len(more) == 50 and few == shuffled
    # Not the first ones, and their batches are those that they have among all.
    assert few != {f"t{i:03d}" for i in range(20)}
    everyone = assign_batches([f"t{i:03d}" for i in range(200)], 4)
    assert assign_batches(sorted(few), 4) == {t: everyone[t] for t in sorted(few)}


# --- a study of recordings in the configuration ---


def study(tmp_path: Path, rows: str, **fields: object) -> Config:
    (tmp_path / "audio").mkdir(exist_ok=True)
    file(tmp_path, "m.csv", HEADER + rows)
    made = {"model": {"name": str(PLANNER)}, "saes": {2: str(PLANNER / "sae" / "layer2")}, "source": "audio"}
    made |= {"recordings": {"folder": "audio", "manifest": "m.csv"}, **fields}
    return validate({"studies": {"s": made}}, base_dir=tmp_path, source="config.yaml")


def of_study(tmp_path: Path, rows: str, **fields: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        study(tmp_path, rows, **fields)
    return tuple(line.removeprefix("config.yaml: studies.s.") for line in caught.value.problems)


ROWS = "".join(f"t{i}.wav,{i:064x},,,,\n" for i in range(8))


def test_a_sound_study_of_recordings(tmp_path: Path) -> None:
    made = study(tmp_path, ROWS).studies["s"]
    assert [t.track_id for t in study_tracks(made, base_dir=tmp_path)] == [f"t{i}" for i in range(8)]
    study(tmp_path, ROWS, source="continuation", seeds=[0], recordings={"folder": "audio", "manifest": "m.csv"})


FILES = {"folder": "audio", "manifest": "m.csv"}
BAD_STUDIES = {
    "a field of another source": (
        {"prompts": "p.tsv", "seeds": [1], "recordings": FILES | {"continue_from_s": 4}},
        [
            "prompts: not used with source audio",
            "seeds: not used with source audio",
            "recordings.continue_from_s: not used with source audio",
        ],
    ),
    "no recordings": (
        {"recordings": {}},
        [
            "recordings.folder: missing, but source audio needs it",
            "recordings.manifest: missing, but source audio needs it",
        ],
    ),
    "no such files": (
        {"recordings": {"folder": "a", "manifest": "b", "checksums": "c"}},
        [
            'recordings.folder: there is no directory "a"',
            'recordings.manifest: there is no file "b"',
            'recordings.checksums: there is no file "c"',
        ],
    ),
    "long clips": (
        {"generation": {"duration_s": 40}},
        [
            "generation.duration_s: got 40; valid: at most 30 with",
            # The planner's own limit.
            "generation.duration_s: got 40; valid: at most 20, the longest clip",
        ],
    ),
    "clips of the same melody": (
        {"events": {"others": ["prompt"]}},
        ['events.others: got ["prompt"]; valid: [] with'],
    ),
    "few tracks": (
        {"probes": {"n_folds": 9}, "ablation": {"n_clips": 33}},
        [
            "ablation.n_clips: got 33; valid: at most the study's 32 clips (8 tracks x 4 cuts at most)",
            "probes.n_folds: got 9; valid: at most the study's 8 tracks",
        ],
    ),
    "an opening as long as the clip": (
        {"source": "continuation", "recordings": FILES | {"continue_from_s": 16}},
        ["recordings.continue_from_s: got 16; valid: less than generation.duration_s, 16"],
    ),
    "a continuation of more than the recording": (
        {"source": "continuation", "recordings": FILES | {"continue_from_s": 8}, "ablation": {"prefix_s": 7.5}},
        ["ablation.prefix_s: got 7.5; valid: 8 (recordings.continue_from_s) to 8 (clip minus the longest horizon)"],
    ),
    "no time left after the recording": (
        {"source": "continuation", "recordings": FILES | {"continue_from_s": 10}},
        ["horizons.long: got [4, 8] does not fit: continue_from_s 10 s + 8 s = 18 s, but a clip has only 16 s"],
    ),
    "recordings of no use": (
        {"source": "prompts", "recordings": FILES},
        ["recordings: not used with source prompts; valid: remove it, or choose another source"],
    ),
}


@pytest.mark.parametrize(("fields", "expected"), BAD_STUDIES.values(), ids=BAD_STUDIES)
def test_what_does_not_fit_is_named(tmp_path: Path, fields: dict, expected: list[str]) -> None:
    if fields.get("source") == "prompts":
        fields |= {"prompts": "p.tsv"}
        file(tmp_path, "p.tsv", "prompt_id\tprompt\n" + "".join(f"p{i}\tno {i}\n" for i in range(8)))
    found = of_study(tmp_path, ROWS, **fields)
    assert len(found) == len(expected), found
    for line, start in zip(sorted(found), sorted(expected), strict=True):
        assert line.startswith(start)


def test_a_bad_manifest_is_told_with_the_configuration(tmp_path: Path) -> None:
    (line,) = of_study(tmp_path, ROWS + "t9.wav,short,,,,\n")
    assert line == f'{tmp_path}/m.csv: line 10: sha256 is "short"; valid: the 64 hex digits of the file\'s SHA-256'


def test_defaults_may_serve_studies_of_other_sources(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    raw = {
        "studies": {"s": {"source": "audio", "recordings": {"manifest": "m.csv"}}},
        "defaults": {
            "model": {"name": "a/b"},
            "saes": {2: "sae"},
            "prompts": "p.tsv",
            "seeds": [4],
            "recordings": {"folder": "audio", "continue_from_s": 3},
        },
    }
    made = validate(raw, base_dir=tmp_path, check_files=False).studies["s"]
    assert (made.recordings.folder, made.recordings.manifest) == ("audio", "m.csv")
