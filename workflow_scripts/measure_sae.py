"""Measure how well an SAE reconstructs its hook and the neighbouring hooks.

Silent clips are left out, because they show nothing about the SAE.
"""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from reprise.audio.io import SILENT_PEAK, read_audio, swing
from reprise.checkpoints.hub import model_place, sae_folder
from reprise.models.capture import passes_at_once, residual_stream
from reprise.models.device import pick_device
from reprise.models.forward import normed
from reprise.models.loading import load_identified
from reprise.models.memory import check_memory, free_memory, pass_need
from reprise.saes.errors import SaeError
from reprise.saes.eval_clips import StoredClip, measured_clips, stored_clips
from reprise.saes.loading import load_sae
from reprise.saes.measurement import Hook, Measurement, to_plain
from reprise.saes.reconstruction import reconstruction_metrics
from reprise.storage.files import read_manifest, write_json
from reprise.storage.stores import read_store
from reprise.workflow.job import log, progress, start

# Short enough to show where the training context of a published SAE ends, long enough for a reliable mean.
BIN_S = 2.5

settings = start(snakemake)
identity = json.loads(Path(snakemake.input.model).read_text())
layer = settings["layer"]
folder = sae_folder(settings["sae"])
sae = load_sae(folder)
expected = {
    "hook_layer": layer,
    "d_model": identity["d_model"],
    "frame_rate_hz": identity["frame_rate_hz"],
    # A directory may have any name, so only a hub id is meaningful.
    "model_name": place.repository if (place := model_place(settings["model"]["name"])) else None,
    "model_digest": identity["weights_digest"],
}

clips = stored_clips(snakemake.input.tokens)
chosen = measured_clips(clips, settings["n_clips"])
audio = {Path(m).name: Path(m.removesuffix(".manifest.json")) for m in snakemake.input.audio}


def is_silent(clip: StoredClip) -> bool:
    # If the audio of a clip cannot be read, it is not counted as silent, because its tokens can still be used.
    with suppress(ValueError):
        folder = audio[f"{clip.store.name}.manifest.json"]
        return swing(read_audio(folder, clip.clip_id, sample_rate_hz=identity["sample_rate_hz"])) < SILENT_PEAK
    return False


measured = [clip for clip in chosen if not is_silent(clip)]
n_silent, not_measured, all_silent = len(chosen) - len(measured), "", False
if n_silent:
    log.warning("%d of the %d clips to measure on are silent", n_silent, len(chosen))
if n_silent and len(measured) < 2:
    all_silent = all(map(is_silent, clips))
    which = f"all {len(clips)} clips" if all_silent else f"{n_silent} of the {len(chosen)} clips to measure on"
    not_measured = f"{which} are silent, so nothing was measured"
tokens = np.stack([read_store(clip.store)["tokens"][clip.i] for clip in measured or chosen])
expected["n_positions"] = tokens.shape[-1] + 1

training = None
if settings["trained_here"]:
    about = read_manifest(folder)["meta"]
    training = about["training"]
    if seen := {clip.clip_id for clip in chosen} & set(about["trained_on"]):
        raise SaeError(
            f"{folder} was trained on {', '.join(sorted(seen))}, but must be measured on clips it was not trained on; "
            f"train it again with: snakemake --cores 1 --force {folder}.manifest.json"
        )

metrics, unconditional = {}, None
if sae.d_in == identity["d_model"] and not not_measured:
    layers = [i for i in range(layer - 2, layer + 2) if -1 <= i < identity["n_layers"]]
    batch_size = min(settings["batch_size"], len(measured))
    device = pick_device(snakemake.resources.device)
    dtype = settings["model"]["dtype"]
    need = pass_need(identity, n_frames=tokens.shape[-1], dtype=dtype, n_hooks=len(layers) * passes_at_once(device))
    check_memory(need, batch_size=batch_size, free=free_memory(device))
    model = load_identified(settings["model"], identity, device=device)
    # Bins of length BIN_S over the positions. The last bin is up to 1.5 times as long.
    per_bin = round(BIN_S * identity["frame_rate_hz"])
    edges = range(per_bin, expected["n_positions"] - per_bin // 2, per_bin)

    def capture(prompts: list[str | None], of: list[int]) -> list[dict[int, np.ndarray]]:
        passes = residual_stream(model, tokens, prompts, layers=of, batch_size=batch_size)
        return list(progress(passes, total=-(-len(measured) // batch_size), what="activations"))

    captured = capture([clip.prompt for clip in measured], layers)
    for i in layers:
        acts = [c[i] for c in captured]
        metrics[Hook(i, normed=False)] = reconstruction_metrics(sae, acts, position_edges=edges)
        if sae.normalize_activations == "none":
            acts = [normed(model, i, x) for x in acts]
            metrics[Hook(i, normed=True)] = reconstruction_metrics(sae, acts, position_edges=edges)
    if settings["guided"]:
        captured = capture([None] * len(measured), [layer])
        unconditional = reconstruction_metrics(sae, [c[layer] for c in captured], position_edges=edges)

measurement = Measurement(
    sae.declared,
    expected,
    metrics,
    sae=settings["sae"],
    sae_digest=sae.digest,
    n_clips=len(measured),
    unconditional=unconditional,
    not_measured=not_measured,
    n_silent=n_silent,
    all_silent=all_silent,
    trained_here=training,
)
for hook, found in metrics.items():
    log.info("%s: FVU %.4f, L0 %.1f", hook.text, found["fvu"], found["l0"])
write_json(Path(snakemake.output[0]), to_plain(measurement))
