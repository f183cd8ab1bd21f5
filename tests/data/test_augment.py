"""Augmentation of log-mels: speed perturbation and time masks."""

import pytest
import torch

from kws.config import resolve
from kws.data.augment import SpectralAugmentation
from kws.data.batches import epoch_generator
from kws.model.features import LogMelFilterBanks

MIDDLE = 50  # of 101 frames


def layer(n_mels=40):
    return LogMelFilterBanks(n_mels=n_mels)


def changed(log_mel, n_mels=40, **settings):
    """Return log_mel (n_mels, n_frames) augmented in 500 ways: (500, n_mels, n_frames)."""
    config = resolve(("test", {"n_mels": n_mels, "speed_perturb": 0, "time_mask_ms": 0} | settings))
    batch = log_mel.expand(500, *log_mel.shape)
    return SpectralAugmentation(config, layer(n_mels))(batch, epoch_generator(0, 1))


def tone(hz, n_mels=40):
    return layer(n_mels)(torch.sin(2 * torch.pi * hz * torch.arange(16000) / 16000))


def loudest_band(hz):
    return int(tone(hz).mean(dim=1).argmax())


@pytest.mark.parametrize("hz", (300, 1000, 4000))
def test_speed_moves_a_tone_as_far_as_playing_the_clip_faster_or_slower(hz):
    bands = changed(tone(hz), speed_perturb=0.2).mean(dim=2).argmax(dim=1)
    assert abs(int(bands.min()) - loudest_band(0.8 * hz)) <= 1
    assert abs(int(bands.max()) - loudest_band(1.2 * hz)) <= 1


def test_speed_stretches_about_the_middle():
    log_mel = torch.zeros(40, 101)
    log_mel[:, MIDDLE], log_mel[:, 20], log_mel[:, 80] = 1, 2, 3
    for one in changed(log_mel, speed_perturb=0.2):
        in_time = one[20]
        assert in_time[MIDDLE] == pytest.approx(1, abs=1e-4)
        early, late = int(in_time[:40].argmax()), int(in_time[60:].argmax()) + 60
        assert abs((MIDDLE - early) - (late - MIDDLE)) <= 1  # 30 frames each, as much faster on either side
        assert 30 / 1.2 - 1 <= late - MIDDLE <= 30 / 0.8 + 1


def test_a_faster_clip_is_a_higher_one():
    log_mel = tone(1000).clone()
    log_mel[:, :20] = log_mel.min()  # the frame where the tone begins shows the speed
    places = []
    for one in changed(log_mel, speed_perturb=0.2):
        band = int(one[:, 60:].mean(dim=1).argmax())
        places.append((band, int((one[band] > one[band].mean()).int().argmax())))
    lowest, highest = min(places), max(places)
    assert lowest[1] < 20 < highest[1]  # slow: the tone begins earlier; fast: later


def test_edges_are_replicated_and_no_new_values_appear():
    log_mel = tone(700)
    many = changed(log_mel, speed_perturb=0.5)
    assert many.min() >= log_mel.min() - 1e-4 and many.max() <= log_mel.max() + 1e-4


def test_speed_works_with_a_single_band():
    assert changed(tone(700, n_mels=1), n_mels=1, speed_perturb=0.2).shape == (500, 1, 101)


def test_the_mask_is_one_piece_of_all_bands_within_its_maximum_length():
    log_mel = torch.randn(40, 101, generator=torch.Generator().manual_seed(0))
    many = changed(log_mel, time_mask_ms=200)
    differs = many != log_mel
    assert torch.equal(differs.any(dim=1), differs.all(dim=1))
    lengths = differs[:, 0].sum(dim=1)
    assert lengths.min() <= 1 and 18 <= lengths.max() <= 20  # frames of 10 ms
    runs = (differs[:, 0, 1:] & ~differs[:, 0, :-1]).sum(dim=1) + differs[:, 0, 0]
    assert runs.max() == 1
    assert (many[differs] - log_mel.mean()).abs().max() < 1e-5
    masked = differs[:, 0].float().mean(dim=0)
    assert (masked[10:-10] > 0).all()  # at any position


def test_a_mask_longer_than_the_clip_is_limited_to_the_clip():
    assert changed(torch.zeros(40, 101), time_mask_ms=1000).shape == (500, 40, 101)


def test_without_speed_and_mask_a_log_mel_is_unchanged():
    log_mel = tone(500)
    assert torch.equal(changed(log_mel), log_mel.expand(500, *log_mel.shape))
