"""JSON, text and Parquet, whole or not at all; the digest of a file."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reprise.storage.errors import StoreError
from reprise.storage.files import (
    digest_file,
    read_records,
    write_json,
    write_parquet,
    write_text,
)


def test_json_is_sorted_and_plain(tmp_path: Path) -> None:
    write_json(
        tmp_path / "d" / "x.json", {"b": [np.float64(1.5), float("nan")], "a": {2: np.array([1, 2]), "é": None}}
    )
    text = (tmp_path / "d" / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": {"2": [1, 2], "é": None}, "b": [1.5, None]}
    assert text.index('"a"') < text.index('"b"') and "é" in text and text.endswith("}\n")
    with pytest.raises(StoreError, match=r"\$\.b\[1\]: inf"):
        write_json(tmp_path / "y.json", {"b": [0, np.inf]})
    with pytest.raises(StoreError, match=r"\$\.s: a set cannot"):
        write_json(tmp_path / "y.json", {"s": {1}})
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A study without any return writes probes of which none has a number."""
    paths = [tmp_path / f"{i}.json" for i in range(2)]
    for i, path in enumerate(paths):
        write_json(path, {"hook": f"layer{i}", "gain": np.nan, "n": i})
    table = read_records(paths)
    assert table["gain"].dtype == float and table["gain"].isna().all()
    assert table["hook"].tolist() == ["layer0", "layer1"] and table["n"].tolist() == [0, 1]


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("première\n", "2\n"):
        write_text(tmp_path / "d" / "index.html", text)
        assert (tmp_path / "d" / "index.html").read_bytes() == text.encode()
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["index.html"]


def test_parquet_round_trip_is_deterministic(tmp_path: Path) -> None:
    table = pd.DataFrame({"clip_id": ["p1-s0", "p2-s0"], "y": [0, 1], "score": [0.5, np.nan]}, index=[7, 3])
    write_parquet(tmp_path / "d" / "a.parquet", table)
    time.sleep(0.01)
    write_parquet(tmp_path / "d" / "b.parquet", table)
    assert (tmp_path / "d" / "a.parquet").read_bytes() == (tmp_path / "d" / "b.parquet").read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "d" / "a.parquet"), table.reset_index(drop=True))
    with pytest.raises(Exception):  # noqa: B017 (whatever pyarrow raises for a column it cannot store)
        write_parquet(tmp_path / "d" / "a.parquet", pd.DataFrame({"x": [object()]}))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "d" / "a.parquet"), table.reset_index(drop=True))
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["a.parquet", "b.parquet"]


def test_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
