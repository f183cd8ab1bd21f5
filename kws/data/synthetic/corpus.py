"""A synthetic corpus in the layout of Speech Commands: speech of espeak-ng in simulated rooms.

Everything random is drawn per clip from (seed, speaker, word, take), and the plan fixes the order of the clips: same
arguments, same bytes. The ranges of level, noise floor, length and position follow the training and validation clips
of Speech Commands; its test list was not used to choose them.
"""

import hashlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kws.data import layout
from kws.data.audio import N_SAMPLES, SAMPLE_RATE
from kws.data.clips import LISTS, NOISE_FOLDER, Listing
from kws.data.layout import Marker, clips_per_word, dataset_folder, read_marker
from kws.data.synthetic import acoustics
from kws.data.synthetic.espeak import Espeak, variants
from kws.errors import KwsError
from kws.files import write_text
from kws.machine import usable_cpus

RECIPE = 2  # increased with every change of the sound: corpora of an older recipe are generated again
# The work of one process, whatever `jobs` is: espeak-ng's sound depends on what its process said before.
CLIPS_PER_PART = 280
ACCENTS = "en en-us en-gb-scotland en-029 en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-us-nyc".split()


class Clip(NamedTuple):
    """One clip to generate. `voice` is ACCENT+VARIANT; `take` numbers a speaker's clips of one word."""

    voice: str
    word: str
    take: int

    @property
    def speaker(self) -> str:
        """Eight hex digits, as in the file names of Speech Commands."""
        return hashlib.sha256(self.voice.encode()).hexdigest()[:8]

    @property
    def path(self) -> str:
        return f"{self.word}/{self.speaker}_nohash_{self.take}.wav"


def generate(
    data_dir: str | Path,
    words: Sequence[str] = ("no", "yes"),
    clips: int = 4368,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    data: str = "synthetic",
) -> Path:
    """Generate the synthetic corpus below `data_dir`, unless it exists, and return its folder.

    The folder has the layout of Speech Commands: WORD/SPEAKER_nohash_N.wav (16 kHz, mono, 16-bit, one second),
    validation_list.txt, testing_list.txt, _background_noise_. No speaker (an accent and a voice variant) is in two
    splits. Same arguments, same bytes, whatever `jobs`. The folder is installed atomically; a corpus of other
    arguments is replaced, and a second process waits for the first.

    Args:
        jobs: processes at once; default: the CPUs that this process may use.
        data: "synthetic", or "synthetic_unknown" for words that train _unknown_.
        progress: called with (clips done, clips in all) for each clip, after some hundred of them at once.

    Raises:
        KwsError: words or numbers that make no corpus, no espeak-ng, a folder that cannot be written.
    """
    words = sorted(set(words))
    for word in words:
        if not re.fullmatch(r"[a-z]+", word):
            raise KwsError(f"the word {word!r} cannot be generated: a word is lower-case letters a to z")
    if len(words) < 2:
        raise KwsError(f"words is {words}: a corpus needs two words or more")
    if not 3 * len(words) <= clips <= 200_000:
        raise KwsError(f"clips is {clips}: for {len(words)} words choose {3 * len(words)} to 200000")
    if seed < 0:
        raise KwsError(f"seed is {seed}: choose 0 or more")
    folder = dataset_folder(data_dir, data)
    wanted: Marker = {"words": words, "clips": clips_per_word(words, clips), "recipe": RECIPE, "seed": seed}
    if _is_generated(folder, wanted):
        return folder
    version = Espeak().version  # here, so that a missing library is one line and not one of each process

    def fill(_: Path, part: Path) -> Marker:
        plan = _plan(words, clips, seed)
        for name in (*words, NOISE_FOLDER):
            (part / name).mkdir()
        _write_clips(part, plan, seed, jobs or usable_cpus(), progress)
        _write_lists(part, plan)
        write_text(part / "SYNTHETIC.txt", _about(plan, seed, version))
        return {**wanted, "espeak": version}

    layout.install(folder, lambda place: _is_generated(place, wanted), fill, wait=True)
    return folder


def _is_generated(folder: Path, wanted: Marker) -> bool:
    marker = read_marker(folder) or {}
    return {**marker, **wanted} == marker and isinstance(layout.diagnose(folder, wanted["words"]), Listing)


