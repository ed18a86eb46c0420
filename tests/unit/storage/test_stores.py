"""Stores: what is written is read back, and nothing unfinished, missing or altered passes for a store."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reprise.storage.errors import StoreError
from reprise.storage.files import (
    digest_file,
    manifest_path,
    read_manifest,
    write_folder,
)
from reprise.storage.stores import ArraySpec, read_store, to_float16_checked, write_behind, write_store
from tests.places import ROOT

N_CLIPS, N_POSITIONS, D_MODEL = 20, 7, 3
SHARD = "resid/c/0/0/0"  # the first 16 clips


def activations() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((N_CLIPS, N_POSITIONS, D_MODEL)).astype(np.float16)


def written(path: Path, *, batch: int = 3) -> Path:
    """A store of 20 clips in two shards, written in pieces that do not fit the shards."""
    x = activations()
    with write_store(path, {"resid": ArraySpec(x.shape, "float16")}, meta={"layer": 2}) as store:
        for start in range(0, N_CLIPS, batch):
            store.append("resid", x[start : start + batch].astype(np.float32))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("batch", [1, 3, 16, 20])
def test_reads_back_what_was_written(tmp_path: Path, batch: int) -> None:
    path = written(tmp_path / "deep" / "b00.zarr", batch=batch)
    group = read_store(path, verify="content")
    assert group["resid"].dtype == np.float16
    assert group["resid"].chunks == (1, N_POSITIONS, D_MODEL)
    assert group["resid"].shards == (16, N_POSITIONS, D_MODEL)
    np.testing.assert_array_equal(group["resid"][:], activations())
    np.testing.assert_array_equal(group["resid"][17], activations()[17])
    assert read_manifest(path)["meta"] == {"layer": 2}
    assert sorted(files(path)) == ["resid/c/0/0/0", "resid/c/1/0/0", "resid/zarr.json", "zarr.json"]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a" / "b00.zarr", batch=3), written(tmp_path / "b" / "b00.zarr", batch=16)
    assert files(first) == files(second)
    assert manifest_path(first).read_bytes() == manifest_path(second).read_bytes()
    assert str(tmp_path) not in manifest_path(first).read_text()


def test_a_changed_value_changes_the_manifest(tmp_path: Path) -> None:
    path = written(tmp_path / "b00.zarr")
    before = read_manifest(path)["digest"]
    x = activations()
    x[19, 0, 0] += 1
    with write_store(path, {"resid": ArraySpec(x.shape, "float16")}, meta={"layer": 2}) as store:
        store.append("resid", x)
    assert read_manifest(path, verify="content")["digest"] != before


def test_the_manifest_lists_every_file_with_size_and_sha256(tmp_path: Path) -> None:
    path = written(tmp_path / "b00.zarr")
    assert manifest_path(path) == tmp_path / "b00.zarr.manifest.json"
    listed = read_manifest(path)["files"]
    assert [f["path"] for f in listed] == sorted(files(path))
    shard = next(f for f in listed if f["path"] == SHARD)
    assert shard["size"] == 16 * N_POSITIONS * D_MODEL * 2 + 16 * 16 + 4  # clips, shard index, its checksum
    assert shard["sha256"] == digest_file(path / SHARD)


def test_several_arrays_of_several_kinds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 2048, (5, 4, 9))
    seconds = np.arange(9) / 25
    specs = {
        "tokens": ArraySpec(tokens.shape, "uint16"),
        "seconds": ArraySpec(seconds.shape, "float64"),
        "none": ArraySpec((0, 4), "int32"),
    }
    with write_store(tmp_path / "s.zarr", specs, meta={}) as store:
        store.append("seconds", seconds)
        for row in tokens:
            store.append("tokens", row[None])
    group = read_store(tmp_path / "s.zarr")
    np.testing.assert_array_equal(group["tokens"][:], tokens)
    np.testing.assert_array_equal(group["seconds"][:], seconds)
    assert group["tokens"].dtype == np.uint16 and group["none"].shape == (0, 4)


def test_an_array_of_zeros_still_has_its_shards(tmp_path: Path) -> None:
    with write_store(tmp_path / "z.zarr", {"x": ArraySpec((17, 2), "float32")}, meta={}) as store:
        store.append("x", np.zeros((17, 2)))
    assert {"x/c/0/0", "x/c/1/0"} <= files(tmp_path / "z.zarr").keys()


def test_the_caller_may_reuse_its_buffer(tmp_path: Path) -> None:
    buffer = np.ones((1, 2), dtype=np.float32)
    with write_store(tmp_path / "x.zarr", {"x": ArraySpec((2, 2), "float32")}, meta={}) as store:
        store.append("x", buffer)
        buffer[:] = 2
        store.append("x", buffer)
    np.testing.assert_array_equal(read_store(tmp_path / "x.zarr")["x"][:], [[1, 1], [2, 2]])


def test_writing_behind_keeps_the_order_and_tells_what_went_wrong() -> None:
    written, made = [], []

    def items() -> Iterator[int]:
        for i in range(5):
            made.append(i)
            yield i

    def write(i: int) -> None:
        time.sleep(0.02 * (i % 2))
        written.append(i)

    write_behind(items(), write)
    assert written == made == [0, 1, 2, 3, 4]

    def fail(i: int) -> None:
        if i == 1:
            raise StoreError("disk full")

    made.clear()
    with pytest.raises(StoreError, match="disk full"):
        write_behind(items(), fail)
    # Nothing is made on and on after a write has failed.
    assert made == [0, 1, 2]


def test_meta_may_grow_while_writing(tmp_path: Path) -> None:
    meta: dict = {"b": np.float32(0.5), "a": (1, np.int64(2))}
    with write_folder(tmp_path / "audio", meta=meta) as folder:
        (folder / "c0.flac").write_bytes(b"sound")
        meta["n"] = 1
    assert read_manifest(tmp_path / "audio", verify="content")["meta"] == {"a": [1, 2], "b": 0.5, "n": 1}


# float16


@pytest.mark.parametrize("overflow_at", [0, 10, 18])
def test_a_value_too_large_for_float16_makes_the_array_float32(tmp_path: Path, overflow_at: int) -> None:
    x = activations().astype(np.float32)
    x[overflow_at, 1, 1] = 70000.0
    with write_store(tmp_path / "x.zarr", {"x": ArraySpec(x.shape, "float16", 4)}, meta={}) as store:
        for row in x:
            store.append("x", row[None])
    stored = read_store(tmp_path / "x.zarr", verify="content")["x"]
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored[:], x)


def test_float16_conversion_keeps_the_limit_and_refuses_what_is_not_finite() -> None:
    assert to_float16_checked(np.array([65504.0, -65519.0])).dtype == np.float16
    assert np.isfinite(to_float16_checked(np.array([65519.9], dtype=np.float32))).all()
    for value in (65520.0, -65520.0, 1e30):
        kept = to_float16_checked(np.array([1.0, value], dtype=np.float32))
        assert kept.dtype == np.float32 and kept[1] == np.float32(value)
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(StoreError, match="finite"):
            to_float16_checked(np.array([1.0, value, 2.0]))
        with pytest.raises(StoreError, match="finite"):
            to_float16_checked(np.array([[1.0, 2.0], [-3.0, value]], dtype=np.float16)[:, 1])
    exact = np.array([65504.0, -65504.0, 0.0], dtype=np.float16)
    np.testing.assert_array_equal(to_float16_checked(exact), exact)
    assert to_float16_checked(np.zeros((0, 3))).shape == (0, 3)


# What may not be written


@pytest.mark.parametrize(
    ("name", "clips", "message"),
    [
        ("x", np.zeros((1, 3)), r"shape \(1, 3\); valid: \[n, 2\]"),
        ("x", np.zeros((5, 2)), "5 clips were added; it was declared with 4"),
        ("y", np.zeros((1, 2)), "'y' is not in this store; valid: t, x"),
        ("t", np.full((1, 2), 70000), "do not fit uint16"),
        ("t", np.full((1, 2), -1), "do not fit uint16"),
        ("t", np.full((1, 2), 0.5), "valid: integers"),
    ],
)
def test_wrong_clips_are_refused_and_leave_nothing(tmp_path: Path, name: str, clips: np.ndarray, message: str) -> None:
    specs = {"x": ArraySpec((4, 2), "float32"), "t": ArraySpec((4, 2), "uint16")}
    with pytest.raises(StoreError, match=message), write_store(tmp_path / "x.zarr", specs, meta={}) as store:
        store.append(name, clips)
    assert list(tmp_path.iterdir()) == []


def test_missing_clips_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="'x' got 3 of its 4 clips"),
        write_store(tmp_path / "x.zarr", {"x": ArraySpec((4, 2), "float32")}, meta={}) as store,
    ):
        store.append("x", np.zeros((3, 2)))
    assert list(tmp_path.iterdir()) == []


# Killed and damaged

KILLED_WRITER = """
import sys, time
from collections.abc import Iterator
from pathlib import Path
import numpy as np
from reprise.storage.stores import ArraySpec
from reprise.storage.stores import write_store
with write_store(Path(sys.argv[1]), {"x": ArraySpec((64, 8), "float32")}, meta={}) as store:
    store.append("x", np.ones((40, 8)))
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    path = tmp_path / "b00.zarr"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    left = list(tmp_path.iterdir())
    assert left == [tmp_path / ".b00.zarr.partial"] and files(left[0])
    with pytest.raises(StoreError, match="never finished"):
        read_store(path)
    written(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b00.zarr", "b00.zarr.manifest.json"]
    read_store(path, verify="content")


def test_killed_between_rename_and_manifest_is_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "b00.zarr")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reprise.storage.files.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        written(path)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="never finished"):
        read_store(path)
    written(path)
    read_store(path, verify="content")


