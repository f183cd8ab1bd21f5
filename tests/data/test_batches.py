"""Training batches: a seeded order, waveform augmentation within its settings, prefetched features."""

import threading
import time
from pathlib import Path

import pytest
import torch

from kws.config import resolve
from kws.data.audio import to_float
from kws.data.augment import Augmentation
from kws.data.batches import PREFETCHED, TrainingBatches, epoch_generator, with_features
from kws.data.corpus import MARGIN, Corpus, Split, load
from kws.errors import KwsError
from kws.model.features import LogMelFilterBanks

CPU = torch.device("cpu")
LAYER = LogMelFilterBanks(n_mels=20)
QUIET = {"shift_ms": 0, "noise_prob": 0, "gain_db": 0, "speed_perturb": 0, "time_mask_ms": 0}


def config(**settings):
    return resolve(("test", settings))


def corpus(clips=64, noise=None):
    """A corpus whose training clip i is one sample of height 1000 + i at its middle."""
    padded = torch.zeros(clips, MARGIN + 16000 + MARGIN, dtype=torch.int16)
    padded[:, MARGIN + 8000] = 1000 + torch.arange(clips, dtype=torch.int16)
    labels = (torch.arange(clips) % 2).float()
    split = Split(padded, labels, [f"no/{n:08x}_nohash_0.wav" for n in range(clips)])
    noise = torch.full((20000,), 16384, dtype=torch.int16) if noise is None else noise
    return Corpus(split, split, split, noise, "fingerprint", Path("nowhere"))


def epoch(number=1, clips=64, noise=None, **settings):
    """One epoch as (waveforms, labels) of all batches."""
    batches = TrainingBatches(config(**settings), corpus(clips, noise), LAYER)
    drawn = batches.epoch(epoch_generator(settings.get("seed", 0), number))
    waveforms, _, labels = zip(*drawn, strict=True)
    return torch.cat(waveforms), torch.cat(labels)


def order(waveforms):
    return (waveforms.max(dim=1).values * 32768 - 1000).round().int().tolist()


def test_an_epoch_has_every_clip_once_with_its_label():
    waveforms, labels = epoch(augment=False, batch_size=7)
    assert sorted(order(waveforms)) == list(range(64))
    assert labels.tolist() == [n % 2 for n in order(waveforms)]


def test_without_augmentation_the_clips_are_unchanged():
    waveforms, _ = epoch(augment=False)
    assert torch.equal(waveforms, to_float(corpus().training.waveforms)[order(waveforms)])


@pytest.mark.parametrize("batch_size,sizes", ((64, [64]), (100, [64]), (10, [10] * 6 + [4]), (63, [63, 1])))
def test_batches_have_the_configured_size_and_the_last_one_the_rest(batch_size, sizes):
    batches = TrainingBatches(config(batch_size=batch_size), corpus(), LAYER)
    assert [len(labels) for _, _, labels in batches.epoch(epoch_generator(0, 1))] == sizes
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


def test_the_shift_stays_within_its_bounds_and_fills_with_zeros():
    waveforms, _ = epoch(clips=2000, **QUIET | {"shift_ms": 10})
    places = waveforms.argmax(dim=1) - 8000
    assert places.min() == -160 and places.max() == 160  # 10 ms at 16 kHz, both ends reached
    assert ((waveforms != 0).sum(dim=1) == 1).all()


def test_a_clip_shifted_by_a_second_is_silence_not_its_other_end():
    loud = corpus(500)
    loud.training.waveforms[:] = 1000
    batches = TrainingBatches(config(**QUIET | {"shift_ms": 1000}), loud, LAYER)
    for waveforms, _, _ in batches.epoch(epoch_generator(0, 1)):
        kept = waveforms != 0
        edges = (kept[:, 1:] != kept[:, :-1]).sum(dim=1)
        assert (edges <= 1).all()  # one run of signal at one side: nothing wrapped around


def test_the_gain_stays_within_its_bounds():
    waveforms, _ = epoch(clips=4000, **QUIET | {"gain_db": 6})
    plain = corpus(4000).training.waveforms[:, 8000]
    # the order is not known from the heights here: compare with the same epoch without gain
    still, _ = epoch(clips=4000, **QUIET | {"gain_db": 0})
    decibels = 20 * torch.log10(waveforms.amax(dim=1) / still.amax(dim=1))
    assert sorted((still.amax(dim=1) * 32768).int().tolist()) == sorted(plain.int().tolist())
    assert -6.01 < decibels.min() < -5.8 and 5.8 < decibels.max() < 6.01


