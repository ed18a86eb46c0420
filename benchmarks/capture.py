"""The cost of storing activations and SAE latents, in the dimensions of musicgen-small and its published SAEs.

Ours are the functions of the stages, which write to disk.

- `capture`: five hooks, against a forward pass of audiocraft's own layers up to the last hook, which stores nothing.
- `sae_encode_store`: sparse latents into a store, against the matrix product alone, and against SAELens' encode with
  its dense output saved by numpy.
- `sae_bytes`: the size of both on disk.
- `store_write`: existing activations into a sharded store with its manifest, against numpy's save.
- `capture_memory`, `encode_memory`: peak memory of the stage for eight times as many clips.

Weights are random, which does not change the cost. Unit: wall seconds on two threads, in interleaved rounds.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from benchmarks.processes import in_fresh_process, peak_memory_mb
from benchmarks.records import record
from reprise.identity import seed_from
from reprise.models.adapter import Model
from reprise.models.audiocraft import as_model
from reprise.models.capture import store_residual_stream
from reprise.models.delay_pattern import delayed
from reprise.models.prompts import encode_prompts
from reprise.organisms.lm import lm_config
from reprise.saes.encoding import store_latents
from reprise.saes.latents import latent_arrays
from reprise.saes.sae import Sae, make_sae
from reprise.storage.stores import ArraySpec, read_store, write_store

# The sizes of musicgen-small. HOOKS, D_SAE and K are those of its published SAEs.
D_MODEL, N_LAYERS, N_HEADS, N_CODEBOOKS, CARD, FRAME_RATE_HZ = 1024, 24, 16, 4, 2048, 50.0
HOOKS = (1, 5, 11, 17, 21)
D_SAE, K = 32_768, 100
# The context of those SAEs: 10 s.
N_FRAMES = 500
N_CLIPS, N_ROUNDS, N_THREADS = 4, 5, 2
N_WRITTEN = 64
FEW, MANY, SHORT_FRAMES, FEW_LAYERS = 32, 256, 60, 2


def build_model(n_layers: int = N_LAYERS) -> Model:
    """A randomly initialised model of these dimensions, without a codec."""
    from audiocraft.models.builders import get_lm_model

    config = lm_config()
    config["transformer_lm"] |= {"dim": D_MODEL, "num_heads": N_HEADS, "num_layers": n_layers, "card": CARD}
    torch.manual_seed(seed_from("benchmark", "capture", "model")[0])
    lm = get_lm_model(OmegaConf.create(config)).eval()
    return as_model(lm, None, digest="none", frame_rate_hz=FRAME_RATE_HZ, sample_rate_hz=32_000, max_duration_s=30.0)


def build_sae() -> Sae:
    """A random top-k SAE of these dimensions."""
    rng = torch.Generator().manual_seed(seed_from("benchmark", "capture", "sae")[0])
    weights = torch.randn(D_MODEL, D_SAE, generator=rng) / D_MODEL**0.5
    return make_sae(
        W_enc=weights,
        b_enc=torch.zeros(D_SAE),
        W_dec=weights.T.contiguous(),
        b_dec=torch.zeros(D_MODEL),
        k=K,
        declared={},
    )


def draw_tokens(n_clips: int, n_frames: int) -> np.ndarray:
    """Random tokens uint16 `[clip, codebook, frame]`."""
    rng = np.random.default_rng(seed_from("benchmark", "capture", "tokens"))
    return rng.integers(CARD, size=(n_clips, N_CODEBOOKS, n_frames)).astype(np.uint16)


def draw_activations(n_clips: int, n_frames: int) -> np.ndarray:
    """Random activations float16 `[clip, position, d_model]`."""
    rng = np.random.default_rng(seed_from("benchmark", "capture", "activations"))
    return rng.standard_normal((n_clips, n_frames + 1, D_MODEL), dtype=np.float32).astype(np.float16)


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def capture(model: Model, tokens: np.ndarray, folder: Path, *, batch_size: int) -> None:
    """The stage `capture`: the residual stream at the hooks, one store per hook below `folder`.

    tokens: `[clip, codebook, frame]`. batch_size: clips in one forward pass.
    """
    spec = ArraySpec((len(tokens), tokens.shape[2] + 1, D_MODEL), "float16")
    with ExitStack() as stack:
        stores = {
            layer: stack.enter_context(write_store(folder / f"layer{layer}", {"resid_post": spec}, meta={}))
            for layer in HOOKS
            if layer < model.n_layers
        }
        store_residual_stream(model, tokens, ["a piano"] * len(tokens), stores, batch_size=batch_size)


def encode(sae: Sae, activations: np.ndarray, folder: Path) -> None:
    """The stage `encode`: latents of activations `[clip, position, d_model]`, in a sparse store in `folder`."""
    arrays = latent_arrays(*activations.shape[:2], d_sae=sae.d_sae, k=sae.k)
    with write_store(folder, arrays, meta={}) as store:
        store_latents(sae, activations, store)


def rounds(methods: dict[str, Callable[[], Any]], n: int) -> dict[str, list[float]]:
    """Wall seconds of each method in each of `n` interleaved rounds, after one round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for i in range(n + 1):
        for name, method in methods.items():
            began = time.monotonic()
            method()
            if i:
                taken[name].append(time.monotonic() - began)
    return taken


