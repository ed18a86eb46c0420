"""Targets: the built-in one, and one that an installed package adds, as the docs show it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reprise.audio.synth import Note, render
from reprise.config.errors import ConfigError
from reprise.config.validation import validate
from reprise.extensions import ExtensionError
from reprise.targets.recurrence.detection import EVENT_COLUMNS as RECURRENCE_COLUMNS
from reprise.targets.registry import BUILT_IN, USED_BY, code_of, is_target, target_names, target_of
from reprise.targets.target import EVENT_COLUMNS, ClipEvents, check_events, concat_events, empty_events
from tests import plugins
from tests.places import ROOT

RATE_HZ, FRAME_RATE_HZ = 16_000, 25.0
PAGE = "add-a-target.md"
STUDY = {"model": {"name": "resources/planner"}, "saes": {2: "resources/planner/sae/layer2"}}


@pytest.fixture(autouse=True)
def nothing_stays_installed() -> Iterator[None]:
    yield
    plugins.forget()


@pytest.fixture
def swell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plugins.install(tmp_path / "site", monkeypatch, page=PAGE)
    return target_of("swell")


def settings_of(name: str, **events: object) -> dict:
    return target_of(name).settings(**events).model_dump(mode="json")


def loud_from(*times_s: float, quiet: float = 0.05) -> np.ndarray:
    """16 s of a scale that is loud for 2 s from each of some times on."""
    notes = [Note(0.25 * i, 0.25, 60 + (i * 5) % 12) for i in range(64)]
    audio = render(notes, timbre="organ", duration_s=16.0, sample_rate_hz=RATE_HZ)
    gain = np.full(len(audio), quiet, np.float32)
    for time_s in times_s:
        gain[round(time_s * RATE_HZ) : round((time_s + 2) * RATE_HZ)] = 1.0
    return audio * gain


def problems(**study: object) -> tuple[str, ...]:
    try:
        validate({"studies": {"s": STUDY | study}}, base_dir=ROOT, check_files=False)
    except ConfigError as error:
        return error.problems
    return ()


def test_the_built_in_targets_have_what_every_stage_reads() -> None:
    for name in BUILT_IN:
        target = target_of(name)
        assert target.name == name and "min_score" in target.settings.model_fields and not target.version
        extent = target.extent(settings_of(name))
        assert extent.earliest_s >= extent.reference_s >= 0 and extent.event_s > 0
        assert all(field in target.settings.model_fields for field in extent.fields)
    assert set(EVENT_COLUMNS) <= set(RECURRENCE_COLUMNS)


def test_the_example_of_the_docs_finds_what_was_put_there(swell) -> None:
    assert target_names() == [*BUILT_IN, "swell"]
    settings = settings_of("swell")
    found = check_events(swell.find(loud_from(8.0, 12.0), RATE_HZ, settings, seed=[0]), duration_s=16.0)
    events = found.events[found.events["accepted"]]
    assert events["onset_s"].tolist() == pytest.approx([8.0, 12.0], abs=0.2) and found.reference_end_s == 0
    same = swell.find(loud_from(quiet=1.0), RATE_HZ, settings, seed=[0]).events
    assert not same["accepted"].any() and (same["reason"] == "score").all()


def test_what_the_example_knows_so_far_is_nothing_of_the_future(swell) -> None:
    known = swell.known(settings_of("swell"))
    table, names = swell.so_far(loud_from(8.0), RATE_HZ, known, frame_rate_hz=FRAME_RATE_HZ)
    other, _ = swell.so_far(loud_from(8.0, 12.0), RATE_HZ, known, frame_rate_hz=FRAME_RATE_HZ)
    assert table.shape == (401, len(names)) and table.dtype == np.float32
    assert np.array_equal(table[: 12 * 25 + 1], other[: 12 * 25 + 1])
    # The whole second after the rise has to be heard first.
    assert table[8 * 25, 0] < 0.5 < table[9 * 25 + 5, 0]


def test_a_continuation_is_scored_on_the_scale_of_the_events(swell) -> None:
    settings = settings_of("swell")
    score = swell.scorer(loud_from(), RATE_HZ, settings, start_s=0.0, duration_s=0.0)
    curve = score(loud_from(10.0))
    assert curve.time_s[curve.score.argmax()] == pytest.approx(10.0, abs=0.2)
    assert score(loud_from(quiet=1.0)).score.max() < settings["min_score"] <= curve.score.max()


def test_the_fields_of_events_are_those_of_the_target(swell) -> None:
    study = validate(
        {"studies": {"s": STUDY | {"target": "swell", "events": {"rise_db": 9}}}}, base_dir=ROOT, check_files=False
    ).studies["s"]
    assert study.model_dump(mode="json")["events"] == {"rise_db": 9.0, "window_s": 1.0, "min_score": 0.5}
    default = validate({"studies": {"s": STUDY | {"target": "swell"}}}, base_dir=ROOT, check_files=False)
    assert default.studies["s"].events.rise_db == 12.0
    assert [*problems(target="swell", events={"rise_db": -1, "motif": "beats"})] == [
        "config: studies.s.events.rise_db: got -1; valid: a number (dB) > 0",
        "config: studies.s.events.motif: unknown field 'motif'; did you mean 'events.motif'? valid: rise_db, "
        "window_s, min_score",
    ]
    (line,) = problems(target="swell", events={"window_s": 14})
    assert "events.window_s: window_s 14 s + context_s 3 s is 17 s, but a clip has only 16 s" in line
    (line,) = problems(events={"rise_db": 9})
    assert "events.rise_db: unknown field 'rise_db'" in line


def test_a_target_that_there_is_not_is_one_line() -> None:
    assert not is_target("swell")
    assert [*problems(target="swell", events={"rise_db": 9})] == [
        'config: studies.s.target: got "swell": no target has this name; valid: one of recurrence, section, tension'
    ]
    assert [*problems(target=3)] == [
        "config: studies.s.target: got 3; valid: recurrence, section, tension, or a target of an installed package"
    ]


@pytest.mark.parametrize(
    "before, after, said",
    [
        ('version="1"', 'version=""', "version is ''; valid: a text that changes with what its functions compute"),
        ('"swell",\n', '"loud",\n', "name is 'loud'; valid: the entry point's"),
        ("settings=SwellSettings", "settings=dict", "settings is <class 'dict'>; valid: a class of fields"),
        ("    min_score: float = share(", "    least: float = share(", "settings has no field min_score"),
        ("SWELL = Target(", "SWELL = dict(name=", "is a dict; valid: a Target"),
        ("HOP_S = 0.1", "import nothing_of_this_name", "cannot be imported (ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, said: str
) -> None:
    plugins.install(tmp_path, monkeypatch, page=PAGE, changed=(before, after))
    with pytest.raises(ExtensionError) as caught:
        target_of("swell")
    assert str(caught.value).startswith("reprise.targets: swell = swell:SWELL")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    (line,) = problems(target="swell")
    assert said in line and target_of("recurrence").name == "recurrence"


def test_a_version_stands_for_code_that_cannot_be_followed(swell) -> None:
    assert all(code_of("swell", stage) == {"version": "1"} for stage in USED_BY)
    codes = {stage: code_of("recurrence", stage)["code"] for stage in USED_BY}
    assert len(set(codes.values())) == len(codes)
    assert set(code_of("recurrence", "report")) == {"code", "words"}


def row(**fields: object) -> dict:
    usual = {"reference_start_s": 0.0, "reference_duration_s": 0.0, "onset_s": 4.0, "duration_s": 1.0, "score": 0.9}
    return usual | {"p_value": 0.01, "accepted": True, "reason": ""} | fields


@pytest.mark.parametrize(
    "rows, why, said",
    [
        ([row(onset_s=17.0)], "", "onset_s is 17.0; valid: 0 to 16"),
        ([row(onset_s=np.nan)], "", "onset_s is nan; valid: 0 to 16"),
        ([row(score=1.2)], "", "score is 1.2; valid: 0 to 1"),
        ([row(p_value=-0.1)], "", "p_value is -0.1; valid: 0 to 1"),
        (
            [row(onset_s=5.0), row()],
            "",
            "the onsets are not in order; valid: one row per candidate, sorted by onset_s",
        ),
        ([], "", "there are none, and no_events_because is empty; valid: the reason in words"),
    ],
)
def test_events_that_no_stage_could_use_are_refused(rows: list[dict], why: str, said: str) -> None:
    events = pd.DataFrame(rows) if rows else empty_events()
    with pytest.raises(ValueError, match=r"^events: ") as caught:
        check_events(ClipEvents(events, 0.0, why), duration_s=16.0)
    assert said in str(caught.value)
    without = pd.DataFrame([row()]).drop(columns=["score", "reason"])
    with pytest.raises(ValueError, match="the columns score, reason are missing"):
        check_events(ClipEvents(without, 0.0), duration_s=16.0)
    assert len(check_events(ClipEvents(pd.DataFrame([row(p_value=np.nan)]), 0.0), duration_s=16.0).events) == 1


def test_clips_without_a_row_do_not_change_the_types_of_a_table() -> None:
    full = pd.DataFrame([row() | {"transposition": 3}])
    joined = concat_events([empty_events(), full, empty_events()])
    assert joined["transposition"].dtype == np.int64 and len(joined) == 1
    assert list(concat_events([empty_events(), full.head(0)]).columns) == list(full.columns)
