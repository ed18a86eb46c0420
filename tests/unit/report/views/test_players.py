"""The players play what was computed."""

from types import SimpleNamespace

import soundfile

from reprise.report.sound import embed
from tests.unit.report.html_page import Page


def test_players_hold_the_very_clips(made: SimpleNamespace, page: Page) -> None:
    players = [value for tag, key, value in page.attributes if (tag, key) == ("audio", "src")]
    # Three examples each for planner and improviser, one for quiet; four conditions of two clips.
    assert len(players) == 3 + 3 + 1 + 8
    first = made.root / "results" / "corpora" / "quiet-0a" / "audio" / "b00" / "p00-s0.flac"
    expected, rate_hz = soundfile.read(first, dtype="float32")
    assert players[0] == embed([(expected, rate_hz)], 10**9)[0]