def _plan(words: Sequence[str], clips: int, seed: int) -> list[Clip]:
    """Return every clip, those of one speaker next to each other, speakers in the seed's order."""
    voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in variants()]
    voices = [voices[i] for i in np.random.default_rng(seed).permutation(len(voices))]
    turns = (divmod(i, len(words)) for i in range(clips))
    plan = sorted((turn % len(voices), turn // len(voices), word) for turn, word in turns)
    return [Clip(voices[number], words[word], take) for number, take, word in plan]


def _write_lists(folder: Path, plan: list[Clip]) -> None:
    """Write the lists: the tenth of the speakers with the lowest hashes is for validation, the next for testing."""
    speakers = sorted({clip.speaker for clip in plan})
    tenth = max(1, round(len(speakers) / 10))
    for name, chosen in zip(LISTS, (speakers[:tenth], speakers[tenth : 2 * tenth]), strict=True):
        write_text(folder / name, "".join(sorted(f"{clip.path}\n" for clip in plan if clip.speaker in chosen)))


def _about(plan: list[Clip], seed: int, version: str) -> str:
    speakers = len({clip.speaker for clip in plan})
    return f"""This corpus is synthetic: it has no human speech.

Words: {", ".join(sorted({clip.word for clip in plan}))}
Clips: {len(plan)}
Speakers: {speakers}, each one of {len(ACCENTS)} English accents with one of espeak-ng's voice variants
Generated by: espeak-ng {version} (GPL-3.0, github.com/espeak-ng/espeak-ng); kws added rooms, microphones, noise
Recipe: {RECIPE}, seed {seed}

It has the layout of Google's Speech Commands and none of its recordings. An accuracy measured on it
says little about human speech: name the corpus wherever you quote one.
"""


def _write_clips(
    folder: Path, plan: list[Clip], seed: int, jobs: int, progress: Callable[[int, int], None] | None
) -> None:
    parts: list[list[Clip]] = [[] for _ in range(-(-len(plan) // CLIPS_PER_PART))]
    for i, (_, clips) in enumerate(itertools.groupby(plan, lambda clip: clip.voice)):  # no speaker is in two parts
        parts[i % len(parts)] += clips
    done = 0
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        results = pool.map(lambda number: _write_part(folder, parts[number], seed, number == 0), range(len(parts)))
        for part, _ in zip(parts, results, strict=True):
            for _ in part:
                done += 1
                if progress:
                    progress(done, len(plan))


def _write_part(folder: Path, clips: list[Clip], seed: int, with_noise: bool) -> None:
    """Write the clips that a new process generates. It writes no files itself, so a killed parent leaves no writer."""
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kws.data.synthetic.corpus"]
    task = json.dumps([clips, seed, with_noise]).encode()
    worker = subprocess.run(command, env=environment, input=task, capture_output=True, check=False)
    if worker.returncode != 0:
        error = worker.stderr.decode(errors="replace").strip().splitlines() or [f"status {worker.returncode}"]
        raise KwsError(f"the process that generates {folder.parent} failed ({error[-1]}); fix that and start again")
    sounds = io.BytesIO(worker.stdout)
    for clip in clips:
        _write_wav(folder / clip.path, sounds.read(2 * N_SAMPLES))
    for name in acoustics.NOISES if with_noise else ():
        _write_wav(folder / NOISE_FOLDER / f"{name}.wav", sounds.read(2 * acoustics.NOISE_SAMPLES))


def _work() -> None:
    """Generate the clips of one part: the task comes on stdin, int16 samples go to stdout."""
    clips, seed, with_noise = json.load(sys.stdin)
    espeak = Espeak()
    sounds = []
    for clip in itertools.starmap(Clip, clips):
        rng, speaker_rng = _generator(seed, clip.speaker, clip.word, clip.take), _generator(seed, clip.speaker)
        sounds.append(acoustics.generate_clip(espeak, clip.voice, clip.word, rng, speaker_rng))
    if with_noise:
        sounds += acoustics.background_noises(espeak, _generator(seed, "noise"))
    sys.stdout.buffer.writelines(sound.astype("<i2").tobytes() for sound in sounds)


def _generator(*key: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _write_wav(path: Path, samples: bytes) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        file.writeframes(samples)


if __name__ == "__main__":
    _work()
