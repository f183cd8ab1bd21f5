"""The one place that imports torchaudio, without its compiled extension where that cannot load.

torchaudio 2.11 has an extension built for CUDA 13.0. With a CPU build of torch its import ends in OSError
(libc10_cuda.so is missing), with another CUDA version in RuntimeError. What kws uses of torchaudio
(melscale_fbanks, datasets.SPEECHCOMMANDS, MelSpectrogram in the tests) is plain Python and needs no extension.
"""

import importlib
import sys
import types
from typing import Any


def _import() -> tuple[types.ModuleType, str]:
    try:
        return importlib.import_module("torchaudio"), "plain"
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]  # left by the failed import
    replacement = types.ModuleType("torchaudio._extension")
    # The names that torchaudio's Python code needs from it: flags that say "no extension", and a decorator.
    vars(replacement).update(
        fail_if_no_align=lambda function: function, _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False
    )
    sys.modules["torchaudio._extension"] = replacement
    return importlib.import_module("torchaudio"), f"without its compiled extension ({reason})"


torchaudio: Any  # it has no types
torchaudio, how = _import()
