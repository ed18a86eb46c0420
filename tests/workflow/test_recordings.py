"""Recordings as a study: verified, cut and encoded, read by the model or continued by it, and edited.

The recordings are pieces that the planner was made for, whose cue tells whether their motif returns, as files of a
collection: stereo at 44.1 kHz, MP3 and FLAC, some of them spoilt.
"""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.signal import resample_poly

from reprise.candidates.controls import plain
from reprise.config.clips import assign_batches
from reprise.config.validation import load_config
from reprise.interventions.edits import Edits
from reprise.interventions.run import teacher_forced_kl
from reprise.interventions.subspace import from_record, of_latents
from reprise.models.codec import encode_audio
from reprise.models.generation import Sampling
from reprise.models.loading import load_model
from reprise.organisms.codec import render_clip
from reprise.organisms.score import Clip, prompt_text
from reprise.saes.loading import load_sae
from reprise.storage.artifacts import read_array, read_clips
from reprise.storage.files import read_manifest
from tests.workflow.conftest import ROOT, corpus_of, jobs, manifests, run_script, snakemake, write_config

PLANNER = ROOT / "resources" / "planner"
SAE = PLANNER / "sae" / "layer2"
COLUMNS = ["path", "sha256", "licence", "source", "tags", "prompt"]
TARGETS = [f"results/{study}/labels/h4-8.parquet" for study in ("heard", "goes-on")]


def in_batch(batch: str, name: str) -> str:
    """The name of a recording that falls into this batch of two."""
    return next(n for n in (f"{name}{i}" for i in range(99)) if assign_batches([n], 2)[n] == batch)


def pieces() -> dict[str, tuple[np.ndarray, str]]:
    """Audio and prompt of each sound recording by its file's name; the first one is long enough for two clips."""
    found = {}
    for i, motif in enumerate(("amber", "brook", "coral", "ember", "grove", "heath")):
        returns = i % 2 == 0
        clip = Clip("piano", "c", motif, int(returns), 6 if returns else -1, (0, 1, 2, 3, 0, 1, 2, 3))
        audio = render_clip(clip)
        whole = [audio, audio[:8000]] if i else [audio, audio, audio[:8000]]
        file = f"{in_batch('b01', motif)}.{'mp3' if i % 3 else 'flac'}"
        found[file] = (np.concatenate(whole), prompt_text("piano", "c", motif))
    return found


# Files that cannot be used, and how many recordings there are in all; a batch of its own has spoilt ones alone.
TEXT, SHORT, CHANGED = (
    f"{in_batch(batch, name)}.{ending}"
    for batch, name, ending in (("b00", "text", "mp3"), ("b00", "short", "wav"), ("b01", "changed", "flac"))
)
MISSING, AGAIN = f"{in_batch('b00', 'missing')}.wav", f"{in_batch('b01', 'zagain')}.flac"
N_TRACKS = 11


