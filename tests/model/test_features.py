"""LogMelFilterBanks against torchaudio's MelSpectrogram: every argument, every kind of signal."""

import itertools

import pytest
import torch

from kws.data.torchaudio_import import torchaudio
from kws.model.features import LogMelFilterBanks

RATE = 16000


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


def chirp():
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    return 0.8 * torch.sin(2 * torch.pi * (50 * time + (7900 - 50) / 2 * time**2))


SIGNALS = {
    "noise": noise(RATE),
    "quiet noise": noise(RATE) * 1e-4,
    "silence": torch.zeros(RATE, dtype=torch.float64),
    "chirp": chirp(),
    "batch": torch.stack([noise(RATE), torch.zeros(RATE, dtype=torch.float64), chirp()]),
    "batch of one": noise(1, RATE),
    "odd length": noise(2, 12345),
}

GRID = {
    "n_fft": (400, 512),
    "hop_length": (160, 100),
    "n_mels": (20, 80),
    "pad_mode": ("reflect", "constant"),
    "power": (2.0, 1.0),
    "normalize_stft": (False, True),
    "center": (True, False),
    "f_range": ((0.0, None), (60.0, 7600.0)),
    "norm_mel": (None, "slaney"),
    "mel_scale": ("htk", "slaney"),
}
BASE = {name: values[0] for name, values in GRID.items()}


def ours(f_range, **arguments):
    low, high = f_range
    return LogMelFilterBanks(samplerate=RATE, f_min_hz=low, f_max_hz=high, **arguments)


def expected(signal, f_range, n_fft, hop_length, n_mels, pad_mode, power, normalize_stft, center, norm_mel, mel_scale):
    low, high = f_range
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate=RATE, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels, pad_mode=pad_mode, power=power,
        normalized=normalize_stft, center=center, f_min=low, f_max=high, norm=norm_mel, mel_scale=mel_scale,
    )  # fmt: skip
    return torch.log(mel.to(signal.dtype)(signal) + 1e-6)


def assert_equal(signal, **arguments):
    got = ours(**arguments).to(signal.dtype)(signal)
    wanted = expected(signal, **arguments)
    assert got.shape == wanted.shape
    assert got.dtype == signal.dtype
    assert torch.allclose(got, wanted), f"{arguments}: differs by {(got - wanted).abs().max():.2e}"


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("n_fft", GRID["n_fft"])
@pytest.mark.parametrize("pad_mode", GRID["pad_mode"])
@pytest.mark.parametrize("center", GRID["center"])
def test_equals_torchaudio_for_all_combinations_of_arguments(n_fft, pad_mode, center):
    fixed = {"n_fft": (n_fft,), "pad_mode": (pad_mode,), "center": (center,)}
    for values in itertools.product(*(GRID | fixed).values()):
        assert_equal(SIGNALS["noise"][:4000], **dict(zip(GRID, values, strict=True)))


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("name", SIGNALS)
def test_equals_torchaudio_on_every_signal_with_each_argument_changed(name, dtype):
    signal = SIGNALS[name].to(dtype)
    assert_equal(signal, **BASE)
    for argument, values in GRID.items():
        assert_equal(signal, **BASE | {argument: values[1]})


@pytest.mark.parametrize("changed", (
    {"n_fft": 399}, {"n_fft": 1024}, {"hop_length": 399}, {"n_mels": 1}, {"n_mels": 40}, {"pad_mode": "replicate"},
    {"pad_mode": "circular"}, {"power": 1.5}, {"normalize_stft": "window"}, {"normalize_stft": "frame_length"},
    {"f_range": (0.0, 4000.0)}, {"f_range": (300.0, None)},
), ids=str)  # fmt: skip
def test_equals_torchaudio_for_further_values(changed):
    for dtype in (torch.float32, torch.float64):
        assert_equal(SIGNALS["batch"].to(dtype), **BASE | changed)


def test_a_waveform_too_short_to_be_reflected_is_an_error_as_in_torchaudio():
    assert_equal(SIGNALS["noise"][:201], **BASE)
    for layer in (LogMelFilterBanks(), torchaudio.transforms.MelSpectrogram(RATE)):
        with pytest.raises(RuntimeError, match="[Pp]adding"):
            layer(torch.zeros(1, 200))


