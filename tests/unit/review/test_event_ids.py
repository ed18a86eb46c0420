"""What an event's id survives."""

import hashlib
import re
from pathlib import Path

import pytest

from reprise.review.event_ids import event_ids, read_audio_digests
from reprise.storage.files import write_folder
from tests.unit.review.given import DIGESTS, event, table


def test_an_id_survives_what_does_not_change_the_event() -> None:
    before = table(event(), event("b-s0"))
    names = event_ids(before, DIGESTS)
    assert all(re.fullmatch(r"[0-9a-f]{16}", n) for n in names) and len(set(names)) == 2
    # Written down once: a change here would orphan everyone's reviews.
    assert names[0] == "121b68828c473249"
    again = table(event("b-s0", score=0.2, p_value=0.5, reason="score"), event(onset_s=12.0 + 4e-4))
    assert event_ids(again, DIGESTS) == names[::-1]
    assert event_ids(before, {c: d for c, d in zip(DIGESTS, reversed(DIGESTS.values()), strict=True)}) != names


@pytest.mark.parametrize("changed", [{"onset_s": 12.001}, {"duration_s": 2.08}, {"transposition": 1}])
@pytest.mark.parametrize("motif", [{}, {"reference_start_s": 2.5}, {"reference_duration_s": 1.5}])
def test_another_event_has_another_id(changed: dict, motif: dict) -> None:
    assert event_ids(table(event(**changed, **motif)), DIGESTS) != event_ids(table(event()), DIGESTS)


def test_audio_digests_are_the_manifests(tmp_path: Path) -> None:
    with write_folder(tmp_path / "b00", meta={}) as folder:
        (folder / "a-s0.flac").write_bytes(b"sound")
    digests = read_audio_digests([str(tmp_path / "b00.manifest.json")])
    assert digests == {"a-s0": hashlib.sha256(b"sound").hexdigest()}
