"""A clip that cannot be read is named with its reason, and costs no other clip of its batch."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from reprise.config import EventSettings
from reprise.organisms.codec import render_clip
from reprise.organisms.score import Clip
from reprise.stores import read_store, write_folder
from tests.workflow.conftest import run_script

RATE_HZ = 16_000
IDENTITY = {"sample_rate_hz": RATE_HZ, "frame_rate_hz": 25.0, "codec_lookahead_s": 0.05}


def run(rule: str, directory: Path, **settings: object) -> None:
    """One job of a rule on the batch in `directory`, as Snakemake runs it."""
    outputs = {"events": "events.parquet", "clips": "clips.parquet", "store": "descriptors"}
    inputs = {"audio": str(directory / "b00.manifest.json"), "model": str(directory / "model.json")}
    run_script(
        rule, directory / "log", inputs, {name: str(directory / file) for name, file in outputs.items()}, **settings
    )


def test_unreadable_clips_are_named_and_the_others_keep_their_events(tmp_path: Path) -> None:
    names = ("good", "corrupt", "stereo", "short", "slow", "silent")
    clips = [{"clip_id": name, "prompt_id": name, "prompt": name, "seed": 0} for name in names]
    audio = render_clip(Clip("piano", "c", "ember", 0, 5, (0, 1, 2, 3, 0, 1, 2, 3)))
    waves = {"stereo": np.stack([audio, audio], axis=1), "short": audio[: 3 * RATE_HZ], "silent": np.zeros_like(audio)}
    with write_folder(
        tmp_path / "b00", meta={"clips": clips, "duration_s": 16.0, "model": {"sample_rate_hz": RATE_HZ}}
    ) as folder:
        for name in names:
            soundfile.write(folder / f"{name}.flac", waves.get(name, audio), 8000 if name == "slow" else RATE_HZ)
    file = tmp_path / "b00" / "corrupt.flac"
    # The size stays, so that only reading tells.
    file.write_bytes(bytes(200) + file.read_bytes()[200:])
    (tmp_path / "model.json").write_text(json.dumps(IDENTITY))
    run("events", tmp_path, events=EventSettings().model_dump(mode="json"), groups={})

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

    run(
        "descriptors",
        tmp_path,
        descriptors={"context_s": 3.0},
        motif={"kind": "opening", "start_s": 2, "duration_s": 2},
    )
    described = read_store(tmp_path / "descriptors")["descriptors"][:]
    known = np.isfinite(described).all(axis=(1, 2))
    assert dict(zip(names, known, strict=True)) == heard["usable"].to_dict()
    assert np.isnan(described[~known]).all()
