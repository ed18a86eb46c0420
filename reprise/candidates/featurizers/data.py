"""What featurizers are fitted on: the streams of screened clips, at the positions where a plan could be held.

Conventions. `x` is the residual stream of one layer, float32 `[clip, position, d_model]`. `could_plan` is bool `[clip,
position]`, with at least one position per clip. `has_event` is bool `[clip]`, and `prompt` `[clip]` says which prompt
a clip belongs to. Clips of the confirmation prompts are never among them.

A clip counts once, however many positions it has. So class means are means of clip means.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FitData(NamedTuple):
    """The clips that a featurizer is fitted on; see the head of this module."""

    x: NDArray[np.float32]
    could_plan: NDArray[np.bool_]
    has_event: NDArray[np.bool_]
    prompt: NDArray

    @property
    def clip_means(self) -> NDArray[np.float64]:
        """Mean stream of each clip over its positions, `[clip, d_model]`."""
        return self.x.astype(np.float64).mean(axis=1, where=self.could_plan[..., None])

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean stream of all clips, `[d_model]`."""
        return self.clip_means.mean(axis=0)


def check_classes(has_event: NDArray[np.bool_], *, who: str) -> None:
    """Raise ValueError unless there are clips with and without an event."""
    n = int(has_event.sum())
    if not 0 < n < len(has_event):
        raise ValueError(f"{who}: {n} clips with an event and {len(has_event) - n} others; valid: at least one each")


def swapped(data: FitData, *, seed: int) -> FitData:
    """The same clips with their labels exchanged between prompts, for the control that shares everything else.

    Whole prompts exchange their labels, so that labels of one prompt stay together; within the prompt they come in
    random order. A prompt with fewer clips than its partner takes some of its labels, and one with more repeats them.
    """
    prompts, of_clip = np.unique(data.prompt, return_inverse=True)
    rng = np.random.default_rng(seed)
    partner = rng.permutation(len(prompts))
    has_event = np.empty_like(data.has_event)
    for i in range(len(prompts)):
        mine, theirs = np.flatnonzero(of_clip == i), np.flatnonzero(of_clip == partner[i])
        has_event[mine] = np.resize(rng.permutation(data.has_event[theirs]), len(mine))
    return data._replace(has_event=has_event)
