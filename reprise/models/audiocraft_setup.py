"""Make audiocraft 1.3.0 work with current torch. Import this module before any module of audiocraft.

It solves four problems:

1. Those that transformers has too: see reprise/models/library_setup.py.
2. xformers prints a long warning on a CPU build of torch. It is not needed: attention uses torch.
3. audiocraft's `whitespace` tokenizer loads a spaCy language model, and downloads it if it is missing. If that model
   is not installed, `OfflineWhiteSpaceTokenizer` splits and hashes words without it.
4. Since 2.6, torch loads only weights and plain containers by default. Some checkpoints contain their configuration as
   an OmegaConf object. Its classes run no code when they are loaded, so they are allowed.
"""

import logging
import re
import warnings
from collections import defaultdict
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.nodes import AnyNode

import reprise.models.library_setup  # noqa: F401

torch.serialization.add_safe_globals(
    [DictConfig, ListConfig, AnyNode, ContainerMetadata, Metadata, defaultdict, dict, list, int, Any]
)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.getLogger("xformers").setLevel(logging.ERROR)
    from audiocraft.modules import conditioners
    from audiocraft.modules.transformer import set_efficient_attention_backend

set_efficient_attention_backend("torch")


class OfflineWhiteSpaceTokenizer(conditioners.Tokenizer):
    """Maps words to rows of a lookup table: lower case, no punctuation, audiocraft's own hash of each word.

    A call with a list of B texts (None: no text) returns tokens `[B, W]` int and mask `[B, W]` int (1: a word).
    """

    def __init__(self, n_bins: int, pad_idx: int = 0) -> None:
        self.n_bins = n_bins
        self.pad_idx = pad_idx

    def __call__(self, texts: list[str | None]) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [[conditioners.hash_trick(word, self.n_bins) for word in split_words(text)] for text in texts]
        width = max(1, max(map(len, rows)))
        tokens = torch.full((len(rows), width), self.pad_idx, dtype=torch.int)
        mask = torch.zeros((len(rows), width), dtype=torch.int)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row, dtype=torch.int)
            mask[i, : len(row)] = 1
        return tokens, mask


def split_words(text: str | None) -> list[str]:
    """The words of a prompt as the embedded models read them: lower case, letters and digits only."""
    return re.findall(r"[a-z0-9]+", (text or "").lower())


def _spacy_model_is_missing() -> bool:
    from importlib.util import find_spec

    return find_spec("en_core_web_sm") is None


if _spacy_model_is_missing():
    conditioners.WhiteSpaceTokenizer = OfflineWhiteSpaceTokenizer  # type: ignore[misc, assignment]
