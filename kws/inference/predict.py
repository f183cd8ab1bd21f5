"""A trained run listens to WAV files: the word, its probability, the milliseconds."""

import time
from dataclasses import dataclass

import soundfile
import torch

from kws.config import resolve
from kws.data.audio import N_SAMPLES, SAMPLE_RATE, pad
from kws.data.torchaudio_import import torchaudio
from kws.errors import KwsError
from kws.model.network import KeywordModel
from kws.training import checkpoints
from kws.training.run_folder import find_checkpoint

LONGEST_S = 600  # a file is read whole
WINDOW_HOP = N_SAMPLES // 2


@dataclass(frozen=True)
class Prediction:
    """What was heard in a file's loudest second; `windows` has (start_s, word, probability) of every second."""

    file: str
    word: str
    probability: float
    start_s: float
    milliseconds: float
    windows: list


class Predictor:
    """A run's best model with the words it knows. `run` is a run folder, a run id below `run_dir`, or a best.pt."""

    def __init__(self, run, run_dir="runs"):
        path = find_checkpoint(run, run_dir)
        checkpoint = checkpoints.read(path)
        config = resolve((str(path), checkpoint["config"]))
        self.words = config.words
        self.model = KeywordModel(config)
        try:
            self.model.load_state_dict(checkpoint["model"])
        except RuntimeError as error:
            raise KwsError(f"{path}: its weights do not fit its own config; take another run") from error
        self.model.eval()
        # The first call sets torch up; without this one that time would be charged to the first file.
        self._probabilities(torch.zeros(1, N_SAMPLES))

    @torch.no_grad()
    def _probabilities(self, waveforms):
        return torch.sigmoid(self.model(waveforms).double())

    def predict(self, file):
        """Return the Prediction for a file of any rate, length and channel count. Raises KwsError, naming the file."""
        windows = split_windows(read_audio(file))
        began = time.perf_counter()
        probabilities = self._probabilities(windows)
        milliseconds = 1000 * (time.perf_counter() - began) / len(windows)
        heard = []
        for number, probability in enumerate(probabilities.tolist()):
            label = int(probability > 0.5)
            certainty = probability if label else 1 - probability
            heard.append((number * WINDOW_HOP / SAMPLE_RATE, self.words[label], certainty))
        # A word is louder than the quiet around it: the loudest second is the answer for a longer file.
        loudest = int(windows.square().sum(1).argmax())
        start_s, word, probability = heard[loudest]
        return Prediction(str(file), word, probability, start_s, milliseconds, heard)


def read_audio(file):
    """Return a file's audio as (time,) float32 at 16 kHz, its channels averaged. Raises KwsError, naming the file."""
    try:
        with soundfile.SoundFile(file) as opened:
            rate, seconds = opened.samplerate, opened.frames / opened.samplerate
            if seconds > LONGEST_S:
                raise KwsError(f"{file}: lasts {seconds:,.0f} s, at most {LONGEST_S} s are taken; cut it")
            samples = opened.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = str(error).rpartition(": ")[2].strip().rstrip(".")
        raise KwsError(f"{file}: cannot be read as audio ({reason})") from error
    if len(samples) == 0:
        raise KwsError(f"{file}: holds no sample")
    waveform = torch.from_numpy(samples).mean(1)
    if not torch.isfinite(waveform).all():
        raise KwsError(f"{file}: holds samples that are not finite numbers")
    if rate != SAMPLE_RATE:
        waveform = torchaudio.functional.resample(waveform, rate, SAMPLE_RATE)
    return waveform


def split_windows(waveform):
    """(time,) to (windows, 16000): the clip zero-padded, or a second every half second, the last one padded."""
    if len(waveform) <= N_SAMPLES:
        return pad(waveform)[None]
    missing = -(len(waveform) - N_SAMPLES) % WINDOW_HOP
    return torch.nn.functional.pad(waveform, (0, missing)).unfold(0, N_SAMPLES, WINDOW_HOP).contiguous()