@pytest.mark.parametrize("samplerate", (8000, 11025, 11127, 22050, 44100))
def test_equals_torchaudio_at_other_sample_rates(samplerate):
    layer = LogMelFilterBanks(samplerate=samplerate, n_mels=40)
    mel = torchaudio.transforms.MelSpectrogram(samplerate, n_fft=400, hop_length=160, n_mels=40)
    signal = SIGNALS["batch"].float()
    assert torch.allclose(layer(signal), torch.log(mel(signal) + 1e-6))


def test_onesided_and_return_complex_do_not_change_the_result():
    signal = SIGNALS["batch"].float()
    plain = LogMelFilterBanks()(signal)
    for onesided, return_complex in itertools.product((True, False), repeat=2):
        other = LogMelFilterBanks(onesided=onesided, return_complex=return_complex)(signal)
        assert torch.allclose(other, plain)


def test_the_defaults_are_those_of_the_reference_study():
    layer = LogMelFilterBanks()
    features = layer(torch.zeros(3, RATE))
    assert features.shape == (3, 80, 101)
    assert torch.allclose(features, torch.tensor(1e-6).log().expand_as(features))


@pytest.mark.parametrize("center", (True, False))
@pytest.mark.parametrize("samples", (400, 1600, 15999, 16000))
def test_n_frames_is_the_number_of_frames(center, samples):
    layer = LogMelFilterBanks(center=center, n_mels=20)
    assert layer(torch.zeros(1, samples)).shape[-1] == layer.n_frames(samples)


def test_a_single_clip_gives_the_same_features_as_in_a_batch():
    layer, batch = LogMelFilterBanks(), SIGNALS["batch"].float()
    assert torch.allclose(torch.stack([layer(clip) for clip in batch]), layer(batch))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_the_layer_can_be_exported_scripted_traced_and_transformed(tmp_path):
    layer, batch = LogMelFilterBanks(), noise(3, RATE).float()
    plain = layer(batch)
    any_batch = {"waveform": {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(layer, (batch[:2],), dynamic_shapes=any_batch).module()
    for transformed in (
        exported, torch.jit.script(layer), torch.jit.trace(layer, batch), torch.func.vmap(layer),
        lambda clips: layer(clips[:, None])[:, 0],
    ):  # fmt: skip
        assert torch.allclose(transformed(batch), plain)
    assert exported(torch.cat([batch] * 5)).shape[0] == 15
    per_clip = torch.func.vmap(torch.func.grad(lambda clip: layer(clip).sum()))(batch)
    batch.requires_grad_()
    layer(batch).sum().backward()
    assert torch.allclose(per_clip, batch.grad, rtol=1e-3, atol=1e-3)


def test_buffers_move_with_the_layer_and_are_not_in_the_state_dict():
    layer = LogMelFilterBanks().double()
    assert {name for name, _ in layer.named_buffers()} == {"hann_window", "mel_filters"}
    assert all(buffer.dtype == torch.float64 for buffer in layer.buffers())
    assert layer.state_dict() == {}
    assert list(layer.parameters()) == []
    assert all(buffer.device.type == "meta" for buffer in layer.to("meta").buffers())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", SIGNALS)
def test_on_cuda_it_equals_torchaudio_on_the_cpu(name):
    signal = SIGNALS[name].float()
    for argument, values in GRID.items():
        arguments = BASE | {argument: values[1]}
        assert torch.allclose(
            ours(**arguments).cuda()(signal.cuda()).cpu(), expected(signal, **arguments), rtol=1e-4, atol=1e-4
        )


def test_gradients_with_respect_to_the_waveform_are_correct():
    layer = LogMelFilterBanks(n_fft=32, hop_length=16, n_mels=4).double()
    signal = noise(2, 64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (signal,))


def test_gradients_stay_finite_in_silence():
    signal = torch.zeros(1, RATE, requires_grad=True)
    LogMelFilterBanks()(signal).sum().backward()
    assert torch.isfinite(signal.grad).all()


@pytest.mark.parametrize("wrong", (
    {"n_fft": 0}, {"hop_length": 0}, {"n_mels": 0}, {"samplerate": 0}, {"power": None}, {"power": 0.0}, {"power": -1.0},
    {"f_min_hz": 8000.0}, {"f_min_hz": -1.0}, {"f_max_hz": 10.0, "f_min_hz": 20.0}, {"mel_scale": "bark"},
    {"norm_mel": "l2"}, {"normalize_stft": "frame_lenght"}, {"normalize_stft": None}, {"pad_mode": "reflected"},
), ids=str)  # fmt: skip
def test_invalid_arguments_are_rejected(wrong):
    with pytest.raises(ValueError):
        LogMelFilterBanks(**wrong)
