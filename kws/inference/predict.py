"""Classification of recordings with a trained model: word, probability and the time it took."""

import time
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from kws.data.audio import N_SAMPLES, SAMPLE_RATE, pad
from kws.data.torchaudio_import import torchaudio
from kws.errors import KwsError
from kws.model.network import label_probabilities
from kws.training import checkpoints
from kws.training.run_folder import find_checkpoint

LONGEST_S = 600  # a file is read into memory at once
WINDOW_HOP = N_SAMPLES // 2

Window = tuple[float, str, float]  # start in seconds, word, probability


@dataclass(frozen=True)
class Prediction:
    """The prediction for a file's loudest window, the predictions for all its windows, and milliseconds per window."""

    file: str
    word: str
    probability: float
    start_s: float
    milliseconds: float
    windows: list[Window]


class Predictor:
    """A run's best model and its labels. `run` is a run folder, a run id in `run_dir`, or a best.pt."""

    def __init__(self, run: str, run_dir: str = "runs") -> None:
        config, self.model = checkpoints.load_model(find_checkpoint(run, run_dir))
        self.labels = config.labels
        self._probabilities(torch.zeros(1, N_SAMPLES))  # the first call is slow: do not time it

    @torch.no_grad()
    def _probabilities(self, waveforms: Tensor) -> Tensor:
        return label_probabilities(self.model(waveforms))

    def predict(self, file: str | Path) -> Prediction:
        """Return the Prediction for a file of any rate, length and channel count. Raises KwsError, naming the file."""
        waveforms = split_windows(read_audio(file))
        started = time.perf_counter()
        probability, label = (column.tolist() for column in self._probabilities(waveforms).max(1))
        milliseconds = 1000 * (time.perf_counter() - started) / len(waveforms)
        windows = [
            (number * WINDOW_HOP / SAMPLE_RATE, self.labels[best], highest)
            for number, (best, highest) in enumerate(zip(label, probability, strict=True))
        ]
        # A word is louder than its surroundings: the loudest window is the answer for a longer file.
        start_s, word, probability = windows[int(waveforms.square().sum(1).argmax())]
        return Prediction(str(file), word, probability, start_s, milliseconds, windows)


def read_audio(file: str | Path) -> Tensor:
    """Return a file's audio as (time,) float32 at 16 kHz, its channels averaged. Raises KwsError, naming the file."""
    try:
        with soundfile.SoundFile(file) as opened:
            rate, seconds = opened.samplerate, opened.frames / opened.samplerate
            if seconds > LONGEST_S:
                raise KwsError(f"{file}: is {seconds:,.0f} s long, the limit is {LONGEST_S} s; split it")
            samples = opened.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = str(error).rpartition(": ")[2].strip().rstrip(".")
        raise KwsError(f"{file}: cannot be read as audio ({reason})") from error
    if len(samples) == 0:
        raise KwsError(f"{file}: contains no samples")
    waveform = torch.from_numpy(samples).mean(1)
    if not torch.isfinite(waveform).all():
        raise KwsError(f"{file}: contains samples that are not finite numbers")
    if rate != SAMPLE_RATE:
        waveform = torchaudio.functional.resample(waveform, rate, SAMPLE_RATE)
    return waveform


def split_windows(waveform: Tensor) -> Tensor:
    """(time,) to (windows, 16000): the clip zero-padded, or a second every half second, the last one padded."""
    if len(waveform) <= N_SAMPLES:
        return pad(waveform)[None]
    missing = -(len(waveform) - N_SAMPLES) % WINDOW_HOP
    return torch.nn.functional.pad(waveform, (0, missing)).unfold(0, N_SAMPLES, WINDOW_HOP).contiguous()
