"""Steps as a GPU records them compute what ordinary steps compute. Here they run without being recorded."""

import logging

import pytest
import torch

from reprise.interventions.edits import batch_edit
from reprise.models import kv_cache, steps
from reprise.models.delay_pattern import n_steps, step_input
from reprise.models.forward import prompt_keys
from reprise.models.kv_cache import KeyValueCache
from reprise.models.prompts import encode_prompts
from tests.unit.interventions.small_study import FRAMES, D, edits_with, table_of

FIRST = 3


def run_again(run):
    return run


@pytest.fixture
def both(model, sae, clips, monkeypatch):
    """Makes ordinary and recorded steps with a cache each, for all edits of a clip, with guidance. And all inputs."""
    monkeypatch.setattr(kv_cache, "GROWS_BY", 8)
    table = table_of(clips.iloc[:1])
    rows = len(table)
    prompt = prompt_keys(model, encode_prompts(model, [*table["prompt"], *[None] * rows]))
    edit = batch_edit(table, edits_with(sae), d_model=D, device="cpu", guided=True)
    tokens = torch.randint(model.codebook_size, (1, 4, FRAMES), generator=torch.Generator().manual_seed(4))
    tokens = tokens.expand(2 * rows, -1, -1)
    n = n_steps(FRAMES, model.delays)
    sequences = [step_input(tokens, p, model.codebook_size, model.delays) for p in range(n)]

    def made(record=run_again):
        how = {"batch_size": 2 * rows, "n_steps": n}
        caches = [KeyValueCache(model, **how), KeyValueCache(model, **how, fixed_form=True)]

        def ordinary_in(cache):
            def step(p, sequence):
                def attend(layer, q, k, v):
                    return cache.attend(layer, p, q, k, v)

                return steps.step_logits(model, prompt, attend, sequence, start=p, edit=edit)

            return step

        ordinary = ordinary_in(caches[0])
        recorded = steps.recorded_steps(model, prompt, caches[1], ordinary_in(caches[1]), edit=edit, record=record)
        # The first positions are those of an opening.
        for p in range(FIRST):
            ordinary(p, sequences[p])
        caches[1].begin_with(caches[0].kept[..., :FIRST, :])
        return ordinary, recorded, caches

    return made, sequences


@torch.no_grad()
def test_recorded_steps_compute_what_ordinary_steps_do(both):
    made, sequences = both
    recordings = []

    def record(run):
        recordings.append(run)
        return run

    ordinary, recorded, caches = made(record)
    for p in range(FIRST, len(sequences)):
        expected = ordinary(p, sequences[p])
        torch.testing.assert_close(recorded(p, sequences[p]), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(caches[1].kept, caches[0].kept, rtol=1e-4, atol=1e-4)
        # Rows differ only in their edit, so the edits act.
        assert (expected[1 : len(expected) // 2] - expected[:1]).abs().max() > 0.1
    assert len(recordings) == -(-len(sequences) // 8)


@torch.no_grad()
@pytest.mark.parametrize("fault", ["differs", "fails", "fails later"])
def test_steps_that_can_not_be_recorded_are_ordinary_steps(both, caplog, fault):
    made, sequences = both
    recordings = []

    def record(run):
        recordings.append(run)
        if fault == "fails" or (fault == "fails later" and len(recordings) == 2):
            raise RuntimeError("operation not permitted when stream is capturing")
        return (lambda: run() + 0.1) if fault == "differs" else run

    ordinary, recorded, _ = made(record)
    with caplog.at_level(logging.WARNING):
        for p in range(FIRST, len(sequences)):
            expected = ordinary(p, sequences[p])
            torch.testing.assert_close(recorded(p, sequences[p]), expected, rtol=1e-4, atol=1e-4)
    assert len(recordings) == 1 + (fault == "fails later")
    assert len(caplog.messages) == 1 and "steps are not recorded" in caplog.text


@torch.no_grad()
def test_logits_that_are_not_finite_come_through(both, model, caplog):
    """The caller reports them; the recording is not to blame."""
    made, sequences = both
    _, recorded, caches = made()
    caches[1].kept[4, 0, 0, 0, 0] = float("nan")
    for p in (FIRST, FIRST + 1):
        found = recorded(p, sequences[p])
        assert found[0].isnan().all() and found[1].isfinite().all()
    assert not caplog.messages
