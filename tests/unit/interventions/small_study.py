"""Three clips, one candidate and every kind of edit of it, for tests of edits and of runs."""

import numpy as np
import pandas as pd
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.conditions import KINDS, condition_table
from reprise.interventions.edits import Edits, edit_function, row_edits
from reprise.interventions.subspace import Subspace, linear, of_latents
from reprise.models.generation import Sampling
from reprise.saes.sae import Sae

D, FRAMES, ROWS = 128, 22, 16
PREFIX_S, RATE_HZ = 0.4, 25.0  # 10 frames
LAYER, FEATURE = 2, 3
PROMPTS = ["piano in c, amber theme", "organ in eb, brook theme", "piano in eb, coral theme"]
GREEDY_ENOUGH = Sampling(temperature=1.0, top_k=50, cfg_coef=1.0)


def noise_keys(clips: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    return {c: (5, i) for i, c in enumerate(clips["clip_id"])}


def plane() -> Subspace:
    """A linear subspace of rank 2 whose read and write rows differ."""
    rng = np.random.default_rng(3)
    read, free = rng.standard_normal((2, D)), rng.standard_normal((2, D))
    return linear("probe", read, np.linalg.solve(free @ read.T, free), mean=np.full(D, 0.1))


# A candidate of one latent, its controls, and a linear subspace in the same batch.
SUBSPACES = {
    "target": of_latents("feature", [FEATURE]),
    "matched_feature0": of_latents("matched", [7]),
    "matched_feature1": of_latents("matched", [11, 12]),
    "local_feature": of_latents("local", [5]),
    "swapped_fit0": plane(),
}
NAMES = {
    "target": ["target"],
    "matched_feature": ["matched_feature0", "matched_feature1"],
    "swapped_fit": ["swapped_fit0"],
    "local_feature": ["local_feature"],
}
REFERENCES = {
    (name, what): np.full(subspace.rank, value)
    for name, subspace in SUBSPACES.items()
    for what, value in (("zero", 0.0), ("without", 0.25))
}
N_KINDS = len(KINDS)


def edits_with(sae: Sae | None, donated: dict | None = None) -> Edits:
    return Edits(SUBSPACES, REFERENCES, donated or {}, sae)


def table_of(clips: pd.DataFrame, names: dict | None = None, **changes: object) -> pd.DataFrame:
    settings = {
        "doses": (0.0, 1.0, 4.0),
        "windows": ("until_event", "prefix_only"),
        "layer": LAYER,
        "reference": "zero",
        "second_reference": "without",
        "prefix_s": PREFIX_S,
        "frame_rate_hz": RATE_HZ,
    }
    return condition_table(NAMES if names is None else names, clips, **(settings | changes))


def edit_of(sae: Sae | None, table: pd.DataFrame, donated: dict | None = None, **how: object):
    how = {"guided": False} | how
    return edit_function(row_edits(table, edits_with(sae, donated), d_model=D, device="cpu"), sae, **how)


def edited(sae: Sae, table: pd.DataFrame, x: torch.Tensor, start: int = 0) -> torch.Tensor:
    return edit_of(sae, table)(LAYER, start, x)


def one_of_each(clips: pd.DataFrame) -> pd.DataFrame:
    """A row for each kind, at dose 1, edited until the event."""
    table = table_of(clips.iloc[:1], doses=(1.0,), windows=("until_event",))
    return table.drop_duplicates("kind").set_index("kind", drop=False)


def donations(clips: pd.DataFrame, n_positions: int = 30) -> dict[tuple[str, str], np.ndarray]:
    """What the coordinates of each subspace are said to be in each donor."""
    rng = np.random.default_rng(6)
    return {
        (clip, name): rng.exponential(size=(n_positions, subspace.rank)).astype(np.float32)
        for clip in clips["clip_id"]
        for name, subspace in SUBSPACES.items()
    }


def with_donors(clips: pd.DataFrame) -> pd.DataFrame:
    return clips.assign(donor=np.roll(clips["clip_id"], 1))
