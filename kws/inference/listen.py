"""Detection of keywords in a stream: a window every 100 ms, smoothed probabilities, one detection per word."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from kws.config import SILENCE, UNKNOWN
from kws.data.audio import N_SAMPLES, SAMPLE_RATE
from kws.errors import KwsError
from kws.inference.predict import Predictor
from kws.inference.recording import Samples, windows

HOP = SAMPLE_RATE // 10
SMOOTHED = 5  # windows
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


def detections(predictor: Predictor, blocks: Iterator[Samples], threshold: float) -> Iterator[Detection]:
    """Yield the keywords in a stream of blocks at 16 kHz as they are heard.

    A keyword is detected when its probability, averaged over 5 windows, reaches the threshold; again, when it has been
    below the threshold and a second has passed.
    """
    is_keyword = np.array([label not in (UNKNOWN, SILENCE) for label in predictor.labels])
    recent: deque[Samples] = deque(maxlen=SMOOTHED)
    heard, ready_s = -1, -math.inf
    time_s = (-N_SAMPLES / 2 - (SMOOTHED - 1) / 2 * HOP) / SAMPLE_RATE  # of the middle of the windows in `recent`
    nothing = np.zeros(N_SAMPLES, np.float32)  # so that a word at the beginning or end is in several windows, too
    for seconds in windows(chain([nothing], blocks, [nothing]), HOP):
        is_loud = np.sqrt(np.square(seconds).mean(1)) > QUIETEST
        probabilities = predictor.probabilities(torch.from_numpy(np.array(seconds))).numpy()
        for row in probabilities * is_keyword * is_loud[:, None]:
            recent.append(row)
            smoothed = np.sum(recent, axis=0) / SMOOTHED
            best = int(smoothed.argmax())
            if smoothed[best] < threshold:
                heard = -1
            elif best != heard and time_s >= ready_s:
                heard, ready_s = best, time_s + REFRACTORY_S
                yield Detection(round(max(0.0, time_s), 1), predictor.labels[best], float(smoothed[best]))
            time_s += HOP / SAMPLE_RATE


def microphone() -> Iterator[Samples]:
    """Yield blocks of 100 ms from the microphone until interrupted. Raises KwsError if there is none."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the PortAudio library is missing
        how = "pip install 'kws[microphone]', and on Linux the system's package of PortAudio (libportaudio2)"
        raise KwsError(f"microphone: sounddevice is unavailable ({error}); {how}; or give a file") from error
    try:
        with sounddevice.InputStream(SAMPLE_RATE, HOP, channels=1, dtype="float32") as stream:
            while True:
                yield stream.read(HOP)[0][:, 0].copy()
    except sounddevice.PortAudioError as error:
        raise KwsError(f"microphone: cannot be opened ({error}); connect one, or give a file") from error
