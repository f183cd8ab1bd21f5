"""A spoken corpus made on the spot: espeak-ng says the words, in the layout of Speech Commands.

What is random is drawn per clip from (seed, speaker, word, take), so a clip's sound does not depend on how many clips
there are or who makes them. The ranges of level, noise floor, length and place follow what the training clips of
Speech Commands look like; nothing of its test list was used to choose them.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from . import acoustics
from .acoustics import SAMPLE_RATE
from .errors import KwsError
from .espeak import Espeak, variants
from .files import write_json, write_text

FOLDER = Path("SpeechCommands") / "speech_commands_synthetic"
MARKER = ".complete"
RECIPE = 1  # goes up with every change of the sound: corpora of an older recipe are made anew
NOISE_SECONDS = 30
CLIPS_A_PART = 280  # the plan alone decides who says what after what: espeak's sound depends on what it said before
STALE_S = 3600  # an unfinished build of this age belongs to a process that was killed

# Accents as espeak-ng names them, and how their own spelling says the words (None: read as English).
ACCENTS = {
    "en": None,
    "en-us": None,
    "en-gb-scotland": None,
    "en-029": None,
    "en-gb-x-rp": None,
    "en-gb-x-gbclan": None,
    "en-gb-x-gbcwmd": None,
    "en-us-nyc": None,
}


def speak(data_dir, words=("no", "yes"), clips=4368, seed=0, jobs=None, progress=None):
    """Make the synthetic corpus in `data_dir` unless it is there, and return its folder.

    The folder is `data_dir`/SpeechCommands/speech_commands_synthetic, laid out as Speech Commands is: WORD/SPEAKER_nohash_N.wav
    (16 kHz, mono, 16-bit, one second), validation_list.txt, testing_list.txt, _background_noise_. The speakers (an
    accent and a voice variant) of the three splits are disjoint. Same arguments, same bytes, whatever `jobs` (processes;
    default: the processor's cores). `progress(done, total)` is called as clips are finished.

    The folder appears whole or not at all; a corpus of other arguments is replaced; several processes may call at once.
    Raises KwsError on words or numbers that make no corpus, and where espeak-ng is not installed.
    """
    words = _checked_words(words)
    if not 3 * len(words) <= clips <= 200_000:
        raise KwsError(f"clips is {clips}: a corpus of {len(words)} words has {3 * len(words)} to 200000 clips")
    folder = Path(data_dir) / FOLDER
    wanted = {"recipe": RECIPE, "words": words, "clips": clips, "seed": seed}
    if _is_whole(folder, wanted):
        return folder
    version = Espeak().version  # here, so that a missing library is one line and not one of each process
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        building.chmod(0o755)  # mkdtemp makes folders that only their owner reads
        (building / "_background_noise_").mkdir()
        for word in words:
            (building / word).mkdir()
        _run_workers(building, wanted, jobs or _cores(), progress)
        plan = _plan(wanted)
        _write_lists(building, plan)
        write_text(building / "SYNTHETIC.txt", _about(wanted, version, len({speaker for speaker, _, _, _ in plan})))
        write_json(building / MARKER, {**wanted, "espeak-ng": version})
        _install(building, folder, wanted)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def speaker_id(voice):
    """Eight hex digits for a voice ("en-us+f3"), as Speech Commands names its speakers."""
    return hashlib.sha256(voice.encode()).hexdigest()[:8]


# ---- what is made, and by whom


def _checked_words(words):
    words = sorted(set(words))
    for word in words:
        if not re.fullmatch(r"[a-z]+", word):
            raise KwsError(f"the word {word!r} cannot be spoken: a word is lower-case letters a to z")
    if len(words) < 2:
        raise KwsError(f"words is {words}: a corpus needs two words or more")
    return words


def _voices(seed):
    """All voices, ACCENT+VARIANT, in the seed's order."""
    voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in variants()]
    return [voices[i] for i in np.random.default_rng(seed).permutation(len(voices))]


def _plan(wanted):
    """Every clip as (speaker, voice, word, take), those of one speaker next to each other."""
    words, clips, voices = wanted["words"], wanted["clips"], _voices(wanted["seed"])
    plan = []
    for i in range(clips):
        turn, word = divmod(i, len(words))
        take, place = divmod(turn, len(voices))
        plan.append((place, take, word))
    plan.sort()
    return [(speaker_id(voices[place]), voices[place], words[word], take) for place, take, word in plan]


