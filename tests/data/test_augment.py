"""Speed perturbation and time masks of training clips."""

import pytest
import torch

from kws.config import resolve
from kws.data.audio import to_float
from kws.data.batches import TrainingBatches, epoch_generator
from kws.model.features import LogMelFilterBanks
from tests.data.test_batches import QUIET, corpus

MIDDLE = 50  # of 101 frames
TIME = torch.arange(16000) / 16000


def layer(n_mels=40):
    return LogMelFilterBanks(n_mels=n_mels)


def changed(waveform, n_mels=40, **settings):
    """Return the log-mels of a clip, augmented in 500 ways: (500, n_mels, n_frames)."""
    config = resolve(("test", QUIET | {"n_mels": n_mels, "batch_size": 500} | settings))
    clips = corpus(500)
    clips.training.waveforms[:] = waveform
    return next(TrainingBatches(config, clips, layer(n_mels)).epoch(epoch_generator(0, 1)))[0]


def pcm(samples):
    return (16000 * samples).to(torch.int16)


def tone(hz):
    return pcm(torch.sin(2 * torch.pi * hz * TIME))


def log_mel_of(waveform, n_mels=40):
    return layer(n_mels)(to_float(waveform))


def loudest_band(hz):
    return int(log_mel_of(tone(hz)).mean(dim=1).argmax())


@pytest.mark.parametrize("hz", (300, 1000, 4000))
def test_speed_moves_a_tone_as_far_as_playing_the_clip_faster_or_slower(hz):
    bands = changed(tone(hz), speed_perturb=0.2)[:, :, 20:80].mean(dim=2).argmax(dim=1)
    assert abs(int(bands.min()) - loudest_band(0.8 * hz)) <= 1
    assert abs(int(bands.max()) - loudest_band(1.2 * hz)) <= 1


def test_speed_stretches_about_the_middle():
    clicks = torch.zeros(16000, dtype=torch.int16)
    clicks[[160 * 20, 160 * MIDDLE, 160 * 80]] = 16000
    stretched = changed(clicks, speed_perturb=0.2).mean(dim=1)
    early, middle = stretched[:, :40].argmax(dim=1), stretched[:, 40:60].argmax(dim=1) + 40
    late = stretched[:, 60:].argmax(dim=1) + 60
    assert ((middle - MIDDLE).abs() <= 1).all()
    assert (((MIDDLE - early) - (late - MIDDLE)).abs() <= 2).all()  # 30 frames each, as much faster on either side
    assert 30 / 1.2 - 1 <= (late - MIDDLE).min() <= 26 and 37 <= (late - MIDDLE).max() <= 30 / 0.8 + 1


def test_a_faster_clip_is_a_higher_one():
    begins_late = tone(1000).where(TIME > 0.2, 0)  # the frame where the tone begins shows the speed
    places = []
    for one in changed(begins_late, speed_perturb=0.2):
        band = int(one[:, 60:].mean(dim=1).argmax())
        places.append((band, int((one[band] > one[band].mean()).int().argmax())))
    lowest, highest = min(places), max(places)
    assert lowest[1] < 20 < highest[1]  # slow: the tone begins earlier; fast: later


def test_no_new_values_appear_and_a_faster_clip_is_followed_by_silence():
    noise = pcm(0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0)))
    many, log_mel = changed(noise, speed_perturb=0.5), log_mel_of(noise)
    assert many.max() <= log_mel.max() + 1e-3
    silence = layer().log(torch.zeros(1)).item()
    ends = (many[:, :, -1] == silence).all(dim=1)
    assert 0.4 < ends.float().mean() < 0.6  # the faster half
    assert ((many == silence).all(dim=1).sum(dim=1) <= 2 * 18).all()  # at most a third of the second


def test_speed_works_with_a_single_band():
    assert changed(tone(700), n_mels=1, speed_perturb=0.2).shape == (500, 1, 101)


def test_the_mask_is_one_piece_of_all_bands_within_its_maximum_length():
    noise = pcm(0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0)))
    many, log_mel = changed(noise, time_mask_ms=200), changed(noise)[0]
    differs = (many - log_mel).abs() > 1e-5
    frames = differs.float().mean(dim=1) > 0.9  # a single value may be the mean by chance
    assert (differs.any(dim=1) == frames).all()
    lengths = frames.sum(dim=1)
    assert lengths.min() <= 1 and 18 <= lengths.max() <= 20  # frames of 10 ms
    runs = (frames[:, 1:] & ~frames[:, :-1]).sum(dim=1) + frames[:, 0]
    assert runs.max() == 1
    assert (many[differs] - log_mel.mean()).abs().max() < 1e-4
    assert (frames.float().mean(dim=0)[10:-10] > 0).all()  # at any position


def test_a_mask_longer_than_the_clip_is_limited_to_the_clip():
    assert changed(tone(500), time_mask_ms=1000).shape == (500, 40, 101)


def test_without_speed_and_mask_a_log_mel_is_unchanged():
    assert torch.allclose(changed(tone(500)), log_mel_of(tone(500)), rtol=1e-4, atol=1e-5)
