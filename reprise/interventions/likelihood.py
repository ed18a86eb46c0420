"""How likely a model finds given tokens, frame by frame, as a function that gradients flow through.

Probabilities are those of the unguided conditional model at temperature 1. No sampling is involved. A position's
prediction depends on earlier tokens only, so an edit of earlier positions changes how likely a frame is only through
what the model then expects.

Degenerate input: a tensor of no frames gives one of no frames. Codebooks of the last frames whose positions come after
the end of the pass are left out of the mean (`delay_pattern.predictions`).
"""

import torch
from torch.nn import functional as F

from reprise.models.adapter import Model, TextConditions
from reprise.models.delay_pattern import delayed, predictions
from reprise.models.forward import Attend, EditFunction, layer_outputs, layers_after, logits_of, prompt_keys

# How likely an event is, is the mean over these frames. Its onset is found on a grid, and the codec's frames run ahead
# of the sound, so it may begin this much earlier.
LEAD_S = 0.5
EVENT_S = 1.0


def event_frames(onset: torch.Tensor, n_frames: int, frame_rate_hz: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The first frame of each event, int64 `[row]`, and its frames, bool `[row, frame]`, from its onset `[row]`."""
    first = (onset - round(LEAD_S * frame_rate_hz)).clamp(min=0)
    since = torch.arange(n_frames, device=onset.device) - first[:, None]
    return first, (since >= 0) & (since < round(EVENT_S * frame_rate_hz))


def causal_attention(_layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The self-attention of a pass over all positions: an `Attend`."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def log_likelihood(
    model: Model,
    tokens: torch.Tensor,
    text: TextConditions,
    *,
    edit: EditFunction | None = None,
    attend: Attend = causal_attention,
    after: tuple[int, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Log-likelihood of every frame, given the frames before it.

    Parameters
    ----------
    model : Model
        The model. Its weights get no gradient.
    tokens : int64 tensor `[row, codebook, frame]`
        The tokens.
    text : TextConditions
        The encoded prompt of each row.
    edit : EditFunction, optional
        Applied to the output of each layer.
    attend : Attend, optional
        Does the self-attention of each layer.
    after : (layer, tensor `[row, position, d_model]`), optional
        The output of a layer for these tokens, as edited. The pass then begins with the next layer.

    Returns
    -------
    float32 tensor `[row, frame]`
        In nats, mean over codebooks.
    """
    keys, n_layers = prompt_keys(model, text), model.n_layers
    if after is None:
        sequence = delayed(tokens, model.codebook_size, model.delays)
        outputs = layer_outputs(model, sequence, keys, attend, n_layers=n_layers, edit=edit)
        _, last = next(outputs)
    else:
        outputs = layers_after(model, *after, keys, attend, start=0, n_layers=n_layers, edit=edit)
        _, last = after
    for _, last in outputs:  # noqa: B007
        pass
    total, count = (torch.zeros(tokens.shape[0], tokens.shape[2], device=tokens.device) for _ in range(2))
    for k, logits in predictions(logits_of(model, last), model.delays):
        n = logits.shape[1]
        found = logits.float().log_softmax(dim=-1).gather(-1, tokens[:, k, :n, None])[..., 0]
        total = total + F.pad(found, (0, tokens.shape[2] - n))
        count[:, :n] += 1
    return total / count
