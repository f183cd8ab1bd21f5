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
        # Of other words, each epoch draws some.
        is_other = (
            self.labels == len(config.words) if config.unknown else torch.zeros_like(self.labels, dtype=torch.bool)
        )
        self.rows, self.others = torch.nonzero(~is_other).flatten(), torch.nonzero(is_other).flatten()
        keywords = int((self.labels < len(config.words)).sum())
        self.drawn = min(len(self.others), round(config.unknown_share * keywords / len(config.words)))
        self.augment = Augmentation(config, corpus, layer) if config.augment else None
        if not self.augment:
            check_memory(len(self.labels) * layer.n_frames(N_SAMPLES) * layer.n_mels)
            clips = torch.split(corpus.training.waveforms, CHUNK)
            self.log_mel = layer.log(torch.cat([layer.mel_power(to_float(piece.to(device))) for piece in clips]))

    @property
    def clips(self) -> int:
        """The number of clips of an epoch."""
        return len(self.rows) + self.drawn

    def __len__(self) -> int:
        return -(-self.clips // self.batch_size)

    @torch.no_grad()
    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (log-mels (batch, n_mels, n_frames), labels (batch,)) in a random order.

        That is every clip, but of other words a random choice.
        """
        order = torch.randperm(self.clips, generator=generator).to(self.labels.device)
        if len(self.others):
            drawn = torch.randperm(len(self.others), generator=generator)[: self.drawn].to(order.device)
            order = torch.cat((self.rows, self.others[drawn]))[order]
        for rows in torch.split(order, self.batch_size):
            log_mel = self.augment(rows, generator) if self.augment else self.log_mel[rows].transpose(1, 2)
            yield log_mel, self.labels[rows]
