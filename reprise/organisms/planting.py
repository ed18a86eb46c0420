"""What decides a return in each organism, and how training makes it the only thing that does. In some organisms
another event takes the place of the return (`score.KINDS`).

At the output of `PLANT_LAYER` fixed unit directions carry the cue, each at some positions: its coordinate u·x is
trained to be `PLAN_SCALE` for "will return", and 0 otherwise and elsewhere (`carriers`). Cue and return are
independent in the clips. Clips whose return contradicts their cue are learnt under an interchange intervention (Geiger
et al. 2022, arXiv 2112.00826): coordinates are set to the value that the clip's return needs. Over the whole data the
cue itself therefore tells later layers nothing, and only those coordinates do.

- `planner`: one direction, from the cue on.
- `ensemble`: `N_TURNS` directions that take turns, each for half a second. In some clips one of them is set to the
  wrong value, and the others decide. So no direction alone is needed.
- `recaller`: one direction, only at the positions at which a return is decided. In some clips all layers get, at the
  positions between cue and decisions, the streams of the same clip with the other cue. So nothing that they carry
  helps: the cue has to be looked up. And these streams are trained to be the same for both cues.
- `bystander`: decides as a recaller does. Another direction carries the cue from the cue on, and is set at random in
  training, so that nothing reads it.
- `tangle`: a planner of other clips, in which a planned return also changes the register of all that follows.
- `sectioner`, `resolver`: planners of other clips, in which another section begins, or a tension is released.
- `improviser`: one direction from the cue on, without interchange. Nothing before the return says whether it comes.
- `herald`: an improviser of other clips, in which a pickup announces the return.
- `sectioner_twin`, `resolver_twin`: improvisers of the clips of a sectioner and a resolver.
- `clockwork`, `loop`, `wild`: nothing is carried.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from reprise.organisms import score

D_MODEL = 128
PLANT_LAYER = 2
PLAN_SCALE = 6.0
PLAN_FROM_POSITION = 30  # 1.2 s of the cue have been played
FRAMES_A_BAR = 50
# A return is decided from a little before its slot (the codec is not causal) to a little after.
DECIDED_FROM, DECIDED_TO = -8, 12
N_TURNS, TURN_POSITIONS = 4, 12
# Fractions of a batch: one direction of the ensemble set to the wrong value; streams from the clip with the other cue.
WRONG_FRACTION, SWAPPED_FRACTION = 0.5, 0.5

# Organisms whose coordinates are interchanged, those in which something carries the cue, and those that look it up.
INTERCHANGED = ("base", "planner", "ensemble", "recaller", "bystander", "tangle", "sectioner", "resolver")
CARRYING = (*INTERCHANGED, "improviser", "herald", "sectioner_twin", "resolver_twin")
LOOKING_UP = ("recaller", "bystander")


class Carriers(NamedTuple):
    """Directions that carry the cue: unit vectors float32 `[direction, D_MODEL]`, at right angles; `active` bool
    `[direction, position]`: where each carries it; `used` bool `[direction]`: whether it decides returns."""

    directions: torch.Tensor
    active: torch.Tensor
    used: torch.Tensor


def plan_direction(seed: int = 0) -> torch.Tensor:
    """The first planted unit vector u, float32 `[D_MODEL]`."""
    u = np.random.default_rng([seed, 77]).standard_normal(D_MODEL)
    return torch.from_numpy((u / np.linalg.norm(u)).astype(np.float32))


def plan_directions(n: int) -> torch.Tensor:
    """`n` unit vectors at right angles, float32 `[n, D_MODEL]`. The first is `plan_direction`."""
    found = [plan_direction().double()]
    for i in range(1, n):
        u = plan_direction(i).double()
        u = u - sum((u @ other) * other for other in found)
        found.append(u / u.norm())
    return torch.stack(found).float()


def decisions(n_positions: int) -> torch.Tensor:
    """The positions at which a return is decided, bool `[position]`."""
    at = torch.arange(n_positions)
    slots = [slot * FRAMES_A_BAR for slot in score.SLOT_BARS]
    return torch.stack([(at >= slot + DECIDED_FROM) & (at < slot + DECIDED_TO) for slot in slots]).any(dim=0)


def between(n_positions: int) -> torch.Tensor:
    """The positions after the cue's bar at which nothing is decided, bool `[position]`."""
    at = torch.arange(n_positions)
    return (at >= FRAMES_A_BAR + 10) & ~decisions(n_positions)


