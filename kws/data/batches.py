"""Training batches: a seeded order of the clips, augmented as a few tensor operations a batch."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from kws.data.audio import FULL_SCALE, N_SAMPLES, SAMPLE_RATE, to_float
from kws.data.augment import SpectralAugmentation
from kws.data.corpus import MARGIN
from kws.data.layout import NOISE_FOLDER
from kws.errors import KwsError

AHEAD = 4  # batches whose features wait or are at work: the thread has some left while the caller makes one itself


def epoch_generator(seed, epoch):
    """Return the random generator of one epoch.

    It depends on (seed, epoch) alone, so an epoch is the same whether the run came to it or was resumed at it.
    """
    return torch.Generator().manual_seed(seed * 100_003 + epoch)


class TrainingBatches:
    """The training split on the device of the log-mel `layer`, and its batches."""

    def __init__(self, config, corpus, layer):
        device = layer.mel_filters.device
        self.batch_size = config.batch_size
        self.augment = Augmentation(config, corpus, device) if config.augment else None
        self.spectral = SpectralAugmentation(config, layer) if config.augment else None
        padded = corpus.training.padded
        spare = max(0, self.augment.margin - MARGIN) if self.augment else 0
        if spare:
            padded = torch.nn.functional.pad(padded, (spare, spare))
        self.seconds = padded.to(device).flatten().unfold(0, N_SAMPLES, 1)  # every second of it, as a view
        self.starts = torch.arange(len(padded), device=device) * padded.shape[1] + spare + MARGIN
        self.labels = corpus.training.labels.to(device)

    def __len__(self):
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, generator):
        """Yield every clip once, in an order that `generator` draws: waveforms (batch, 16000), change, labels (batch,).

        change(log_mel) is what is still to be done to the log-mels of these waveforms.
        """
        order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
        for rows in order.split(self.batch_size):
            if self.augment:
                waveforms = self.augment(self.seconds, self.starts[rows], generator)
                change = self.spectral.draw(len(rows), generator)
            else:
                waveforms, change = to_float(self.seconds.index_select(0, self.starts[rows])), _unchanged
            yield waveforms, change, self.labels[rows]


class Augmentation:
    """Shift (zero-filled), gain and background noise, as in the recipes for small keyword models.

    Background noise is a random second of the recordings times a factor below `noise_level`, for a share `noise_prob`
    of the clips (Warden 2018, arXiv:1804.03209; Kim et al. 2021, arXiv:2106.04140).
    """

    def __init__(self, config, corpus, device):
        self.margin = round(config.shift_ms * SAMPLE_RATE / 1000)
        self.gain_db = config.gain_db
        self.noise_prob, self.noise_level = config.noise_prob, config.noise_level
        self.noisy = config.noise_prob > 0 and config.noise_level > 0
        if self.noisy:
            if len(corpus.noise) < N_SAMPLES:
                raise KwsError(
                    f"data: {corpus.folder / NOISE_FOLDER} holds no second of noise; put the recordings there, "
                    "or train without them: --noise_prob=0"
                )
            self.noise = to_float(corpus.noise.to(device)).unfold(0, N_SAMPLES, 1)  # every second of it, as a view

    def __call__(self, seconds, starts, generator):
        """Return augmented (batch, 16000) waveforms: the int16 `seconds` (n, 16000) at about `starts` (batch,)."""
        batch, device = len(starts), seconds.device

        def uniform(low, high):
            return torch.empty(batch).uniform_(low, high, generator=generator).to(device)

        shift = torch.randint(2 * self.margin + 1, (batch,), generator=generator).to(device) - self.margin
        gain = 10 ** (uniform(-self.gain_db, self.gain_db) / 20)
        waveforms = seconds.index_select(0, starts + shift).float()
        waveforms *= gain[:, None] / FULL_SCALE
        if self.noisy:
            start = torch.randint(len(self.noise), (batch,), generator=generator).to(device)
            level = uniform(0, self.noise_level) * (uniform(0, 1) < self.noise_prob)
            waveforms.addcmul_(self.noise.index_select(0, start), level[:, None])
        return waveforms


def with_features(batches, layer, ahead):
    """Yield (log-mels, changed; labels) of an epoch's batches in their order.

    ahead: a thread computes them for the coming batches while the caller works on this one. That gives the same
    numbers; it needs a CPU that has nothing else to do.
    """
    if not ahead:
        for waveforms, change, labels in batches:
            yield change(layer(waveforms)), labels
        return
    coming = deque()
    with ThreadPoolExecutor(1) as thread:
        for waveforms, change, labels in batches:
            coming.append((_Features(thread, layer, waveforms, change), labels))
            if len(coming) > AHEAD:
                yield _next(coming)
        while coming:
            yield _next(coming)


def _next(coming):
    """Take the first (log-mels, labels). Until they are there, make others that the thread has not begun."""
    features, labels = coming.popleft()
    for other, _ in coming:
        if features.future.done():
            break
        other.make_here()
    return features.future.result(), labels


class _Features:
    """A batch's log-mels, made by a thread or by whoever comes first."""

    def __init__(self, thread, layer, waveforms, change):
        self.make = lambda: change(layer(waveforms))
        self.future = thread.submit(self.make)

    def make_here(self):
        if self.future.cancel():  # the thread has not begun
            self.future = Future()
            self.future.set_result(self.make())


def _unchanged(log_mel):
    return log_mel
