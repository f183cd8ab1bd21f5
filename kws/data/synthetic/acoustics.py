"""From a dry synthetic voice to a clip as from a laptop's microphone in a room: numpy alone, 16 kHz."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kws.data.audio import FULL_SCALE, N_SAMPLES, SAMPLE_RATE

if TYPE_CHECKING:
    from kws.data.synthetic.espeak import Espeak

Signal = NDArray[np.float64]
Samples = NDArray[np.int16]
Response = NDArray[np.complex128]  # of frequencies, (_FFT // 2 + 1,)

NOISE_SAMPLES = 30 * SAMPLE_RATE
NOISES = ("white_noise", "pink_noise", "rumble", "mains_hum", "voices")
BABBLE_VOICES = "en+m1 en+f1 en-us+m3 en-us+f3 en-029+m5 en-gb-scotland+f5 en-us-nyc+m7 en+f4".split()

_FFT = 32768  # a second of speech and a second of room
_HERTZ = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
_OCTAVE_POINTS = np.geomspace(50, 8000, 9)


def generate_clip(espeak: "Espeak", voice: str, word: str, rng: Generator, speaker_rng: Generator) -> Samples:
    """Return one recording of `word`, int16, shape (N_SAMPLES,).

    `speaker_rng`, the same for each of a speaker's clips, draws what is constant for the speaker; `rng` the rest.
    """
    throat = np.exp(speaker_rng.normal(0, 0.15))
    pitch = speaker_rng.uniform(20, 80)
    for _ in range(10):
        speech = espeak.synthesize(
            voice,
            word + rng.choice(["", ".", "!", "?"]),
            rate=np.exp(rng.uniform(np.log(90), np.log(260))) / throat,
            pitch=np.clip(pitch + rng.normal(0, 12), 0, 99),
            pitch_range=rng.uniform(10, 100),
        )
        dry = trim(speech / FULL_SCALE)
        if len(dry) > 1000:
            return record(mumble(to_16k(dry, espeak.sample_rate, throat * wobble(rng, 0.02)), rng), rng)
    raise RuntimeError(f"espeak-ng generates silence for {word!r} with the voice {voice}")


def background_noises(espeak: "Espeak", rng: Generator) -> list[Samples]:
    """Return the five NOISES, without any of the words: int16, shape (NOISE_SAMPLES,)."""
    noises = [coloured_noise(rng, NOISE_SAMPLES, slope) for slope in (0, 1, 2)]
    noises.append(hum(rng, NOISE_SAMPLES) + 0.2 * coloured_noise(rng, NOISE_SAMPLES, 1))
    noises.append(babble(espeak, rng, NOISE_SAMPLES))
    return [np.round(0.5 * 32767 * noise / np.max(np.abs(noise))).astype(np.int16) for noise in noises]


def babble(espeak: "Espeak", rng: Generator, n: int) -> Signal:
    """Return eight voices at once, each reading a sentence in a loop. Shape (n,)."""
    text = "the weather in the harbour turned before we could carry the boxes under a roof. "
    mixed = np.zeros(n)
    for voice in BABBLE_VOICES:
        speech = espeak.synthesize(voice, text * 4, rate=rng.uniform(130, 200), pitch=rng.uniform(20, 80))
        loop = to_16k(speech / FULL_SCALE, espeak.sample_rate, np.ones(n))
        mixed += np.roll(np.resize(loop, n), rng.integers(n)) * rng.uniform(0.3, 1)
    return mixed


def trim(samples: Signal) -> Signal:
    """Return `samples` without the silence at both ends (below 1 % of the peak); empty where all is silence."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.max(np.abs(samples), initial=0.0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def to_16k(samples: Signal, rate: int, speed: Signal) -> Signal:
    """Return (n,) at `rate` Hz resampled to 16 kHz, played `speed` times as fast.

    `speed` has one factor for each sample of the result, which ends where the samples or the factors end.
    Above 1, pitch and formants go up: a shorter vocal tract.
    """
    n = len(samples)
    size = 1 << (n + 63).bit_length()  # a power of two
    spectrum = np.fft.rfft(samples, size)
    spectrum[np.fft.rfftfreq(size, 1 / rate) * speed.mean() > 0.49 * SAMPLE_RATE] = 0
    fine = np.fft.irfft(spectrum, 2 * size)[: 2 * n] * 2  # finer samples make linear interpolation accurate
    positions = np.cumsum(speed * (2 * rate / SAMPLE_RATE))
    return np.interp(positions[positions < 2 * n], np.arange(2 * n), fine)


