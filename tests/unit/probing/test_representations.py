"""The registry of what can be probed: the built-in five, and what an installed package adds."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reprise.extensions import ExtensionError
from reprise.identity import seed_from
from reprise.probing import representations as registry
from reprise.probing.probes import fit_question
from reprise.probing.questions import read_question, write_baseline
from reprise.storage.artifacts import read_clips
from reprise.storage.stores import ArraySpec, write_store
from reprise.targets.labels import label_grid
from tests import plugins
from tests.unit.config.studies import checked, problems
from tests.workflow.conftest import run_script

N_PROMPTS, N_SEEDS, N_POSITIONS, D_MODEL = 16, 2, 9, 3
POSITIONS = range(2, 9, 2)


@pytest.fixture(autouse=True)
def _as_installed() -> Iterator[None]:
    yield
    plugins.forget()


def test_the_built_in_ones_have_their_roles_and_probes() -> None:
    known = registry.names()
    assert registry.with_role(known, "evidence") == ["resid", "sae"]
    assert registry.with_role(known, "check") == ["embedding", "random_model"]
    assert registry.report_order(known) == ["embedding", "resid", "random_model", "sae", "random_dictionary"]
    probes = [probe for name in known for probe in registry.probe_names(name, [2, 11])]
    assert len(probes) == 9 and all(re.fullmatch(registry.probe_pattern(), probe) for probe in probes)
    assert not re.fullmatch(registry.probe_pattern(), "resid")
    read = {probe: [tuple(source) for source in registry.sources_of(probe)] for probe in probes if "11" not in probe}
    assert read == {
        "resid-layer2": [("activations", "layer2", False)],
        "sae-layer2": [("latents", "layer2", False)],
        "embedding": [("activations", "embedding", False)],
        "random_dictionary-layer2": [("activations", "layer2", False), ("latents", "layer2", True)],
        "random_model-layer2": [("activations", "random-layer2", False)],
    }
    assert not any(registry.versions(name) for name in known)


def write_small_study(folder: Path, rng: np.random.Generator) -> dict[str, list[str]]:
    """Clips in two batches, half of which return: there, and there only, the stream moves by a step at each position
    of the grid. Manifests of the descriptors and of the stream."""
    clips = [
        {"clip_id": f"p{p}-s{s}", "prompt_id": f"p{p}", "prompt": "piano", "seed": s}
        for p in range(N_PROMPTS)
        for s in range(N_SEEDS)
    ]
    returns = rng.random(len(clips)) < 0.5
    labels = [
        {"clip_id": clip["clip_id"], "position": at, "time_s": at / 2, "y": int(y), "reason": ""}
        for clip, y in zip(clips, returns, strict=True)
        for at in POSITIONS
    ]
    pd.DataFrame(labels).to_parquet(folder / "labels.parquet")
    steps = rng.normal(size=(len(clips), N_POSITIONS, D_MODEL)) + 3.0 * returns[:, None, None]
    sign = np.where(np.arange(N_POSITIONS) % 2, -1, 1)[:, None]
    arrays = {
        ("descriptors", "descriptors"): rng.normal(size=(len(clips), N_POSITIONS, 2)).astype(np.float32),
        ("layer2", "resid_post"): np.cumsum(steps * sign, axis=1).astype(np.float16),
    }
    half = len(clips) // 2
    for (kind, name), values in arrays.items():
        for batch, part in (("b00", slice(half)), ("b01", slice(half, None))):
            meta = {"clips": clips[part], "names": ["loud", "bright"]}
            spec = {name: ArraySpec(values[part].shape, str(values.dtype))}
            with write_store(folder / kind / batch, spec, meta=meta) as store:
                store.append(name, values[part])
    return {kind: [str(folder / kind / f"{b}.manifest.json") for b in ("b00", "b01")] for kind, _ in arrays}


def test_the_example_of_the_docs_is_probed_by_the_rules_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.install(tmp_path / "site", monkeypatch, page="add-a-representation.md")
    assert registry.names()[-1] == "resid_step" and registry.versions("resid_step") == {"resid_step": "1"}
    assert re.fullmatch(registry.probe_pattern(), "resid_step-layer2")
    assert registry.with_role(registry.names(), "evidence") == ["resid", "sae", "resid_step"]
    assert checked(probes={"representations": ["resid_step", "random_model"]})

    stores = write_small_study(tmp_path, np.random.default_rng(0))
    clips = read_clips(stores["descriptors"])
    grid = label_grid(pd.read_parquet(tmp_path / "labels.parquet"), clips["clip_id"])
    question = read_question(stores["descriptors"], clips, grid)
    seed = seed_from("probe", "tiny", "h1-2")[0]
    write_baseline(tmp_path / "baseline.parquet", fit_question(question, seed=seed, n_folds=2))
    (tmp_path / "declared.json").write_text('{"entry": "0"}')
    inputs = {name: str(tmp_path / f"{name}.parquet") for name in ("labels", "baseline")}
    inputs |= {"declared": str(tmp_path / "declared.json"), "local": [], "certificate": []}
    inputs |= {"descriptors": stores["descriptors"], "representation": stores["layer2"]}
    outputs = {"record": str(tmp_path / "record.json"), "predictions": str(tmp_path / "predictions.parquet")}
    wildcards = {"probe": "resid_step-layer2", "horizon": "h1-2"}
    asked = {"n_swaps": 9, "n_folds": 2, "n_bootstrap": 100}
    run_script("probe", tmp_path / "log", inputs, outputs, wildcards, study="tiny", probes=asked)
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["representation"], record["hook"], record["n_components"]) == ("resid_step", "layer2", D_MODEL)
    assert record["gain_auroc_low"] > 0.1 and record["p_swap"] == 0.1


@pytest.mark.parametrize(
    "before, after, said",
    [
        ('version="1"', 'version=""', "version is ''; valid: a text that changes with what make computes"),
        ("role=EVIDENCE", 'role="proof"', "role is 'proof'; valid: one of evidence, check, comparison"),
        ("LAYER)", '"layer5")', "sources has kind 'activations' with hook 'layer5'; valid: activations: 'embedding'"),
        ("LAYER)", '"embedding")', "role is evidence, but no source has a layer; valid: a source with {layer}"),
        ('"activations", LAYER', '"latents", LAYER', "needs_certificate is False; valid: True if latents are read"),
        ('"resid_step",', '"resid",', "name is 'resid'; valid: the entry point's"),
        ("def make", "import nothing_of_this_name\n\n\ndef make", "cannot be imported (ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, said: str
) -> None:
    plugins.install(tmp_path, monkeypatch, page="add-a-representation.md", changed=(before, after))
    with pytest.raises(ExtensionError) as caught:
        registry.find("resid_step")
    assert str(caught.value).startswith("reprise.representations: resid_step = resid_step:STEP")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert registry.find("resid").role == "evidence"
    (line,) = problems(probes={"representations": ["resid", "resid_step", "random_model"]})
    assert said in line
