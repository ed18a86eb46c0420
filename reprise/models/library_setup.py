"""What audiocraft and transformers both need before they are imported. Import this module first.

1. torchaudio's wheel loads a CUDA library on import, which a CPU-only torch lacks. Only its pure-torch transforms are
   needed, so on a CPU build a stand-in takes the place of the extension loader.
2. Both ask the Hugging Face hub for what they load by name, newer files too: a node without network waits, one with it
   may get other weights than the job before. Here they take what is in the cache.
"""

import os
import sys
import types

import huggingface_hub.constants
import torch

if torch.version.cuda is None and "torchaudio._extension" not in sys.modules:
    _extension = types.ModuleType("torchaudio._extension")
    _extension._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    _extension._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
    _extension.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    sys.modules["torchaudio._extension"] = _extension

# The variable serves where huggingface_hub has not been imported yet, and whatever this process starts.
os.environ["HF_HUB_OFFLINE"] = "1"
huggingface_hub.constants.HF_HUB_OFFLINE = True