def recordings_config() -> dict:
    files = {"folder": "audio", "manifest": "recordings.csv"}
    fields = {
        "model": {"name": str(PLANNER)},
        "saes": {2: str(SAE)},
        "generation": {"n_batches": 2, "batch_size": 20},
        "horizons": {"local": [0.5, 2], "long": [4, 8]},
        "events": {"n_surrogates": 19},
        "certificate": {"n_clips": 4},
        "probes": {"n_folds": 2, "representations": ["sae", "random_model"]},
        "ablation": {"n_clips": 2, "doses": [0, 1.0], "windows": ["until_event"]},
    }
    studies = {
        "heard": {"source": "audio", "recordings": {**files, "max_clips_per_track": 2}},
        "goes-on": {
            "source": "continuation",
            "recordings": {**files, "max_clips_per_track": 1, "continue_from_s": 7.6},
            "seeds": [3, 4],
            "generation": {"n_batches": 1},
        },
    }
    return {"studies": studies, "defaults": fields}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The directory of both studies up to their labels, and what the run said."""
    directory = tmp_path_factory.mktemp("recordings")
    folder = directory / "audio"
    folder.mkdir()
    rows = []

    def add(name: str, digest: str = "", *rest: str) -> None:
        digest = digest or hashlib.sha256((folder / name).read_bytes()).hexdigest()
        rows.append([name, digest, *(rest or [""] * 4)])

    for name, (audio, prompt) in pieces().items():
        wide = resample_poly(audio, 441, 160)
        soundfile.write(folder / name, np.column_stack([wide, 0.5 * wide]).astype(np.float32), 44_100)
        add(name, "", "CC0", "rendered", "slow; piano", prompt)
    first = rows[0]
    (folder / TEXT).write_bytes(b"no music" * 99)
    soundfile.write(folder / SHORT, np.zeros(44_100), 44_100)
    (folder / CHANGED).write_bytes((folder / first[0]).read_bytes())
    add(TEXT)
    add(SHORT)
    add(CHANGED, "1" * 64)
    add(MISSING, "2" * 64)
    add(AGAIN, first[1])
    with open(directory / "recordings.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    write_config(directory, recordings_config())
    return directory, snakemake(directory, "--cores", "2", *TARGETS)


def meta(manifest: str) -> dict:
    return read_manifest(Path(manifest.removesuffix(".manifest.json")))["meta"]


def test_what_cannot_be_used_is_listed_with_its_reason_and_counted(study):
    directory, output = study
    empty, full = (meta(m) for m in manifests(directory, "audio", "heard"))
    assert (empty["n_tracks"], full["n_tracks"]) == (3, 8)
    reasons = {left["path"]: left["reason"] for left in empty["left_out"] + full["left_out"]}
    assert reasons.pop(TEXT).startswith("cannot be decoded: ")
    assert reasons.pop(SHORT) == "too short: 1.0 s, but a clip has 16 s"
    assert reasons.pop(MISSING) == "missing"
    assert reasons.pop(CHANGED).endswith(f"but the manifest says {'1' * 64}")
    assert reasons.pop(AGAIN) == f"the same recording as {in_batch('b01', 'amber')}, by its checksum"
    assert not reasons
    for rule, study, count, store in (
        ("encode_recordings", "heard", "3 of 3", "tokens/b00"),
        ("encode_recordings", "heard", "2 of 8", "tokens/b01"),
        ("encode_openings", "goes-on", f"5 of {N_TRACKS}", "openings/b00"),
    ):
        name, batch = corpus_of(directory, study).name, store[-3:]
        said = f"{rule}: {name}: {count} recordings of batch {batch} are left out: results/corpora/{name}/{store}"
        assert f"{said}.manifest.json lists them" in output
    log = directory / f"results/logs/corpora/{corpus_of(directory, 'heard').name}/encode_recordings/b00.log"
    assert f"{MISSING}: left out, missing" in log.read_text()
    # What goes on from the openings still says what was left out.
    (goes_on,) = manifests(directory, "audio", "goes-on")
    assert meta(goes_on)["n_tracks"] == N_TRACKS and len(meta(goes_on)["left_out"]) == 5


def test_clips_are_the_recordings_and_a_track_is_what_a_prompt_is(study):
    directory, _ = study
    clips = read_clips(manifests(directory, "tokens", "heard"))
    tokens = read_array(manifests(directory, "tokens", "heard"), "tokens")
    assert tokens.shape == (7, 4, 400) and tokens.dtype == np.uint16
    model, folder = load_model(str(PLANNER)), corpus_of(directory, "heard") / "audio" / "b01"
    for name, (audio, prompt) in pieces().items():
        track = name.partition(".")[0]
        cuts = range(2 if track.startswith("amber") else 1)
        mine = clips[clips["prompt_id"] == track]
        assert mine["clip_id"].tolist() == [f"{track}-c{n}" for n in cuts] and set(mine["prompt"]) == {prompt}
        heard, rate_hz = soundfile.read(folder / f"{track}-c0.flac", dtype="float32")
        assert rate_hz == 16_000 and len(heard) == 16 * 16_000
        # The mean of the channels, but for what MP3 loses.
        expected = 0.75 * audio[: len(heard)]
        assert (
            np.square(heard - expected).mean() < (0.02 if name.endswith("mp3") else 1e-4) * np.square(expected).mean()
        )
        # Tokens are those of what is heard, up to the 16 bits of the file.
        same = encode_audio(model, heard) == tokens[mine.index[0]]
        assert same.mean() > 0.98


def test_a_continuation_begins_with_what_was_recorded_and_knows_nothing_of_the_rest(study):
    directory, _ = study
    clips = read_clips(manifests(directory, "tokens", "goes-on"))
    tokens = read_array(manifests(directory, "tokens", "goes-on"), "tokens")
    assert sorted(clips["clip_id"]) == sorted(
        f"{name.partition('.')[0]}-c{1 if i == 0 else 0}-s{seed}" for i, name in enumerate(pieces()) for seed in (3, 4)
    )
    n_opening = 190  # 7.6 s
    openings = read_array(manifests(directory, "openings", "goes-on"), "tokens")
    assert openings.shape == (6, 4, n_opening)
    assert np.array_equal(tokens[..., :n_opening], np.repeat(openings, 2, axis=0))
    # The seeds go on differently, and not as the recording does.
    assert (tokens[::2, :, n_opening:] != tokens[1::2, :, n_opening:]).any(axis=(1, 2)).all()
    whole = dict(
        zip(
            read_clips(manifests(directory, "tokens", "heard"))["clip_id"],
            read_array(manifests(directory, "tokens", "heard"), "tokens"),
            strict=True,
        )
    )
    differs = []
    for clip, opening in zip(clips["clip_id"][::2], openings, strict=True):
        recorded = whole[clip.removesuffix("-s3")]
        differs += np.flatnonzero((recorded[:, :n_opening] != opening).any(axis=0)).tolist()
    # The encoder looks 4 frames ahead: alone, the opening's last frames are others.
    assert differs and min(differs) >= n_opening - 4


def test_what_is_asked_of_a_continuation_is_asked_of_what_the_model_plays(study):
    directory, _ = study
    labels = pd.read_parquet(directory / TARGETS[1])
    usable = labels[labels["reason"] == ""]
    assert usable["time_s"].min() == 8.0 and (labels.loc[labels["time_s"] == 7.5, "reason"] == "recorded").all()
    assert (usable["position"] == usable["time_s"] * 25).all()


def test_labels_of_a_recording_are_read_before_its_tokens_know_more(study):
    directory, _ = study
    labels = pd.read_parquet(directory / TARGETS[0])
    usable = labels[labels["reason"] == ""]
    assert usable["clip_id"].nunique() == 7 and set(usable["prompt_id"]) == {n.partition(".")[0] for n in pieces()}
    assert (usable["position"] == np.floor(usable["time_s"] * 25) - 4).all()
    # The pieces that return do so at 12 s.
    returning = {name.partition(".")[0] for i, name in enumerate(pieces()) if i % 2 == 0}
    assert set(usable.loc[usable["y"] == 1, "prompt_id"]) == returning


def test_a_licence_reruns_no_clip_and_another_track_its_own_batch(study):
    directory, _ = study
    manifest = directory / "recordings.csv"
    before = manifest.read_text()
    manifest.write_text(before.replace("CC0", "CC BY 4.0"))
    assert jobs(snakemake(directory, "--dry-run", "--cores", "1", *TARGETS)) == {}
    manifest.write_text(f"{before}{in_batch('b00', 'more')}.wav,{'3' * 64},,,,\n")
    scheduled = jobs(snakemake(directory, "--dry-run", "--cores", "1", TARGETS[0]))
    manifest.write_text(before)
    assert scheduled["encode_recordings"] == 1 and scheduled["events"] == 1, scheduled


def fields_of(directory: Path, name: str) -> dict:
    study = load_config(directory / "config.yaml", base_dir=directory).studies[name]
    fields = study.model_dump(mode="json")
    fields["model"].pop("device")
    return {"study": name, **fields}


def test_recordings_take_the_same_way_to_a_probe_and_a_batch_without_one_is_passed_over(study, tmp_path):
    directory, _ = study
    results, fields = corpus_of(directory, "heard"), fields_of(directory, "heard")
    model, log = str(results / "model.json"), tmp_path / "log"
    measured, certified, baseline, declared = (
        str(tmp_path / name) for name in ("measured.json", "certificate.json", "baseline.parquet", "declared.json")
    )
    Path(declared).write_text(json.dumps({"entry": "d1"}))

    def store(kind: str, batch: str) -> str:
        return str(tmp_path / kind / batch)

    given = {"model": model, **{kind: manifests(directory, kind, "heard") for kind in ("tokens", "audio")}}
    asked = {"n_clips": 4, "batch_size": 4, "guided": False, "layer": 2, "sae": str(SAE), "trained_here": False}
    run_script("measure_sae", log, given, {"record": measured}, model=fields["model"], **asked)
    bounds = {"certificate": fields["certificate"]}
    run_script("certify_sae", log, {"measurement": measured}, {"record": certified}, **bounds)
    for batch in ("b00", "b01"):
        tokens, audio = (str(results / kind / f"{batch}.manifest.json") for kind in ("tokens", "audio"))
        captured, latents = {"stores": [store("acts/layer2", batch)]}, {"latents": store("latents", batch)}
        asked = {"batch_size": 7, "model": fields["model"]}
        run_script("activations", log, {"model": model, "tokens": tokens}, captured, {"corpus": "c"}, **asked)
        acts = f"{store('acts/layer2', batch)}.manifest.json"
        run_script("encode", log, {"measurement": measured, "activations": acts}, latents, params=bounds, sae=str(SAE))
        motif = {"kind": "opening", "start_s": 2.0, "duration_s": 2.0}
        made, heard = {"store": store("descriptors", batch)}, {"model": model, "audio": audio}
        run_script(
            "descriptors",
            log,
            heard,
            made,
            descriptors=fields["descriptors"],
            target={"name": "recurrence"},
            known=motif,
        )
    inputs = {
        **{kind: [f"{store(kind, b)}.manifest.json" for b in ("b00", "b01")] for kind in ("descriptors", "latents")},
        "labels": str(directory / TARGETS[0]),
        "local": [],
        "certificate": [certified],
        "baseline": baseline,
        "declared": declared,
    }
    inputs["representation"] = inputs["latents"]
    outputs = {"record": str(tmp_path / "probe.json"), "predictions": str(tmp_path / "probe.parquet")}
    n_folds = fields["probes"]["n_folds"]
    run_script("baseline", log, inputs, {"table": baseline}, {"horizon": "h4-8"}, study="heard", n_folds=n_folds)
    asked = {"study": "heard", "probes": fields["probes"]}
    run_script("probe", log, inputs, outputs, {"probe": "sae-layer2", "horizon": "h4-8"}, **asked)
    record = json.loads(Path(outputs["record"]).read_text())
    assert (record["n_clips"], record["n_prompts"], record["n_positive_prompts"]) == (7, 6, 3)
    assert record["note"] == "" and np.isfinite(record["gain_auroc"]) and record["declared"] == "d1"


def specification(directory: Path, name: str) -> tuple[dict, pd.DataFrame]:
    """An ablation of the clips that return in the recordings, as the screen would ask for, and their tokens' rows."""
    clips = read_clips(manifests(directory, "tokens", name))
    returning = [n.partition(".")[0] for i, n in enumerate(pieces()) if i % 2 == 0]
    chosen = clips[clips["prompt_id"].isin(returning)].drop_duplicates("prompt_id").head(2)
    of_clips = chosen.assign(target_start_s=9.5, target_stop_s=12.5, reference_start_s=2.0, reference_duration_s=2.0)
    edits = {
        "target": {"target": of_latents("feature", [5])},
        "matched_feature": {"other": of_latents("feature", [9])},
    }
    still = {"with": [1.0], "without": [0.0], "zero": [0.0]}
    spec = {"layer": 2, "kind": "feature", **plain(edits), "references": {"target": still, "other": still}}
    return spec | {"clips": of_clips.to_dict("records"), "sufficiency_clips": []}, chosen


