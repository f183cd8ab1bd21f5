"""Augmentation of training clips: of waveforms (shift, gain, noise) and of log-mels (speed, time mask)."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from kws.config import Config
from kws.data.audio import FULL_SCALE, N_SAMPLES, SAMPLE_RATE, to_float
from kws.data.corpus import Corpus
from kws.data.layout import NOISE_FOLDER
from kws.errors import KwsError

Change = Callable[[Tensor], Tensor]  # log-mels (batch, n_mels, n_frames) to augmented ones


class LogMelLayer(Protocol):
    """What the data need to know of the model's first layer, kws.model.features.LogMelFilterBanks."""

    n_mels: int
    hop_length: int
    mel_filters: Tensor

    def n_frames(self, n_samples: int) -> int: ...


class Augmentation:
    """Shift (zero-filled), gain and background noise, as in the recipes for small keyword models.

    Background noise is a random second of the recordings times a factor below `noise_level`, for a share `noise_prob`
    of the clips (Warden 2018, arXiv:1804.03209; Kim et al. 2021, arXiv:2106.04140).
    """

    def __init__(self, config: Config, corpus: Corpus, device: torch.device) -> None:
        self.margin = round(config.shift_ms * SAMPLE_RATE / 1000)
        self.gain_db = config.gain_db
        self.noise_prob, self.noise_level = config.noise_prob, config.noise_level
        self.noisy = config.noise_prob > 0 and config.noise_level > 0
        if self.noisy:
            if len(corpus.noise) < N_SAMPLES:
                raise KwsError(
                    f"data: {corpus.folder / NOISE_FOLDER} has less than a second of noise; add noise recordings, "
                    "or train without noise: --noise_prob=0"
                )
            self.noise = to_float(corpus.noise.to(device)).unfold(0, N_SAMPLES, 1)  # every second of it, as a view

    def __call__(self, windows: Tensor, starts: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented (batch, 16000) waveforms: the int16 `windows` (n, 16000) at about `starts` (batch,)."""
        batch, device = len(starts), windows.device

        def uniform(low: float, high: float) -> Tensor:
            return torch.empty(batch).uniform_(low, high, generator=generator).to(device)

        shift = torch.randint(2 * self.margin + 1, (batch,), generator=generator).to(device) - self.margin
        gain = 10 ** (uniform(-self.gain_db, self.gain_db) / 20)
        waveforms = windows.index_select(0, starts + shift).float()
        waveforms *= gain[:, None] / FULL_SCALE
        if self.noisy:
            start = torch.randint(len(self.noise), (batch,), generator=generator).to(device)
            level = uniform(0, self.noise_level) * (uniform(0, 1) < self.noise_prob)
            waveforms.addcmul_(self.noise.index_select(0, start), level[:, None])
        return waveforms


class SpectralAugmentation:
    """Speed perturbation and time masks on log-mels (batch, n_mels, n_frames).

    Speed perturbation stretches a log-mel about its middle and moves its bands, as playing the clip faster or slower
    does (Ko et al., Interspeech 2015, resample the waveform; this costs next to nothing). A time mask of up to
    `time_mask_ms` is filled with the clip's mean (SpecAugment, Park et al. 2019, arXiv:1904.08779).
    """

    def __init__(self, config: Config, layer: LogMelLayer) -> None:
        self.speed = config.speed_perturb
        self.n_mels, self.n_frames = layer.n_mels, layer.n_frames(N_SAMPLES)
        self.mask_frames = config.time_mask_ms / 1000 * SAMPLE_RATE / layer.hop_length
        device = layer.mel_filters.device
        self.frames = torch.arange(self.n_frames, device=device)
        self.bands = torch.arange(self.n_mels, device=device)
        mel_step = _hz_to_mel(torch.tensor(SAMPLE_RATE / 2)) / (self.n_mels + 1)  # between two bands' centres
        self.mel_step = mel_step.to(device)

    def draw(self, batch: int, generator: torch.Generator) -> Change:
        """Return a function that augments log-mels. Everything random is drawn here, not when it is called."""
        device = self.frames.device
        speed = mask = None
        if self.speed:
            speed = torch.empty(batch).uniform_(1 - self.speed, 1 + self.speed, generator=generator).to(device)
        if self.mask_frames:
            length = torch.rand(batch, generator=generator) * min(self.mask_frames, self.n_frames)
            start = torch.rand(batch, generator=generator) * (self.n_frames - length)
            mask = start.to(device), (start + length).to(device)
        return partial(self._change, speed=speed, mask=mask)

    def _change(self, log_mel: Tensor, speed: Tensor | None, mask: tuple[Tensor, Tensor] | None) -> Tensor:
        if speed is not None:
            log_mel = self._at_speed(log_mel, speed)
        if mask is not None:
            start, end = mask
            masked = (self.frames >= start[:, None]) & (self.frames < end[:, None])
            log_mel = torch.where(masked[:, None], log_mel.mean(dim=(1, 2), keepdim=True), log_mel)
        return log_mel

    def _at_speed(self, log_mel: Tensor, speed: Tensor) -> Tensor:
        """Return each log-mel at its speed, interpolated between frames and bands; edges are replicated."""
        middle = (self.n_frames - 1) / 2
        frames = middle + (self.frames - middle) * speed[:, None]
        hz = _mel_to_hz((self.bands + 1) * self.mel_step)
        bands = _hz_to_mel(hz / speed[:, None]) / self.mel_step - 1
        x = _to_grid(frames, self.n_frames)[:, None].expand(-1, self.n_mels, -1)
        y = _to_grid(bands, self.n_mels)[:, :, None].expand(-1, -1, self.n_frames)
        grid = torch.stack((x, y), dim=-1)
        return torch.nn.functional.grid_sample(
            log_mel[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True
        )[:, 0]


def _to_grid(index: Tensor, size: int) -> Tensor:
    """Return an index of 0 to size - 1 as grid_sample takes it: -1 to 1, or 0 where there is only one."""
    return index * (2 / (size - 1)) - 1 if size > 1 else torch.zeros_like(index)


def _hz_to_mel(hz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hz / 700)


def _mel_to_hz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
