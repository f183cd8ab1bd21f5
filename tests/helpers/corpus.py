"""A tiny corpus in the layout of Speech Commands: words that a small network learns to distinguish."""

import numpy as np
import soundfile

VALIDATION_SPEAKERS, TEST_SPEAKERS = 4, 4


def make_corpus(
    root, folder="speech_commands_v0.02", words=("no", "yes"), speakers=24, takes=2, seed=0, tone=1.0, noise_s=2
):
    """Write WORD/SPEAKER_nohash_N.wav, the two lists and background noise under root/SpeechCommands/folder.

    The first word falls from 700 Hz to 300 Hz, the second rises from 1500 Hz to 3000 Hz, in noise; a third of the
    clips is shorter than one second. `tone` scales how loud the tones are (0: nothing can be learned).
    Returns the folder.
    """
    random = np.random.default_rng(seed)
    base = root / "SpeechCommands" / folder
    names = [f"{random.integers(2**32):08x}" for _ in range(speakers)]
    lists = {"validation_list.txt": [], "testing_list.txt": []}
    for label, word in enumerate(words):
        (base / word).mkdir(parents=True)
        for position, speaker in enumerate(names):
            for take in range(takes):
                name = f"{word}/{speaker}_nohash_{take}.wav"
                samples = 16000 if random.random() < 2 / 3 else int(random.integers(9000, 16000))
                soundfile.write(base / name, _tone(random, label, samples, tone), 16000, subtype="PCM_16")
                if position < VALIDATION_SPEAKERS:
                    lists["validation_list.txt"].append(name)
                elif position < VALIDATION_SPEAKERS + TEST_SPEAKERS:
                    lists["testing_list.txt"].append(name)
    for name, lines in lists.items():
        (base / name).write_text("".join(f"{line}\n" for line in lines))
    (base / "_background_noise_").mkdir()
    noise = 0.1 * random.standard_normal(16000 * noise_s)
    soundfile.write(base / "_background_noise_" / "white_noise.wav", noise, 16000, subtype="PCM_16")
    return base


def _tone(random, label, samples, tone):
    start, end = ((700, 300), (1500, 3000), (400, 900), (3500, 2000), (2500, 2500), (5000, 900))[label]
    frequency = np.linspace(start, end, samples) * random.uniform(0.9, 1.1)
    envelope = np.hanning(samples) * tone * random.uniform(0.2, 0.6)
    return envelope * np.sin(2 * np.pi * np.cumsum(frequency) / 16000) + 0.02 * random.standard_normal(samples)
