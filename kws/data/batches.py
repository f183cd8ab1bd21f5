"""Training batches: the clips in a seeded order, augmented as a few tensor operations per batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from kws.config import Config
from kws.data.audio import N_SAMPLES, to_float
from kws.data.augment import Augmentation, Change, LogMelLayer, SpectralAugmentation
from kws.data.corpus import MARGIN, Corpus

PREFETCHED = 4  # batches whose features a thread computes in advance

Batch = tuple[Tensor, Change, Tensor]  # waveforms (batch, 16000), augmentation of their log-mels, labels (batch,)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the random generator of one epoch.

    It depends on (seed, epoch) alone, so an epoch is the same in a resumed run as in an uninterrupted one.
    """
    return torch.Generator().manual_seed(seed * 100_003 + epoch)


class TrainingBatches:
    """The training split on the device of the log-mel `layer`, and its batches."""

    def __init__(self, config: Config, corpus: Corpus, layer: LogMelLayer) -> None:
        device = layer.mel_filters.device
        self.batch_size = config.batch_size
        self.augment = Augmentation(config, corpus, device) if config.augment else None
        self.spectral = SpectralAugmentation(config, layer) if config.augment else None
        padded = corpus.training.padded
        extra = max(0, self.augment.margin - MARGIN) if self.augment else 0
        if extra:
            padded = torch.nn.functional.pad(padded, (extra, extra))
        self.windows = padded.to(device).flatten().unfold(0, N_SAMPLES, 1)  # every second of it, as a view
        self.starts = torch.arange(len(padded), device=device) * padded.shape[1] + extra + MARGIN
        self.labels = corpus.training.labels.to(device)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield batches that have every clip once, in an order drawn from `generator`."""
        order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
        for first in range(0, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]
            change: Change = _unchanged
            if self.augment and self.spectral:
                waveforms = self.augment(self.windows, self.starts[rows], generator)
                change = self.spectral.draw(len(rows), generator)
            else:
                waveforms = to_float(self.windows.index_select(0, self.starts[rows]))
            yield waveforms, change, self.labels[rows]


def with_features(
    batches: Iterable[Batch], layer: Callable[[Tensor], Tensor], prefetch: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (augmented log-mels, labels) of the batches, in order.

    prefetch: a thread computes the log-mels of the next batches while the caller works on this one. The numbers are
    the same, as everything random is drawn in the caller's thread; it is faster where a CPU is idle.
    """

    def features(waveforms: Tensor, change: Change) -> Tensor:
        return change(layer(waveforms))

    if not prefetch:
        for waveforms, change, labels in batches:
            yield features(waveforms, change), labels
        return
    pending: deque[tuple[Future[Tensor], Tensor]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for waveforms, change, labels in batches:
            pending.append((thread.submit(features, waveforms, change), labels))
            if len(pending) > PREFETCHED:
                future, labels = pending.popleft()
                yield future.result(), labels
        for future, labels in pending:
            yield future.result(), labels


def _unchanged(log_mel: Tensor) -> Tensor:
    return log_mel
