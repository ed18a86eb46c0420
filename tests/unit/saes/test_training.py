"""Training an SAE: what is read, that a kill changes nothing, and that what comes out is good."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import reprise.saes.training
from reprise.saes.loading import load_sae
from reprise.saes.reconstruction import reconstruction_metrics
from reprise.saes.sae import encode, to_dense
from reprise.saes.training import activation_batches, save_sae, train, untrained_sae
from sae_lens import SAE

N_CLIPS, N_POSITIONS, BATCH = 11, 6, 4
ARCHITECTURES = ["topk", "batchtopk", "jumprelu"]

# --- what is read ---------------------------------------------------------------------------------------------


def numbered(read: list[str] | None = None) -> dict[str, Callable[[], np.ndarray]]:
    """Clips in which every vector is a number of its own; `read` is told which were read."""

    def values(i: int) -> np.ndarray:
        if read is not None:
            read.append(f"clip{i}")
        return np.arange(i * N_POSITIONS, (i + 1) * N_POSITIONS, dtype=np.float16)[:, None]

    return {f"clip{i}": partial(values, i) for i in range(N_CLIPS)}


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Iterator[np.ndarray]]:
    """The stream of the numbered clips, three of which are shuffled together."""
    monkeypatch.setattr(reprise.saes.training, "ROWS_AT_ONCE", 3 * N_POSITIONS)
    asked = {"n_positions": N_POSITIONS, "batch_size": BATCH, "identity": ("train_sae", "study", 2)}
    return lambda clips=None, **changes: activation_batches(clips or numbered(), **{**asked, **changes})


def numbers(batches: Iterator[np.ndarray], n: int) -> list[int]:
    return np.concatenate(list(islice(batches, n))).ravel().astype(int).tolist()


def test_every_vector_comes_once_an_epoch(stream) -> None:
    # Two epochs are 132 vectors, which is 33 batches; one of them holds vectors of both.
    seen = numbers(stream(), 33)
    first, second = seen[: N_CLIPS * N_POSITIONS], seen[N_CLIPS * N_POSITIONS :]
    assert sorted(first) == sorted(second) == list(range(N_CLIPS * N_POSITIONS))
    assert first != second and first != sorted(first)
    # Positions of three clips stand together, and mixed.
    clips = np.array(first[: 3 * N_POSITIONS]) // N_POSITIONS
    assert len(set(clips)) == 3 and (np.diff(clips) != 0).sum() > 3


@pytest.mark.parametrize("number", [1, 4, 5, 16, 17, 30, 100])
def test_the_stream_goes_on_from_any_batch(stream, number: int) -> None:
    assert numbers(stream(first=number), 20) == numbers(stream(), number + 20)[number * BATCH :]


def test_the_order_follows_from_identity_alone(stream) -> None:
    reversed_clips = dict(reversed(numbered().items()))
    assert numbers(stream(reversed_clips), 20) == numbers(stream(), 20)
    assert numbers(stream(identity=("train_sae", "study", 3)), 20) != numbers(stream(), 20)


def test_no_more_is_held_than_is_shuffled_together(stream) -> None:
    read: list[str] = []
    batches = stream(numbered(read))
    next(batches)
    assert len(read) == 3
    numbers(batches, 4)
    assert len(read) == 6


# --- training -------------------------------------------------------------------------------------------------

D_IN, D_SAE, K, STEP = 16, 64, 3, 128


def sparse_activations(n: int, seed: int) -> np.ndarray:
    """`[n, D_IN]` float16: three of 24 directions at work at a time, on a large offset."""
    directions = np.random.default_rng(0).standard_normal((24, D_IN))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rng = np.random.default_rng([1, seed])
    latents = np.zeros((n, len(directions)))
    chosen = rng.permuted(np.broadcast_to(np.arange(24), latents.shape), axis=-1)[:, :K]
    np.put_along_axis(latents, chosen, rng.uniform(20, 60, chosen.shape), axis=-1)
    return (latents @ directions + 100.0).astype(np.float16)


def batches_from(number: int) -> Iterator[np.ndarray]:
    while True:
        yield sparse_activations(STEP, number)
        number += 1


def trained(architecture: str, checkpoints: Path, batches=batches_from, *, n_steps: int, rate: float | None = None):
    metadata = {"hook_name": "transformer.layers.2", "hook_layer": 2, "model_name": "m", "model_digest": "aa"}
    sae = untrained_sae(architecture, d_in=D_IN, d_sae=D_SAE, k=K, seed=5, metadata=metadata | {"context_size": 9})
    asked = {"n_steps": n_steps, "batch_size": STEP, "learning_rate": rate, "device": "cpu"}
    return train(sae, batches, **asked, checkpoints=checkpoints)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_training_that_was_cut_off_gives_the_same_sae(tmp_path: Path, monkeypatch, architecture: str) -> None:
    monkeypatch.setattr(reprise.saes.training, "N_CHECKPOINTS", 6)
    # So that the loss for dead features, and how long each has been silent, matter.
    monkeypatch.setattr(reprise.saes.training, "DEAD_AFTER", 2 * STEP)
    asked_for: list[int] = []

    def cut_off(at: int, number: int) -> Iterator[np.ndarray]:
        asked_for.append(number)
        for i, batch in enumerate(batches_from(number), start=number):
            if i == at:
                raise KeyboardInterrupt
            yield batch

    whole = trained(architecture, tmp_path / "whole", n_steps=60)
    for at in (5, 37, 58):
        with pytest.raises(KeyboardInterrupt):
            trained(architecture, tmp_path / "parts", partial(cut_off, at), n_steps=60)
        # As after a kill while a checkpoint is written.
        (tmp_path / "parts" / ".partial").mkdir(parents=True, exist_ok=True)
        (tmp_path / "parts" / ".partial" / "cfg.json").write_text("{")
    parts = trained(architecture, tmp_path / "parts", partial(cut_off, -1), n_steps=60)
    # The first batch is also read for its mean and spread, where nothing is done yet.
    assert asked_for == [0, 0, 0, 0, 30, 50]
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["000000060"]
    state = torch.load(tmp_path / "parts/000000060/trainer_state.pt")
    assert architecture == "jumprelu" or (state["n_forward_passes_since_fired"] > 2).any()

    for name, sae in (("a", whole), ("b", parts)):
        save_sae(sae, tmp_path / name)
    for file in ("sae_weights.safetensors", "cfg.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert load_sae(tmp_path / "a").digest == load_sae(tmp_path / "b").digest


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_trained_reconstructs_what_it_has_not_seen(tmp_path: Path, architecture: str) -> None:
    save_sae(trained(architecture, tmp_path / "checkpoints", n_steps=1500), tmp_path / "sae")
    sae = load_sae(tmp_path / "sae")
    assert sae.declared["hook_layer"] == 2 and sae.declared["model_digest"] == "aa"
    assert sae.declared["context_size"] == 9 and sae.activation == ("topk" if architecture == "topk" else "jumprelu")
    x = torch.from_numpy(sparse_activations(2000, 10**6)).float()
    metrics = reconstruction_metrics(sae, [x[None]])
    assert metrics["fvu"] < 0.1 and 2 < metrics["l0"] < 4
    theirs = SAE.load_from_disk(tmp_path / "sae")
    with torch.no_grad():
        torch.testing.assert_close(to_dense(*encode(sae, x), D_SAE), theirs.encode(x), atol=1e-3, rtol=1e-4)
    about = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert about["device"] == "cpu" and about["metadata"]["training_architecture"] == architecture


def test_activations_without_spread_are_an_error(tmp_path: Path) -> None:
    for value, spread in ((3.0, "0.0"), (np.nan, "nan")):
        with pytest.raises(ValueError, match=f"spread {spread}; valid: finite ones that are not all equal"):
            trained("topk", tmp_path, lambda n, value=value: iter([np.full((STEP, D_IN), value)]), n_steps=10)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sae_training\.learning_rate: at 1e\+30 the loss is not finite after step"):
        trained("topk", tmp_path, n_steps=100, rate=1e30)
    assert not list(tmp_path.iterdir())
