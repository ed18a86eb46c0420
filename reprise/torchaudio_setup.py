"""Make torchaudio importable on a CPU-only torch. Import this module before anything that may import torchaudio:
audiocraft does, and so does transformers wherever torchaudio is installed.

torchaudio's wheel loads a CUDA library on import, which a CPU-only torch lacks. What is used of it here are its
pure-torch transforms, so on a CPU build a stand-in takes the place of the extension loader.
"""

import sys
import types

import torch

if torch.version.cuda is None and "torchaudio._extension" not in sys.modules:
    _extension = types.ModuleType("torchaudio._extension")
    _extension._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    _extension._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
    _extension.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    sys.modules["torchaudio._extension"] = _extension
