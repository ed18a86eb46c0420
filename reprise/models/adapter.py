"""The interface of a loaded music model: what the stages need of it, for any family and library.

To add a model family or a library, write a module whose `load(folder, dtype=, device=)` returns a `Model`: the
transformer's weights as a `Transformer` (reprise/models/transformer.py), functions that embed a prompt and that encode
and decode audio, and a few facts. It checks the weights with reprise/models/weight_checks.py. A `Family`
(reprise/models/families/family.py) describes the files of such a model and which models are not supported. It is
registered in reprise/models/families/registry.py. docs/how-to/add-a-model-family.md shows it step by step.

Everything else is the same for all families: the forward pass (forward.py), the KV cache (kv_cache.py), the delay
pattern of the codebooks (delay_pattern.py), sampling (generation.py) and the capture of activations (capture.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from reprise.models.transformer import Transformer


class Model(NamedTuple):
    """A loaded music model and the few facts that the stages need.

    `embed_text`: a prompt (None: no prompt) to float `[word, d_model]`. `audio_to_tokens`: mono float32
    `[1, 1, sample]` to int64 `[1, codebook, frame]`. `tokens_to_audio`: tokens to float32 `[1, channel, sample]`.
    `lm`, `codec`: the library's own modules, which contain the weights. `delays`: how many steps each codebook lags
    behind the first (reprise/models/delay_pattern.py).
    """

    transformer: Transformer
    embed_text: Callable[[str | None], torch.Tensor]
    audio_to_tokens: Callable[[torch.Tensor], torch.Tensor]
    tokens_to_audio: Callable[[torch.Tensor], torch.Tensor]
    lm: torch.nn.Module
    codec: torch.nn.Module
    weights_digest: str
    frame_rate_hz: float
    sample_rate_hz: int
    n_codebooks: int
    delays: tuple[int, ...]
    codebook_size: int
    n_layers: int
    d_model: int
    max_duration_s: float

    @property
    def device(self) -> torch.device:
        return self.transformer.embeddings[0].weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.embeddings[0].weight.dtype

    @property
    def facts(self) -> dict[str, str | int | float]:
        """The facts to record: every field that is text or a number."""
        return {key: value for key, value in self._asdict().items() if isinstance(value, str | int | float)}


class TextConditions(NamedTuple):
    """Encoded prompts: `embeddings` `[row, word, d_model]` and `mask` `[row, word]` bool (True: a word).

    An unconditional row has no words. As in audiocraft, it has one zero embedding, which counts as a word.
    """

    embeddings: torch.Tensor
    mask: torch.Tensor
