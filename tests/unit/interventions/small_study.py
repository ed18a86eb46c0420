"""Three clips, one candidate and every kind of edit of it, for tests of edits and of runs."""

import numpy as np
import pandas as pd
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.interventions.conditions import KINDS, STEERING_KINDS, Candidate, condition_table
from reprise.interventions.edits import Direction, edit_function, random_direction, row_edits
from reprise.models.generation import Sampling
from reprise.saes.sae import Sae

D, FRAMES, ROWS = 128, 22, 16
PREFIX_S, RATE_HZ = 0.4, 25.0  # 10 frames
LAYER, FEATURE = 2, 3
PROMPTS = ["piano in c, amber theme", "organ in eb, brook theme", "piano in eb, coral theme"]
GREEDY_ENOUGH = Sampling(temperature=1.0, top_k=50, cfg_coef=1.0)


def noise_keys(clips: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    return {c: (5, i) for i, c in enumerate(clips["clip_id"])}


DIRECTIONS = {0: Direction(random_direction(D, layer=9, feature=9, control=9), 0.25)}
CANDIDATE = Candidate(LAYER, FEATURE, matched_features=(7, 11), local_feature=5)
ALL_KINDS = (*KINDS, *STEERING_KINDS[1:])
N_KINDS = len(ALL_KINDS)


def table_of(clips: pd.DataFrame, **changes: object) -> pd.DataFrame:
    settings = {
        "doses": (0.0, 1.0, 4.0),
        "windows": ("until_event", "prefix_only"),
        "kinds": ALL_KINDS,
        "prefix_s": PREFIX_S,
        "frame_rate_hz": RATE_HZ,
    }
    return condition_table(CANDIDATE, clips, **(settings | changes))


def edited(sae: Sae, table: pd.DataFrame, x: torch.Tensor, start: int = 0) -> torch.Tensor:
    return edit_function(sae, row_edits(sae, table, DIRECTIONS), guided=False)(LAYER, start, x)


def one_of_each(clips: pd.DataFrame, window: str = "until_event", dose: float = 1.0) -> pd.DataFrame:
    table = table_of(clips.iloc[:1], doses=(dose,), windows=(window,))
    return table.drop_duplicates("kind").set_index("kind", drop=False)


def donations(clips: pd.DataFrame, n_positions: int = 30) -> dict[tuple[str, int], np.ndarray]:
    """What each feature is said to do in each donor."""
    rng = np.random.default_rng(6)
    features = (FEATURE, *CANDIDATE.matched_features, CANDIDATE.local_feature)
    return {(c, j): rng.exponential(size=n_positions).astype(np.float32) for c in clips["clip_id"] for j in features}


def with_donors(clips: pd.DataFrame) -> pd.DataFrame:
    return clips.assign(donor=np.roll(clips["clip_id"], 1))
