"""Augmentation of training clips on their mel amplitudes, which are computed once per run."""

import math
from typing import Protocol

import torch
from torch import Tensor

from kws.config import Config
from kws.data.audio import N_SAMPLES, SAMPLE_RATE, to_float
from kws.data.clips import NOISE_FOLDER
from kws.data.corpus import Corpus
from kws.errors import KwsError
from kws.machine import memory

CHUNK = 256  # clips whose spectra are computed at once
PHASE_SAMPLES = 80  # frames are computed at least this often, so that shifts are no coarser
CROSS_TERMS = 50_000  # frames of random cross terms to start at
SPEEDS = 256  # to choose from
SHARED: dict[object, Tensor] = {}  # amplitudes that a sweep's fork server computed for its trials


class LogMelLayer(Protocol):
    """What the data need of the model's first layer, kws.model.features.LogMelFilterBanks."""

    n_fft: int
    n_mels: int
    hop_length: int
    mel_filters: Tensor

    def n_frames(self, n_samples: int) -> int: ...
    def mel_power(self, waveform: Tensor, exact: bool = True) -> Tensor: ...
    def log(self, mel_power: Tensor) -> Tensor: ...


class Augmentation:
    """Speed, shift, gain, background noise and time masks of the training clips.

    The square root A of the layer's mel power of each clip, and B of the noise recordings, is computed once, A at
    steps of 5 ms. The log-mels of a batch are

        log((gain · A)² + (level · B)² + 2 · gain · A · level · B · cos(angle) / sqrt(K) + offset)

    Frames of A are read at a random speed from a random start (zero-filled), and a matrix moves its bands by the same
    factor, as resampling the clip would (Ko et al., Interspeech 2015). B is of a random second. The gain is up to
    `gain_db`, the level of a share `noise_prob` of the clips up to `noise_level` (Warden 2018, arXiv:1804.03209). The
    third term, with a random angle in each band and frame, stands for the phases between speech and noise, which mel
    powers lack: a band is the sum of K independent frequency bins. Gain is exact. Last, a time mask of up to
    `time_mask_ms` is filled with the clip's mean (SpecAugment, Park et al. 2019, arXiv:1904.08779).
    """

    def __init__(self, config: Config, corpus: Corpus, layer: LogMelLayer) -> None:
        self.config, self.layer = config, layer
        self.n_mels, self.n_frames = layer.n_mels, layer.n_frames(N_SAMPLES)
        self.noisy = config.noise_prob > 0 and config.noise_level > 0
        if self.noisy and len(corpus.noise) < N_SAMPLES:
            raise KwsError(
                f"data: {corpus.folder / NOISE_FOLDER} has less than a second of noise; add noise recordings, "
                "or train without noise: --noise_prob=0"
            )
        device, hop, middle = layer.mel_filters.device, layer.hop_length, (self.n_frames - 1) / 2
        self.mask_frames = min(config.time_mask_ms / 1000 * SAMPLE_RATE / hop, self.n_frames)
        self.max_shift = config.shift_ms / 1000 * SAMPLE_RATE / hop  # frames
        speeds = torch.linspace(1 - config.speed_perturb, 1 + config.speed_perturb, SPEEDS)
        self.speeds, self.warps = speeds.to(device), self._band_warps(speeds).to(device)
        self.frames = torch.arange(self.n_frames, device=device)
        self.moving = self.max_shift > 0 or config.speed_perturb > 0
        self.phases = math.ceil(hop / PHASE_SAMPLES) if self.moving else 1
        self.margin = math.ceil(self.max_shift + middle * config.speed_perturb)  # frames of silence around a clip
        self.clip_frames = self.phases * (self.n_frames + 2 * self.margin)
        clips = corpus.training.waveforms
        # The noise recordings' complex spectra are needed at once.
        check_memory(len(clips) * self.clip_frames * self.n_mels + 4 * layer.n_fft * len(corpus.noise) // hop)
        front_end = layer.n_fft, hop, self.n_mels, self.phases, self.margin, device.type
        self.key = (corpus.fingerprint, *corpus.training.clips, *front_end)
        # Clips of _silence_ and _unknown_ may differ although their names are the same.
        shared = SHARED.get(self.key) if config.labels == config.words else None
        self.speech = self._amplitudes(clips) if shared is None else shared
        if self.noisy:
            noise = layer.mel_power(to_float(corpus.noise.to(device))[None], exact=False).sqrt_()
            # Every second of it is a row (n_frames · n_mels,) of a view.
            size = (noise.shape[1] - self.n_frames + 1, self.n_frames * self.n_mels)
            self.noise = noise.as_strided(size, (self.n_mels, 1))
            self.cross_terms = self._cross_terms(min(config.batch_size, len(clips)))

    def _amplitudes(self, clips: Tensor) -> Tensor:
        """Return the mel amplitudes of every frame of every clip with silence around it, (frames, n_mels)."""
        layer, device, hop = self.layer, self.layer.mel_filters.device, self.layer.hop_length
        edge = min(self.margin, math.ceil(layer.n_fft / 2 / hop))  # frames outside the clip that contain parts of it
        size = (len(clips), self.n_frames + 2 * self.margin, self.phases, self.n_mels)
        amplitudes = torch.zeros(size, device=device)
        inner = amplitudes[:, self.margin - edge : size[1] - self.margin + edge]
        for chunk, waveforms in zip(torch.split(inner, CHUNK), torch.split(clips, CHUNK), strict=True):
            samples = to_float(waveforms.to(device))
            for phase in range(self.phases):
                early = phase * hop // self.phases
                padded = torch.nn.functional.pad(samples, (edge * hop - early, edge * hop + early))
                chunk[:, :, phase] = layer.mel_power(padded, exact=False).sqrt_()
        return amplitudes.view(-1, self.n_mels)

    def _band_warps(self, speeds: Tensor) -> Tensor:
        """Return the matrices (speeds, n_mels, n_mels) that move bands by a speed; between bands they interpolate."""
        mel_step = _hz_to_mel(torch.tensor(SAMPLE_RATE / 2)) / (self.n_mels + 1)  # between two bands' centres
        bands = torch.arange(self.n_mels)
        hz = _mel_to_hz((bands + 1) * mel_step)
        source = (_hz_to_mel(hz / speeds[:, None]) / mel_step - 1).clamp(0, self.n_mels - 1)
        return (1 - (bands[:, None] - source[:, None, :]).abs()).clamp_min(0)

    def _cross_terms(self, largest_batch: int) -> Tensor:
        """Return 2 · cos(angle) / sqrt(K) for random angles: bands side by side, for many frames."""
        filters = self.layer.mel_filters
        # The number of bins that a filter averages; a Hann window makes 1.5 neighbours one independent bin. With many
        # bands a filter may cover no bin at all: its power is 0, and so is its cross term. It is a little over 1, so
        # that rounding cannot make the power of the sum negative.
        bins = (filters.sum(0).square() / filters.square().sum(0) / 1.5).nan_to_num(1).clamp_min(1.001)
        frames = CROSS_TERMS + largest_batch * self.n_frames
        generator = torch.Generator().manual_seed(self.config.seed)
        angles = 2 * math.pi * torch.rand(frames, self.n_mels, generator=generator)
        return (2 * angles.cos().to(filters.device) / bins.sqrt()).flatten()

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented log-mels (batch, n_mels, n_frames) of the training clips `rows` (batch,)."""
        config, size = self.config, (len(rows), self.n_frames, self.n_mels)
        # Drawn on the CPU, whatever the device; in one call for all.
        draws = torch.rand(8, len(rows), generator=generator).to(rows.device)
        speed, shift, gain, start, level, noisy, mask, mask_start = draws
        speed_index = (speed * SPEEDS).long()
        # Frames of the stored second that the clip's frames come from, in phases.
        frame = self.speeds[speed_index][:, None] * (self.frames - (self.n_frames - 1) / 2)
        frame += ((2 * shift - 1) * self.max_shift + (self.n_frames - 1) / 2 + self.margin)[:, None]
        frame = frame.mul_(self.phases).round_().long() + rows[:, None] * self.clip_frames
        warps = self.warps[speed_index] * (10 ** ((2 * gain - 1) * config.gain_db / 20))[:, None, None]
        speech = torch.bmm(self.speech.index_select(0, frame.flatten()).view(size), warps)
        if self.noisy:
            noise = self.noise.index_select(0, (start * len(self.noise)).long()).view(size)
            noise *= (level * config.noise_level * (noisy < config.noise_prob))[:, None, None]
            first = self.n_mels * int(torch.randint(CROSS_TERMS, (1,), generator=generator))
            cross_terms = self.cross_terms[first : first + noise.numel()].view(size)
            power = (noise * cross_terms).add_(speech).mul_(speech).addcmul_(noise, noise)
        else:
            power = speech.square_()
        log_mel = self.layer.log(power)
        if self.mask_frames:
            length = mask * self.mask_frames
            begin = mask_start * (self.n_frames - length)
            kept = (self.frames < begin[:, None]) | (self.frames >= (begin + length)[:, None])
            mean = log_mel.mean(dim=(1, 2), keepdim=True)
            log_mel = log_mel.sub_(mean).mul_(kept[:, :, None].float()).add_(mean)  # a third of torch.where's time
        return log_mel.transpose(1, 2)


def check_memory(values: int) -> None:
    """Raise KwsError if features of so many `values` (float32) would take most of the machine's memory."""
    needed, available = values * 4 / 1e9, memory() / 1e9
    if needed > 0.7 * available:
        raise KwsError(
            f"hop_length: the features of the training clips would take {needed:.0f} of {available:.0f} GB of memory; "
            "raise hop_length or lower n_mels"
        )


def _hz_to_mel(hz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hz / 700)


def _mel_to_hz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