@pytest.mark.parametrize("name", ["heard", "goes-on"])
def test_an_edit_is_compared_with_what_the_model_itself_plays(study, tmp_path, name):
    directory, _ = study
    fields, model = fields_of(directory, name), str(corpus_of(directory, name) / "model.json")
    spec, chosen = specification(directory, name)
    certificate = {"sae_digest": load_sae(SAE).digest, "passed": True, "n_silent": 0, "failures": []}
    files = {"candidate": spec, "certificate": certificate}
    for file, content in files.items():
        (tmp_path / f"{file}.json").write_text(json.dumps(content))
    tokens = manifests(directory, "tokens", name)
    inputs = {"model": model, "tokens": tokens, "donated": [], "candidate": str(tmp_path / "candidate.json")}
    inputs["certificate"] = [str(tmp_path / "certificate.json")]
    sampling = {key: fields["generation"][key] for key in (*Sampling._fields, "batch_size")}
    asked = {key: fields[key] for key in ("study", "model", "source", "ablation", "events")}
    ablation = str(tmp_path / "layer2-f5")
    # For a continuation this fails unless the untouched rows are the clips themselves.
    run_script("ablate", tmp_path / "log", inputs, {"tokens": ablation}, **asked, sampling=sampling, sae=[str(SAE)])

    table, made = pd.read_parquet(f"{ablation}/conditions.parquet"), np.load(f"{ablation}/tokens.npy")
    own = read_array(tokens, "tokens")[chosen.index]
    kind = table["kind"].to_numpy()
    untouched = made[kind == "untouched"]
    assert len(untouched) == len(chosen) == 2
    assert np.array_equal(untouched[..., :200], own[..., :200])
    after = (untouched != own)[..., 200:].any(axis=(1, 2))
    assert after.all() if name == "heard" else not after.any()
    nothing = (table["dose"] == 0) & ~table["kind"].isin(["untouched", "resampled"])
    assert nothing.sum() == 6 and (made[nothing] == np.repeat(untouched, 3, axis=0)).all()
    # How far an edit moves what is played next is measured on what the model itself plays, here too.
    row = np.flatnonzero((table["kind"] == "target") & (table["dose"] == 1))[:1]
    kl, of_row = np.load(f"{ablation}/kl.npy")[row], table.iloc[row]
    played = {of_row["clip_id"].item(): untouched[0]}
    subspaces = {name: from_record(record) for name, record in spec["subspaces"].items()}
    edits = Edits(subspaces, {("target", "without"): np.zeros(1)}, sae=load_sae(SAE))
    again = teacher_forced_kl(load_model(str(PLANNER)), edits, of_row, played, batch_size=1)
    np.testing.assert_allclose(kl, again, rtol=1e-3, atol=1e-4)
    assert kl.max() > 0.01

    outputs = {part: str(tmp_path / f"{part}.parquet") for part in ("effects", "matched", "sufficiency")}
    outputs["players"] = str(tmp_path / "players")
    inputs |= {"ablation": f"{ablation}.manifest.json", "effects": outputs["effects"]}
    run_script(
        "effects",
        tmp_path / "log",
        inputs,
        outputs,
        **asked,
        target={"name": "recurrence"},
        event_s=2.0,
        batch_size=20,
    )
    inputs["candidates"] = str(tmp_path / "candidates.parquet")
    pd.DataFrame({"name": ["layer2-f5"]}).to_parquet(inputs["candidates"])
    run_script("match_damage", tmp_path / "log", inputs, outputs, {"candidate": "layer2-f5"})
    effects, matched = (pd.read_parquet(outputs[part]) for part in ("effects", "matched"))
    found = effects[effects["kind"] == "untouched"].set_index("clip_id")["found_baseline"]
    n_judged = int(found.sum()) if name == "heard" else 2
    assert n_judged and (matched["n_clips"] == n_judged).all() and set(matched["kind"]) >= {"target", "resampled"}
    zero = matched[(matched["kind"] == "target") & (matched["dose"] == 0)]
    assert (zero[["effect", "damage"]] == 0).all(axis=None)
