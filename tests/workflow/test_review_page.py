"""The review page as a reviewer uses it: in a browser, from listening to labels that follow the decisions."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from reprise.audio.synth import Note, render
from reprise.config.schema import Study
from reprise.report.sound import ExampleClip
from reprise.review.apply import apply_reviews
from reprise.review.decisions import import_reviews
from reprise.review.event_ids import event_ids
from reprise.review.files import read_reviews
from reprise.review.order import to_review
from reprise.review.page import render_review
from reprise.targets.labels import horizon_labels
from reprise.targets.recurrence.view import VIEW

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RATE_HZ = 16000
SETTINGS = Study.model_validate({"model": {"name": "a/b"}, "saes": {0: "sae"}}).model_dump(mode="json")
DIGESTS = {"a-s0": "aa" * 32, "b-s0": "bb" * 32}


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; nothing is downloaded."""
    if CHROMIUM is None:
        message = "the review page needs a browser: install chromium (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    """Two clips with two candidates each: one passed, one failed."""
    row = {
        "reference_start_s": 2.0,
        "reference_duration_s": 2.0,
        "duration_s": 2.0,
        "transposition": 0,
        "tempo_ratio": 1.0,
    }
    row |= {"timbre_score": 0.2, "gap_s": 6.0, "gap_score": 0.3}
    passed = row | {"onset_s": 12.0, "score": 0.9, "p_value": 0.01, "accepted": True, "reason": ""}
    failed = row | {"onset_s": 8.0, "score": 0.7, "p_value": 0.2, "accepted": False, "reason": "score, p_value"}
    table = pd.DataFrame([{**e, "clip_id": c, "prompt_id": c[0]} for c in DIGESTS for e in (passed, failed)])
    return table.assign(event_id=event_ids(table, DIGESTS))


@pytest.fixture(scope="module")
def url(events, tmp_path_factory) -> str:
    notes = [Note(0.5 * i, 0.5, 60 + (i * 5) % 12) for i in range(32)]
    audio = render(notes, timbre="piano", duration_s=16.0, sample_rate_hz=RATE_HZ).astype(np.float32)
    clips = {c: ExampleClip(c, audio, RATE_HZ, f"{c}.flac", "piano") for c in DIGESTS}
    chosen = to_review(events, VIEW.shares(events, SETTINGS["events"]), max_events=100)
    settings = {"study": "tiny", "events": SETTINGS["events"], "review": {"context_s": 0.5}}
    file = tmp_path_factory.mktemp("review") / "index.html"
    file.write_text(render_review(chosen, clips, settings, VIEW, n_events=len(events)), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def page(browser, url):
    """The page in a fresh browser profile; any error of the script, and any request but the page itself, fails."""
    context = browser.new_context(accept_downloads=True)
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:", url)) else faults.append(r.url))
    page.goto(url)
    yield page
    context.close()
    assert not faults


def progress(page) -> str:
    return page.inner_text("#progress")


def card(page):
    """The one event that is shown."""
    (shown,) = [c for c in page.query_selector_all(".event") if c.is_visible()]
    return shown


def is_playing(page, key: str) -> None:
    """Wait until the shown event's A or B has been playing for a while, and nothing else plays."""
    audio = f".event:not([hidden]) audio[data-key={key}]"
    page.wait_for_function(
        f"() => {{ const a = document.querySelector('{audio}'); return a.currentTime > 0.1; }}",
        timeout=20_000,
        polling=50,
    )
    playing = page.evaluate("[...document.querySelectorAll('audio')].filter(a => !a.paused).map(a => a.dataset.key)")
    assert playing == [key]
    assert page.evaluate(f"document.querySelector('{audio}').duration") == pytest.approx(3.0, abs=0.05)


