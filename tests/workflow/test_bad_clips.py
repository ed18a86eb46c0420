"""A clip that cannot be read is named with its reason, and costs no other clip of its batch."""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from reprise.models.codec import encode_audio
from reprise.models.loading import load_model
from reprise.organisms.codec import render_clip
from reprise.organisms.score import Clip
from reprise.saes.errors import SaeError
from reprise.saes.loading import load_sae
from reprise.saes.measurement import Measurement, to_plain
from reprise.storage.artifacts import read_clips, store_of
from reprise.storage.files import read_manifest, write_folder, write_json
from reprise.storage.stores import ArraySpec, read_store, write_store
from reprise.targets.recurrence.settings import RecurrenceSettings
from tests.places import PLANNER
from tests.workflow.conftest import manifests, run_script, snakemake

RATE_HZ = 16_000
BOUNDS = {"n_clips": 4, "max_fvu": 0.5, "min_neighbour_ratio": 1.2}
IDENTITY = {"sample_rate_hz": RATE_HZ, "frame_rate_hz": 25.0, "codec_lookahead_s": 0.05}
TARGET = {"name": "recurrence"}


def run(rule: str, directory: Path, **settings: object) -> None:
    """One job of a rule on the batch in `directory`, as Snakemake runs it."""
    outputs = {"events": "events.parquet", "clips": "clips.parquet", "store": "descriptors"}
    inputs = {"audio": str(directory / "b00.manifest.json"), "model": str(directory / "model.json")}
    run_script(
        rule, directory / "log", inputs, {name: str(directory / file) for name, file in outputs.items()}, **settings
    )


def test_unreadable_clips_are_named_and_the_others_keep_their_events(tmp_path: Path) -> None:
    names = ("good", "corrupt", "stereo", "short", "slow", "hum", "silent", "offset", "faint")
    clips = [{"clip_id": name, "prompt_id": name, "prompt": name, "seed": 0} for name in names]
    audio = render_clip(Clip("piano", "c", "ember", 0, 5, (0, 1, 2, 3, 0, 1, 2, 3)))
    waves = {"stereo": np.stack([audio, audio], axis=1), "short": audio[: 3 * RATE_HZ]}
    waves |= {"hum": 0.3 * np.sin(2 * np.pi * 220 * np.arange(len(audio)) / RATE_HZ), "silent": np.zeros_like(audio)}
    waves |= {"offset": np.full_like(audio, 0.25), "faint": 5e-4 * audio}
    with write_folder(
        tmp_path / "b00", meta={"clips": clips, "duration_s": 16.0, "model": {"sample_rate_hz": RATE_HZ}}
    ) as folder:
        for name in names:
            soundfile.write(folder / f"{name}.flac", waves.get(name, audio), 8000 if name == "slow" else RATE_HZ)
    file = tmp_path / "b00" / "corrupt.flac"
    # The size stays, so that only reading tells.
    file.write_bytes(bytes(200) + file.read_bytes()[200:])
    (tmp_path / "model.json").write_text(json.dumps(IDENTITY))
    run("events", tmp_path, target=TARGET, events=RecurrenceSettings().model_dump(mode="json"), groups={})

    heard = pd.read_parquet(tmp_path / "clips.parquet").set_index("clip_id")
    assert heard.index.tolist() == list(names)
    assert heard["usable"].to_dict() == {name: name in ("good", "hum") for name in names}
    reasons = heard["no_events_because"]
    assert reasons["good"] == "" and reasons["hum"].startswith("motif: ")
    # Not music without a return, but no music.
    assert reasons["silent"] == "unusable: silent: it peaks at -inf dBFS; valid: -60 dBFS or more"
    assert all(reasons[name].startswith("unusable: silent: ") for name in ("offset", "faint"))
    assert "corrupt.flac" in reasons["corrupt"] and "mono" in reasons["stereo"]
    assert "valid: within the clip" in reasons["short"] and "8000 Hz; valid: 16000 Hz" in reasons["slow"]
    events = pd.read_parquet(tmp_path / "events.parquet")
    accepted = events[events["accepted"]]
    assert accepted["clip_id"].tolist() == ["good"] and abs(accepted["onset_s"].iloc[0] - 10) < 0.1

    run(
        "descriptors",
        tmp_path,
        descriptors={"context_s": 3.0},
        target=TARGET,
        known={"kind": "opening", "start_s": 2, "duration_s": 2},
    )
    described = read_store(tmp_path / "descriptors")["descriptors"][:]
    known = np.isfinite(described).all(axis=(1, 2))
    assert dict(zip(names, known, strict=True)) == heard["usable"].to_dict()
    assert np.isnan(described[~known]).all()


