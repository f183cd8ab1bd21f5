"""The network: log-mel filter banks, four blocks of convolution over time, one linear layer."""

import torch
from torch import nn

from kws.audio import LogMelFilterBanks
from kws.errors import KwsError
from kws.speech_commands import SAMPLE_RATE

MAX_PARAMETERS = 100_000
N_BLOCKS = 4


class Block(nn.Module):
    """Conv1d, BatchNorm1d, pooling over pairs of frames, ReLU: (batch, in, frames) to (batch, out, frames // 2)."""

    def __init__(self, in_channels, out_channels, kernel_size, groups=1):
        super().__init__()
        # The batch norm has a shift of its own, so the convolution needs no bias.
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm1d(out_channels)
        self.pool = nn.MaxPool1d(2)
        self.relu = nn.ReLU()

    def forward(self, features):
        # Pooling first halves what ReLU works on; both are monotone, so the result is the same.
        return self.relu(self.pool(self.norm(self.conv(features))))


class KeywordNet(nn.Module):
    """Four blocks and a linear layer: log-mel features (batch, n_mels, n_frames) to logits (batch,).

    The first convolution sees n_mels channels and is dense; the other three take `groups`, which must divide
    `channels`. Raises KwsError above 100,000 parameters.
    """

    def __init__(self, n_mels=20, channels=64, kernel_size=5, groups=1):
        super().__init__()
        self.blocks = nn.Sequential(
            Block(n_mels, channels, kernel_size),
            *(Block(channels, channels, kernel_size, groups) for _ in range(N_BLOCKS - 1)),
        )
        self.average = nn.AdaptiveAvgPool1d(1)
        self.linear = nn.Linear(channels, 1)
        parameters = sum(parameter.numel() for parameter in self.parameters())
        if parameters > MAX_PARAMETERS:
            raise KwsError(
                f"channels: the network would have {parameters:,} parameters, at most {MAX_PARAMETERS:,} are allowed; "
                "lower channels, kernel_size or n_mels, or raise groups"
            )

    def forward(self, features):
        return self.linear(self.average(self.blocks(features)).flatten(1)).squeeze(1)


class KeywordModel(nn.Module):
    """The whole model: waveforms (batch, 16000) in [-1, 1] to logits (batch,) of the second word."""

    def __init__(self, config):
        super().__init__()
        self.features = LogMelFilterBanks(
            n_fft=config.n_fft, samplerate=SAMPLE_RATE, hop_length=config.hop_length, n_mels=config.n_mels
        )
        self.network = KeywordNet(config.n_mels, config.channels, config.kernel_size, config.groups)

    def forward(self, waveform):
        return self.network(self.features(waveform))


def build(config):
    """Return a KeywordModel with weights drawn from the seed; the global random state of torch starts there."""
    torch.manual_seed(config.seed)
    return KeywordModel(config)
