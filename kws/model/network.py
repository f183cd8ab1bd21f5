"""The network: log-mel filter banks, four blocks of convolution over time, one linear layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kws.config import Config
from kws.data.audio import SAMPLE_RATE
from kws.errors import KwsError
from kws.model.features import LogMelFilterBanks

MAX_PARAMETERS = 100_000
N_BLOCKS = 4


class Conv1dAsConv2d(nn.Conv1d):
    """Conv1d on (batch, channels, 1, frames), computed as a convolution of height one.

    torch has channels-last kernels for two dimensions only; on a CPU they take half the time of those for one.
    """

    def forward(self, features: Tensor) -> Tensor:
        padding = (0, int(self.padding[0]))
        return F.conv2d(features, self.weight.unsqueeze(2), self.bias, padding=padding, groups=self.groups)


class BatchNorm1dAsBatchNorm2d(nn.BatchNorm1d):
    """BatchNorm1d on (batch, channels, 1, frames)."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:
            raise ValueError(f"expected (batch, channels, 1, frames), got {tuple(input.shape)}")


class Block(nn.Module):
    """Conv1d, max over pairs of frames, BatchNorm1d, ReLU: (batch, in, 1, frames) to (batch, out, 1, frames // 2)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int = 1) -> None:
        super().__init__()
        # No bias in the convolution: the batch norm has its own shift.
        self.conv = Conv1dAsConv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.norm = BatchNorm1dAsBatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        # Pooling first halves the work of normalisation and ReLU.
        return F.relu(self.norm(F.max_pool2d(self.conv(features), (1, 2))))


class KeywordNet(nn.Module):
    """Four blocks and a linear layer: log-mel features (batch, n_mels, n_frames) to logits.

    Logits are (batch,), of label 1, for two labels, else (batch, labels): see `label_probabilities`.

    The first convolution has n_mels input channels and is dense; the other three take `groups`, which must divide
    `channels`. `mean_norm` is the feature normalisation: "none", "clip" (subtract the mean of the clip) or "band"
    (subtract the mean of each band). Raises KwsError above 100,000 parameters.
    """

    def __init__(
        self,
        n_mels: int = 20,
        channels: int = 48,
        kernel_size: int = 5,
        groups: int = 1,
        mean_norm: str = "none",
        labels: int = 2,
    ) -> None:
        super().__init__()
        # A clip's mean over bands and frames is its loudness; the mean of a band is voice and microphone coloration.
        self.mean_over = {"none": None, "clip": (1, 2), "band": (2,)}[mean_norm]
        self.blocks = nn.Sequential(
            Block(n_mels, channels, kernel_size),
            *(Block(channels, channels, kernel_size, groups) for _ in range(N_BLOCKS - 1)),
        )
        self.linear = nn.Linear(channels, labels if labels > 2 else 1)
        parameters = sum(parameter.numel() for parameter in self.parameters())
        if parameters > MAX_PARAMETERS:
            raise KwsError(
                f"channels: the network would have {parameters:,} parameters, at most {MAX_PARAMETERS:,} are allowed; "
                "lower channels, kernel_size or n_mels, or raise groups"
            )

    def forward(self, features: Tensor) -> Tensor:
        if self.mean_over is not None:
            features = features - features.mean(dim=self.mean_over, keepdim=True)
        images = features.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.linear(self.blocks(images).mean(dim=(2, 3)))
        return logits.squeeze(1) if logits.shape[1] == 1 else logits


def label_probabilities(logits: Tensor) -> Tensor:
    """Return the probabilities (batch, labels), float64, of a network's logits (batch,) or (batch, labels)."""
    logits = logits.double()
    if logits.dim() > 1:
        return logits.softmax(1)
    positive = torch.sigmoid(logits)
    return torch.stack((1 - positive, positive), dim=1)


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss: binary cross-entropy of logits (batch,), cross-entropy of logits (batch, labels)."""
    if logits.dim() > 1:
        return F.cross_entropy(logits, labels.long())
    return F.binary_cross_entropy_with_logits(logits, labels)


def is_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether each clip's most probable label is `labels` (batch,)."""
    return logits.argmax(1) == labels if logits.dim() > 1 else (logits > 0) == (labels > 0.5)


class KeywordModel(nn.Module):
    """The whole model: waveforms (batch, 16000) in [-1, 1] to the logits of KeywordNet."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.features = LogMelFilterBanks(
            n_fft=config.n_fft, samplerate=SAMPLE_RATE, hop_length=config.hop_length, n_mels=config.n_mels
        )
        self.network = KeywordNet(
            config.n_mels, config.channels, config.kernel_size, config.groups, config.mean_norm, len(config.labels)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        logits: Tensor = self.network(self.features(waveform))
        return logits


def build(config: Config) -> KeywordModel:
    """Return a KeywordModel with weights drawn from the seed. Sets torch's global random state to the seed."""
    torch.manual_seed(config.seed)
    return KeywordModel(config)
