"""Make audiocraft 1.3.0 work with current torch. Import this module before any module of audiocraft.

It solves six problems:

1. Those that transformers has too: see reprise/models/library_setup.py.
2. xformers takes two seconds to import, and prints a long warning on a CPU build of torch. Of it only `ops.unbind` is
   used, because attention uses torch. A module with these few names takes its place, unless it is imported already.
3. audiocraft's `whitespace` tokenizer loads a spaCy language model, and downloads it if it is missing. If that model
   is not installed, `OfflineWhiteSpaceTokenizer` splits and hashes words without it, and spaCy is not imported.
4. Since 2.6, torch loads only weights and plain containers by default. Some checkpoints contain their configuration as
   an OmegaConf object. Its classes run no code when they are loaded, so they are allowed.
5. audiocraft imports packages for trainings (wandb and its own solvers), metrics (torchmetrics) and melodies
   (librosa), which take three more seconds. Nothing of them is used.
6. audiocraft imports transformers, which takes three seconds. It is used only if a model has a T5 or if its codec
   comes from transformers, so it is imported then.
"""

import re
import sys
import types
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.nodes import AnyNode

import reprise.models.library_setup  # noqa: F401

torch.serialization.add_safe_globals(
    [DictConfig, ListConfig, AnyNode, ContainerMetadata, Metadata, defaultdict, dict, list, int, Any]
)


def stand_in(name: str, **names: Any) -> types.ModuleType:
    """An empty module, but for `names`. Whoever looks for the package's version finds the installed one."""
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    vars(module).update(names)
    return module


class ImportedWhenUsed:
    """A class of a package that is imported with the first use of one of the class's attributes."""

    def __init__(self, package: str, name: str) -> None:
        self._package, self._name = package, name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(import_module(self._package), self._name), attribute)


def refuse_xformers(*_: Any, **__: Any) -> None:
    raise RuntimeError("xformers: reprise's attention uses torch; valid: set_efficient_attention_backend('torch')")


@contextmanager
def without(packages: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Import stand-ins of some packages, given with their names, and leave no trace of them. Those imported already
    stay."""
    absent = [name for name in packages if name not in sys.modules]
    sys.modules.update({name: stand_in(name, **packages[name]) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


SPACY_MODEL_IS_MISSING = find_spec("en_core_web_sm") is None
if "xformers" not in sys.modules:
    ops = stand_in(
        "xformers.ops",
        unbind=torch.unbind,
        memory_efficient_attention=refuse_xformers,
        LowerTriangularMask=object,
    )
    sys.modules["xformers.ops"] = ops
    # audiocraft imports some of it when a model is loaded, so this one stays.
    sys.modules["xformers"] = stand_in("xformers", ops=ops)
UNUSED: dict[str, dict[str, Any]] = {
    "wandb": {},
    "torchmetrics": {"Metric": object},
    "librosa": {"filters": None},
    "audiocraft.solvers": {},
    "audiocraft.solvers.compression": {"CompressionSolver": None},
}
if SPACY_MODEL_IS_MISSING:
    UNUSED["spacy"] = {}
OF_TRANSFORMERS = {
    name: ImportedWhenUsed("transformers", name)
    for name in ("EncodecModel", "RobertaTokenizer", "T5EncoderModel", "T5Tokenizer")
}
with warnings.catch_warnings(), without(UNUSED | {"transformers": OF_TRANSFORMERS}):
    warnings.simplefilter("ignore")
    import audiocraft.models  # noqa: F401
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


if SPACY_MODEL_IS_MISSING:
    conditioners.WhiteSpaceTokenizer = OfflineWhiteSpaceTokenizer  # type: ignore[misc, assignment]