def time_capture() -> dict[str, list[float]]:
    """Seconds of the stage (`ours`) and of audiocraft's layers alone (`plain`)."""
    model, tokens = build_model(), draw_tokens(N_CLIPS, N_FRAMES)
    model.lm.transformer.layers = model.lm.transformer.layers[: max(HOOKS) + 1]
    text = encode_prompts(model, ["a piano"] * N_CLIPS)

    @torch.no_grad()
    def plain() -> None:
        sequence = delayed(torch.from_numpy(tokens.astype(np.int64)), CARD, model.delays)
        embedded = sum(embedding(sequence[:, k]) for k, embedding in enumerate(model.lm.emb))
        model.lm.transformer(embedded, cross_attention_src=text.embeddings)

    with tempfile.TemporaryDirectory() as name:
        return rounds(
            {"plain": plain, "ours": lambda: capture(model, tokens, Path(name), batch_size=N_CLIPS)}, N_ROUNDS
        )


def time_encode() -> dict[str, Any]:
    """Seconds of the stage, of the product alone, and of SAELens with its dense output; bytes of both outputs."""
    from sae_lens import TopKSAE, TopKSAEConfig

    sae, activations = build_sae(), draw_activations(N_CLIPS, N_FRAMES)
    theirs = TopKSAE(TopKSAEConfig(d_in=D_MODEL, d_sae=D_SAE, k=K))
    state = {"W_enc": sae.W_enc, "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    theirs.load_state_dict(state)

    @torch.no_grad()
    def product() -> None:
        for clip in activations:
            torch.from_numpy(clip).float() @ sae.W_enc

    with tempfile.TemporaryDirectory() as name:
        ours, dense = Path(name, "latents"), Path(name, "dense.npy")

        @torch.no_grad()
        def saelens() -> None:
            np.save(dense, theirs.encode(torch.from_numpy(activations).float()).numpy())

        taken = rounds(
            {"product": product, "ours": lambda: encode(sae, activations, ours), "saelens": saelens}, N_ROUNDS
        )
        return taken | {"bytes": folder_bytes(ours), "dense_bytes": dense.stat().st_size}


def time_store() -> dict[str, list[float]]:
    """Seconds to write activations, by ours and by numpy."""
    # A forward pass gives float32.
    activations = draw_activations(N_WRITTEN, N_FRAMES).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:

        def ours() -> None:
            spec = ArraySpec(activations.shape, "float16")
            with write_store(Path(name, "store"), {"resid_post": spec}, meta={}) as store:
                for first in range(0, N_WRITTEN, N_CLIPS):
                    store.append("resid_post", activations[first : first + N_CLIPS])

        def plain() -> None:
            np.save(Path(name, "plain.npy"), activations.astype(np.float16))

        return rounds({"ours": ours, "plain": plain}, N_ROUNDS)


def memory_of_capture(n_clips: int) -> float:
    """Peak memory of the stage in this process, MB."""
    with tempfile.TemporaryDirectory() as name:
        capture(build_model(FEW_LAYERS), draw_tokens(n_clips, SHORT_FRAMES), Path(name), batch_size=N_CLIPS)
    return peak_memory_mb()


def memory_of_encode(n_clips: int) -> float:
    """Peak memory of the stage in this process, MB. The activations are on disk, as in the workflow."""
    shape = (n_clips, SHORT_FRAMES + 1, D_MODEL)
    with tempfile.TemporaryDirectory() as name:
        with write_store(Path(name, "acts"), {"resid_post": ArraySpec(shape, "float16")}, meta={}) as store:
            for _ in range(0, n_clips, FEW):
                store.append("resid_post", draw_activations(FEW, SHORT_FRAMES))
        encode(build_sae(), read_store(Path(name, "acts"))["resid_post"], Path(name, "latents"))
    return peak_memory_mb()


def run() -> list[dict[str, Any]]:
    """Records for `results.json`."""

    def measured(call: str) -> Any:
        return in_fresh_process("capture", call, threads=N_THREADS)

    captured, encoded, stored = measured("time_capture()"), measured("time_encode()"), measured("time_store()")
    positions = N_CLIPS * (N_FRAMES + 1)
    megabytes = N_WRITTEN * (N_FRAMES + 1) * D_MODEL * 2 / 1e6

    def middle(taken: dict[str, list[float]], a: str, b: str) -> tuple[float, float, float]:
        pairs = [x / y for x, y in zip(taken[a], taken[b], strict=True)]
        return median(taken[a]), median(taken[b]), median(pairs)

    size = f"{positions:,} positions of musicgen-small's width"
    sae = f"latents of an SAE with {D_SAE:,} features, {K} active"
    per_position = encoded["bytes"] / positions, encoded["dense_bytes"] / positions
    memory = {stage: [measured(f"memory_of_{stage}({n})") for n in (MANY, FEW)] for stage in ("capture", "encode")}
    return [
        record(
            "capture",
            *middle(captured, "ours", "plain"),
            "s",
            N_ROUNDS,
            f"five hooks of musicgen-small's layers captured and stored, {positions:,} positions, against a pass of "
            "audiocraft's own layers that keeps nothing (ratio: times as long; 2 threads)",
        ),
        record(
            "sae_encode_store",
            *middle(encoded, "ours", "product"),
            "s",
            N_ROUNDS,
            f"{sae}, {size}, encoded and stored, against the matrix product alone (ratio: times as long; 2 threads)",
        ),
        record(
            "sae_encode_store_saelens",
            *middle(encoded, "ours", "saelens"),
            "s",
            N_ROUNDS,
            "the same, against SAELens' encode and its dense output saved (ratio: times as long; 2 threads)",
        ),
        record(
            "sae_bytes",
            per_position[0],
            per_position[1],
            per_position[1] / per_position[0],
            "B",
            1,
            f"a position's {sae} on disk, against dense float32 (ratio: times smaller)",
        ),
        record(
            "store_write",
            megabytes / median(stored["ours"]),
            megabytes / median(stored["plain"]),
            median(stored["ours"]) / median(stored["plain"]),
            "MB/s",
            N_ROUNDS,
            f"{megabytes:.0f} MB of activations, float32 to float16, into a sharded store with its digests, against "
            "numpy's save of the same (ratio: times as long)",
        ),
        *(
            record(
                f"{stage}_memory",
                many,
                few,
                many / few,
                "MB",
                1,
                f"peak memory of the stage {stage}, {MANY} clips, against {FEW}",
            )
            for stage, (many, few) in memory.items()
        ),
    ]
