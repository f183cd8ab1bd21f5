"""The costs of a network: parameters, and multiply-accumulates (MACs) per clip. FLOPs are twice the MACs."""

import math
import warnings
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kws import metrics
from kws.data.audio import N_SAMPLES
from kws.metrics import Summary
from kws.model.dynamo import without_dynamo
from kws.model.features import LogMelFilterBanks
from kws.model.network import KeywordModel, KeywordNet


class Layer(NamedTuple):
    """The costs of one layer per clip: a row of layers.csv."""

    name: str
    output_shape: str  # such as 48x101
    params: int
    macs: int


@dataclass(frozen=True)
class Complexity:
    """The costs of a model per clip. `params`, `macs` and `layers` are those of the network without the front end."""

    params: int
    macs: int
    frontend_macs: int
    layers: list[Layer]

    def summary(self) -> Summary:
        return {
            metrics.PARAMS: self.params,
            metrics.MACS: self.macs,
            metrics.FLOPS: 2 * self.macs,
            metrics.FRONTEND_MACS: self.frontend_macs,
        }


def measure(model: KeywordModel) -> Complexity:
    """Return the Complexity of a model for one clip of one second.

    The network's figures are those of ptflops' "aten" backend, which counts the operations that torch executes
    (convolutions and the linear layer; batch norm, pooling and ReLU have no multiply-accumulates). Its "pytorch"
    backend goes by module types and so misses the convolutions of `kws.model`. ptflops never counts torch.stft: the
    front end's figure is `frontend_macs`.
    """
    from ptflops import get_model_complexity_info
    from ptflops.aten_engine import FlopCounterMode

    without_dynamo(FlopCounterMode.__torch_dispatch__)
    network, features = model.network, model.features
    shape = (features.n_mels, features.n_frames(N_SAMPLES))
    training = network.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macs, params = get_model_complexity_info(
            network, shape, as_strings=False, print_per_layer_stat=False, backend="aten"
        )
    layers = _layers(network, shape)
    network.train(training)
    return Complexity(int(params), int(macs), frontend_macs(features, shape[1]), layers)


def frontend_macs(features: LogMelFilterBanks, n_frames: int) -> int:
    """Return the MACs of the log-mel layer for a clip of `n_frames`.

    Per frame: the window (n_fft), a real FFT of n_fft points at the customary 2.5 n log2 n operations, so
    1.25 n log2 n MACs (Frigo and Johnson, FFTW's benchmark convention), and the dense mel product (n_freqs x n_mels).
    """
    n = features.n_fft
    return round(n_frames * (n + 1.25 * n * math.log2(n) + features.n_freqs * features.n_mels))


def _layers(network: KeywordNet, shape: tuple[int, int]) -> list[Layer]:
    """Return the convolutions, batch norms and linear layers, by hooks on one forward pass. Sets evaluation mode."""
    layers: list[Layer] = []

    def add(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        macs = 0
        if isinstance(module, nn.Conv1d):
            macs = module.weight.numel() * output.shape[-1]  # each weight is used once per frame
        elif isinstance(module, nn.Linear):
            macs = module.weight.numel() + module.bias.numel()  # with the bias, as ptflops counts
        params = sum(parameter.numel() for parameter in module.parameters())
        layers.append(Layer(name, "x".join(str(size) for size in output.shape[1:] if size > 1) or "1", params, macs))

    kinds = (nn.Conv1d, nn.BatchNorm1d, nn.Linear)
    modules = [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]
    handles = [module.register_forward_hook(partial(add, name)) for name, module in modules]
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, *shape, device=next(network.parameters()).device))
    for handle in handles:
        handle.remove()
    return layers