@pytest.mark.parametrize("motif", ["opening", "beats", "discovered"])
def test_a_batch_of_silence_is_unusable_and_has_the_columns_of_the_others(tmp_path: Path, motif: str) -> None:
    audio = render_clip(Clip("piano", "c", "ember", 0, 5, (0, 1, 2, 3, 0, 1, 2, 3)))
    passage = {"kind": motif, "duration_s": 2}
    passage |= {"min_gap_s": 2.0} if motif == "discovered" else {"start_s": 2}
    found = {}
    for name, wave in (("music", audio), ("silence", np.zeros_like(audio))):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "model.json").write_text(json.dumps(IDENTITY))
        clips = [{"clip_id": f"{name}{i}", "prompt_id": name, "prompt": name, "seed": i} for i in range(2)]
        about = {"clips": clips, "duration_s": 16.0, "model": {"sample_rate_hz": RATE_HZ}}
        with write_folder(directory / "b00", meta=about) as folder:
            for clip in clips:
                soundfile.write(folder / f"{clip['clip_id']}.flac", wave, RATE_HZ)
        run(
            "events",
            directory,
            target=TARGET,
            events=RecurrenceSettings(motif=motif).model_dump(mode="json"),
            groups={},
        )
        run("descriptors", directory, descriptors={"context_s": 3.0}, target=TARGET, known=passage)
        found[name] = read_store(directory / "descriptors")["descriptors"][:]
        assert read_manifest(directory / "descriptors")["meta"]["names"]
    heard = pd.read_parquet(tmp_path / "silence" / "clips.parquet")
    assert not heard["usable"].any() and heard["no_events_because"].str.startswith("unusable: silent: ").all()
    assert found["silence"].shape == found["music"].shape and np.isnan(found["silence"]).all()


MODEL = {"name": str(PLANNER), "backend": "audiocraft", "dtype": "float32"}


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.json"
    run_script("identify_model", path.with_name("log"), {}, {0: str(path)}, model=MODEL)
    return path


def test_recordings_in_which_nothing_is_to_be_heard_are_left_out_and_said_to_be(
    identity: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    music = 0.5 * render_clip(Clip("piano", "c", "ember", 0, 5, (0, 1, 2, 3, 0, 1, 2, 3)))
    silence = np.zeros_like(music)
    waves = {
        "music": np.concatenate([music, silence, music]),
        "silent": np.concatenate([silence, silence]),
        "cancels": np.column_stack([music, -music]),
        "integers": 32_767 * music,
    }
    tracks = []
    for name, wave in waves.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE_HZ, subtype="FLOAT")
        digest = hashlib.sha256((tmp_path / f"{name}.wav").read_bytes()).hexdigest()
        tracks.append([name, f"{name}.wav", digest, "", ""])
    stores = {kind: str(tmp_path / kind / "b00") for kind in ("tokens", "audio")}
    outputs = stores | {f"{kind}_manifest": f"{path}.manifest.json" for kind, path in stores.items()}
    asked = {"recordings": {"folder": str(tmp_path), "max_clips_per_track": 4}, "clip_s": 16.0, "encoded_s": 16.0}
    wildcards = {"corpus": "c", "batch": "b00"}
    inputs = {"model": str(identity)}
    run_script("encode_recordings", tmp_path / "log", inputs, outputs, wildcards, model=MODEL, tracks=tracks, **asked)

    meta = read_manifest(Path(stores["tokens"]))["meta"]
    assert [clip["clip_id"] for clip in meta["clips"]] == ["music-c0", "music-c2"]
    assert {left["track_id"]: left["reason"].partition(":")[0] for left in meta["left_out"]} == {
        "silent": "silent",
        "cancels": "channels cancel",
        "integers": "samples far outside -1 to 1",
    }
    (cut,) = meta["cuts_left_out"]
    assert (cut["track_id"], cut["cut"]) == ("music", 1)
    assert cut["reason"] == "silent: 16.00-32.00 s peaks at -inf dBFS" and meta["damaged"] == []
    said = capsys.readouterr().err
    kinds = "(silent 1, channels cancel 1, samples far outside -1 to 1 1)"
    listed = f"{outputs['tokens_manifest']} lists them"
    assert f"encode_recordings: c: 3 of 4 recordings of batch b00 are left out: {listed} {kinds}" in said
    assert f"encode_recordings: c: 1 of 3 cuts of batch b00 are left out: {listed} (silent 1)" in said


