"""Classification of recordings with a trained model: word, probability and the time it took."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.config import SILENCE, UNKNOWN
from kws.data.audio import N_SAMPLES, SAMPLE_RATE
from kws.inference.recording import read_blocks, windows
from kws.model.network import label_probabilities
from kws.training import checkpoints
from kws.training.run_folder import find_checkpoint

WINDOW_HOP = N_SAMPLES // 2
RAREST = 1e-15  # a smaller probability is rounding

Window = tuple[float, str, float]  # start in seconds, word, probability


@dataclass(frozen=True)
class Prediction:
    """The answer to a recording, the predictions for all its windows, and milliseconds per window.

    `notices` say what makes the answer less trustworthy.
    """

    file: str
    word: str
    probability: float
    start_s: float
    milliseconds: float
    windows: list[Window]
    notices: list[str]


class Predictor:
    """A run's best model and its labels. `run` is a run folder, a run id in `run_dir`, or a best.pt."""

    def __init__(self, run: str, run_dir: str = "runs") -> None:
        self.config, self.model = checkpoints.load_model(find_checkpoint(run, run_dir))
        self.labels = self.config.labels
        self.probabilities(torch.zeros(1, N_SAMPLES))  # the first call is slow: do not time it

    @torch.no_grad()
    def probabilities(self, waveforms: Tensor) -> Tensor:
        """Return the probabilities (windows, labels), float64, of waveforms (windows, 16000)."""
        return label_probabilities(self.model(waveforms))

    def predict(self, file: str | Path) -> Prediction:
        """Return the Prediction for a recording of any rate, length and channel count; the file "-" is standard input.

        Raises KwsError, naming the file.
        """
        found: list[Window] = []
        scores: list[float] = []
        notices: list[str] = []
        spent = 0.0
        for seconds in windows(read_blocks(str(file), notices), WINDOW_HOP):
            started = time.perf_counter()
            waveforms = torch.from_numpy(np.array(seconds))
            highest, label = self.probabilities(waveforms).topk(2, 1)
            spent += time.perf_counter() - started
            # The model is most certain of a word, but sometimes of a noise too; a word is louder than its surroundings,
            # but a tap on the microphone is louder still. The product of log-odds and loudness is wrong least often.
            log_odds = (highest[:, 0] / highest[:, 1].clamp(min=RAREST)).log()
            scores += (log_odds * waveforms.square().mean(1).sqrt()).tolist()
            for best, probability in zip(label[:, 0].tolist(), highest[:, 0].tolist(), strict=True):
                found.append((len(found) * WINDOW_HOP / SAMPLE_RATE, self.labels[best], probability))
        if not any(scores):
            notices.append("is silent: the answer means nothing")
        keywords = [n for n, (_, word, _) in enumerate(found) if word not in (UNKNOWN, SILENCE)]
        start_s, word, probability = found[max(keywords or range(len(found)), key=scores.__getitem__)]
        return Prediction(str(file), word, probability, start_s, 1000 * spent / len(found), found, notices)
