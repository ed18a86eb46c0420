"""Encode prompts as embeddings, each as if it were alone in its batch."""

import torch

from reprise.checkpoints.finite import check_finite
from reprise.models.adapter import Model, TextConditions


@torch.no_grad()
def encode_prompts(model: Model, prompts: list[str | None]) -> TextConditions:
    """Encode prompts, each exactly as it would be encoded alone (None or no text: unconditional).

    audiocraft pads a batch of prompts with zero vectors, and cross-attention attends to them. There a clip depends on
    the other prompts in its batch. Here padding is masked out. Raises NotFiniteError.
    """
    unique = list(dict.fromkeys(prompts))
    encoded = []
    for prompt in unique:
        embedding = model.embed_text(prompt or None)
        encoded.append(embedding if prompt else torch.zeros_like(embedding[:1]))
    width = max(map(len, encoded))
    embeddings = torch.zeros(len(prompts), width, model.d_model, device=model.device, dtype=model.dtype)
    # An unconditional row attends to one zero embedding. Padding is never attended to.
    attended = torch.zeros(len(prompts), width, dtype=torch.bool, device=model.device)
    for row, prompt in enumerate(prompts):
        embedding = encoded[unique.index(prompt)]
        embeddings[row, : len(embedding)] = embedding
        attended[row, : len(embedding)] = True
    check_finite(embeddings, "the encoded prompts")
    return TextConditions(embeddings, attended)
