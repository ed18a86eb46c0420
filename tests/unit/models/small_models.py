"""Small models of each kind that runs, in audiocraft's own checkpoint form, with weights drawn at random."""

from pathlib import Path

import torch
from omegaconf import OmegaConf

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.builders import get_compression_model, get_lm_model
from reprise.organisms.codec import codec_config
from reprise.organisms.lm import lm_config

# A published model's settings where they are not those of a mono MusicGen; sizes are the small ones.
KINDS = {
    "audiogen": {
        "solver": "audiogen",
        "sample_rate": 16_000,
        "dataset": {"segment_duration": 10},
        "tokens": {"padding_with_special_token": False},
    },
    "stereo": {
        "solver": "musicgen",
        "channels": 2,
        "codebooks_pattern": {"modeling": "delay", "delay": {"delays": [0, 0, 1, 1, 2, 2, 3, 3]}},
        "interleave_stereo_codebooks": {"use": True, "per_timestep": False},
        "compression_model_n_q": 4,
        "transformer_lm": {"n_q": 8},
    },
}


def kind_config(kind: str) -> dict:
    """The configuration (`xp.cfg`) of a small language model of a kind."""
    config = OmegaConf.merge(OmegaConf.create(lm_config()), OmegaConf.create(KINDS[kind]))
    config.transformer_lm.num_layers = 2
    return OmegaConf.to_container(config)


def audiogen_codec_config() -> dict:
    """A small codec as AudioGen has its: 50 frames a second of 16 kHz, with recurrent layers."""
    config = codec_config()
    config["seanet"] |= {"ratios": [8, 5, 4, 2], "lstm": 2, "n_filters": 4, "dimension": 32}
    return config


def save_small_model(folder: Path, kind: str) -> Path:
    """A model of a kind as audiocraft exports it, in a folder."""
    torch.manual_seed(0)
    lm = get_lm_model(OmegaConf.create(kind_config(kind)))
    for parameter in lm.parameters():
        # Larger than at initialisation, so that attention and positions matter.
        parameter.data *= 2
    of_codec = audiogen_codec_config() if kind == "audiogen" else codec_config()
    of_codec["rvq"]["kmeans_iters"] = 2
    codec = get_compression_model(OmegaConf.create(of_codec))
    # Its codebooks begin at the vectors of a first batch.
    codec.train()(torch.randn(8, 1, 8_000))
    folder.mkdir(parents=True, exist_ok=True)
    for file, module, config in (
        ("state_dict.bin", lm, kind_config(kind)),
        ("compression_state_dict.bin", codec.eval(), of_codec),
    ):
        package = {"best_state": module.state_dict(), "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config))}
        torch.save(package, folder / file)
    return folder
