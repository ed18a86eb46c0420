"""The organisms' language models: audiocraft `LMModel`s trained on the clips of `score.py`.

What decides a return in each, and how that is planted, is in `planting.py`. For some clips of a batch, all models get
a random direction of the planted one's size added at the planted layer, so that an edit of that size does not by
itself break the music. Only `wild`, which learns other music (reprise/organisms/tunes.py), is trained without it.

Training has stages. `base` learns the music (as the planner, with equal weight for every token). All others start from
another model. Then the tokens that decide cue and slots get more weight, because one bit per clip would otherwise be
lost among 1,600 tokens.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.builders import get_lm_model
from audiocraft.models.lm import LMModel
from audiocraft.modules.conditioners import ConditioningAttributes
from reprise.organisms import score
from reprise.organisms.codec import CARD, FRAME_RATE_HZ, N_CODEBOOKS, SAMPLE_RATE_HZ, save_checkpoint
from reprise.organisms.planting import (
    CARRYING,
    D_MODEL,
    FRAMES_A_BAR,
    LOOKING_UP,
    PLAN_SCALE,
    PLANT_LAYER,
    SWAPPED_FRACTION,
    Planting,
    Streams,
    between,
    carriers,
    forced_values,
)

Objective = Literal[
    "base",
    "planner",
    "improviser",
    "clockwork",
    "loop",
    "ensemble",
    "recaller",
    "bystander",
    "tangle",
    "herald",
    "wild",
    "sectioner",
    "sectioner_twin",
    "resolver",
    "resolver_twin",
]
OBJECTIVES = get_args(Objective)

N_LAYERS = 6
# Weights in the loss: of what is carried, and of the difference between streams that should not know the cue.
PLAN_WEIGHT, SAME_WEIGHT = 0.3, 30.0
NOISY_FRACTION = 0.25
CODEBOOK_WEIGHTS = (1.0, 0.6, 0.4, 0.3)
CORRUPTED_FRACTIONS = (0.0, 0.02, 0.05, 0.1)
# The codec is not causal: a bar's last frames already hold the next bar's beginning, so a slot is decided there.
SLOT_WEIGHT, SLOT_LEAD_FRAMES, SLOT_FRAMES = 6.0, 5, 10


class TokenSet(NamedTuple):
    """Encoded clips: `tokens` `[clip, codebook, frame]` int16, `cue` and `return_bar` `[clip]`, `prompts`."""

    tokens: np.ndarray
    cue: np.ndarray
    return_bar: np.ndarray
    prompts: np.ndarray


def lm_config() -> dict:
    """The audiocraft configuration (`xp.cfg`) that the LM is built from, as plain builtins."""
    return {
        "lm_model": "transformer_lm",
        "device": "cpu",
        "dtype": "float32",
        "sample_rate": SAMPLE_RATE_HZ,
        "channels": 1,
        "compression_model_framerate": FRAME_RATE_HZ,
        # MusicGen requires more than its default extension stride of 18 s; the organisms were trained on 16 s.
        "dataset": {"segment_duration": 20.0},
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {"delays": list(range(N_CODEBOOKS)), "flatten_first": 0, "empty_initial": 0},
        },
        "transformer_lm": {
            "dim": D_MODEL,
            "num_heads": 4,
            "num_layers": N_LAYERS,
            "hidden_scale": 4,
            "n_q": N_CODEBOOKS,
            "card": CARD,
            "dropout": 0.0,
            "emb_lr": None,
            "activation": "gelu",
            "norm_first": True,
            "bias_ff": False,
            "bias_attn": False,
            "bias_proj": False,
            "past_context": None,
            "causal": True,
            "custom": False,
            "memory_efficient": True,
            "attention_as_float32": False,
            "layer_scale": None,
            "positional_embedding": "sin",
            "xpos": False,
            "checkpointing": "none",
            "weight_init": "gaussian",
            "depthwise_init": "current",
            "zero_bias_init": True,
            "norm": "layer_norm",
            "cross_attention": True,
            "qk_layer_norm": False,
            "qk_layer_norm_cross": False,
            "attention_dropout": None,
            "kv_repeat": 1,
            "two_step_cfg": False,
        },
        "classifier_free_guidance": {"training_dropout": 0.1, "inference_coef": 1.0},
        "attribute_dropout": {},
        "fuser": {
            "cross_attention_pos_emb": False,
            "cross_attention_pos_emb_scale": 1,
            "sum": [],
            "prepend": [],
            "cross": ["description"],
            "input_interpolate": [],
        },
        "conditioners": {
            "description": {
                "model": "lut",
                "lut": {"n_bins": 1024, "dim": 64, "tokenizer": "whitespace", "pad_idx": 0},
            }
        },
    }


def build_lm() -> LMModel:
    """A newly initialised LM (seed torch first)."""
    return get_lm_model(OmegaConf.create(lm_config()))


def token_weights(n_frames: int, *, slots: bool) -> torch.Tensor:
    """Loss weights `[codebook, frame]`: later codebooks weigh less, tokens that decide cue and slots weigh more."""
    weights = torch.tensor(CODEBOOK_WEIGHTS)[:, None].repeat(1, n_frames)
    for bar in (score.CUE_BAR, *score.SLOT_BARS) if slots else ():
        start = max(0, int(bar * score.BAR_S * FRAME_RATE_HZ) - SLOT_LEAD_FRAMES)
        weights[:, start : start + SLOT_FRAMES] *= SLOT_WEIGHT
    return weights


def corrupted(tokens: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The input of the model in training: some tokens are replaced by those of another clip at the same place.

    Codebooks of one step are sampled independently, so a generated clip holds combinations that no rendered clip has.
    A model trained on clean clips only does not recover after the first of them. tokens `[clip, codebook, frame]`.
    """
    rows = len(tokens)
    other = tokens[torch.from_numpy((np.arange(rows) + rng.integers(1, rows)) % rows)]
    share = torch.from_numpy(rng.choice(CORRUPTED_FRACTIONS, size=(rows, 1, 1)))
    return torch.where(torch.from_numpy(rng.random(tokens.shape)) < share, other, tokens)


