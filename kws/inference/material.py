"""A stream of known content, made of a run's clips and noise: what thresholds are chosen and measured on."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kws.config import Config
from kws.data.audio import FULL_SCALE, N_SAMPLES, SAMPLE_RATE
from kws.data.corpus import load
from kws.data.labels import load_labelled, noise_parts
from kws.inference.rates import Keyword
from kws.inference.recording import Samples

CALIBRATION_H = 2  # hours
SLOT = 8 * SAMPLE_RATE  # each has one clip, or none
KEYWORDS, OTHERS = 200, 250  # slots of an hour
NOISE_LEVEL = (0.03, 0.3)  # of the recording's own


class Material:
    """Hours of a run's keywords and other words, each once in 8 s of background noise.

    Args:
        config: the run's settings; data_dir may be another one.
        name: "validation" or "testing": its clips, and the part of each noise recording that no other split has.
        hours: each with 200 keywords and 250 other words; clips are repeated, or some left out, to be as many.

    Raises:
        KwsError: the data are missing.
    """

    def __init__(self, config: Config, name: str, hours: float) -> None:
        corpus = load(config.data_dir, config.data, config.words, speaker_from=config.speaker_from)
        self._noise = [part.numpy() for part in noise_parts(corpus)[name] if len(part)]
        split = getattr(load_labelled(replace(config, silence=False)), name)
        self._clips, labels = split.waveforms.numpy(), split.labels.int().numpy()
        self._random = random = np.random.default_rng(0)
        is_word = labels < len(config.words)
        slots: list[int | None] = []
        for rows, per_hour in ((is_word, KEYWORDS), (~is_word, OTHERS)):
            of_kind, n = random.permutation(np.flatnonzero(rows)), round(per_hour * hours)
            slots += np.resize(of_kind, n).tolist() if len(of_kind) else [None] * n
        self._slots = [slots[n] for n in random.permutation(len(slots))]
        self._starts = random.integers(SLOT - N_SAMPLES, size=len(slots)).tolist()
        self.keywords = [
            Keyword((n * SLOT + start + N_SAMPLES / 2) / SAMPLE_RATE, config.words[labels[row]])
            for n, (row, start) in enumerate(zip(self._slots, self._starts, strict=True))
            if row is not None and is_word[row]
        ]
        self.others = sum(row is not None for row in slots) - len(self.keywords)

    def blocks(self) -> Iterator[Samples]:
        """Yield the samples (time,) at 16 kHz in [-1, 1], a block per slot."""
        for n, (row, start) in enumerate(zip(self._slots, self._starts, strict=True)):
            part = self._noise[n % len(self._noise)]
            places = self._random.integers(len(part)) + np.arange(SLOT)
            block = np.take(part, places, mode="wrap") * self._random.uniform(*NOISE_LEVEL)
            if row is not None:
                block[start : start + N_SAMPLES] += self._clips[row]
            yield (block / FULL_SCALE).clip(-1, 1).astype(np.float32)