@pytest.mark.parametrize("n_silent", [4, 3, 1])
def test_an_sae_is_not_blamed_for_clips_that_are_silent(identity: Path, tmp_path: Path, n_silent: int) -> None:
    music = render_clip(Clip("piano", "c", "ember", 0, 5, (0, 1, 2, 3, 0, 1, 2, 3)))
    model = load_model(str(PLANNER))
    clips = [{"clip_id": f"c{i}", "prompt_id": f"p{i}", "prompt": "piano", "seed": 0} for i in range(4)]
    waves = {clip["clip_id"]: music * (i >= n_silent) for i, clip in enumerate(clips)}
    with write_folder(tmp_path / "audio" / "b00", meta={"clips": clips}) as folder:
        for name, wave in waves.items():
            soundfile.write(folder / f"{name}.flac", wave, RATE_HZ)
    tokens = np.stack([encode_audio(model, wave) for wave in waves.values()]).astype(np.uint16)
    arrays = {"tokens": ArraySpec(tokens.shape, "uint16")}
    with write_store(tmp_path / "tokens" / "b00", arrays, meta={"clips": clips}) as store:
        store.append("tokens", tokens)
    inputs = {kind: [str(tmp_path / kind / "b00.manifest.json")] for kind in ("tokens", "audio")}
    asked = {
        "layer": 2,
        "sae": str(PLANNER / "sae" / "layer2"),
        "batch_size": 4,
        "guided": False,
        "trained_here": False,
    }
    measured, out = tmp_path / "layer2.measured.json", tmp_path / "layer2.json"
    run_script(
        "measure_sae",
        tmp_path / "log",
        inputs | {"model": str(identity)},
        {0: str(measured)},
        model=MODEL,
        n_clips=4,
        **asked,
    )
    run_script("certify_sae", tmp_path / "log", {"measurement": str(measured)}, {0: str(out)}, certificate=BOUNDS)
    record = json.loads(out.read_text())
    if n_silent > 2:
        which = "all 4 clips" if n_silent == 4 else f"{n_silent} of the 4 clips to measure on"
        said = f"{which} are silent, so nothing was measured"
        assert record["all_silent"] == (n_silent == 4)
        assert (record["passed"], record["failures"], record["reason"]) == (False, ["measured"], said)
    else:
        assert record["n_clips"] == 4 - n_silent and record["failures"] != ["measured"]


@pytest.mark.parametrize("all_silent", [True, False])
def test_a_study_of_silence_comes_to_its_verdict_and_one_that_may_be_heard_is_told_what_helps(
    tmp_path: Path, all_silent: bool
) -> None:
    sae = PLANNER / "sae" / "layer2"
    found = load_sae(sae)
    measurement = Measurement(
        found.declared,
        {"hook_layer": 2, "d_model": 128, "frame_rate_hz": 25.0},
        {},
        sae=str(sae),
        sae_digest=found.digest,
        n_clips=0,
        not_measured="all are silent",
        n_silent=4,
        all_silent=all_silent,
    )
    write_json(tmp_path / "measured.json", to_plain(measurement))
    with write_store(tmp_path / "b00", {"resid_post": ArraySpec((1, 9, 128), "float32")}, meta={"clips": []}) as store:
        store.append("resid_post", np.zeros((1, 9, 128), np.float32))
    inputs = {"measurement": str(tmp_path / "measured.json"), "activations": str(tmp_path / "b00.manifest.json")}
    outputs = {"latents": str(tmp_path / "latents")}
    with (
        nullcontext()
        if all_silent
        else pytest.raises(SaeError, match=r"all are silent.*valid: a larger certificate\.n")
    ):
        run_script("encode", tmp_path / "log", inputs, outputs, params={"certificate": BOUNDS}, sae=str(sae))
    assert (tmp_path / "latents.manifest.json").is_file() == all_silent


