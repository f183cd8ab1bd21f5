"""Training batches: a seeded order of the clips, augmented as a few tensor operations a batch."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch

from kws.audio import piece_size
from kws.data_folder import NOISE_FOLDER
from kws.errors import KwsError
from kws.speech_commands import MARGIN, N_SAMPLES, SAMPLE_RATE

AHEAD = 2  # batches whose features wait, or are at work: with one, each side waits for the other's slower batches


def epoch_generator(seed, epoch):
    """Return the random generator of one epoch.

    It depends on (seed, epoch) alone, so an epoch is the same whether the run came to it or was resumed at it.
    """
    return torch.Generator().manual_seed(seed * 100_003 + epoch)


class TrainingBatches:
    """The training split on the device, and its batches: (batch, 16000) float32 waveforms, (batch,) labels."""

    def __init__(self, config, corpus, device):
        self.batch_size = config.batch_size
        self.augment = Augmentation(config, corpus, device) if config.augment else None
        margin = self.augment.margin if self.augment else 0
        padded = corpus.training.padded
        if margin > MARGIN:
            padded = torch.nn.functional.pad(padded, (margin - MARGIN, margin - MARGIN))
        surplus = (padded.shape[1] - N_SAMPLES) // 2 - margin
        self.waveforms = padded[:, surplus : padded.shape[1] - surplus].to(device)
        self.labels = corpus.training.labels.to(device)

    def __len__(self):
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, generator):
        """Yield every clip once, in an order that `generator` draws."""
        order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
        for rows in order.split(self.batch_size):
            if self.augment:
                waveforms = self.augment(self.waveforms, rows, generator)
            else:
                waveforms = to_float(self.waveforms[rows])
            yield waveforms, self.labels[rows]


class Augmentation:
    """Shift (zero-filled), speed, gain and background noise, as in the recipes for small keyword models.

    A clip's speed changes about its middle, and its pitch with it: another speaker. Background noise is a random
    second of the recordings times a factor below `noise_level`, for a share `noise_prob` of the clips (Ko et al.,
    Interspeech 2015; Warden 2018, arXiv:1804.03209; Kim et al. 2021, arXiv:2106.04140).
    """

    def __init__(self, config, corpus, device):
        self.margin = round(config.shift_ms * SAMPLE_RATE / 1000)
        self.speed, self.gain_db = config.speed, config.gain_db
        self.noise_prob, self.noise_level = config.noise_prob, config.noise_level
        self.from_middle = torch.arange(N_SAMPLES, device=device) - (N_SAMPLES - 1) / 2
        self.noisy = config.noise_prob > 0 and config.noise_level > 0
        if self.noisy:
            if len(corpus.noise) < N_SAMPLES:
                raise KwsError(
                    f"data: {corpus.folder / NOISE_FOLDER} holds no second of noise; put the recordings there, "
                    "or train without them: --noise_prob=0"
                )
            self.noise = to_float(corpus.noise.to(device)).unfold(0, N_SAMPLES, 1)  # every second of it, as a view

    def __call__(self, padded, rows, generator):
        """Return augmented (batch, 16000) waveforms of `rows` of `padded` (clips, 16000 + 2 x margin) int16."""
        batch, device = len(rows), padded.device

        def uniform(low, high):
            return torch.empty(batch).uniform_(low, high, generator=generator).to(device)

        shift = torch.randint(2 * self.margin + 1, (batch,), generator=generator).to(device)
        gain = 10 ** (uniform(-self.gain_db, self.gain_db) / 20)
        if self.speed:
            speed = 1 + uniform(-self.speed, self.speed)
            # In pieces on a CPU, as the log-mel layer takes them: whole batches spend their time on page faults.
            pieces = zip(*(each.split(piece_size(device)) for each in (rows, shift, speed)), strict=True)
            waveforms = torch.cat([self._at_speed(to_float(padded[rows]), *drawn) for rows, *drawn in pieces])
        else:
            waveforms = to_float(padded.unfold(1, N_SAMPLES, 1)[rows, shift])
        waveforms *= gain[:, None]
        if self.noisy:
            start = torch.randint(len(self.noise), (batch,), generator=generator).to(device)
            level = uniform(0, self.noise_level) * (uniform(0, 1) < self.noise_prob)
            waveforms.addcmul_(self.noise[start], level[:, None])
        return waveforms

    def _at_speed(self, padded, shift, speed):
        """(batch, 16000 + 2 x margin) to (batch, 16000): each clip from its shift on, at its speed, interpolated."""
        middle = (N_SAMPLES - 1) / 2 + shift
        # Where a faster clip runs over the ends, the outermost samples go on: silence, where the margin is.
        place = torch.addcmul(middle[:, None], self.from_middle, speed[:, None]).clamp_(0, padded.shape[1] - 2)
        before = place.long()
        return torch.lerp(padded.gather(1, before), padded.gather(1, before + 1), place - before)


def with_features(batches, compute, ahead):
    """Yield (compute(waveforms), labels) of (waveforms, labels) in their order.

    ahead: a thread computes them for the coming batches while the caller works on this one. That gives the same
    numbers; it needs a CPU that has nothing else to do.
    """
    if not ahead:
        for waveforms, labels in batches:
            yield compute(waveforms), labels
        return
    coming = deque()
    with ThreadPoolExecutor(1) as thread:
        for waveforms, labels in batches:
            coming.append((thread.submit(compute, waveforms), labels))
            if len(coming) > AHEAD:
                features, labels = coming.popleft()
                yield features.result(), labels
        for features, labels in coming:
            yield features.result(), labels


def to_float(samples):
    """int16 samples to float32 in [-1, 1)."""
    return samples.float() / 32768
