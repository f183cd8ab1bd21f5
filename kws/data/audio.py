"""Audio as the models take it: 16 kHz, mono, one second. Reading, padding and scaling of clips."""

from pathlib import Path
from typing import TYPE_CHECKING

from kws.errors import KwsError

if TYPE_CHECKING:  # imported where they are used: the processes that generate the synthetic corpus need neither
    import numpy as np
    import torch
    from numpy.typing import NDArray

SAMPLE_RATE = 16000
N_SAMPLES = 16000  # per clip: one second
FULL_SCALE = 32768  # of int16 samples


def read_clip(path: str | Path) -> "NDArray[np.int16]":
    """Return the samples (time,) int16 of a 16 kHz mono clip, one second at most. Raises KwsError, naming the file."""
    samples = read_wav(path)
    if len(samples) > N_SAMPLES:
        raise KwsError(f"{path}: has {len(samples)} samples; a clip has at most {N_SAMPLES} (one second)")
    return samples


def pad(waveform: "torch.Tensor") -> "torch.Tensor":
    """Return (time,) zero-padded at its end to (16000,): silence as samples, never as log-mel."""
    import torch

    return torch.nn.functional.pad(waveform, (0, N_SAMPLES - waveform.shape[-1]))


def to_float(samples: "torch.Tensor") -> "torch.Tensor":
    """Return int16 samples as float32 in [-1, 1)."""
    return samples.float() / FULL_SCALE


def read_wav(path: str | Path) -> "NDArray[np.int16]":
    """Return the samples (time,) int16 of a 16 kHz mono PCM WAV file. Raises KwsError, naming the file."""
    import soundfile

    try:
        with open(path, "rb") as file:
            head = file.read(12)
        if head[:4] + head[8:] != b"RIFFWAVE":  # libsndfile would try thirty other formats
            raise KwsError(f"{path}: cannot be read as a WAV file (Format not recognised); replace or remove it")
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE:
                raise KwsError(
                    f"{path}: has a sample rate of {file.samplerate}, not {SAMPLE_RATE}; resample or remove it"
                )
            if file.channels != 1:
                raise KwsError(f"{path}: has {file.channels} channels, not one; mix it down or remove it")
            if file.subtype != "PCM_16":  # floats, read as int16, would be silence
                raise KwsError(f"{path}: has {file.subtype} samples, not PCM_16 (16-bit); convert or remove it")
            if "should be" in file.extra_info:  # libsndfile's note that a chunk is longer than the file
                raise KwsError(f"{path}: is truncated; replace or remove it")
            samples: NDArray[np.int16] = file.read(dtype="int16")
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2].strip().rstrip(".")
        raise KwsError(f"{path}: cannot be read as a WAV file ({reason}); replace or remove it") from error
    if len(samples) == 0:
        raise KwsError(f"{path}: has no samples; replace or remove it")
    return samples