def silenced(finished: Path, study: Path, chosen: Callable[[str], bool]) -> Path:
    """A copy of the finished study in which these clips are silent; the stores are whole."""
    shutil.copytree(finished, study, symlinks=True)
    for manifest in manifests(study, "audio"):
        store = store_of(manifest)
        files = {path.name: path.read_bytes() for path in sorted(store.glob("*.flac"))}
        with write_folder(store, meta=read_manifest(store)["meta"]) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
                if chosen(name.removesuffix(".flac")):
                    audio, rate_hz = soundfile.read(folder / name)
                    soundfile.write(folder / name, np.zeros_like(audio), rate_hz)
    return study


def test_one_silent_clip_of_a_batch_is_lost_alone(finished: Path, tmp_path: Path) -> None:
    (lost, *others) = read_clips(manifests(finished, "audio"))["clip_id"]
    study = silenced(finished, tmp_path / "study", lambda clip_id: clip_id == lost)
    snakemake(study, "--cores", "2")
    tables = sorted((study / "results/tiny/events").glob("*.clips.parquet"))
    heard = pd.concat(map(pd.read_parquet, tables)).set_index("clip_id")
    assert heard["usable"].to_dict() == {lost: False, **dict.fromkeys(others, True)}
    verdict = json.loads((study / "results/tiny/verdict.json").read_text())
    said = "silent: it peaks at -inf dBFS; valid: -60 dBFS or more"
    assert verdict["clips"]["unusable"] == {said: 1} and verdict["clips"]["n_usable"] == len(others)
    probes = [json.loads(path.read_text()) for path in (study / "results/tiny/probes").rglob("*.json")]
    assert len(probes) == 10
    for record in probes:
        # Nothing is null, which would be NaN.
        assert record["note"] == "" and None not in record.values() and record["n_clips"] == len(others), record
    predictions = [pd.read_parquet(path) for path in (study / "results/tiny/probes").rglob("*.parquet")]
    assert all(np.isfinite(table.select_dtypes("number")).all(axis=None) for table in predictions)
    assert all(set(table["clip_id"]) <= set(others) for table in predictions)
    assert "silent" in (study / "results/report/index.html").read_text()


@pytest.mark.slow
def test_a_study_in_which_nothing_is_to_be_heard_is_unresolved(finished: Path, tmp_path: Path) -> None:
    study = silenced(finished, tmp_path / "study", lambda clip_id: True)
    snakemake(study, "--cores", "2")
    verdict = json.loads((study / "results/tiny/verdict.json").read_text())
    assert verdict["verdict"] == "unresolved" and verdict["reason"].startswith("no clip could be used: "), verdict
    assert "silent" in verdict["reason"] and verdict["clips"]["n_usable"] == 0
    certificate = json.loads((study / "results/tiny/certificates/layer2.json").read_text())
    assert certificate["all_silent"] and certificate["failures"] == ["measured"]
    assert verdict["reason"] in (study / "results/report/index.html").read_text()


def test_verifying_names_what_is_not_a_stores(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("a", "b"):
        with write_folder(tmp_path / name, meta={}) as folder:
            (folder / "x.flac").write_bytes(b"sound")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    about = {"stores": [], "folders": [str(tmp_path)]}
    run_script("verify", tmp_path / "log", {}, {}, **about)
    said = capsys.readouterr().out
    assert "2 stores are intact, 0 are damaged" in said
    assert f"- store {tmp_path}/a: Thumbs.db: foreign files that nothing reads; they can be deleted" in said
    (tmp_path / "b" / "y.flac").write_bytes(b"sound")
    with pytest.raises(SystemExit):
        run_script("verify", tmp_path / "log", {}, {}, **about)
    assert f"only delete the foreign files: {tmp_path}/b/y.flac" in capsys.readouterr().out
