"""The one place that imports torchaudio, with a way around its compiled extension where that cannot load.

torchaudio 2.11 ships an extension built for CUDA 13.0. Beside a CPU build of torch the import ends in OSError
(libc10_cuda.so is missing), beside another CUDA version in RuntimeError. What kws uses of torchaudio
(melscale_fbanks, datasets.SPEECHCOMMANDS, MelSpectrogram in the tests) is plain Python and needs no extension.
"""

import importlib
import sys
import types


def _import():
    try:
        return importlib.import_module("torchaudio"), "plain"
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]  # what the failed import left behind
    stand_in = types.ModuleType("torchaudio._extension")
    # The names that torchaudio's Python asks of it: flags that say "no extension", and a decorator.
    stand_in.fail_if_no_align = lambda function: function
    stand_in._IS_TORCHAUDIO_EXT_AVAILABLE = False
    stand_in._IS_ALIGN_AVAILABLE = False
    sys.modules["torchaudio._extension"] = stand_in
    return importlib.import_module("torchaudio"), f"without its compiled extension ({reason})"


torchaudio, how = _import()
