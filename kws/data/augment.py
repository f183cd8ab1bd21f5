"""Changes the log-mels of training clips at random: another speaker, a piece left out."""

from functools import partial

import torch

from kws.data.audio import N_SAMPLES, SAMPLE_RATE


class SpectralAugmentation:
    """Draws changes of log-mels (batch, n_mels, n_frames).

    Speed stretches a log-mel about its middle and moves its bands, as a clip played faster or slower would come out
    (Ko et al., Interspeech 2015, do it to the samples; here it costs next to nothing). A piece of up to `time_mask_ms`
    gives way to the clip's mean (SpecAugment, Park et al. 2019, arXiv:1904.08779).
    """

    def __init__(self, config, layer):
        self.speed = config.speed_perturb
        self.n_mels, self.n_frames = layer.n_mels, layer.n_frames(N_SAMPLES)
        self.mask_frames = config.time_mask_ms / 1000 * SAMPLE_RATE / layer.hop_length
        device = layer.mel_filters.device
        self.frames = torch.arange(self.n_frames, device=device)
        self.bands = torch.arange(self.n_mels, device=device)
        mel_step = _hz_to_mel(torch.tensor(SAMPLE_RATE / 2)) / (self.n_mels + 1)  # between two bands' centres
        self.mel_step = mel_step.to(device)

    def draw(self, batch, generator):
        """Return a function from log-mels to changed ones. All that is random is drawn here, not when it is called."""
        device = self.frames.device
        speed = mask = None
        if self.speed:
            speed = torch.empty(batch).uniform_(1 - self.speed, 1 + self.speed, generator=generator).to(device)
        if self.mask_frames:
            length = torch.rand(batch, generator=generator) * min(self.mask_frames, self.n_frames)
            start = torch.rand(batch, generator=generator) * (self.n_frames - length)
            mask = start.to(device), (start + length).to(device)
        return partial(self._change, speed=speed, mask=mask)

    def _change(self, log_mel, speed, mask):
        if speed is not None:
            log_mel = self._at_speed(log_mel, speed)
        if mask is not None:
            start, end = mask
            masked = (self.frames >= start[:, None]) & (self.frames < end[:, None])
            log_mel = torch.where(masked[:, None], log_mel.mean(dim=(1, 2), keepdim=True), log_mel)
        return log_mel

    def _at_speed(self, log_mel, speed):
        """Each log-mel at its speed, interpolated between frames and bands; beyond its edges the outermost go on."""
        middle = (self.n_frames - 1) / 2
        frames = middle + (self.frames - middle) * speed[:, None]
        hz = _mel_to_hz((self.bands + 1) * self.mel_step)
        bands = _hz_to_mel(hz / speed[:, None]) / self.mel_step - 1
        grid = torch.stack(
            torch.broadcast_tensors(_to_grid(frames, self.n_frames)[:, None], _to_grid(bands, self.n_mels)[:, :, None]),
            dim=-1,
        )
        return torch.nn.functional.grid_sample(
            log_mel[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True
        )[:, 0]


def _to_grid(place, size):
    """Index 0 to size - 1 as grid_sample has it: -1 to 1. A single band lies at 0, and stays there."""
    return place * (2 / (size - 1)) - 1 if size > 1 else torch.zeros_like(place)


def _hz_to_mel(hz):
    return 2595 * torch.log10(1 + hz / 700)


def _mel_to_hz(mel):
    return 700 * (10 ** (mel / 2595) - 1)
