"""The organisms' codec: a small EnCodec built from audiocraft's own classes, trained on the organisms' music.

Non-causal SEANet at 16 kHz mono, 25 frames/s, residual vector quantisation with 4 codebooks of 256. Loss: L1 on the
waveform, a multi-resolution STFT loss (spectral convergence and log-magnitude L1, after Yamamoto et al. 2020, arXiv
1910.11480) and the quantiser's commitment term. There is no adversarial loss: at this size the reconstruction losses
alone preserve pitch and timbre.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.builders import get_compression_model
from audiocraft.models.encodec import CompressionModel
from reprise.audio.synth import render
from reprise.organisms import score

log = logging.getLogger(__name__)

SAMPLE_RATE_HZ = 16_000
FRAME_RATE_HZ = 25
HOP = SAMPLE_RATE_HZ // FRAME_RATE_HZ
N_CODEBOOKS = 4
CARD = 256


def codec_config() -> dict:
    """The audiocraft configuration (`xp.cfg`) that the codec is built from, as plain builtins."""
    return {
        "compression_model": "encodec",
        "device": "cpu",
        "sample_rate": SAMPLE_RATE_HZ,
        "channels": 1,
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": SAMPLE_RATE_HZ,
            "channels": 1,
            "causal": False,
            "renormalize": False,
        },
        "seanet": {
            "dimension": 64,
            "channels": 1,
            "causal": False,
            "n_filters": 16,
            "n_residual_layers": 1,
            "ratios": [8, 5, 4, 4],
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": "weight_norm",
            "norm_params": {},
            "kernel_size": 7,
            "residual_kernel_size": 3,
            "last_kernel_size": 7,
            "dilation_base": 2,
            "pad_mode": "constant",
            "true_skip": True,
            "compress": 2,
            "lstm": 0,
            "disable_norm_outer_blocks": 0,
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
            "encoder": {},
        },
        "rvq": {
            "n_q": N_CODEBOOKS,
            "q_dropout": False,
            "bins": CARD,
            "decay": 0.99,
            "kmeans_init": True,
            "kmeans_iters": 30,
            "threshold_ema_dead_code": 2,
            "orthogonal_reg_weight": 0.0,
            "orthogonal_reg_active_codes_only": False,
        },
    }


def build_codec() -> CompressionModel:
    """A newly initialised codec (seed torch first)."""
    return get_compression_model(OmegaConf.create(codec_config()))


def spectral_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Multi-resolution STFT distance of two batches of audio `[B, T]`; a scalar, 0 when they are equal."""
    total = x.new_zeros(())
    sizes = (256, 512, 1024, 2048)
    for size in sizes:
        window = torch.hann_window(size)
        # Scaled so that a sine has about its amplitude, and floored at -60 dB. The synthesiser's silence is exactly 0,
        # and without a floor its logarithm would dominate the loss.
        mags = [
            torch.stft(a, size, size // 4, window=window, return_complex=True).abs().mul(4 / size).clamp_min(1e-3)
            for a in (x, y)
        ]
        total = total + (mags[0] - mags[1]).norm() / mags[1].norm() + F.l1_loss(mags[0].log(), mags[1].log())
    return total / len(sizes)


def draw_audio(rng: np.random.Generator, n: int, seconds: float = 1.0) -> torch.Tensor:
    """Draw `n` clips, and an excerpt of `seconds` from each that begins on the frame grid.

    Returns float32 `[n, 1, seconds * SAMPLE_RATE_HZ]`.
    """
    out = np.empty((n, 1, int(seconds * SAMPLE_RATE_HZ)), dtype=np.float32)
    for i in range(n):
        clip = score.draw_clip(rng)
        audio = render_clip(clip)
        start = int(rng.integers((len(audio) - out.shape[-1]) // HOP + 1)) * HOP
        out[i, 0] = audio[start : start + out.shape[-1]]
    return torch.from_numpy(out)


def render_clip(clip: score.Clip) -> np.ndarray:
    """Audio of one clip, float32 `[CLIP_S * SAMPLE_RATE_HZ]`."""
    return render(
        score.clip_notes(clip), timbre=clip.instrument, duration_s=score.CLIP_S, sample_rate_hz=SAMPLE_RATE_HZ
    )


def train_codec(
    *, steps: int, seed: int, checkpoint: Path, on_step: Callable[[int, float], None] | None = None
) -> CompressionModel:
    """Train the codec. It resumes from `checkpoint` if that exists, and saves there every 250 steps.

    The data of step *i* depend only on (seed, i), so an interrupted run sees the same data as an uninterrupted one.

    Parameters
    ----------
    steps, seed : int
        Number of training steps, and the seed of weights and data.
    checkpoint : Path
        File of the training state.
    on_step : callable, optional
        Called with the step and its loss.

    Returns
    -------
    CompressionModel
        The codec, in evaluation mode.
    """
    torch.manual_seed(seed)
    codec = build_codec()
    optimizer = torch.optim.AdamW(codec.parameters(), lr=1e-3, betas=(0.8, 0.99))
    # Warm up, hold, then decay over the last fifth of the steps.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / 50, 0.02 + 5 * max(0.0, 1 - i / steps))
    )
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        codec.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
    codec.train()
    for i in range(first, steps):
        rng = np.random.default_rng([seed, 1, i])
        torch.manual_seed(seed * 1_000_003 + i)
        audio = draw_audio(rng, 32 if i == 0 else 8)
        out = codec(audio)
        loss = 10 * F.l1_loss(out.x, audio) + spectral_loss(out.x[:, 0], audio[:, 0]) + out.penalty
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(i, float(loss.detach()))
        if (i + 1) % 250 == 0 or i + 1 == steps:
            save_checkpoint(
                checkpoint,
                model=codec.state_dict(),
                optimizer=optimizer.state_dict(),
                schedule=schedule.state_dict(),
                step=i + 1,
            )
    return codec.eval()


def save_checkpoint(path: Path, **state: object) -> None:
    """Write a training checkpoint. If the process is killed, either the old or the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
