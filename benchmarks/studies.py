"""Read a finished study, to measure more on it than the workflow does."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from reprise.candidates.study_clips import StudyClips, read_study_clips
from reprise.config.schema import Study
from reprise.targets.registry import target_of


def settings_of(folder: Path) -> Study:
    """The settings of a study, from the configuration file `<study>.yaml` beside the folder of results."""
    settings = yaml.safe_load((folder.parents[1] / f"{folder.name}.yaml").read_text())
    return Study.model_validate(settings["defaults"] | settings["studies"][folder.name])


def stores(folder: Path) -> list[str]:
    """Manifests of the stores in a folder."""
    return sorted(str(path) for path in folder.glob("b??.manifest.json"))


def corpus_of(folder: Path) -> Path:
    """The folder of the corpus of a finished study."""
    return folder / json.loads((folder / "clips.json").read_text())["corpus"]


def clips_of(folder: Path, settings: Study, *, layer: int) -> StudyClips:
    """The clips of a finished study as candidates of a layer see them."""
    corpus, extent = corpus_of(folder), extent_of(settings)
    events = [str(path) for path in sorted(folder.glob("events/b??.parquet"))]
    inputs = SimpleNamespace(
        tokens=stores(corpus / "tokens"),
        activations=stores(corpus / "activations" / f"layer{layer}"),
        events=events,
        clip_summaries=[path.replace(".parquet", ".clips.parquet") for path in events],
        reviews=[],
    )
    of_clips = {
        "confirm_fraction": settings.screen.confirm_fraction,
        "prefix_s": settings.ablation.prefix_s,
        "return_window_s": settings.ablation.return_window_s,
        "context_s": settings.descriptors.context_s,
        "earliest_s": extent.earliest_s,
        "reference_s": extent.reference_s,
        "reviewed_only": False,
    }
    return read_study_clips(inputs, of_clips)


def extent_of(settings: Study) -> Any:
    """How long the events of a study's target last (`reprise.targets.target`)."""
    return target_of(settings.target).extent(settings.events.model_dump(mode="json"))