def mumble(samples: Signal, rng: Generator) -> Signal:
    """Return `samples` (n,) with fainter hissing sounds and some ends cut off: less clear than espeak-ng."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 160), 320)[::160]
    power = np.abs(np.fft.rfft(frames * np.hanning(320))) ** 2
    hiss = power[:, 50:].sum(1) / (power.sum(1) + 1e-12)  # the share above 2.5 kHz
    faint_db = rng.uniform(-6, 15)
    gain = 10 ** (-faint_db / 20 * np.clip(2 * hiss - 0.5, 0, 1))
    samples = samples * np.interp(np.arange(len(samples)), 160 * np.arange(len(gain)), gain)
    if rng.random() < 0.25:
        kept = int(len(samples) * rng.uniform(0.65, 0.98))
        samples = samples[:kept] if rng.random() < 0.7 else samples[-kept:]
        fade = np.minimum(1, np.arange(1, kept + 1) / int(rng.uniform(10, 600)))
        samples = samples * fade * fade[::-1]
    return samples


def clicks(rng: Generator, n: int) -> Signal:
    """Return a few short bursts, as of keys, lips and cables, the loudest of about 1. Shape (n,)."""
    sound = np.zeros(n)
    for _ in range(rng.integers(1, 5)):
        length = int(np.exp(rng.uniform(np.log(20), np.log(2000))))
        start = rng.integers(n - length)
        burst = coloured_noise(rng, length, rng.uniform(0, 2)) * np.exp(-5 * np.arange(length) / length)
        sound[start : start + length] += rng.random() * burst / np.max(np.abs(burst))
    return sound


def wobble(rng: Generator, depth: float) -> Signal:
    """Return a factor that varies slowly around 1, as the pitch of a voice does. Shape (2 * N_SAMPLES,)."""
    points = 1 + depth * rng.standard_normal(12)
    return np.interp(np.linspace(0, 11, 2 * N_SAMPLES), np.arange(12), points)


def room(rng: Generator) -> Response:
    """Return the frequency response of a room: direct sound, then decaying noise."""
    decay_s = rng.uniform(0.05, 0.6)  # RT60
    n = int(decay_s * SAMPLE_RATE)
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail[: int(rng.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0
    direct_to_tail_db = rng.uniform(-2, 25)
    tail *= 10 ** (-direct_to_tail_db / 20) / np.sqrt(np.sum(tail**2) + 1e-12)
    tail[0] = 1.0
    return np.fft.rfft(tail, _FFT)


def microphone(rng: Generator) -> Signal:
    """Return the frequency response of a microphone: ripples, a slope, two band limits. Shape (_FFT // 2 + 1,)."""
    octaves = np.log2(np.maximum(_HERTZ, 20) / 1000)
    db = np.interp(np.log(np.maximum(_HERTZ, 20)), np.log(_OCTAVE_POINTS), 4 * rng.standard_normal(9))
    db += rng.normal(0, 2) * octaves
    db -= 10 * np.log10(1 + (np.exp(rng.uniform(np.log(20), np.log(300))) / np.maximum(_HERTZ, 1)) ** 4)
    top = 8000 if rng.random() < 0.6 else rng.uniform(3000, 7500)
    db -= 10 * np.log10(1 + (_HERTZ / top) ** 12)
    response: Signal = 10 ** (db / 20)
    return response


def through(samples: Signal, response: Signal | Response) -> Signal:
    """Return `samples` (at most N_SAMPLES are kept) filtered by a response, shape (_FFT,)."""
    return np.fft.irfft(np.fft.rfft(samples[:N_SAMPLES], _FFT) * response, _FFT)


def coloured_noise(rng: Generator, n: int, slope: float) -> Signal:
    """Return noise of unit deviation whose power falls as 1 / f**slope: 0 white, 1 pink, 2 brown. Shape (n,)."""
    hertz = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    spectrum = rng.standard_normal(len(hertz)) + 1j * rng.standard_normal(len(hertz))
    return _unit_deviation(np.fft.irfft(spectrum * np.maximum(hertz, 20) ** (-slope / 2), n))


def hum(rng: Generator, n: int) -> Signal:
    """Return mains hum of unit deviation: 50 or 60 Hz with its overtones. Shape (n,)."""
    base = rng.choice([50.0, 60.0])
    t = np.arange(n) / SAMPLE_RATE
    return _unit_deviation(
        sum(rng.random() / k * np.sin(2 * np.pi * (base * k * t + rng.random())) for k in range(1, 9))
    )


def place(voice: Signal, rng: Generator) -> Signal:
    """Return a second with `voice` (n,) at a position as in recordings of people. Shape (N_SAMPLES,)."""
    energy = np.cumsum(voice**2)
    middle = np.searchsorted(energy, energy[-1] / 2)
    length = np.searchsorted(energy, 0.999 * energy[-1])
    start = int(rng.normal(0.45, 0.14) * SAMPLE_RATE) - middle
    latest = max(0, N_SAMPLES - int(0.8 * length))
    start = min(max(start, -int(0.1 * length)), latest)
    voice = voice[max(0, -start) :]
    start = max(0, start)
    clip = np.zeros(N_SAMPLES)
    n = min(len(voice), N_SAMPLES - start)
    clip[start : start + n] = voice[:n]
    return clip


def record(dry: Signal, rng: Generator) -> Samples:
    """Return a dry word (n,) as recorded: room, microphone, noise, level. int16, shape (N_SAMPLES,)."""
    response = microphone(rng)
    wet = response * room(rng) if rng.random() < 0.8 else response
    clip = place(through(dry, wet), rng)
    clip /= np.max(np.abs(clip))
    snr_db = np.clip(rng.normal(35, 16), 3, 75)
    noise = through(coloured_noise(rng, N_SAMPLES, rng.uniform(0, 2)), response)[:N_SAMPLES]
    noise /= noise.std()
    if rng.random() < 0.3:
        noise = noise + rng.uniform(0.2, 2) * hum(rng, N_SAMPLES)
    clip += 0.25 * 10 ** (-snr_db / 20) * noise  # 0.25: about the deviation of a word whose peak is 1
    if rng.random() < 0.15:
        clip += rng.uniform(0.02, 0.7) * through(clicks(rng, N_SAMPLES), response)[:N_SAMPLES]
    if rng.random() < 0.15:
        clip = np.tanh(clip * rng.uniform(1, 6))  # an overdriven input
    peak_db = -min(abs(rng.normal(0, 13)), 36)
    clip *= 10 ** (peak_db / 20) / np.max(np.abs(clip))
    return np.round(clip * 32767).astype(np.int16)


def _unit_deviation(signal: Signal) -> Signal:
    return signal / float(signal.std())
