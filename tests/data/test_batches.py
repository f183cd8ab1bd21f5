"""Training batches: every clip once, in a seeded order; shift, gain and noise within their settings."""

from pathlib import Path

import pytest
import torch

from kws.config import resolve
from kws.data.audio import to_float
from kws.data.batches import TrainingBatches, epoch_generator
from kws.data.corpus import Corpus, Split, load
from kws.errors import KwsError
from kws.model.features import LogMelFilterBanks

LAYER = LogMelFilterBanks(n_mels=20)
QUIET = {"shift_ms": 0, "noise_prob": 0, "gain_db": 0, "speed_perturb": 0, "time_mask_ms": 0}
MIDDLE = 50  # the frame of an impulse in the middle of a clip
SILENCE = LAYER.log(torch.zeros(1)).item()


def config(**settings):
    return resolve(("test", settings))


def corpus(clips=64, noise=None):
    """A corpus whose training clip i is one sample of height 1000 + i in its middle."""
    waveforms = torch.zeros(clips, 16000, dtype=torch.int16)
    waveforms[:, 8000] = 1000 + torch.arange(clips, dtype=torch.int16)
    labels = (torch.arange(clips) % 2).float()
    split = Split(waveforms, labels, [f"no/{n:08x}_nohash_0.wav" for n in range(clips)])
    return Corpus(split, split, split, white_noise() if noise is None else noise, "fingerprint", Path("nowhere"))


def white_noise(samples=32000):
    return (3000 * torch.randn(samples, generator=torch.Generator().manual_seed(0))).to(torch.int16)


def epoch(number=1, of=None, **settings):
    """One epoch as (log-mels, labels) of all batches."""
    batches = TrainingBatches(config(**settings), of or corpus(), LAYER)
    log_mels, labels = zip(*batches.epoch(epoch_generator(settings.get("seed", 0), number)), strict=True)
    return torch.cat(log_mels), torch.cat(labels)


def order(log_mels, clips=64):
    """The clips' numbers, from the height of their impulse."""
    heights = LAYER(to_float(corpus(clips).training.waveforms)).amax(dim=(1, 2))
    return (log_mels.amax(dim=(1, 2))[:, None] - heights).abs().argmin(dim=1).tolist()


def test_an_epoch_has_every_clip_once_with_its_label():
    log_mels, labels = epoch(augment=False, batch_size=7)
    assert sorted(order(log_mels)) == list(range(64))
    assert labels.tolist() == [n % 2 for n in order(log_mels)]


@pytest.mark.parametrize("settings", ({"augment": False}, QUIET), ids=("off", "all zero"))
def test_without_augmentation_the_features_are_the_layers(settings):
    log_mels, _ = epoch(**settings)
    expected = LAYER(to_float(corpus().training.waveforms))[order(log_mels)]
    assert torch.equal(log_mels, expected) if "augment" in settings else torch.allclose(log_mels, expected)


@pytest.mark.parametrize("batch_size,sizes", ((64, [64]), (100, [64]), (10, [10] * 6 + [4]), (63, [63, 1])))
def test_batches_have_the_configured_size_and_the_last_one_the_rest(batch_size, sizes):
    batches = TrainingBatches(config(batch_size=batch_size), corpus(), LAYER)
    assert [len(labels) for _, labels in batches.epoch(epoch_generator(0, 1))] == sizes
    assert len(batches) == len(sizes)


def test_the_order_depends_on_seed_and_epoch():
    orders = {
        (seed, number): tuple(order(epoch(number, augment=False, seed=seed)[0])) for seed in (0, 1) for number in (1, 2)
    }
    assert len(set(orders.values())) == 4
    assert orders[1, 2] == tuple(order(epoch(2, augment=False, seed=1)[0]))


def test_no_two_epochs_of_any_seeds_share_a_generator():
    # the longest run and neighbouring seeds: 10,000 epochs and seeds up to 2**31 - 1
    seeds = {epoch_generator(seed, number).initial_seed() for seed in (0, 1, 2, 2**31 - 1) for number in (1, 2, 10_000)}
    assert len(seeds) == 12


def test_augmentation_is_reproducible_by_seed():
    first, again, other = epoch(3)[0], epoch(3)[0], epoch(3, seed=1)[0]
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_shift_stays_within_its_bounds_and_fills_with_silence():
    log_mels, _ = epoch(of=corpus(2000), **QUIET | {"shift_ms": 100})
    peaks = log_mels.mean(dim=1).argmax(dim=1)
    assert peaks.min() == MIDDLE - 10 and peaks.max() == MIDDLE + 10  # frames of 10 ms, both ends reached
    assert ((log_mels > SILENCE).any(dim=1).sum(dim=1) <= 3).all()  # the impulse, and no copy of it


def test_a_clip_shifted_by_a_second_is_silence_not_its_other_end():
    loud = corpus(500)
    loud.training.waveforms[:] = white_noise(16000)
    log_mels, _ = epoch(of=loud, **QUIET | {"shift_ms": 1000})
    sounding = (log_mels > SILENCE).all(dim=1)
    changes = (sounding[:, 1:] != sounding[:, :-1]).sum(dim=1)
    assert (changes <= 1).all() and sounding.float().mean(dim=1).min() < 0.1


