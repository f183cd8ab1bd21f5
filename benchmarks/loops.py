"""Training loops, each measured in a process of its own: the baseline loop, and our training step by its parts.

The baseline loop is how this task is usually solved: a Dataset that reads a WAV file per item, a DataLoader with two
workers, torchaudio's features in the model, Conv1d blocks, Adam, and loss.item() in every step. It does not augment.

    python -m benchmarks.loops files|memory|step|network --KEY=VALUE …    # settings of kws train; prints JSON
"""

import json
import sys
import time
from collections import defaultdict
from functools import lru_cache, partial
from timeit import timeit

import soundfile
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import FRONT_END, NETWORK, NETWORK_S, PARTS, PRODUCT
from kws.config import Config, parse_flags, resolve
from kws.data.audio import N_SAMPLES, SAMPLE_RATE, pad, to_float
from kws.data.batches import epoch_generator
from kws.data.corpus import SpeechCommandsWords
from kws.data.layout import FOLDERS
from kws.data.torchaudio_import import torchaudio
from kws.training.optimizer import adam
from kws.training.run import prepare

Item = tuple[torch.Tensor, torch.Tensor]  # waveform (16000,), label ()


class WavDataset(Dataset[Item]):
    """The clips of one subset, zero-padded to one second, each read from its file; with `in_memory`, only once."""

    def __init__(self, config: Config, subset: str, in_memory: bool) -> None:
        words = SpeechCommandsWords(config.data_dir, subset, config.words, FOLDERS[config.data])
        self.paths: list[str] = words._walker
        self.labels = torch.tensor([float(config.words.index(clip.split("/")[0])) for clip in words.clips])
        self.read = lru_cache(maxsize=None)(soundfile.read) if in_memory else soundfile.read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, n: int) -> Item:
        return pad(torch.from_numpy(self.read(self.paths[n], dtype="float32")[0])), self.labels[n]


class BaselineModel(nn.Module):
    """The same function of the waveforms as KeywordModel, from torch's and torchaudio's modules alone."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = {"n_fft": config.n_fft, "hop_length": config.hop_length, "n_mels": config.n_mels}
        self.mel = torchaudio.transforms.MelSpectrogram(SAMPLE_RATE, **sizes)
        layers: list[nn.Module] = []
        for width in (config.n_mels, *[config.channels] * 3):
            layers.append(nn.Conv1d(width, config.channels, config.kernel_size, padding="same", bias=False))
            layers += [nn.BatchNorm1d(config.channels), nn.ReLU(), nn.MaxPool1d(2)]
        self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(config.channels, 1))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        features = torch.log(self.mel(waveforms) + 1e-6)
        return torch.squeeze(self.network(features - features.mean(dim=2, keepdim=True)), 1)


def train_baseline(config: Config, kind: str) -> list[float]:
    """Train config.epochs epochs on clips read from `kind`, files or memory; return the seconds of each."""
    torch.set_num_threads(config.threads)
    model, seconds = BaselineModel(config), []
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    clips = WavDataset(config, "training", in_memory=kind == "memory")
    workers, context = (2, "fork") if kind == "files" else (0, None)  # the fastest for each kind
    batches = DataLoader(clips, config.batch_size, shuffle=True, num_workers=workers, multiprocessing_context=context)
    for _ in range(config.epochs):
        began, total = time.perf_counter(), 0.0
        for waveforms, labels in batches:
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(model(waveforms), labels)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.item() * len(labels)
        seconds.append(time.perf_counter() - began)
    return seconds


def time_steps(config: Config) -> dict[str, list[float]]:
    """Return, for each of config.epochs epochs: PARTS, FRONT_END in ms, NETWORK, PRODUCT in GFLOP/s, NETWORK_S in s."""
    context = prepare(config)
    model, clock, values = context.model.train(), time.perf_counter, defaultdict(list)
    optimizer = adam(model.parameters(), config.lr)
    waveforms = to_float(context.corpus.testing.waveforms[: config.batch_size])
    with FlopCounterMode(display=False) as counter:
        features = torch.zeros(config.batch_size, config.n_mels, model.features.n_frames(N_SAMPLES))
        torch.autograd.backward(model.network(features).sum())
    # Allocated once: memory freed by a product would change the time of the next step.
    matrices = [(torch.randn(size, size), torch.empty(size, size)) for size in (1024, 1536, 2048)]
    for epoch in range(config.epochs):
        marks = [clock()]
        for features, labels in context.batches.epoch(epoch_generator(config.seed, epoch)):
            marks.append(clock())
            loss = binary_cross_entropy_with_logits(model.network(features), labels)
            marks.append(clock())
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            marks.append(clock())
            optimizer.step()
            marks.append(clock())
        times = torch.tensor(marks, dtype=torch.float64).diff().reshape(-1, len(PARTS))
        typical = times[: max(1, len(times) - 1)].median(dim=0).values  # the last batch of an epoch is smaller
        for n, part in enumerate(PARTS):
            values[part].append(1000 * float(typical[n]))
        values[NETWORK].append(counter.get_total_flops() / 1e9 / float(typical[1:].sum()))
        values[NETWORK_S].append(float(times[:, 1:].sum()))
        values[FRONT_END].append(1000 * timeit(partial(model.features, waveforms), number=1))
        products = ((len(matrix), partial(torch.mm, matrix, matrix, out=product)) for matrix, product in matrices)
        values[PRODUCT].append(max(2e-9 * size**3 / timeit(multiply, number=1) for size, multiply in products))
    return values


if __name__ == "__main__":
    kind, settings = sys.argv[1], resolve(("flag", parse_flags(sys.argv[2:])))
    if kind == "step":
        print(json.dumps(time_steps(settings)))
    else:
        print(json.dumps(time_steps(settings)[NETWORK_S] if kind == "network" else train_baseline(settings, kind)))