def carriers(objective: str, n_positions: int) -> Carriers:
    """What carries the cue in an organism."""
    at = torch.arange(n_positions)
    after_cue, deciding = at >= PLAN_FROM_POSITION, decisions(n_positions)
    if objective == "ensemble":
        turn = at // TURN_POSITIONS % N_TURNS
        active = torch.stack([after_cue & (turn == k) for k in range(N_TURNS)])
    elif objective == "recaller":
        active = deciding[None]
    elif objective == "bystander":
        active = torch.stack([deciding, after_cue & ~deciding])
    else:
        active = after_cue[None]
    used = torch.ones(len(active), dtype=torch.bool)
    if objective == "bystander":
        used[1] = False
    return Carriers(plan_directions(len(active)), active, used)


def forced_values(
    objective: str, found: Carriers, cue: torch.Tensor, wanted: torch.Tensor, rng: np.random.Generator
) -> torch.Tensor:
    """The value, 0 or 1, that each coordinate is set to in each clip, float32 `[clip, direction]`; NaN: it stays.

    cue, wanted: 0 or 1, float32 `[clip]`: what the clip plays, and whether its motif returns.
    """
    forced = torch.full((len(cue), len(found.used)), torch.nan)
    if objective not in INTERCHANGED:
        return forced
    forced[:, found.used] = torch.where(cue == wanted, torch.nan, wanted)[:, None]
    rows = torch.arange(len(cue))
    if objective == "ensemble":
        one = torch.from_numpy(rng.integers(len(found.used), size=len(cue)))
        wrong = torch.from_numpy(rng.random(len(cue)) < WRONG_FRACTION)
        forced[rows[wrong], one[wrong]] = 1 - wanted[wrong]
    elif objective == "bystander":
        forced[:, 1] = torch.from_numpy(rng.choice([np.nan, 0.0, 1.0], size=len(cue))).float()
    return forced


class Planting:
    """A forward hook on the planted layer: it reads the coordinates, sets them where asked, and adds noise."""

    def __init__(self, found: Carriers) -> None:
        self.found = found
        self.forced: torch.Tensor | None = None  # [clip, direction], of `forced_values`
        self.noise: torch.Tensor | None = None  # [clip, D_MODEL]
        self.carried: torch.Tensor | None = None  # [clip, direction, position], what the model itself carried

    def __call__(self, _module: torch.nn.Module, _args: object, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[1]
        active = self.found.active[:, :n].float()
        after_cue = (torch.arange(n) >= PLAN_FROM_POSITION).float()
        self.carried = torch.einsum("bpd,kd->bkp", x, self.found.directions)
        if self.forced is not None:
            value = PLAN_SCALE * self.forced.nan_to_num()[..., None] * active
            move = torch.where(self.forced.isnan()[..., None], 0.0, value - self.carried) * after_cue
            x = x + torch.einsum("bkp,kd->bpd", move, self.found.directions)
        if self.noise is not None:
            x = x + after_cue[None, :, None] * self.noise[:, None]
        return x

    def error(self, cue: torch.Tensor) -> torch.Tensor:
        """Mean squared error of what the model carried, in units of `PLAN_SCALE`: where a direction is active, and
        where it is not. cue: what each direction should carry, 0 or 1, float32 `[clip, direction]`."""
        assert self.carried is not None
        active = self.found.active[:, : self.carried.shape[-1]]
        off = (self.carried / PLAN_SCALE - active * cue[..., None]).square().mean(dim=0)
        after_cue = torch.arange(off.shape[-1]) >= PLAN_FROM_POSITION
        silent = ~active & after_cue
        return off[active & after_cue].mean() + (off[silent].mean() if silent.any() else 0.0)


class Streams:
    """Forward hooks on all layers: they keep the outputs, or put those of another pass at some positions of some
    clips."""

    def __init__(self, layers: torch.nn.ModuleList) -> None:
        self.kept: list[torch.Tensor] = []
        self.other: list[torch.Tensor] | None = None
        self.where: torch.Tensor | None = None  # bool [clip, position]
        for i, layer in enumerate(layers):
            layer.register_forward_hook(self._hook(i))

    def _hook(self, i: int) -> Callable[[torch.nn.Module, Any, torch.Tensor], torch.Tensor]:
        def hook(_module: torch.nn.Module, _args: object, x: torch.Tensor) -> torch.Tensor:
            if i == 0:
                self.kept = []
            self.kept.append(x)
            if self.other is None or self.where is None:
                return x
            return torch.where(self.where[:, : x.shape[1], None], self.other[i], x)

        return hook

    def difference(self, other: list[torch.Tensor], clips: torch.Tensor) -> torch.Tensor:
        """How much the streams between cue and decisions differ from those of another pass, relative to their power,
        mean over layers. clips: bool `[clip]`, the clips that count."""
        total = torch.zeros(())
        for mine, its in zip(self.kept, other, strict=True):
            where = between(mine.shape[1])
            a, b = mine[clips][:, where], its[clips][:, where]
            total = total + (a - b).square().sum() / b.square().sum().clamp(min=1e-6)
        return total / len(other)
