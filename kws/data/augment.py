"""Augmentation of training clips on mel power spectra, which are computed once per run, and on log-mels."""

import math
from typing import Protocol

import torch
from torch import Tensor

from kws.config import Config
from kws.data.audio import N_SAMPLES, SAMPLE_RATE, to_float
from kws.data.corpus import Corpus
from kws.data.layout import NOISE_FOLDER
from kws.errors import KwsError

CHUNK = 256  # clips whose spectra are computed at once
PHASES = 4  # shifts within a frame
CROSS_TERMS = 50_000  # frames of random cross terms to start at
SPEEDS = 256  # to choose from


class LogMelLayer(Protocol):
    """What the data need of the model's first layer, kws.model.features.LogMelFilterBanks."""

    n_mels: int
    hop_length: int
    mel_filters: Tensor

    def n_frames(self, n_samples: int) -> int: ...
    def mel_power(self, waveform: Tensor) -> Tensor: ...
    def log(self, mel_power: Tensor) -> Tensor: ...


class Augmentation:
    """Shift, gain and background noise of the training clips, then the SpectralAugmentation of their log-mels.

    The layer's mel power P of each clip and N of the noise recordings is computed once. The features of a batch are

        log(gain² · P + level² · N + 2 · gain · level · sqrt(P · N / K) · cos(angle) + offset)

    with P shifted by quarters of a frame (zero-filled), N of a random second, random gains up to `gain_db` and, for a
    share `noise_prob` of the clips, random levels below `noise_level` (Warden 2018, arXiv:1804.03209; Kim et al. 2021,
    arXiv:2106.04140). The third term, with a random angle in each band and frame, stands for the phases between speech
    and noise, which mel powers lack: a band is the sum of K independent frequency bins. Gain is exact.
    """

    def __init__(self, config: Config, corpus: Corpus, layer: LogMelLayer) -> None:
        self.config, self.layer = config, layer
        self.n_mels, self.n_frames = layer.n_mels, layer.n_frames(N_SAMPLES)
        self.spectral = SpectralAugmentation(config, layer)
        self.max_shift = round(config.shift_ms / 1000 * SAMPLE_RATE / layer.hop_length)
        self.clip_frames = self.n_frames + 2 * self.max_shift
        self.noisy = config.noise_prob > 0 and config.noise_level > 0
        if self.noisy and len(corpus.noise) < N_SAMPLES:
            raise KwsError(
                f"data: {corpus.folder / NOISE_FOLDER} has less than a second of noise; add noise recordings, "
                "or train without noise: --noise_prob=0"
            )
        device, silence = layer.mel_filters.device, self.max_shift * layer.hop_length
        self.phases = PHASES if self.max_shift else 1
        clips = corpus.training.waveforms
        power = torch.empty(len(clips), self.phases, self.clip_frames, self.n_mels, device=device)
        for chunk, waveforms in zip(torch.split(power, CHUNK), torch.split(clips, CHUNK), strict=True):
            samples = to_float(waveforms.to(device))
            for phase in range(self.phases):
                early = phase * layer.hop_length // self.phases
                padded = torch.nn.functional.pad(samples, (silence - early, silence + early))
                chunk[:, phase] = layer.mel_power(padded)
        self.speech = self._seconds(power)
        if self.noisy:
            self.noise = self._seconds(layer.mel_power(to_float(corpus.noise.to(device))[None]))
            self.cross_terms = self._cross_terms(min(config.batch_size, len(clips)))

    def _seconds(self, power: Tensor) -> Tensor:
        """Return every second of (n, frames, n_mels) as a row (n_frames · n_mels,) of a view."""
        frames = power.numel() // self.n_mels
        return power.as_strided((frames - self.n_frames + 1, self.n_frames * self.n_mels), (self.n_mels, 1))

    def _cross_terms(self, largest_batch: int) -> Tensor:
        """Return 2 · cos(angle) / sqrt(K) for random angles: bands side by side, for many frames."""
        filters = self.layer.mel_filters
        # The number of bins that a filter averages; a Hann window makes 1.5 neighbours one independent bin. With many
        # bands a filter may cover no bin at all: its power is 0, and so is its cross term.
        bins = (filters.sum(0).square() / filters.square().sum(0) / 1.5).nan_to_num(1).clamp_min(1)
        frames = CROSS_TERMS + largest_batch * self.n_frames
        generator = torch.Generator().manual_seed(self.config.seed)
        angles = 2 * math.pi * torch.rand(frames, self.n_mels, generator=generator)
        return (2 * angles.cos().to(filters.device) / bins.sqrt()).flatten()

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented log-mels (batch, n_mels, n_frames) of the training clips `rows` (batch,)."""
        config, batch = self.config, len(rows)
        shift = torch.randint(2 * self.max_shift * self.phases + 1, (batch,), generator=generator).to(rows.device)
        first_frame = (rows * self.phases + shift % self.phases) * self.clip_frames + shift // self.phases
        power = self.speech.index_select(0, first_frame)
        power *= 10 ** (_uniform(-config.gain_db, config.gain_db, rows, generator) / 10)[:, None]
        if self.noisy:
            start = torch.randint(len(self.noise), (batch,), generator=generator).to(rows.device)
            level = _uniform(0, config.noise_level, rows, generator)
            level *= _uniform(0, 1, rows, generator) < config.noise_prob
            noise = self.noise.index_select(0, start).mul_(level.square()[:, None])
            first = self.n_mels * int(torch.randint(CROSS_TERMS, (1,), generator=generator))
            cross_terms = self.cross_terms[first : first + power.numel()].view_as(power)
            root = (power * noise).sqrt_()
            power.add_(noise).addcmul_(root, cross_terms)
        log_mel = self.layer.log(power).view(batch, self.n_frames, self.n_mels)
        return self.spectral(log_mel.transpose(1, 2), generator)


class SpectralAugmentation:
    """Speed perturbation and time masks on log-mels (batch, n_mels, n_frames).

    Speed perturbation stretches a log-mel about its middle and moves its bands, as playing the clip faster or slower
    does (Ko et al., Interspeech 2015, resample the waveform; this costs next to nothing). A time mask of up to
    `time_mask_ms` is filled with the clip's mean (SpecAugment, Park et al. 2019, arXiv:1904.08779).
    """

    def __init__(self, config: Config, layer: LogMelLayer) -> None:
        device = layer.mel_filters.device
        self.n_mels, self.n_frames = layer.n_mels, layer.n_frames(N_SAMPLES)
        self.mask_frames = min(config.time_mask_ms / 1000 * SAMPLE_RATE / layer.hop_length, self.n_frames)
        self.frames = torch.arange(self.n_frames, device=device)
        speeds = torch.linspace(1 - config.speed_perturb, 1 + config.speed_perturb, SPEEDS)
        self.grids = self._grids(speeds).to(device) if config.speed_perturb else None

    def _grids(self, speeds: Tensor) -> Tensor:
        """Return where each frame and band comes from, (speeds, n_frames, n_mels, 2), as grid_sample takes it."""
        middle = (self.n_frames - 1) / 2
        frames = middle + (torch.arange(self.n_frames) - middle) * speeds[:, None]
        mel_step = _hz_to_mel(torch.tensor(SAMPLE_RATE / 2)) / (self.n_mels + 1)  # between two bands' centres
        hz = _mel_to_hz((torch.arange(self.n_mels) + 1) * mel_step)
        bands = _hz_to_mel(hz / speeds[:, None]) / mel_step - 1
        size = (len(speeds), self.n_frames, self.n_mels)
        x = _to_grid(bands, self.n_mels)[:, None, :].expand(size)
        y = _to_grid(frames, self.n_frames)[:, :, None].expand(size)
        return torch.stack((x, y), -1)

    def __call__(self, log_mel: Tensor, generator: torch.Generator) -> Tensor:
        by_frame, batch = (
            log_mel.transpose(1, 2),
            len(log_mel),
        )  # as the features are stored, and the network takes them
        if self.grids is not None:
            speed = torch.randint(SPEEDS, (batch,), generator=generator).to(log_mel.device)
            # Between frames and bands it interpolates; edges are replicated.
            by_frame = torch.nn.functional.grid_sample(
                by_frame[:, None], self.grids.index_select(0, speed), padding_mode="border", align_corners=True
            )[:, 0]
        if self.mask_frames:
            length = _uniform(0, 1, log_mel, generator) * self.mask_frames
            start = _uniform(0, 1, log_mel, generator) * (self.n_frames - length)
            masked = (self.frames >= start[:, None]) & (self.frames < (start + length)[:, None])
            by_frame = torch.where(masked[:, :, None], by_frame.mean(dim=(1, 2), keepdim=True), by_frame)
        return by_frame.transpose(1, 2)


def _uniform(low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return random numbers (batch,) for a batch `like` this one, on its device; drawn on the CPU."""
    return torch.empty(len(like)).uniform_(low, high, generator=generator).to(like.device)


def _to_grid(index: Tensor, size: int) -> Tensor:
    """Return an index of 0 to size - 1 as grid_sample takes it: -1 to 1, or 0 where there is only one."""
    return index * (2 / (size - 1)) - 1 if size > 1 else torch.zeros_like(index)


def _hz_to_mel(hz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hz / 700)


def _mel_to_hz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
