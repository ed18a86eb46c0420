"""Setup that audiocraft and transformers both need before they are imported. Import this module first.

1. torchaudio's wheel loads a CUDA library on import. A CPU build of torch does not have it. Only pure-torch transforms
   of torchaudio are needed, so on a CPU build a small module replaces the extension loader.
2. Both libraries check the Hugging Face hub for newer files of what they load by name. Without network they wait. With
   network a job may get other weights than the job before. Here both use only the cache.
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

# The variable is for child processes. The constant is for this process, which has imported huggingface_hub.
os.environ["HF_HUB_OFFLINE"] = "1"
huggingface_hub.constants.HF_HUB_OFFLINE = True
