"""Load the model once, check the study's hooks and clip length against it, and write down what it is."""

from pathlib import Path

from reprise.config import ConfigError
from reprise.decoding import check_supported
from reprise.job import start
from reprise.musicgen import codec_lookahead_s, load_model
from reprise.stores import write_json

settings = start(snakemake)
model = load_model(settings["model"]["name"])
check_supported(model)
problems = [
    f"studies.{settings['study']}.saes: layer {layer} is not in {settings['model']['name']}; valid: 0 to "
    f"{model.n_layers - 1} (0-based: some papers count the same layer as {layer + 1})"
    for layer in settings["layers"]
    if layer >= model.n_layers
]
if settings["clip_s"] > model.max_duration_s:
    problems.append(
        f"studies.{settings['study']}.generation.duration_s: got {settings['clip_s']:g}; valid: at most "
        f"{model.max_duration_s:g}, which {settings['model']['name']} can see at once"
    )
if problems:
    raise ConfigError(problems)
facts = {field: getattr(model, field) for field in model._fields if field not in ("lm", "codec")}
lookahead_s = codec_lookahead_s(model)
write_json(Path(snakemake.output[0]), {"name": settings["model"]["name"], **facts, "codec_lookahead_s": lookahead_s})