def _parts(plan):
    """The plan in pieces of about CLIPS_A_PART clips, no speaker in two of them: each is one process's work."""
    parts = [[] for _ in range(-(-len(plan) // CLIPS_A_PART))]
    part_of = {speaker: i % len(parts) for i, speaker in enumerate(dict.fromkeys(clip[0] for clip in plan))}
    for clip in plan:
        parts[part_of[clip[0]]].append(clip)
    return parts


def _write_lists(folder, plan):
    """The tenth of the speakers with the lowest hash validates, the next tenth tests: at least one of each."""
    speakers = sorted({speaker for speaker, _, _, _ in plan})
    tenth = max(1, round(len(speakers) / 10))
    for name, chosen in (("validation", speakers[:tenth]), ("testing", speakers[tenth : 2 * tenth])):
        chosen = set(chosen)
        paths = sorted(f"{word}/{speaker}_nohash_{take}.wav" for speaker, _, word, take in plan if speaker in chosen)
        write_text(folder / f"{name}_list.txt", "".join(f"{path}\n" for path in paths))


def _about(wanted, version, speakers):
    return f"""This corpus is synthetic: no person spoke it.

espeak-ng {version} (GPL-3.0, https://github.com/espeak-ng/espeak-ng) said {wanted["clips"]} clips of the words
{", ".join(wanted["words"])} with {speakers} voices ({len(ACCENTS)} accents x its voice variants); kws added rooms, microphones and noise
(recipe {wanted["recipe"]}, seed {wanted["seed"]}). It has the layout of Google's Speech Commands and none of its recordings.
Accuracies measured on it say little about people: name the corpus wherever you quote one.
"""


# ---- the workers: processes of their own, so that espeak starts fresh and a killed parent leaves none behind


def _run_workers(folder, wanted, jobs, progress):
    jobs = max(1, int(jobs))
    parts = len(_parts(_plan(wanted)))
    done, lock = 0, threading.Lock()

    def clip_finished():
        nonlocal done
        with lock:
            done += 1
            if progress:
                progress(done, wanted["clips"])

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_run_worker, folder, wanted, part, clip_finished) for part in range(parts)]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def _run_worker(folder, wanted, part, clip_finished):
    task = json.dumps({"folder": str(folder.resolve()), "wanted": wanted, "part": part})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from kws import synthetic; synthetic._work()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as worker:
        worker.stdin.write(task + "\n")
        worker.stdin.close()
        for _ in worker.stdout:
            clip_finished()
        error = worker.stderr.read()
    if worker.returncode != 0:
        raise RuntimeError(f"speaking part {part} ended with status {worker.returncode}:\n{error}")


def _work():
    """A worker's life: one part of the plan from stdin, a line on stdout for each clip written."""
    task = json.loads(sys.stdin.readline())
    folder, wanted = Path(task["folder"]), task["wanted"]
    espeak = Espeak()
    for speaker, voice, word, take in _parts(_plan(wanted))[task["part"]]:
        rng = _generator(wanted["seed"], speaker, word, take)
        clip = _clip(espeak, voice, word, rng, _generator(wanted["seed"], speaker))
        _write_wav(folder / word / f"{speaker}_nohash_{take}.wav", clip)
        print(take, flush=True)  # where the parent is gone this fails, and ends the worker
    if task["part"] == 0:
        _write_noises(folder / "_background_noise_", espeak, wanted["seed"])


def _generator(*key):
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


# ---- what a clip sounds like


def _clip(espeak, voice, word, rng, speaker_rng):
    """One recording of `word`, int16 of shape (16000,). `speaker_rng` draws what stays the same for a speaker."""
    throat = np.exp(speaker_rng.normal(0, 0.08))
    pitch = speaker_rng.uniform(20, 80)
    for _ in range(10):
        said = espeak.say(
            voice,
            word + rng.choice(["", ".", "!", "?"]),
            rate=np.exp(rng.uniform(np.log(90), np.log(260))) / throat,
            pitch=np.clip(pitch + rng.normal(0, 12), 0, 99),
            pitch_range=rng.uniform(10, 100),
        )
        dry = acoustics.trim(said / 32768)
        if len(dry) > 1000:
            return acoustics.record(acoustics.to_16k(dry, espeak.sample_rate, throat * acoustics.wobble(rng, 0.02)), rng)
    raise RuntimeError(f"espeak-ng stays silent as {voice} says {word!r}")


def _write_noises(folder, espeak, seed):
    rng = _generator(seed, "noise")
    n = NOISE_SECONDS * SAMPLE_RATE
    noises = {
        "white_noise": acoustics.coloured_noise(rng, n, 0),
        "pink_noise": acoustics.coloured_noise(rng, n, 1),
        "rumble": acoustics.coloured_noise(rng, n, 2),
        "mains_hum": acoustics.hum(rng, n) + 0.2 * acoustics.coloured_noise(rng, n, 1),
        "voices": _babble(espeak, rng, n),
    }
    for name, noise in noises.items():
        _write_wav(folder / f"{name}.wav", np.round(0.5 * 32767 * noise / np.max(np.abs(noise))).astype(np.int16))


def _babble(espeak, rng, n):
    """Eight voices at once, reading what is none of the words anybody would look for. Shape (n,)."""
    text = "the weather in the harbour turned before we could carry the boxes under a roof, and later it was calm again. "
    mixed = np.zeros(n)
    for voice in ("en+m1", "en+f1", "en-us+m3", "en-us+f3", "en-029+m5", "en-gb-scotland+f5", "en-us-nyc+m7", "en+f4"):
        said = espeak.say(voice, text * 3, rate=rng.uniform(130, 200), pitch=rng.uniform(20, 80)) / 32768
        loop = acoustics.to_16k(said, espeak.sample_rate, np.ones(n))
        mixed += np.roll(np.resize(loop, n), rng.integers(n)) * rng.uniform(0.3, 1)
    return mixed


# ---- files


def _write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def _is_whole(folder, wanted):
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    made = sum(len(list((folder / word).glob("*.wav"))) for word in wanted["words"])
    return {key: marker.get(key) for key in wanted} == wanted and made == wanted["clips"]


def _install(building, folder, wanted):
    """Rename the finished corpus to its place; where another process put the same one there, keep that."""
    while not _is_whole(folder, wanted):
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            if folder.exists():
                os.replace(folder, aside / "old")
            os.replace(building, folder)
        except OSError:  # another process was quicker: look again at what it put there
            if not building.exists():
                raise
            time.sleep(0.05)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _remove_stale(folder):
    for left in folder.parent.glob(f".{folder.name}.*"):
        try:
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            pass  # its owner removed it just now


def _cores():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