def test_a_gain_is_that_of_the_waveform():
    log_mels, _ = epoch(of=corpus(4000), seed=1, **QUIET | {"gain_db": 6})
    still, _ = epoch(of=corpus(4000), seed=1, **QUIET)
    peaks = (log_mels.exp() - 1e-6).amax(dim=(1, 2)) / (still.exp() - 1e-6).amax(dim=(1, 2))
    decibels = 10 * torch.log10(peaks)
    assert -6.01 < decibels.min() < -5.8 and 5.8 < decibels.max() < 6.01


def test_noise_is_added_to_its_share_of_the_clips_and_below_its_level():
    log_mels, _ = epoch(of=corpus(4000), **QUIET | {"noise_prob": 0.25, "noise_level": 0.2})
    noise = log_mels[:, :, 5:40]  # where the clip itself is silent
    assert 0.22 < (noise > SILENCE + 1e-3).any(dim=1).any(dim=1).float().mean() < 0.28
    loudest = LAYER(0.2 * to_float(white_noise())[None]).max()
    assert loudest - 0.5 < noise.max() <= loudest + 1e-3


def test_noise_is_a_second_from_anywhere_in_the_recordings():
    click = torch.zeros(48000, dtype=torch.int16)
    click[24000] = 30000
    log_mels, _ = epoch(of=corpus(3000, click), **QUIET | {"noise_prob": 1, "noise_level": 1})
    spectra = log_mels.clone()
    spectra[:, :, MIDDLE - 2 : MIDDLE + 3] = SILENCE  # the clip's own impulse
    places = spectra.mean(dim=1).argmax(dim=1)[(spectra > SILENCE + 1).any(dim=1).any(dim=1)]
    assert places.min() == 0 and places.max() == 100
    assert 0.4 < len(places) / 3000 < 0.6  # a second out of three, less where the level is low


def test_added_powers_vary_as_added_waveforms_do():
    """The random cross term gives speech in noise the mean and the spread in time of the sum of the waveforms."""
    loud = corpus(256)
    generator = torch.Generator().manual_seed(1)
    loud.training.waveforms[:] = (300 * torch.randn(256, 16000, generator=generator)).to(torch.int16)
    log_mels, _ = epoch(of=loud, **QUIET | {"noise_prob": 1, "noise_level": 0.2})
    level = 0.2 * torch.rand(256, 1, generator=generator)
    start = torch.randint(16000, (256,), generator=generator).tolist()
    noise = torch.stack([to_float(white_noise()[first : first + 16000]) for first in start])
    waveforms = LAYER(to_float(loud.training.waveforms) + level * noise)
    for augmented, real in zip(log_mels.unbind(1), waveforms.unbind(1), strict=True):  # in every band
        assert augmented.mean() == pytest.approx(real.mean().item(), abs=0.1)
        assert augmented.diff(dim=1).std() == pytest.approx(real.diff(dim=1).std().item(), rel=0.05)


def test_a_share_or_level_of_zero_needs_no_noise_recording():
    for settings in ({"noise_prob": 0}, {"noise_level": 0}, {"augment": False}):
        epoch(of=corpus(noise=torch.zeros(0, dtype=torch.int16)), **settings)


def test_noise_without_recordings_is_an_error_with_a_fix():
    with pytest.raises(KwsError) as caught:
        TrainingBatches(config(), corpus(noise=torch.zeros(15999, dtype=torch.int16)), LAYER)
    assert str(caught.value) == (
        "data: nowhere/_background_noise_ has less than a second of noise; add noise recordings, "
        "or train without noise: --noise_prob=0"
    )


@pytest.mark.parametrize("augment", (True, False))
def test_features_larger_than_memory_are_an_error_with_a_fix(augment):
    many = corpus(1)
    many.training.waveforms = many.training.waveforms.expand(1_000_000, 16000)
    many.training.labels = many.training.labels.expand(1_000_000)
    layer = LogMelFilterBanks(n_mels=80, hop_length=1)
    with pytest.raises(KwsError, match="hop_length: the features of the training clips would take .* of .* GB"):
        TrainingBatches(config(augment=augment, hop_length=1, n_mels=80), many, layer)


def test_augmentation_does_not_change_the_corpus(data_dir):
    loaded = load(data_dir)
    before = [loaded.training.waveforms.clone(), loaded.validation.waveforms.clone(), loaded.noise.clone()]
    batches = TrainingBatches(config(), loaded, LAYER)
    shapes = {(*log_mels.shape[1:], log_mels.dtype) for log_mels, _ in batches.epoch(epoch_generator(0, 1))}
    assert shapes == {(20, 101, torch.float32)}
    after = [loaded.training.waveforms, loaded.validation.waveforms, loaded.noise]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_int16_becomes_floats_in_minus_one_to_one():
    assert to_float(torch.tensor([-32768, 0, 16384], dtype=torch.int16)).tolist() == [-1.0, 0.0, 0.5]


@pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values")
def test_a_mel_filter_that_covers_no_bin_leaves_the_features_finite():
    layer = LogMelFilterBanks(n_mels=128)
    assert (layer.mel_filters.sum(0) == 0).any()
    batches = TrainingBatches(config(n_mels=128, noise_prob=1), corpus(), layer)
    assert all(log_mels.isfinite().all() for log_mels, _ in batches.epoch(epoch_generator(0, 1)))
