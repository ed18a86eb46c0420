"""Is everything right on a GPU, and how fast? One script for a machine with one card, in under eight minutes.

`make bench-gpu`, or `python -m benchmarks.gpu` where only torch, transformers and the packages of `reprise` are
installed. What is not installed there (audiocraft, Snakemake) is left out, and the record says so. Models have
MusicGen's published sizes and random weights.

Correctness comes first:

- `tokens`: greedy tokens in float32 are those of the processor, and those of transformers.
- `dose_0`: an edit of dose 0 changes no bit of a stream and no token.
- `half`: logits in float16 and bfloat16 against float32, relative to their standard deviation.
- `memory`: the peak of generation and of a pass, against what the doctor estimates.

Then speed. `generation`: seconds of music per second, all clips of a batch together, with guidance in float16, against
the `generate` of transformers and of audiocraft with the same weights or size. `capture`: a pass that keeps five hooks
against a bare one. `study`: a tiny study from end to end.

`gpu.json` is written after each part, so a time limit loses only what comes after it. It has the warnings of each
part, for example that the steps of a generation could not be recorded. `--device cpu --small` tries the script without
a card.
"""

import argparse
import gc
import importlib.metadata
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml

from reprise.interventions.conditions import condition_table
from reprise.interventions.edits import Edits, edit_function, row_edits
from reprise.interventions.run import run_conditions
from reprise.interventions.subspace import linear
from reprise.models.adapter import Model
from reprise.models.capture import residual_stream
from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.huggingface import transformer_of
from reprise.models.memory import CODEC_BYTES, TEXT_ENCODER_BYTES, Need, generation_need, pass_need
from reprise.models.prompts import encode_prompts
from reprise.models.random_weights import randomly_initialised
from transformers import (
    EncodecConfig,
    EncodecModel,
    GenerationConfig,
    MusicgenDecoderConfig,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

ROOT = Path(__file__).parents[1]
RATE_HZ, N_CODEBOOKS, CARD, N_WORDS = 50.0, 4, 2048, 16
GREEDY, GUIDED = Sampling(1e-6, 1, 1.0), Sampling(1.0, 250, 3.0)
TOLERANCE_HALF, MEMORY_ROWS, N_PROMPTS = 0.05, 32, 12


class Size(NamedTuple):
    """Layers, width and attention heads of a model."""

    n_layers: int
    d_model: int
    n_heads: int


# Copet et al. 2023, arXiv 2306.05284.
SIZES = {"small": Size(24, 1024, 16), "medium": Size(48, 1536, 24), "large": Size(48, 2048, 32)}
TINY = Size(6, 128, 4)


class Plan(NamedTuple):
    """How much is measured. n_frames: of a clip in generation. batch_sizes: clips at a time."""

    device: str
    sizes: dict[str, Size]
    batch_sizes: tuple[int, ...]
    n_frames: int


def build(size: Size, *, device: str, dtype: torch.dtype) -> Model:
    """A model of a size with random weights, and a text encoder of one small layer. It has no codec: transformers'
    `generate` would decode, which is not measured, so what it generates is kept in `codec.decoded` instead.

    Its `lm` is transformers' whole model.
    """
    decoder: Any = MusicgenDecoderConfig(
        vocab_size=CARD,
        num_hidden_layers=size.n_layers,
        hidden_size=size.d_model,
        ffn_dim=4 * size.d_model,
        num_attention_heads=size.n_heads,
        num_codebooks=N_CODEBOOKS,
    )
    decoder._attn_implementation = "sdpa"
    text = T5Config(vocab_size=N_WORDS, d_model=size.d_model, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
    codec = EncodecConfig(sampling_rate=32_000, upsampling_ratios=[8, 5, 4, 4], num_filters=2, target_bandwidths=[2.2])
    whole: Any = MusicgenForConditionalGeneration(
        text_encoder=T5EncoderModel(text), audio_encoder=EncodecModel(codec), decoder=MusicgenForCausalLM(decoder)
    ).eval()
    whole.audio_encoder.decoded = []

    def decode(codes: torch.Tensor, *_: Any, **__: Any) -> SimpleNamespace:
        whole.audio_encoder.decoded.append(codes[0])
        return SimpleNamespace(audio_values=torch.zeros(1, 1, 1))

    def no_codec(_: torch.Tensor) -> torch.Tensor:
        # Nothing that is measured here hears or plays audio; a call would be a mistake.
        raise RuntimeError("benchmarks.gpu: this model has no codec")

    @torch.no_grad()
    def embed(prompt: str | None) -> torch.Tensor:
        return whole.text_encoder(input_ids=words_of(prompt)[None].to(device)).last_hidden_state[0]

    whole.audio_encoder.decode = decode
    model = Model(
        transformer=transformer_of(whole.decoder),
        embed_text=embed,
        audio_to_tokens=no_codec,
        tokens_to_audio=no_codec,
        lm=whole,
        codec=whole.audio_encoder,
        weights_digest="random",
        frame_rate_hz=RATE_HZ,
        sample_rate_hz=32_000,
        n_codebooks=N_CODEBOOKS,
        delays=tuple(range(N_CODEBOOKS)),
        codebook_size=CARD,
        n_layers=size.n_layers,
        d_model=size.d_model,
        max_duration_s=30.0,
    )
    # The same weights on every device, and logits that are not flat.
    randomly_initialised(model, seed=0)
    for i, parameter in enumerate(whole.text_encoder.parameters()):
        parameter.data.normal_(generator=torch.Generator().manual_seed(i))
    whole.to(device, dtype)
    return model._replace(transformer=transformer_of(whole.decoder))


def words_of(prompt: str | None) -> torch.Tensor:
    """The words of a prompt, as many as `N_WORDS`."""
    return torch.arange(N_WORDS) % (1 + len(prompt or "")) % N_WORDS


def prompts_of(n: int) -> list[str | None]:
    """Different prompts."""
    return ["x" * (i + 1) for i in range(n)]


def greedy(model: Model, n_frames: int, n: int = 8) -> np.ndarray:
    """Greedy tokens `[clip, codebook, frame]`."""
    return generate(model, prompts_of(n), [(i,) for i in range(n)], n_frames=n_frames, sampling=GREEDY).cpu().numpy()


def tokens(plan: Plan) -> dict[str, Any]:
    """The share of greedy tokens that are those of the processor, and those of transformers on this device."""
    size = next(iter(plan.sizes.values()))._replace(n_layers=6)
    models = [build(size, device=device, dtype=torch.float32) for device in ("cpu", plan.device)]
    own, ours = (greedy(model, 100) for model in models)
    timed_transformers(models[1], len(ours), ours.shape[-1], GREEDY)
    theirs = models[1].codec.decoded[-1].cpu().numpy()[..., : ours.shape[-1]]
    return {"as_on_the_processor": float((ours == own).mean()), "as_transformers": float((ours == theirs).mean())}


def dose_0(plan: Plan) -> dict[str, Any]:
    """Whether an edit of dose 0 leaves streams and tokens as they are; and whether one of dose 4 does not."""
    model = build(TINY, device=plan.device, dtype=torch.float32)
    read = np.random.default_rng(0).standard_normal((1, TINY.d_model))
    clips = pd.DataFrame({"clip_id": ["a", "b"], "prompt_id": ["a", "b"], "prompt": prompts_of(2), "seed": 0})
    clips = clips.assign(target_start_s=1.0, target_stop_s=1.6)
    edits = Edits({"target": linear("probe", read)}, {("target", "zero"): np.full(1, 3.0)})
    table = condition_table(
        {"target": ["target"]},
        clips,
        (0.0, 4.0),
        ("until_event",),
        layer=2,
        reference="zero",
        second_reference="",
        prefix_s=0.8,
        frame_rate_hz=RATE_HZ,
    )
    keys = {clip: (3, i) for i, clip in enumerate(clips["clip_id"])}
    sampling, rows, n_frames = Sampling(1.0, 100, 1.0), 8, 100
    start = generate(
        model, [*prompts_of(2), *[None] * 6], [*keys.values(), *[(9, i) for i in range(6)]],
        n_frames=n_frames, sampling=sampling,
    )  # fmt: skip
    baseline = dict(zip(keys, start.cpu().numpy().astype(np.uint16), strict=False))
    made = np.concatenate(
        [part for _, part in run_conditions(model, edits, table, baseline, keys, batch_size=rows, sampling=sampling)]
    )
    own = np.stack([baseline[clip] for clip in table["clip_id"]])
    same = (made == own).all(axis=(1, 2))
    still = table["kind"].isin(["untouched"]) | ((table["kind"] == "target") & (table["dose"] == 0))
    part = table[(table["kind"] == "target") & (table["dose"] == 0)]
    edit = edit_function(row_edits(part, edits, d_model=TINY.d_model, device=plan.device), None, guided=False)
    text = encode_prompts(model, part["prompt"].tolist())
    streams = [teacher_forced(model, start[:2], text, layers=(5,), edit=each)[0][5] for each in (None, edit)]
    return {
        "unchanged_tokens": float(same[still].mean()),
        "changed_at_dose_4": float((~same[(table["dose"] == 4).to_numpy()]).mean()),
        "streams_equal": bool(torch.equal(*streams)),
    }


def half(plan: Plan) -> dict[str, Any]:
    """The largest and the median difference of logits from float32, in units of their standard deviation."""
    size, found = next(iter(plan.sizes.values())), {}
    generator = torch.Generator().manual_seed(1)
    clips = torch.randint(CARD, (4, N_CODEBOOKS, 100), generator=generator).to(plan.device)
    exact = None
    for name in ("float32", "float16", "bfloat16"):
        model = build(size, device=plan.device, dtype=getattr(torch, name))
        text = encode_prompts(model, prompts_of(4))
        logits = teacher_forced(model, clips, text, with_logits=True)[1]
        assert logits is not None
        logits = logits.float()
        if exact is None:
            exact = logits
            continue
        off = (logits - exact).abs() / exact.std()
        found[name] = {"median": float(off.median()), "largest": float(off.max())}
        del model
        free()
    return found | {"float16_within_tolerance": found["float16"]["median"] < TOLERANCE_HALF}


def memory(plan: Plan) -> dict[str, Any]:
    """Peak bytes of generation and of a pass, over the doctor's estimate without codec and text encoder."""
    if plan.device != "cuda":
        return {"left_out": "only a card counts its memory"}
    found = {}
    for name, size in plan.sizes.items():
        model = build(size, device="cuda", dtype=torch.float16)
        asked: dict[str, Any] = {"n_frames": plan.n_frames, "dtype": "float16"}
        need = generation_need(model._asdict(), **asked, guided=True)
        found[f"{name} generation"] = over_estimate(need, partial(timed_ours, model, MEMORY_ROWS, plan.n_frames))
        clips = torch.randint(CARD, (MEMORY_ROWS, N_CODEBOOKS, plan.n_frames), device="cuda")
        text = encode_prompts(model, prompts_of(MEMORY_ROWS))
        need = pass_need(model._asdict(), **asked, n_hooks=1)
        found[f"{name} pass"] = over_estimate(need, partial(teacher_forced, model, clips, text, layers=(0,)))
        del model, clips, text
        free()
    return found


def over_estimate(need: Need, run: Callable[[], Any]) -> float:
    """Peak memory of the card while `run` runs, over what `need` says of `MEMORY_ROWS` rows."""
    free()
    torch.cuda.reset_peak_memory_stats()
    run()
    estimate = need.fixed - CODEC_BYTES - TEXT_ENCODER_BYTES + MEMORY_ROWS * need.a_row
    return round(torch.cuda.max_memory_allocated() / estimate, 3)


def timed_ours(model: Model, rows: int, n_frames: int) -> float:
    """Wall seconds of our generation."""
    keys = [(5, i) for i in range(rows)]
    return seconds(lambda: generate(model, prompts_of(rows), keys, n_frames=n_frames, sampling=GUIDED), model.device)


def timed_transformers(model: Model, rows: int, n_frames: int, sampling: Sampling = GUIDED) -> float:
    """Wall seconds of transformers' generation with the same weights."""
    words = torch.stack([words_of(prompt) for prompt in prompts_of(rows)]).to(model.device)
    asked = GenerationConfig(
        decoder_start_token_id=CARD,
        pad_token_id=CARD,
        bos_token_id=CARD,
        guidance_scale=sampling.cfg_coef,
        do_sample=sampling.top_k > 1,
        top_k=sampling.top_k,
        max_new_tokens=n_frames + N_CODEBOOKS,
    )
    whole: Any = model.lm

    def run() -> torch.Tensor:
        return whole.generate(input_ids=words, attention_mask=torch.ones_like(words), generation_config=asked)

    return seconds(run, model.device)


def audiocraft_lm(size: Size, *, device: str, dtype: torch.dtype) -> Any:
    """audiocraft's model of that size, with weights of its own and a lookup table for prompts."""
    from omegaconf import OmegaConf

    import reprise.models.audiocraft_setup  # noqa: F401
    from audiocraft.models.builders import get_lm_model
    from reprise.organisms.lm import lm_config

    config = lm_config()
    config["transformer_lm"] |= {
        "dim": size.d_model,
        "num_heads": size.n_heads,
        "num_layers": size.n_layers,
        "card": CARD,
    }
    return get_lm_model(OmegaConf.create(config)).to(device, dtype).eval()


def timed_audiocraft(lm: Any, rows: int, n_frames: int) -> float:
    """Wall seconds of audiocraft's generation."""
    from audiocraft.modules.conditioners import ConditioningAttributes

    # As many words as the other libraries get.
    texts = [" ".join([prompt or ""] * N_WORDS) for prompt in prompts_of(rows)]
    about = [ConditioningAttributes(text={"description": text}) for text in texts]
    device = next(lm.parameters()).device

    def run() -> torch.Tensor:
        return lm.generate(None, about, max_gen_len=n_frames, temp=1.0, top_k=GUIDED.top_k, cfg_coef=GUIDED.cfg_coef)

    return seconds(run, device)


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Wall seconds, until the device has finished."""
    with torch.no_grad():
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - began


def generation(plan: Plan) -> Iterator[dict[str, Any]]:
    """Seconds of music per second by size, library and batch size; yields after each size."""
    dtype = torch.float16 if plan.device == "cuda" else torch.float32
    found: dict[str, Any] = {"n_frames": plan.n_frames, "dtype": str(dtype).removeprefix("torch.")}
    for name, size in plan.sizes.items():
        model = build(size, device=plan.device, dtype=dtype)
        runs = {"ours": timed_ours, "transformers": timed_transformers}
        speeds = {library: measured(run, model, plan) for library, run in runs.items()}
        del model
        free()
        if find_spec("audiocraft"):
            lm = audiocraft_lm(size, device=plan.device, dtype=dtype)
            speeds["audiocraft"] = measured(timed_audiocraft, lm, plan)
            del lm
            free()
        found[name] = speeds
        yield found


def measured(run: Callable[[Any, int, int], float], model: Any, plan: Plan) -> dict[str, float]:
    """Seconds of music per second, by batch size. A short run first loads what the library compiles."""
    run(model, plan.batch_sizes[0], 8)
    music_s = plan.n_frames / RATE_HZ
    return {str(rows): round(rows * music_s / run(model, rows, plan.n_frames), 2) for rows in plan.batch_sizes}


def capture(plan: Plan) -> dict[str, Any]:
    """Seconds of a pass that keeps five hooks on the host, over a bare pass of the same layers."""
    name, size = next(iter(plan.sizes.items()))
    dtype, rows = (torch.float16 if plan.device == "cuda" else torch.float32), plan.batch_sizes[-1]
    model = build(size, device=plan.device, dtype=dtype)
    clips = np.random.default_rng(0).integers(CARD, size=(4 * rows, N_CODEBOOKS, plan.n_frames))
    prompts = prompts_of(len(clips))
    hooks = [int(i) for i in np.linspace(0, size.n_layers - 1, 5)]

    def kept() -> None:
        for _ in residual_stream(model, clips, prompts, layers=hooks, batch_size=rows):
            pass

    def bare() -> None:
        for i in range(0, len(clips), rows):
            text = encode_prompts(model, prompts[i : i + rows])
            part = torch.from_numpy(clips[i : i + rows]).to(plan.device)
            teacher_forced(model, part, text, layers=(size.n_layers - 1,))

    bare()
    taken = {run.__name__: min(seconds(run, model.device) for _ in range(3)) for run in (kept, bare)}
    return {"size": name, "rows": rows, "ratio": round(taken["kept"] / taken["bare"], 3)} | taken


def study(plan: Plan) -> dict[str, Any]:
    """A study of a few prompts of the shipped planner, up to its verdict (which needs more of them)."""
    if missing := [name for name in ("snakemake", "audiocraft") if not find_spec(name)]:
        return {"left_out": f"not installed: {', '.join(missing)}"}
    fields = {
        "model": {"name": str(ROOT / "resources/planner"), "device": plan.device},
        "saes": {2: str(ROOT / "resources/planner/sae/layer2")},
        "prompts": "prompts.tsv",
        "seeds": [0],
        "generation": {"n_batches": 1},
        "certificate": {"n_clips": N_PROMPTS // 2},
        "ablation": {"n_clips": N_PROMPTS, "n_sufficiency": N_PROMPTS},
        "horizons": {"local": [0.5, 2], "long": [4, 8]},
    }
    with tempfile.TemporaryDirectory() as folder:
        some = pd.read_csv(ROOT / "config/prompts.tsv", sep="\t").head(N_PROMPTS)
        some.to_csv(Path(folder, "prompts.tsv"), sep="\t", index=False)
        Path(folder, "config.yaml").write_text(yaml.safe_dump({"studies": {"card": fields}}))
        began = time.perf_counter()
        command = [sys.executable, "-m", "snakemake", "verdicts", "--cores", "4"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", folder]
        command += ["--configfile", str(Path(folder, "config.yaml"))]
        done = subprocess.run(command, capture_output=True, text=True)
        taken = time.perf_counter() - began
        if done.returncode:
            return {"failed": done.stderr[-2000:]}
        found = json.loads(Path(folder, "results/card/verdict.json").read_text())
        return {"seconds": round(taken, 1), "verdict": found["verdict"], "reason": found["reason"]}


def free() -> None:
    """Give unused memory of the card back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def about(plan: Plan) -> dict[str, Any]:
    """The card and the versions."""
    packages = ("torch", "transformers", "audiocraft")
    versions = {name: importlib.metadata.version(name) for name in packages if find_spec(name)}
    card = torch.cuda.get_device_name() if plan.device == "cuda" else "none"
    return {"card": card, "versions": versions, "tolerance_half": TOLERANCE_HALF}


def run(plan: Plan, path: Path) -> None:
    """Measure every part, and write the file after each.

    A part that fails is recorded with its error, and the others still run. Then SystemExit names it.
    """
    found, failed = about(plan), []
    warned: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("reprise").addHandler(handler)

    def save(part: str, content: dict[str, Any]) -> None:
        found[part] = content
        path.write_text(json.dumps(found, indent=2) + "\n")
        print(part, json.dumps(content), flush=True)

    for part in (tokens, dose_0, half, memory, generation, capture, study):
        began = time.perf_counter()
        try:
            made = part(plan)
            for content in [made] if isinstance(made, dict) else made:
                save(part.__name__, content)
        except Exception as error:
            save(part.__name__, {"failed": f"{type(error).__name__}: {error}"})
        if warned:
            # Such as: steps are not recorded.
            save(part.__name__, found[part.__name__] | {"warnings": sorted(set(warned))})
            warned.clear()
        failed += [part.__name__] if "failed" in found[part.__name__] else []
        free()
        print(f"{part.__name__}: {time.perf_counter() - began:.0f} s", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {path}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Correctness and speed on a GPU.")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="a tiny model and few frames, to try the script")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    chosen = parser.parse_args()
    sizes, batch_sizes, n_frames = ({"tiny": TINY}, (1, 4), 40) if chosen.small else (SIZES, (1, 8, 32, 64), 150)
    run(Plan(chosen.device, sizes, batch_sizes, n_frames), chosen.out)


if __name__ == "__main__":
    main()
