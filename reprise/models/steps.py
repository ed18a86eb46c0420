"""The steps of a generation: from the tokens of one position to logits, with a KV cache.

A step of a small model is hundreds of short operations. A GPU computes each faster than Python can ask for it. So on a
GPU the operations of a step are recorded and then started all at once (a CUDA graph). For that the position is a
number on the device, and attention has its fixed form (reprise/models/kv_cache.py). Each length that attention reads
is recorded anew.

A recorded step does what the ordinary step does, so its logits have the same bits. Every recording is compared with
the ordinary step first. If they differ, or if it can't be recorded (some edits ask the device for a number in
between), the generation goes on with ordinary steps, and the log says so.
"""

import logging
from collections.abc import Callable

import torch

from reprise.models.adapter import Model
from reprise.models.forward import Attend, EditFunction, PromptKeys, Start, Watch, ignore, layer_outputs, logits_of
from reprise.models.kv_cache import KeyValueCache

log = logging.getLogger("reprise")

# step(p, sequence): logits float32 `[row, codebook, codebook_size]` at position p of tokens `[row, codebook, 1]`.
Step = Callable[[int, torch.Tensor], torch.Tensor]
Run = Callable[[], torch.Tensor]


def cuda_graph(run: Run) -> Run:
    """Record what `run` does on the GPU. The result does it again and returns the same tensor, filled anew."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    # What libraries prepare at the first call can't be recorded.
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = run()

    def again() -> torch.Tensor:
        graph.replay()
        return made

    return again


def step_logits(
    model: Model,
    prompt: PromptKeys,
    attend: Attend,
    sequence: torch.Tensor,
    *,
    start: Start,
    edit: EditFunction | None,
    watch: Watch = ignore,
) -> torch.Tensor:
    """Logits float32 `[row, codebook, codebook_size]` at position `start`, from its tokens `[row, codebook, 1]`."""
    for _, x in layer_outputs(
        model, sequence, prompt, attend, start=start, n_layers=model.n_layers, edit=edit, watch=watch
    ):
        last = x
    return logits_of(model, last)[:, :, 0].float()


def recorded_steps(
    model: Model,
    prompt: PromptKeys,
    cache: KeyValueCache,
    ordinary: Step,
    *,
    edit: EditFunction | None = None,
    record: Callable[[Run], Run] = cuda_graph,
) -> Step:
    """Steps that are recorded and repeated.

    Parameters
    ----------
    model : Model
        The model.
    prompt : PromptKeys
        Of all rows.
    cache : KeyValueCache
        Keys and values of the positions before the first step, with the fixed form of attention. Each step adds its
        own.
    ordinary : Step
        The same step, not recorded. It adds to the same cache.
    edit : EditFunction, optional
        Applied to the output of each layer, with its position as an int tensor.
    record : callable
        Makes a function that repeats what another does.

    Returns
    -------
    Step
        Its logits are overwritten by the next step.
    """
    n_rows = cache.kept.shape[2]
    position = torch.zeros((), dtype=torch.int64, device=model.device)
    current = torch.zeros(n_rows, model.n_codebooks, 1, dtype=torch.int64, device=model.device)
    recorded: dict[int, Run] = {}
    usable = True

    def reading(n_read: int) -> Run:
        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return cache.attend_masked(layer, position, n_read, q, k, v)

        return lambda: step_logits(model, prompt, attend, current, start=position, edit=edit)

    def step(p: int, sequence: torch.Tensor) -> torch.Tensor:
        nonlocal usable
        if not usable:
            return ordinary(p, sequence)
        position.fill_(p)
        current.copy_(sequence)
        n_read = cache.read_at(p)
        if n_read in recorded:
            return recorded[n_read]()
        expected = ordinary(p, sequence)
        try:
            recorded[n_read] = record(reading(n_read))
            # Logits that are not finite are for the caller to report.
            usable = bool(((recorded[n_read]() == expected) | expected.isnan()).all())
            problem = "their logits are not those of ordinary steps"
        except RuntimeError as error:
            usable, problem = False, str(error)
        if not usable:
            log.warning("steps are not recorded: %s", problem)
            # What was tried may have left wrong keys and values.
            return ordinary(p, sequence)
        return expected

    return step
