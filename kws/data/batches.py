"""Training batches: the features of the clips, in a seeded order, augmented by a few tensor operations per batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kws.config import Config
from kws.data.audio import N_SAMPLES, to_float
from kws.data.augment import CHUNK, Augmentation, LogMelLayer, check_memory
from kws.data.corpus import Corpus


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the random generator of one epoch.

    It depends on (seed, epoch) alone, so an epoch is the same in a resumed run as in an uninterrupted one.
    """
    return torch.Generator().manual_seed(seed * 100_003 + epoch)


class TrainingBatches:
    """The features and labels of the training split on the device of the log-mel `layer`."""

    @torch.no_grad()
    def __init__(self, config: Config, corpus: Corpus, layer: LogMelLayer) -> None:
        device = layer.mel_filters.device
        self.batch_size = config.batch_size
        self.labels = corpus.training.labels.to(device)
        self.augment = Augmentation(config, corpus, layer) if config.augment else None
        if not self.augment:
            check_memory(len(self.labels) * layer.n_frames(N_SAMPLES) * layer.n_mels)
            clips = torch.split(corpus.training.waveforms, CHUNK)
            self.log_mel = layer.log(torch.cat([layer.mel_power(to_float(piece.to(device))) for piece in clips]))

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    @torch.no_grad()
    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (log-mels (batch, n_mels, n_frames), labels (batch,)) of every clip once, in a random order."""
        order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
        for rows in torch.split(order, self.batch_size):
            log_mel = self.augment(rows, generator) if self.augment else self.log_mel[rows].transpose(1, 2)
            yield log_mel, self.labels[rows]
