"""A format that an installed package adds is read, and refused, as the built-in ones are."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reprise.saes.errors import SaeError
from reprise.saes.formats.registry import format_versions, sae_files
from reprise.saes.loading import load_sae
from reprise.saes.sae import encode
from tests import plugins
from tests.unit.saes.refusals import SAE, refused
from tests.unit.saes.tiny_sae import INDICES, TINY, VALUES, X

NAMES = {"W_enc": "enc", "b_enc": "enc_bias", "W_dec": "dec", "b_dec": "dec_bias"}
PAGE = "add-an-sae-format.md"


@pytest.fixture(autouse=True)
def _as_installed() -> Iterator[None]:
    yield
    plugins.forget()


def plain(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    (folder / "about.json").write_text(json.dumps({"inputs": 2, "features": 4, "k": 2} | changes))
    save_file({NAMES[name]: weight for name, weight in TINY.items()}, folder / "tensors.safetensors")
    return folder


def test_the_example_of_the_docs_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plain(tmp_path / "sae")
    with pytest.raises(SaeError, match=r"has no file of an SAE; valid: SAELens: "):
        load_sae(folder)
    plugins.install(tmp_path / "site", monkeypatch, page=PAGE)
    values, indices = encode(load_sae(folder), X)
    torch.testing.assert_close(values, VALUES)
    assert torch.equal(indices[VALUES > 0], INDICES[VALUES > 0])
    assert sae_files(folder) == ["about.json", "tensors.safetensors"]
    assert format_versions(folder) == {"plain": "1"} and format_versions(SAE) == {}


def test_what_it_refuses_is_refused_before_any_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.install(tmp_path / "site", monkeypatch, page=PAGE)
    folder = plain(tmp_path / "sae", kind="transcoder")
    assert refused(folder) == "about.json: kind is 'transcoder'; valid: 'sae'"
    with pytest.raises(SaeError, match=r"about.json: unknown field scale"):
        load_sae(plain(tmp_path / "scaled", scale=2))


@pytest.mark.parametrize(
    "before, after, said",
    [
        ('version="1"', 'version=""', "version is ''; valid: a text that changes with what read gives"),
        ('"plain",', '"other",', "name is 'other'; valid: the entry point's"),
        ('"about.json"', '"cfg.json",\n    beside=("sae.safetensors",)', "its files are those of sparsify; valid"),
    ],
)
def test_a_format_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, said: str
) -> None:
    plugins.install(tmp_path / "site", monkeypatch, page=PAGE, changed=(before, after))
    folder = plain(tmp_path / "sae")
    with pytest.raises(SaeError, match=r"reprise\.sae_formats: plain = plain_sae:FORMAT") as caught:
        load_sae(folder)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    # What is of a built-in format imports nothing of theirs.
    assert load_sae(SAE).d_sae > 0
