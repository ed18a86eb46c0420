"""The page says what the results say: every verdict and number is in it, and it needs nothing but itself."""

import re
from types import SimpleNamespace

import pytest

from reprise.storage.files import read_manifest
from reprise.targets.recurrence.view import WORDS
from reprise.verdict.meanings import meanings, no_events
from tests.unit.report.html_page import Page
from tests.unit.report.results_folder import run_script


def test_page_is_well_formed_and_needs_nothing_but_itself(made: SimpleNamespace, page: Page) -> None:
    assert not page.open
    sources = [value for _, key, value in page.attributes if key in ("src", "href", "srcset", "poster", "action")]
    assert sources
    assert all(value.startswith(("data:", "#")) for value in sources)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", made.page)
    assert len(made.page) < 12e6
    assert str(made.root) not in made.page


def test_headings_skip_no_level_and_figures_have_words(made: SimpleNamespace, page: Page) -> None:
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    n_images = sum((tag, key, value) == ("svg", "role", "img") for tag, key, value in page.attributes)
    assert n_images == sum(
        tag == "svg" and key == "aria-label" and len(value) > 10 for tag, key, value in page.attributes
    )
    assert n_images > 20
    ids = [value for _, key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, key, value in page.attributes if key == "href" and value.startswith("#")} <= set(ids)


def test_numbers_of_each_section(page: Page) -> None:
    said = page.said("planner")
    for text in (
        "+0.214",  # conditional gain at the long horizon
        "0.214 [0.167, 0.257]",
        "8 of 12 clips hold at least one valid return",
        "match too weak 1",  # of the rejected
        "0.117 (at most 0.5)",  # FVU at the hook
        "on 51,328 positions of 128 clips; none of these clips or prompts is measured here",
        "15.6, 16 (k = 16)",
        "layer 2, feature 117",
        "0.193 [0.141, 0.239]",
        "layer 4, feature 30",
        "not confirmed",
        "Edited until the event",
        "Edited in the prefix only",
        "planner-abab",  # weights digest
        "5ae2",  # SAE digest
        "torch 2.13.0",
        "min_effect 0.2",
        "generate 2 2 min 00 s 1200 MB",
        "Times: 2 min 04 s in total",
    ):
        assert text in said, text


def test_null_results_are_said_plainly(page: Page) -> None:
    improviser, quiet = page.said("improviser"), page.said("quiet")
    assert meanings(WORDS)["none"] in improviser
    assert "No candidate was found, so nothing was edited." in improviser
    assert "There was no candidate to ablate." in improviser
    assert no_events(WORDS) in quiet and meanings(WORDS)["none"] not in quiet
    assert "11 clips: motif: has 1 note onsets, below 3 (for one)" in quiet and "1 clip: unusable: audio" in quiet
    assert "Clips without any candidate" not in improviser
    assert "0 of 12 clips hold" in quiet and "there are no events to show" in quiet
    assert "No probe could be scored: one class: no positive rows" in quiet
    assert "refused" in quiet and "layer 5 is the better hook" in quiet
    assert "refused" not in improviser


def test_same_results_same_bytes(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = {"quiet": made.studies["quiet"]}
    pages = [run_script(made.root, monkeypatch, studies, []) for _ in range(2)]
    assert pages[0] == pages[1]
    assert "Does &lt;it&gt; plan?" in pages[0]


def test_manifests_are_checked_before_audio_is_read(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made.root / "results" / "corpora" / "quiet-0a" / "audio" / "b00"
    read_manifest(folder)
    file = folder / "p05-s1.flac"
    content = file.read_bytes()
    try:
        file.unlink()
        with pytest.raises(ValueError, match=r"p05-s1\.flac is missing"):
            run_script(made.root, monkeypatch, {"quiet": made.studies["quiet"]}, [])
    finally:
        file.write_bytes(content)
