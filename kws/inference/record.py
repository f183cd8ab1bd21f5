"""One's own clips: recorded, checked, and written in the layout that training reads."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from unicodedata import normalize

import numpy as np
import soundfile

from kws.data.audio import FULL_SCALE, SAMPLE_RATE, loudest_second
from kws.errors import KwsError
from kws.files import write_atomically
from kws.inference.microphone import microphone
from kws.inference.recording import Samples

QUIET, CLIPPED = 0.05, 0.999  # peaks: below -26 dB, and at full scale
COUNT_BLOCKS, CLIP_BLOCKS = 7, 20  # of 0.1 s: per number of the countdown, and to say the word


def speaker_hash(name: str) -> str:
    """Return 8 hex digits that stand for a speaker in file names, as in Speech Commands."""
    return hashlib.sha256(normalize("NFC", name).strip().casefold().encode()).hexdigest()[:8]


def numbers(folder: Path, word: str, speaker: str) -> list[int]:
    """Return the numbers of the clips of a word that a speaker has recorded."""
    names = (path.stem.rpartition("_")[2] for path in (folder / word).glob(f"{speaker}_nohash_*.wav"))
    return sorted(int(number) for number in names if number.isdecimal())


def record_clip(show: Callable[[int], None]) -> Samples:
    """Return the loudest second (16000,) of two from the microphone, after a countdown.

    `show` is called with 3, 2 and 1, and with 0 when the word is to be said. Raises KwsError.
    """
    with closing(microphone()) as blocks:
        for number in (3, 2, 1):
            show(number)
            for _ in islice(blocks, COUNT_BLOCKS):
                pass
        show(0)
        return loudest_second(np.concatenate([*islice(blocks, CLIP_BLOCKS)]))


def problem(samples: Samples) -> str:
    """Return what is wrong with a clip's level and what to do, "" if nothing is."""
    peak = float(np.abs(samples).max())
    if peak < QUIET:
        return "too quiet: come closer, or turn the microphone up"
    return "clipped: move away, or turn the microphone down" if peak >= CLIPPED else ""


def write_clip(folder: Path, word: str, speaker: str, samples: Samples) -> Path:
    """Write WORD/SPEAKER_nohash_N.wav with the next N, atomically, and return its path. Raises KwsError."""
    path = folder / word / f"{speaker}_nohash_{max(numbers(folder, word, speaker), default=-1) + 1}.wav"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            whole = np.rint(samples * FULL_SCALE).clip(-FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
            soundfile.write(temporary, whole, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    except OSError as error:
        raise KwsError(f"--out: {path} cannot be written ({error.strerror}); choose another place") from error
    return path
