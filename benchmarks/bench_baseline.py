"""The plain loop that `kws bench` compares with: what most solutions of this task do, written as one would by hand.

A Dataset that reads a WAV per item, a DataLoader with two workers, zero-padding in the collate function, torchaudio's
features in the model, Conv1d blocks, Adam, and loss.item() in every step. No augmentation, no tracking.
"""

import json
import sys
import time

import soundfile
import torch
from torch import nn

from kws.config import resolve
from kws.data.audio import N_SAMPLES, SAMPLE_RATE
from kws.data.corpus import SpeechCommandsWords
from kws.data.layout import FOLDERS
from kws.data.torchaudio_import import torchaudio


class WavDataset(torch.utils.data.Dataset):
    """(waveform (time,), label) of each clip, read from its file; with `in_memory`, read once at the start."""

    def __init__(self, config, subset, in_memory=False):
        words = SpeechCommandsWords(config.data_dir, subset, config.words, FOLDERS[config.data])
        self.paths = words._walker
        self.labels = [float(config.words.index(clip.split("/")[0])) for clip in words.clips]
        self.waveforms = [self._read(path) for path in self.paths] if in_memory else None

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, n):
        return (self.waveforms[n] if self.waveforms else self._read(self.paths[n])), self.labels[n]

    @staticmethod
    def _read(path):
        waveform, _ = soundfile.read(path, dtype="float32")
        return torch.from_numpy(waveform)


def collate(items):
    """Zero-pad the waveforms of a batch to one second: (batch, 16000), (batch,)."""
    waveforms = [nn.functional.pad(waveform, (0, N_SAMPLES - len(waveform))) for waveform, _ in items]
    return torch.stack(waveforms), torch.tensor([label for _, label in items])


class PlainModel(nn.Module):
    """The same function of the waveforms as kws.model.KeywordModel, from torch's and torchaudio's modules alone."""

    def __init__(self, config):
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE, n_fft=config.n_fft, hop_length=config.hop_length, n_mels=config.n_mels
        )
        self.mean_over = {"none": None, "clip": (1, 2), "band": 2}[config.mean_norm]
        layers, channels = [], config.n_mels
        for groups in (1, config.groups, config.groups, config.groups):
            layers += [
                nn.Conv1d(channels, config.channels, config.kernel_size, padding="same", groups=groups, bias=False),
                nn.BatchNorm1d(config.channels),
                nn.ReLU(),
                nn.MaxPool1d(2),
            ]
            channels = config.channels
        self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 1))

    def forward(self, waveforms):
        features = torch.log(self.mel(waveforms) + 1e-6)
        if self.mean_over is not None:
            features = features - features.mean(dim=self.mean_over, keepdim=True)
        return self.network(features).squeeze(1)


class PlainLoop:
    """Model, optimiser and loaders; `epoch()` is one pass over the training clips."""

    def __init__(self, config, in_memory=False, workers=2):
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.in_memory, self.workers = config, in_memory, workers
        self.model = PlainModel(config)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, config.lr_step, config.lr_gamma)
        self.criterion = nn.BCEWithLogitsLoss()
        self.training = self.loader("training", shuffle=True)

    def loader(self, subset, shuffle=False):
        dataset = WavDataset(self.config, subset, self.in_memory)
        # Forked, as Linux had it by default up to Python 3.13, and the fastest way to start a worker.
        return torch.utils.data.DataLoader(
            dataset, self.config.batch_size, shuffle, num_workers=self.workers, collate_fn=collate,
            multiprocessing_context="fork" if self.workers else None,
        )  # fmt: skip

    def epoch(self):
        """Train one epoch and return its mean loss."""
        self.model.train()
        total = 0.0
        for waveforms, labels in self.training:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(waveforms), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(labels)
        self.scheduler.step()
        return total / len(self.training.dataset)

    @torch.no_grad()
    def accuracy(self, loader):
        self.model.eval()
        correct = 0
        for waveforms, labels in loader:
            correct += ((self.model(waveforms) > 0) == (labels > 0.5)).sum().item()
        return correct / len(loader.dataset)

    def run(self):
        """A whole run: every epoch with its validation, the best one tested. Returns the test accuracy."""
        validation, testing = self.loader("validation"), self.loader("testing")
        best, weights = -1.0, None
        for _ in range(self.config.epochs):
            self.epoch()
            accuracy = self.accuracy(validation)
            if accuracy > best:
                best = accuracy
                weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(weights)
        return self.accuracy(testing)


def timed_epoch(config, in_memory=False, workers=2):
    """Return a function that trains one epoch of the plain loop and returns {"seconds": its time}."""
    loop = PlainLoop(config, in_memory, workers)

    def once():
        began = time.perf_counter()
        loop.epoch()
        return {"seconds": time.perf_counter() - began}

    return once


if __name__ == "__main__":  # one run as a process of its own: python -m kws.bench_baseline '{"epochs": 20}'
    print(PlainLoop(resolve(("argument", json.loads(sys.argv[1])))).run())
