"""Save an organism in audiocraft's own checkpoint format, with float16 weights.

`MusicGen.get_pretrained(folder)` then loads it in the same way as `facebook/musicgen-small`.
"""

from pathlib import Path

import torch
from omegaconf import OmegaConf

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.encodec import CompressionModel
from audiocraft.models.lm import LMModel
from reprise.organisms.codec import codec_config
from reprise.organisms.lm import lm_config


def save_audiocraft_checkpoint(folder: Path, *, lm: LMModel, codec: CompressionModel) -> None:
    """Write `state_dict.bin` and `compression_state_dict.bin` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "state_dict.bin", lm, lm_config())
    _save(folder / "compression_state_dict.bin", codec, codec_config())


def _save(path: Path, module: torch.nn.Module, config: dict) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}
    torch.save({"best_state": state, "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config))}, path)
