"""Audio as the models take it: 16 kHz, mono, one second. Reading, conversion, padding and scaling of clips."""

from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws.errors import KwsError

if TYPE_CHECKING:  # imported where they are used: the processes that generate the synthetic corpus need neither
    import numpy as np
    import torch
    from numpy.typing import NDArray

SAMPLE_RATE = 16000
N_SAMPLES = 16000  # per clip: one second
FULL_SCALE = 32768  # of int16 samples
LONGEST_CLIP_S, LONGEST_NOISE_S = 10, 600
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3"}  # as libsndfile calls them
RATES = (4000, 192_000)  # what is converted; a filter for it has 20 taps per unit of the rate at most
CANCELLED = 0.1  # of the loudest channel's power: below it, the mean of the channels is not the recording


def read_clip(path: str | Path, changes: list[str] | None = None) -> "NDArray[np.int16]":
    """Return the samples (time,) int16 of a clip as `read_audio` does, of one longer than a second the loudest second.

    What was changed is appended to `changes`. Raises KwsError, naming the file.
    """
    samples = read_audio(path, LONGEST_CLIP_S, changes)
    if len(samples) > N_SAMPLES and changes is not None:
        changes.append("longer than a second")
    return loudest_second(samples)


def loudest_second(samples: "NDArray[Any]") -> "NDArray[Any]":
    """Return the second (16000,) of samples (time,) with the most energy; all of them if they are shorter."""
    import numpy as np

    if len(samples) <= N_SAMPLES:
        return samples
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    start = int(np.argmax(energy[N_SAMPLES:] - energy[:-N_SAMPLES]))
    return samples[start : start + N_SAMPLES]


def pad(waveform: "torch.Tensor") -> "torch.Tensor":
    """Return (time,) zero-padded at its end to (16000,): silence as samples, never as log-mel."""
    import torch

    return torch.nn.functional.pad(waveform, (0, N_SAMPLES - waveform.shape[-1]))


def to_float(samples: "torch.Tensor") -> "torch.Tensor":
    """Return int16 samples as float32 in [-1, 1)."""
    return samples.float() / FULL_SCALE


def read_audio(path: str | Path, longest_s: int, changes: list[str] | None = None) -> "NDArray[np.int16]":
    """Return the samples (time,) int16 of an audio file at 16 kHz, mono.

    Other rates, channels and sample formats are converted, and appended to `changes`; a 16-bit file of 16 kHz and one
    channel gives its own samples. Raises KwsError, naming the file; so does one longer than `longest_s`.
    """
    import numpy as np
    import soundfile

    suffix = Path(path).suffix
    kind = FORMATS.get(suffix.lower(), "WAV")
    changed = [f"named {suffix}"] if suffix != suffix.lower() else []
    try:
        with open(path, "rb") as file:
            head = file.read(12)
        if not head:
            raise KwsError(f"{path}: is empty; replace or remove it")
        if kind == "WAV" and head[:4] + head[8:] != b"RIFFWAVE":  # libsndfile would try thirty other formats
            raise KwsError(f"{path}: cannot be read as a WAV file (Format not recognised); replace or remove it")
        with soundfile.SoundFile(path) as file:
            rate, channels = file.samplerate, file.channels
            if not file.format.startswith(kind):
                raise KwsError(f"{path}: is a {file.format} file; name it as one, or remove it")
            if not RATES[0] <= rate <= RATES[1]:
                raise KwsError(f"{path}: has a sample rate of {rate}; resample or remove it")
            if file.frames > longest_s * rate or file.frames * channels > longest_s * 2 * RATES[1]:  # bounds the memory
                raise KwsError(f"{path}: is longer than {longest_s} s; cut or remove it")
            if "should be" in file.extra_info:  # libsndfile's note that a chunk is longer than the file
                raise KwsError(f"{path}: is truncated; replace or remove it")
            if kind != "WAV" or file.subtype != "PCM_16":
                changed.append(f"{kind if kind != 'WAV' else file.subtype} samples")
            if channels > 1:
                changed.append(f"{channels} channels")
            if rate != SAMPLE_RATE:
                changed.append(f"{rate:,} Hz")
            is_plain = (rate, channels, file.subtype) == (SAMPLE_RATE, 1, "PCM_16")
            samples: NDArray[Any] = file.read(
                dtype="int16" if is_plain else "float32"
            )  # floats, read as int16, would be silence
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2].strip().rstrip(".")
        raise KwsError(f"{path}: cannot be read as a {kind} file ({reason}); replace or remove it") from error
    if len(samples) == 0:
        raise KwsError(f"{path}: has no samples; replace or remove it")
    if not (is_plain or np.isfinite(samples).all()):
        raise KwsError(f"{path}: has samples that are not finite numbers; replace or remove it")
    if changes is not None:
        changes += changed
    if is_plain:
        return samples
    return np.clip(np.rint(to_16k_mono(samples, rate) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def to_16k_mono(samples: "NDArray[np.float32]", rate: int) -> "NDArray[np.float32]":
    """Return samples (time,) or (time, channels) of any rate as (time,) at 16 kHz: the mean of the channels.

    Where channels cancel each other, as those of a balanced line do, it is the loudest channel.
    """
    if samples.ndim == 2:
        mixed, powers = samples.mean(1), (samples**2).mean(0)
        samples = samples[:, powers.argmax()] if (mixed**2).mean() < CANCELLED * powers.max() else mixed
    if rate != SAMPLE_RATE:
        from scipy.signal import resample_poly

        divisor = gcd(rate, SAMPLE_RATE)
        samples = resample_poly(samples, SAMPLE_RATE // divisor, rate // divisor)
    return samples