def test_from_listening_to_labels(page, events, tmp_path):
    assert progress(page) == "0 of 4 decided"
    first = card(page).get_attribute("data-id")
    page.keyboard.press("1")
    is_playing(page, "a")
    page.keyboard.press("b")
    is_playing(page, "b")

    order = [c.get_attribute("data-id") for c in page.query_selector_all(".event")]
    by_id = events.set_index("event_id")
    # Against the tests throughout: what passed is rejected, what failed is accepted. One is left for later.
    for i in order[:3]:
        assert card(page).get_attribute("data-id") == i
        page.keyboard.press("n" if by_id["accepted"][i] else "y")
    assert progress(page) == "3 of 4 decided"
    page.keyboard.press("u")
    assert progress(page) == "4 of 4 decided"
    page.keyboard.press("z")
    assert progress(page) == "3 of 4 decided" and card(page).get_attribute("data-id") == order[3]
    page.keyboard.press("z")
    assert progress(page) == "2 of 4 decided" and card(page).get_attribute("data-id") == order[2]
    page.keyboard.press("n" if by_id["accepted"][order[2]] else "y")

    # No shortcut works while a note is written.
    page.keyboard.press("k")
    note = page.locator(".event:not([hidden]) textarea")
    note.fill("")
    note.press_sequentially("any nuance, by ear")
    noted = card(page).get_attribute("data-id")
    assert progress(page) == "3 of 4 decided"
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    assert card(page).get_attribute("data-id") != noted
    page.fill("#reviewer", "Ann Example")

    page.reload()
    assert progress(page) == "3 of 4 decided" and page.input_value("#reviewer") == "Ann Example"
    # It goes on with what is undecided.
    assert card(page).get_attribute("data-id") == order[3] and first != order[3]

    with page.expect_download() as started:
        page.click("#download")
    assert started.value.suggested_filename == "tiny-review-ann-example.json"
    file = tmp_path / started.value.suggested_filename
    started.value.save_as(file)
    given = {d["event_id"]: d for d in json.loads(file.read_text())["decisions"]}
    assert given.keys() == set(order[:3]) and given[noted]["note"] == "any nuance, by ear"

    (review,) = read_reviews([file], study="tiny")
    assert review.reviewer == "Ann Example"
    table, summary = import_reviews(events, DIGESTS, [review], study="tiny")
    assert summary["n_reviewed"] == 3 and not summary["orphaned"]
    judged = apply_reviews(events, table, reviewed_only=False)
    changed = judged["accepted"] != events["accepted"]
    assert set(events.loc[changed, "event_id"]) == set(order[:3])

    clips = pd.DataFrame(
        {"clip_id": list(DIGESTS), "prompt_id": ["a", "b"], "duration_s": 16.0, "reference_end_s": 4.0}
    )
    common = {"frame_rate_hz": 25.0, "context_s": 3.0, "step_s": 0.5}
    before, after = (horizon_labels(e, clips, (0.5, 2.0), **common) for e in (events, judged))
    assert not before["y"].equals(after["y"])


def test_buttons_do_what_keys_do(page):
    page.click("[data-decision=accept]")
    assert progress(page) == "1 of 4 decided"
    page.click("#previous")
    assert page.get_attribute("[data-decision=accept]", "aria-pressed") == "true"
    page.click("#undo")
    assert progress(page) == "0 of 4 decided" and page.is_disabled("#undo")
    page.click("summary >> text=All events")
    page.click("[data-go='3']")
    assert card(page).get_attribute("id") == "event-4" and page.is_disabled("#next")


def test_keys_can_be_turned_off_and_leave_the_browsers_own_alone(page):
    page.keyboard.press("Control+a")
    assert page.evaluate("[...document.querySelectorAll('audio')].every(a => a.paused)")
    page.uncheck("#shortcuts")
    page.keyboard.press("y")
    assert progress(page) == "0 of 4 decided"


def test_another_reviewer_starts_with_decisions_of_their_own(page):
    page.fill("#reviewer", "Ann Example")
    page.keyboard.press("Escape")
    page.keyboard.press("y")
    page.keyboard.press("n")
    page.once("dialog", lambda dialog: dialog.accept())
    page.fill("#reviewer", "Ben Example")
    page.keyboard.press("Escape")
    assert progress(page) == "0 of 4 decided"
    page.keyboard.press("u")
    page.reload()
    assert progress(page) == "1 of 4 decided" and page.input_value("#reviewer") == "Ben Example"
    page.once("dialog", lambda dialog: dialog.accept())
    page.fill("#reviewer", "Ann Example")
    page.keyboard.press("Escape")
    assert progress(page) == "2 of 4 decided"
    # A name that is only corrected keeps what it decided.
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.fill("#reviewer", "Anne Example")
    page.keyboard.press("Escape")
    assert progress(page) == "2 of 4 decided" and page.input_value("#reviewer") == "Anne Example"


def test_a_download_needs_a_name(page):
    page.keyboard.press("y")
    page.click("#download")
    assert "write your name" in page.inner_text("#file-said")
    assert page.evaluate("document.activeElement.id") == "reviewer"


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
