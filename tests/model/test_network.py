"""The structure of the network, and its costs: parameters, MACs and FLOPs against hand calculations."""

import math

import pytest
import torch
from torch import nn

from kws.config import resolve
from kws.errors import KwsError
from kws.model import complexity
from kws.model.network import MAX_PARAMETERS, KeywordNet, build

FRAMES = (101, 50, 25, 12)  # of a second at a hop of 160 samples, halved by each block


def model(**settings):
    return build(resolve(("test", settings)))


def plain_network(n_mels, channels, kernel_size, groups):
    """Return the network of the reference study, made of torch's own layers."""
    layers, width = [], n_mels
    for block in range(4):
        layers += [
            nn.Conv1d(
                width, channels, kernel_size, padding=kernel_size // 2, groups=groups if block else 1, bias=False
            ),
            nn.MaxPool1d(2),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
        ]
        width = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 1))


@pytest.mark.parametrize("groups", (1, 2, 4, 8, 16))
@pytest.mark.parametrize("training", (True, False))
def test_the_network_equals_four_plain_blocks_and_a_linear_layer(groups, training):
    torch.manual_seed(0)
    ours, plain = KeywordNet(20, 32, 5, groups), plain_network(20, 32, 5, groups)
    weights = list(ours.state_dict().values())
    plain.load_state_dict(dict(zip(plain.state_dict(), weights, strict=True)))
    assert sum(isinstance(module, nn.Conv1d) for module in ours.modules()) == 4
    features = torch.randn(6, 20, 101)
    ours.train(training), plain.train(training)
    logits, wanted = ours(features), plain(features).squeeze(1)
    assert logits.shape == (6,)
    assert torch.allclose(logits, wanted, atol=1e-5)
    logits.sum().backward(), wanted.sum().backward()
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(parameter.grad, other.grad, atol=1e-4), name
    for buffer, other in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(buffer, other, atol=1e-5)


def test_the_model_maps_waveforms_to_logits():
    whole = model(channels=8).eval()
    waveforms = torch.rand(3, 16000) * 2 - 1
    assert whole(waveforms).shape == (3,)
    assert torch.allclose(whole(waveforms)[1:2], whole(waveforms[1:2]), atol=1e-6)
    assert torch.isfinite(whole(torch.zeros(2, 16000))).all()


def test_the_weights_depend_on_the_seed_alone():
    first, again, other = (model(channels=8, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.blocks.0.conv.weight"], other["network.blocks.0.conv.weight"])


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize(
    "settings", ({"hop_length": 1000, "n_fft": 2048}, {"hop_length": 1}, {"n_fft": 16, "hop_length": 16})
)
def test_extreme_settings_still_give_a_network(settings):
    whole = model(channels=4, **settings)
    assert torch.isfinite(whole(torch.rand(2, 16000))).all()  # training mode: batch norm needs two values per channel


@pytest.mark.parametrize("n_mels", (20, 40, 80))
@pytest.mark.parametrize("groups", (1, 2, 4, 8, 16))
@pytest.mark.parametrize("channels,kernel_size", ((64, 5), (48, 3)))
def test_costs_agree_with_hand_formulas(n_mels, groups, channels, kernel_size):
    costs = complexity.measure(model(n_mels=n_mels, groups=groups, channels=channels, kernel_size=kernel_size))
    first = n_mels * channels * kernel_size  # weights; the first convolution is dense
    other = channels * (channels // groups) * kernel_size
    norm = 2 * channels
    assert costs.params == first + 3 * other + 4 * norm + channels + 1
    macs = [first * FRAMES[0], *(other * frames for frames in FRAMES[1:]), channels + 1]
    assert costs.macs == sum(macs)
    assert costs.summary()["model/flops"] == 2 * sum(macs)
    # The table of layers adds up to the same.
    assert sum(row[2] for row in costs.layers) == costs.params
    assert [row[3] for row in costs.layers if row[3]] == macs
    frame = 400 + 1.25 * 400 * math.log2(400) + 201 * n_mels  # window, FFT, mel product
    assert costs.frontend_macs == round(101 * frame)


def test_mean_norm_removes_loudness_or_the_mean_of_each_band():
    features = torch.randn(3, 20, 101)
    louder, colored = features + 2.5, features + torch.randn(3, 20, 1)
    for mean_norm, ignores_loudness, ignores_coloration in (
        ("none", False, False), ("clip", True, False), ("band", True, True),
    ):  # fmt: skip
        net = KeywordNet(mean_norm=mean_norm).eval()
        assert torch.allclose(net(features), net(louder), atol=1e-5) == ignores_loudness
        assert torch.allclose(net(features), net(colored), atol=1e-5) == ignores_coloration


def test_costs_of_the_default_network():
    # 20 x 48 x 5 = 4,800; 48 x 48 x 5 = 11,520; 4 batch norms of 96; 49 in the linear layer
    costs = complexity.measure(model())
    assert costs.params == 4_800 + 3 * 11_520 + 4 * 96 + 49 == 39_793
    assert costs.macs == 101 * 4_800 + (50 + 25 + 12) * 11_520 + 49 == 1_487_089
    assert costs.summary() == {
        "model/params": 39_793, "model/macs": 1_487_089, "model/flops": 2_974_178, "frontend/macs": 882_935,
    }  # fmt: skip
    assert costs.layers[0] == ("blocks.0.conv", "48x101", 4_800, 484_800)
    assert costs.layers[-1] == ("linear", "1", 49, 49)
    assert len(costs.layers) == 9


def test_flops_fall_with_groups():
    flops = [complexity.measure(model(groups=groups)).summary()["model/flops"] for groups in (1, 2, 4, 8, 16)]
    assert flops == sorted(flops, reverse=True) and len(set(flops)) == 5


def test_measuring_does_not_change_the_model():
    whole = model(channels=8).train()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    complexity.measure(whole)
    assert whole.network.training
    assert all(torch.equal(before[name], value) for name, value in whole.state_dict().items())


def test_more_than_100000_parameters_are_rejected():
    with pytest.raises(KwsError) as caught:
        model(channels=96)
    assert str(caught.value) == (
        "channels: the network would have 148,705 parameters, at most 100,000 are allowed; "
        "lower channels, kernel_size or n_mels, or raise groups"
    )
    assert sum(parameter.numel() for parameter in model(channels=96, groups=2).parameters()) <= MAX_PARAMETERS


def test_a_network_just_within_the_limit_is_accepted():
    # 1 mel band, kernel 1: c + 3 c^2 + 8 c + c + 1 parameters; 180 channels make 99,001, 181 make 100,094
    assert sum(parameter.numel() for parameter in KeywordNet(1, 180, 1).parameters()) == 99_001
    with pytest.raises(KwsError, match="100,094"):
        KeywordNet(1, 181, 1)
