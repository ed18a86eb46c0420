"""A clip that cannot be read is named with its reason, and costs no other clip of its batch."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import soundfile

from reprise.config import EventSettings
from reprise.organisms.codec import render_clip
from reprise.organisms.score import Clip
from reprise.stores import write_folder

SCRIPT = Path(__file__).resolve().parents[2] / "workflow_scripts" / "events.py"
RATE_HZ = 16_000


def test_unreadable_clips_are_named_and_the_others_keep_their_events(tmp_path: Path) -> None:
    names = ("good", "corrupt", "stereo", "short", "slow", "silent")
    clips = [{"clip_id": name, "prompt_id": name, "prompt": name, "seed": 0} for name in names]
    audio = render_clip(Clip("piano", "c", "ember", 0, 5, (0, 1, 2, 3, 0, 1, 2, 3)))
    waves = {"stereo": np.stack([audio, audio], axis=1), "short": audio[: 3 * RATE_HZ], "silent": np.zeros_like(audio)}
    with write_folder(tmp_path / "b00", meta={"clips": clips, "model": {"sample_rate_hz": RATE_HZ}}) as folder:
        for name in names:
            soundfile.write(folder / f"{name}.flac", waves.get(name, audio), 8000 if name == "slow" else RATE_HZ)
    file = tmp_path / "b00" / "corrupt.flac"
    # The size stays, so that only reading tells.
    file.write_bytes(bytes(200) + file.read_bytes()[200:])
    job = SimpleNamespace(
        params=SimpleNamespace(settings={"events": EventSettings().model_dump(mode="json"), "groups": {}}),
        input=SimpleNamespace(audio=str(tmp_path / "b00.manifest.json")),
        output=SimpleNamespace(events=str(tmp_path / "events.parquet"), clips=str(tmp_path / "clips.parquet")),
        log=[str(tmp_path / "log")],
        threads=1,
        rule="events",
        wildcards={},
    )
    runpy.run_path(str(SCRIPT), init_globals={"snakemake": job})

    heard = pd.read_parquet(tmp_path / "clips.parquet").set_index("clip_id")
    assert heard.index.tolist() == list(names)
    assert heard["usable"].to_dict() == {name: name in ("good", "silent") for name in names}
    reasons = heard["no_events_because"]
    assert reasons["good"] == "" and reasons["silent"].startswith("motif: ")
    assert "corrupt.flac" in reasons["corrupt"] and "mono" in reasons["stereo"]
    assert "valid: within the clip" in reasons["short"] and "8000 Hz; valid: 16000 Hz" in reasons["slow"]
    events = pd.read_parquet(tmp_path / "events.parquet")
    accepted = events[events["accepted"]]
    assert accepted["clip_id"].tolist() == ["good"] and abs(accepted["onset_s"].iloc[0] - 10) < 0.1