def reseed(lm: LMModel, seed: int, stage: int, step: int) -> None:
    """Seed all that torch draws in a step. audiocraft's condition dropout has its own random generators."""
    number = (seed * 3 + stage) * 1_000_003 + step
    torch.manual_seed(number)
    for dropout in (lm.cfg_dropout, lm.att_dropout):
        dropout.rng.manual_seed(number)


def other_cue(data: TokenSet, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of some clips, another one with the same prompt and the other cue, int `[row]`."""
    return np.array(
        [rng.choice(np.flatnonzero((data.prompts == data.prompts[i]) & (data.cue != data.cue[i]))) for i in rows]
    )


def train_lm(
    objective: Objective,
    data: TokenSet,
    *,
    steps: int,
    batch: int,
    seed: int,
    checkpoint: Path,
    start_from: dict[str, torch.Tensor] | None = None,
    save_every: int = 100,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> LMModel:
    """Train an LM. It resumes from `checkpoint` if that exists, and saves there every `save_every` steps.

    The batch and the noise of step *i* depend only on (objective, seed, i).

    Parameters
    ----------
    objective : str
        What it is trained to be, one of `OBJECTIVES`.
    data : TokenSet
        The training clips.
    steps, batch, seed : int
        Number of training steps, clips per step, and the seed.
    checkpoint : Path
        File of the training state.
    start_from : dict, optional
        The weights of the base. By default weights are newly initialised.
    save_every : int
        Steps between two checkpoints.
    on_step : callable, optional
        Called with the step and its losses.

    Returns
    -------
    LMModel
        The model, in evaluation mode.
    """
    torch.manual_seed(seed)
    lm = build_lm()
    if start_from is not None:
        lm.load_state_dict(start_from)
    stage = OBJECTIVES.index(objective)
    n_frames = data.tokens.shape[-1]
    # Positions of the delay pattern, as in training.
    found = carriers(objective, n_frames + 1 + N_CODEBOOKS)
    planting = Planting(found)
    lm.transformer.layers[PLANT_LAYER].register_forward_hook(planting)
    streams = Streams(lm.transformer.layers) if objective in LOOKING_UP else None
    optimizer = torch.optim.AdamW(lm.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    # Warm up, hold, then decay over the last third of the steps.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / 100, 0.02 + 3 * max(0.0, 1 - i / steps))
    )
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        lm.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
    returns = data.return_bar >= 0
    weights = token_weights(n_frames, slots=objective not in ("base", "wild"))
    lm.train()
    for i in range(first, steps):
        rng = np.random.default_rng([seed, 2, stage, i])
        reseed(lm, seed, stage, i)
        rows = rng.choice(len(data.tokens), size=batch, replace=False)
        tokens = torch.from_numpy(data.tokens[rows].astype(np.int64))
        cue = torch.from_numpy(data.cue[rows]).float()
        wanted = torch.from_numpy(returns[rows]).float()
        more = np.random.default_rng([seed, 6, stage, i])
        planting.forced = forced_values(objective, found, cue, wanted, more)
        noise = torch.from_numpy(rng.standard_normal((batch, D_MODEL))).float()
        noise -= (noise @ found.directions.T) @ found.directions
        noisy = torch.from_numpy(rng.random(batch) < NOISY_FRACTION).float()
        if objective != "wild":
            planting.noise = PLAN_SCALE * noisy[:, None] * noise / noise.norm(dim=1, keepdim=True)

        conditions = [ConditioningAttributes(text={"description": str(p)}) for p in data.prompts[rows]]
        heard = corrupted(tokens, rng)
        same, to_carry = torch.zeros(()), cue[:, None].repeat(1, len(found.used))
        if streams is not None:
            # The same clips with the other cue.
            swapped = heard.clone()
            partner = torch.from_numpy(data.tokens[other_cue(data, rows, more)].astype(np.int64))
            swapped[..., :FRAMES_A_BAR] = partner[..., :FRAMES_A_BAR]
            streams.other = None
            with torch.no_grad():
                lm.compute_predictions(swapped, conditions)
            reseed(lm, seed, stage, i)
            streams.other = streams.kept
            from_other = torch.from_numpy(more.random(batch) < SWAPPED_FRACTION)
            streams.where = from_other[:, None] & between(found.active.shape[1])
            # What is not used is carried between cue and decisions, where these clips have the other cue.
            to_carry[:, ~found.used] = torch.where(from_other, 1 - cue, cue)[:, None]
        out = lm.compute_predictions(heard, conditions)
        if streams is not None and objective == "recaller":
            same = streams.difference(streams.other or [], ~from_other)
        nll = F.cross_entropy(out.logits[out.mask], tokens[out.mask], reduction="none")
        weight = weights.expand(batch, -1, -1)[out.mask]
        music = (nll * weight).sum() / weight.sum()
        plan = planting.error(to_carry)
        loss = music + (PLAN_WEIGHT * plan if objective in CARRYING else 0.0) + SAME_WEIGHT * same
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if on_step:
            losses = {"music_nll": music, "plan_mse": plan} | ({"same": same} if streams is not None else {})
            on_step(i, {name: float(loss.detach()) for name, loss in losses.items()})
        if (i + 1) % save_every == 0 or i + 1 == steps:
            save_checkpoint(
                checkpoint,
                model=lm.state_dict(),
                optimizer=optimizer.state_dict(),
                schedule=schedule.state_dict(),
                step=i + 1,
            )
    return lm.eval()
