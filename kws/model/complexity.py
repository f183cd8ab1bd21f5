"""What a network costs: parameters, and multiply-accumulates (MACs) per clip. FLOPs are twice the MACs."""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import nn

from kws import metrics
from kws.data.audio import N_SAMPLES
from kws.model.dynamo import without_dynamo


@dataclass(frozen=True)
class Complexity:
    """Costs of one clip. `layers` are rows (name, output shape, params, macs) of the network's layers."""

    params: int
    macs: int
    frontend_macs: int
    layers: list

    def summary(self):
        return {
            metrics.PARAMS: self.params,
            metrics.MACS: self.macs,
            metrics.FLOPS: 2 * self.macs,
            metrics.FRONTEND_MACS: self.frontend_macs,
        }


LAYERS_HEADER = ("layer", "output_shape", "params", "macs")


def measure(model):
    """Return the Complexity of a KeywordModel for one clip of a second.

    The network's figures are ptflops', from the operations that torch executes (its "aten" backend: convolutions and
    the linear layer; batch norm, pooling and ReLU are not multiply-accumulates). Its "pytorch" backend goes by the
    types of modules and so misses the convolutions of `kws.model`. The front end's follow `frontend_macs`, since
    ptflops never counts torch.stft.
    """
    from ptflops import get_model_complexity_info
    from ptflops.aten_engine import FlopCounterMode

    without_dynamo(FlopCounterMode.__torch_dispatch__)
    features = model.features
    shape = (features.n_mels, features.n_frames(N_SAMPLES))
    network, training = model.network, model.network.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macs, params = get_model_complexity_info(
            network, shape, as_strings=False, print_per_layer_stat=False, backend="aten"
        )
    layers = _layers(network, shape)
    network.train(training)
    return Complexity(int(params), int(macs), frontend_macs(features, shape[1]), layers)


def frontend_macs(features, n_frames):
    """Return the MACs of the log-mel layer for a clip of `n_frames`.

    Per frame: the window (n_fft), a real FFT of n_fft points at the customary 2.5 n log2 n operations, so
    1.25 n log2 n MACs (Frigo and Johnson, FFTW's benchmark convention), and the dense mel product (n_freqs x n_mels).
    """
    n = features.n_fft
    return round(n_frames * (n + 1.25 * n * math.log2(n) + features.n_freqs * features.n_mels))


def _layers(network, shape):
    """Return a row per convolution, batch norm and linear layer, by hooks on one forward pass of one clip."""
    rows, handles = [], []

    def add(name):
        def hook(module, inputs, output):
            macs = 0
            if isinstance(module, nn.Conv1d):
                macs = module.weight.numel() * output.shape[-1]  # every weight meets every frame once
            elif isinstance(module, nn.Linear):
                macs = module.weight.numel() + module.bias.numel()  # with the bias, as ptflops counts
            params = sum(parameter.numel() for parameter in module.parameters())
            shape = "x".join(str(size) for size in output.shape[1:] if size > 1) or "1"
            rows.append((name, shape, params, macs))

        return hook

    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv1d, nn.BatchNorm1d, nn.Linear)):
            handles.append(module.register_forward_hook(add(name)))
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, *shape, device=next(network.parameters()).device))
    for handle in handles:
        handle.remove()
    return rows