def test_a_failed_writer_leaves_the_finished_store_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "b00.zarr")
    with pytest.raises(RuntimeError), write_store(path, {"x": ArraySpec((4, 2), "float32")}, meta={}):
        raise RuntimeError
    np.testing.assert_array_equal(read_store(path, verify="content")["resid"][:], activations())


def _delete(file: Path) -> None:
    file.unlink()


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (_delete, SHARD, f"file {SHARD} is missing"),
        (_truncate, SHARD, f"file {SHARD} has 931 bytes; the manifest says 932"),
        (_flip, "resid/zarr.json", "file resid/zarr.json was altered"),
    ],
)
def test_damage_is_named_with_the_command_that_repairs(
    tmp_path: Path, damage: object, file: str, message: str
) -> None:
    path = written(tmp_path / "b00.zarr")
    damage(path / file)
    with pytest.raises(StoreError) as caught:
        read_store(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert f"snakemake --cores 1 --force {path}.manifest.json (and your --configfile" in str(caught.value)


SHARDS = SHARD.rpartition("/")[0]


@pytest.mark.parametrize(
    "name",
    [
        *("Thumbs.db", "resid/desktop.ini", "resid/zarr.json~", f"{SHARD}~", f"{SHARDS}/.1.swp", "x.swp"),
        *("#zarr.json#", "notes.txt", "old/notes.txt", "resid/c/readme", ".DS_Store", f"{SHARD}.orig"),
    ],
)
def test_a_foreign_file_that_nothing_reads_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = written(tmp_path / "b00.zarr")
    expected = read_store(path)["resid"][:]
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(b"x")
    for verify in ("sizes", "content"):
        assert np.array_equal(read_store(path, verify=verify)["resid"][:], expected)
    hidden = name.rpartition("/")[2].startswith(".")
    assert hidden or f"store {path}: {name}: foreign files that nothing reads" in caplog.text


@pytest.mark.parametrize("name", [f"{SHARDS}/7", "old/c", "old/zarr.json", "config.json", "copy/0.npy", "a.FLAC"])
def test_a_foreign_file_that_could_be_read_is_named_and_deleting_it_is_enough(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "b00.zarr")
    file = path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
    with pytest.raises(StoreError) as caught:
        read_store(path)
    said = str(caught.value)
    assert f"store {path}: file {name} is not in the manifest" in said and "--force" not in said
    assert said.endswith(f"only delete the foreign files: {file}")
    file.unlink()
    read_store(path, verify="content")


def test_what_a_file_manager_puts_into_an_unfinished_store_is_never_the_stores(tmp_path: Path) -> None:
    with write_folder(tmp_path / "x", meta={}) as folder:
        for name in ("a.txt", "Thumbs.db", "a.txt~"):
            (folder / name).write_text(name)
    assert [file["path"] for file in read_manifest(tmp_path / "x")["files"]] == ["a.txt"]
    (tmp_path / "x" / "Thumbs.db").unlink()
    read_manifest(tmp_path / "x", verify="content")


def test_altered_content_of_the_same_size_is_found_on_demand(tmp_path: Path) -> None:
    path = written(tmp_path / "b00.zarr")
    _flip(path / SHARD)
    read_store(path)
    with pytest.raises(StoreError, match=f"file {SHARD} was altered"):
        read_store(path, verify="content")


def test_a_damaged_manifest_and_a_missing_folder(tmp_path: Path) -> None:
    path = written(tmp_path / "b00.zarr")
    manifest = json.loads(manifest_path(path).read_text())
    for damaged in ("{", "[]", "{}", json.dumps({**manifest, "files": manifest["files"][1:]})):
        manifest_path(path).write_text(damaged)
        with pytest.raises(StoreError, match=r"b00\.zarr\.manifest\.json is damaged"):
            read_store(path)
    written(path)
    path.rename(tmp_path / "gone")
    with pytest.raises(StoreError, match="the folder is missing"):
        read_store(path)
    with pytest.raises(ValueError, match="valid: 'sizes', 'content'"):
        read_manifest(path, verify="quick")


def test_stores_are_read_only(tmp_path: Path) -> None:
    group = read_store(written(tmp_path / "b00.zarr"))
    with pytest.raises(ValueError, match="read-only"):
        group["resid"][0] = 0


# JSON and Parquet
