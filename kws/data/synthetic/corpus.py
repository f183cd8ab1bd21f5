"""A spoken corpus made on the spot: espeak-ng says the words, in the layout of Speech Commands.

What is random is drawn per clip from (seed, speaker, word, take), and the plan fixes who speaks after whom:
same arguments, same bytes. The ranges of level, noise floor, length and place follow the training and
validation clips of Speech Commands; nothing of its test list was used to choose them.
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

from kws.data.audio import SAMPLE_RATE
from kws.data.synthetic import acoustics
from kws.data.synthetic.espeak import Espeak, variants
from kws.errors import KwsError
from kws.files import write_json, write_text
from kws.machine import usable_cpus

FOLDER = Path("SpeechCommands") / "speech_commands_synthetic"
MARKER = ".complete"
RECIPE = 2  # goes up with every change of the sound: corpora of an older recipe are made anew
# One process's work, whatever `jobs` is: espeak-ng's sound depends on what its process said before.
CLIPS_A_PART = 280
STALE_S = 24 * 3600  # an unfinished build of this age belongs to a process that was killed
ACCENTS = (
    "en",
    "en-us",
    "en-gb-scotland",
    "en-029",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-us-nyc",
)


def generate(data_dir, words=("no", "yes"), clips=4368, seed=0, jobs=None, progress=None):
    """Make the synthetic corpus in `data_dir` unless it is there, and return its folder.

    The folder is `data_dir`/SpeechCommands/speech_commands_synthetic, laid out as Speech Commands is:
    WORD/SPEAKER_nohash_N.wav (16 kHz, mono, 16-bit, one second), validation_list.txt, testing_list.txt,
    _background_noise_. The speakers (an accent and a voice variant) of the three splits are disjoint.
    Same arguments, same bytes, whatever `jobs` (processes at once; default: the processor's cores).
    `progress(done, total)` is called for each finished clip, one call at a time, from threads.

    The folder appears whole or not at all, a corpus of other arguments is replaced, and several processes may
    call at once. Raises KwsError on words or numbers that make no corpus, where espeak-ng is missing, and
    where the clips cannot be written.
    """
    words = _checked_words(words)
    if not 3 * len(words) <= clips <= 200_000:
        raise KwsError(f"clips is {clips}: for {len(words)} words choose {3 * len(words)} to 200000")
    if seed < 0:
        raise KwsError(f"seed is {seed}: choose 0 or more")
    folder = Path(data_dir) / FOLDER
    wanted = {"recipe": RECIPE, "words": words, "clips": clips, "seed": seed}
    if _is_whole(folder, wanted):
        return folder
    version = Espeak().version  # here, so that a missing library is one line and not one of each process
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise KwsError(f"cannot write to {folder.parent} ({error.strerror}): choose another data_dir") from None
    _remove_stale(folder)
    try:
        building.chmod(0o755)  # mkdtemp makes folders that only their owner reads
        (building / "_background_noise_").mkdir()
        for word in words:
            (building / word).mkdir()
        _run_workers(building, wanted, jobs or usable_cpus(), progress)
        plan = _plan(wanted)
        _write_lists(building, plan)
        write_text(building / "SYNTHETIC.txt", _about(wanted, version, len({clip[0] for clip in plan})))
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
    """The plan in pieces of about CLIPS_A_PART clips, no speaker in two of them."""
    parts = [[] for _ in range(-(-len(plan) // CLIPS_A_PART))]
    part_of = {speaker: i % len(parts) for i, speaker in enumerate(dict.fromkeys(clip[0] for clip in plan))}
    for clip in plan:
        parts[part_of[clip[0]]].append(clip)
    return parts


def _write_lists(folder, plan):
    """The tenth of the speakers with the lowest hashes validates, the next tenth tests; one at least."""
    speakers = sorted({speaker for speaker, _, _, _ in plan})
    tenth = max(1, round(len(speakers) / 10))
    for name, chosen in (("validation", speakers[:tenth]), ("testing", speakers[tenth : 2 * tenth])):
        paths = [f"{word}/{speaker}_nohash_{take}.wav\n" for speaker, _, word, take in plan if speaker in chosen]
        write_text(folder / f"{name}_list.txt", "".join(sorted(paths)))


def _about(wanted, version, speakers):
    return f"""This corpus is synthetic: no person spoke it.

Words: {", ".join(wanted["words"])}
Clips: {wanted["clips"]}
Speakers: {speakers}, each one of {len(ACCENTS)} English accents with one of espeak-ng's voice variants
Made by: espeak-ng {version} (GPL-3.0, github.com/espeak-ng/espeak-ng); kws added rooms, microphones, noise
Recipe: {wanted["recipe"]}, seed {wanted["seed"]}

It has the layout of Google's Speech Commands and none of its recordings. An accuracy measured on it
says little about people: name the corpus wherever you quote one.
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
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from kws import synthetic; synthetic._work()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as worker:
        worker.stdin.write(task + "\n")
        worker.stdin.close()
        for _ in worker.stdout:
            clip_finished()
        error = worker.stderr.read()
    if worker.returncode != 0:
        why = (error.strip().splitlines() or [f"status {worker.returncode}"])[-1]
        raise KwsError(f"the process that speaks into {folder.parent} failed ({why}): mend that and start again")


def _work():
    """A worker's life: one part of the plan from stdin, a line on stdout for each clip written."""
    task = json.loads(sys.stdin.readline())
    folder, wanted = Path(task["folder"]), task["wanted"]
    espeak = Espeak()
    for speaker, voice, word, take in _parts(_plan(wanted))[task["part"]]:
        rng = _generator(wanted["seed"], speaker, word, take)
        clip = acoustics.say_and_record(espeak, voice, word, rng, _generator(wanted["seed"], speaker))
        _write_wav(folder / word / f"{speaker}_nohash_{take}.wav", clip)
        print(take, flush=True)  # where the parent is gone this fails, and ends the worker
    if task["part"] == 0:
        noises = acoustics.background_noises(espeak, _generator(wanted["seed"], "noise"))
        for name, noise in noises.items():
            _write_wav(folder / "_background_noise_" / f"{name}.wav", noise)


def _generator(*key):
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


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
    for attempt in range(20):
        if _is_whole(folder, wanted):
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            if folder.exists():
                os.replace(folder, aside / "old")
            os.replace(building, folder)
            return
        except OSError as error:  # another process was quicker: look again at what it put there
            if attempt == 19:
                raise KwsError(f"cannot replace {folder} ({error.strerror}): remove it by hand") from None
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