def test_noise_is_added_to_its_share_of_the_clips_and_below_its_level():
    waveforms, _ = epoch(clips=4000, **QUIET | {"noise_prob": 0.25, "noise_level": 0.2})
    noise = waveforms[:, 0]  # where the clip itself is silent; the recording is 0.5 throughout
    assert 0.22 < (noise > 0).float().mean() < 0.28
    assert 0.09 < noise.max() <= 0.5 * 0.2 and noise.min() >= 0


def test_noise_is_a_second_from_anywhere_in_the_recordings():
    ramp = torch.arange(20000, dtype=torch.int16)
    waveforms, _ = epoch(clips=3000, noise=ramp, **QUIET | {"noise_prob": 1, "noise_level": 1})
    step = waveforms[:, 1] - waveforms[:, 0]  # the level
    start = (waveforms[:, 0] / step)[step > 1e-6].round()
    assert start.min() < 40 and start.max() > 3960


def test_a_share_or_level_of_zero_needs_no_noise_recording():
    for settings in ({"noise_prob": 0}, {"noise_level": 0}, {"augment": False}):
        epoch(noise=torch.zeros(0, dtype=torch.int16), **settings)


def test_noise_without_recordings_is_an_error_with_a_fix():
    with pytest.raises(KwsError) as caught:
        TrainingBatches(config(), corpus(noise=torch.zeros(15999, dtype=torch.int16)), LAYER)
    assert str(caught.value) == (
        "data: nowhere/_background_noise_ has less than a second of noise; add noise recordings, "
        "or train without noise: --noise_prob=0"
    )


def test_augmentation_does_not_change_the_corpus(data_dir):
    loaded = load(data_dir)
    before = [loaded.training.waveforms.clone(), loaded.validation.waveforms.clone(), loaded.noise.clone()]
    batches = TrainingBatches(config(), loaded, LAYER)
    shapes = {(waveforms.shape[1], waveforms.dtype) for waveforms, _, _ in batches.epoch(epoch_generator(0, 1))}
    assert shapes == {(16000, torch.float32)}
    after = [loaded.training.waveforms, loaded.validation.waveforms, loaded.noise]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_int16_becomes_floats_in_minus_one_to_one():
    assert to_float(torch.tensor([-32768, 0, 16384], dtype=torch.int16)).tolist() == [-1.0, 0.0, 0.5]


def test_augmentation_can_be_called_on_chosen_windows():
    augment = Augmentation(config(**QUIET), corpus(), CPU)
    windows = corpus().training.waveforms
    assert order(augment(windows, torch.tensor([3, 3, 5]), epoch_generator(0, 1))) == [3, 3, 5]


@pytest.mark.parametrize("prefetch", (False, True))
def test_features_come_once_and_in_order_with_and_without_prefetching(prefetch):
    threads = []

    def layer(waveforms):
        threads.append(threading.current_thread())
        time.sleep(0.02)  # slower than the caller, which does nothing
        return waveforms * 2

    drawn = ((torch.full((3,), float(n)), lambda log_mel: log_mel + 1, n) for n in range(9))
    got = [(features.tolist(), labels) for features, labels in with_features(drawn, layer, prefetch)]
    assert got == [([2.0 * n + 1] * 3, n) for n in range(9)]
    assert len(threads) == 9 and len(set(threads)) == 1
    assert (threading.main_thread() in threads) is not prefetch


def test_prefetching_draws_a_few_batches_in_the_callers_thread():
    drawn_in = []

    def draw():
        for n in range(20):
            drawn_in.append(threading.current_thread())
            yield torch.zeros(3), lambda log_mel: log_mel, n

    features = with_features(draw(), lambda waveforms: waveforms, prefetch=True)
    assert next(features)[1] == 0 and len(drawn_in) == PREFETCHED + 1
    assert [label for _, label in features] == list(range(1, 20))
    assert set(drawn_in) == {threading.main_thread()}


@pytest.mark.parametrize("prefetch", (False, True))
def test_an_error_in_the_features_reaches_the_caller(prefetch):
    def layer(waveforms):
        raise MemoryError("no room")

    drawn = ((torch.zeros(3), lambda log_mel: log_mel, n) for n in range(9))
    with pytest.raises(MemoryError, match="no room"):
        list(with_features(drawn, layer, prefetch))
