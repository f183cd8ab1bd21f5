"""torchaudio can be imported with any build of torch, without its compiled extension where that cannot load."""

import pytest
from helpers import forked

# A finder that makes torchaudio's extension unloadable, as with a CPU build of torch (OSError) or another CUDA
# version (RuntimeError).
BROKEN = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torchaudio._extension":
            raise {error}("libc10_cuda.so: cannot open shared object file")
sys.meta_path.insert(0, Broken())
"""
USE = """
import torch
from kws.data.torchaudio_import import how, torchaudio
from kws.model.features import LogMelFilterBanks
mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=80)
signal = torch.rand(2, 16000)
assert torch.allclose(LogMelFilterBanks()(signal), torch.log(mel(signal) + 1e-6))
assert torchaudio.datasets.SPEECHCOMMANDS
print(how)
"""


def run(code):
    return forked.run("-c", code)


@pytest.mark.parametrize("error", ("OSError", "RuntimeError"))
def test_torchaudio_works_without_an_extension_that_cannot_load(error):
    result = run(BROKEN.format(error=error) + USE)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ("without its compiled extension (libc10_cuda.so: cannot open shared object file)\n")


def test_missing_torchaudio_is_an_import_error():
    result = run("import sys; sys.modules['torchaudio'] = None\nimport kws.data.torchaudio_import")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of torchaudio halted")
