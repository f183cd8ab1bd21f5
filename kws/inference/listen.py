"""Detection of keywords in a stream: a window every 100 ms, smoothed probabilities, one detection per word."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from kws.data.audio import N_SAMPLES, SAMPLE_RATE
from kws.inference.predict import Predictor
from kws.inference.recording import Samples, windows

HOP = SAMPLE_RATE // 10
SMOOTHED = 7  # windows
REFRACTORY_S = 1.0  # after a detection
QUIETEST = 1e-3  # root mean square, -60 dB: a window below it holds no word


@dataclass(frozen=True)
class Detection:
    """A keyword that was heard, and its smoothed probability when it was detected.

    `time_s` is the middle of the windows then, in seconds from the start: at most half a second from the word's middle.
    """

    time_s: float
    word: str
    probability: float


class Moment(NamedTuple):
    """What the last 7 windows say: the middle of their time, the most probable keyword, all labels' probabilities.

    Probabilities are means over the windows. `level` is the root mean square of the newest 100 ms.
    """

    time_s: float
    word: str
    probability: float
    probabilities: Samples
    level: float


def moments(predictor: Predictor, blocks: Iterator[Samples]) -> Iterator[Moment]:
    """Yield a Moment for every 100 ms of a stream of blocks at 16 kHz, as it is heard."""
    n_words = len(predictor.config.words)  # the first labels
    recent: deque[Samples] = deque(maxlen=SMOOTHED)
    time_s = (-N_SAMPLES / 2 - (SMOOTHED - 1) / 2 * HOP) / SAMPLE_RATE  # of the middle of the windows in `recent`
    nothing = np.zeros(N_SAMPLES, np.float32)  # so that a word at the beginning or end is in several windows, too
    for seconds in windows(chain([nothing], blocks, [nothing]), HOP):
        is_loud = np.sqrt(np.square(seconds).mean(1)) > QUIETEST
        levels = np.sqrt(np.square(seconds[:, -HOP:]).mean(1)).tolist()
        probabilities = predictor.probabilities(torch.from_numpy(np.array(seconds))).numpy()
        for row, level in zip(probabilities * is_loud[:, None], levels, strict=True):
            recent.append(row)
            smoothed = np.sum(recent, axis=0) / SMOOTHED
            best = int(smoothed[:n_words].argmax())
            yield Moment(time_s, predictor.labels[best], float(smoothed[best]), smoothed, level)
            time_s += HOP / SAMPLE_RATE


def detect(moments: Iterable[Moment], threshold: float) -> Iterator[Detection]:
    """Yield the keywords as they are heard.

    A keyword is detected when its probability reaches the threshold; again, when it has been below the threshold and a
    second has passed.
    """
    last, ready_s = "", -math.inf
    for moment in moments:
        if moment.probability < threshold:
            last = ""
        elif moment.word != last and moment.time_s >= ready_s:
            last, ready_s = moment.word, moment.time_s + REFRACTORY_S
            yield Detection(round(max(0.0, moment.time_s), 1), moment.word, moment.probability)
