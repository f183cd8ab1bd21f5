"""Where a data set lies, and whether all of it is there: told from names and sizes, before any clip is read."""

import difflib
import json
import os
import shlex
from pathlib import Path

from kws.errors import KwsError
from kws.formatting import one_line

FOLDERS = {"speech_commands": "speech_commands_v0.02", "synthetic": "speech_commands_synthetic"}
MENDING = {
    "speech_commands": "fetch it with: kws data --root {root}",
    "synthetic": "make it with: kws data --synthetic --root {root}",
}
LISTS = ("validation_list.txt", "testing_list.txt")
LIST_LINES = (9981, 11005)  # of the full set's lists
NOISE_FOLDER = "_background_noise_"
MARKER = ".kws-complete"
# Clips of each word in the full set; 105,829 in all (P. Warden, arXiv:1804.03209, and a count of yes and no).
CLIPS = {
    "backward": 1664, "bed": 2014, "bird": 2064, "cat": 2031, "dog": 2128, "down": 3917, "eight": 3787, "five": 4052,
    "follow": 1579, "forward": 1557, "four": 3728, "go": 3880, "happy": 2054, "house": 2113, "learn": 1575,
    "left": 3801, "marvin": 2100, "nine": 3934, "no": 3941, "off": 3745, "on": 3845, "one": 3890, "right": 3778,
    "seven": 3998, "sheila": 2022, "six": 3860, "stop": 3872, "three": 3727, "tree": 1759, "two": 3880, "up": 3723,
    "visual": 1592, "wow": 2123, "yes": 4044, "zero": 4052,
}  # fmt: skip
SMALLEST_WAV = 46  # header and one sample


def find(data_dir, data, words):
    """Return the absolute folder of a data set below `data_dir`; KwsError unless the clips of `words` are whole."""
    root = Path(os.path.abspath(os.path.expanduser(data_dir)))
    folder = root / "SpeechCommands" / FOLDERS[data]
    if not folder.is_dir():
        raise KwsError(
            f"data: there is no folder {folder}; {fix_hint(data, root)}, or name the right folder with --data_dir"
        )
    check_whole(folder, words)
    return folder


def fix_hint(data, root):
    """Return what to do where a data set below the absolute path `root` is missing or lacks clips."""
    return MENDING[data].format(root=root)


def check_whole(folder, words):
    """Raise KwsError, with the command that mends it, unless the clips of `words` in `folder` are whole.

    Whole means: both lists are there, every clip that they name for these words is there and not empty, and each
    word has as many clips as the marker says, or as the full set has where the lists are the full set's. It reads
    the lists and the folders' entries, no clip.
    """
    fault, command = diagnose(folder, words)
    if fault:
        if Path(folder).name == FOLDERS["speech_commands"]:
            check_words(words)  # no data set has what was misspelt
        raise KwsError(f"data: {folder} {fault}; run: {command}")


def check_words(words):
    """Raise KwsError where Speech Commands has no such word."""
    for word in words:
        if word not in CLIPS:
            near = difflib.get_close_matches(word, CLIPS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its words are: {', '.join(CLIPS)}"
            raise KwsError(f"words: Speech Commands has no {one_line(word)!r}; {hint}")


def diagnose(folder, words):
    """Return (what is wrong with the data in `folder`, the command that mends it), (None, None) if they are whole."""
    folder = Path(folder)
    command = _command(folder, words)
    if not folder.is_dir():
        left = folder.with_name(f".{folder.name}.part").exists()
        return "was not fetched to its end" if left else "is not there", command
    marker = read_marker(folder)
    try:
        fault = find_problem(folder, words, marker)
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    if fault is None:
        return None, None
    if marker is None:  # not ours to replace
        command = f"mv {_quote(folder)} {_quote(f'{folder}.half')} && {command}"
    return f"is not whole: {fault}", command


def read_marker(folder):
    """Return what fetch recorded of a folder that it made (words, clips, sha256), {} if unreadable, None without."""
    try:
        marker = json.loads((Path(folder) / MARKER).read_text(encoding="utf-8"))
        for word in marker["words"]:
            if not isinstance(marker["clips"][word], int):
                return {}
        return marker
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def find_problem(folder, words, marker):
    """Return what is missing of the clips of `words` in a folder with this marker, None where nothing is."""
    if marker == {}:
        return f"{MARKER} is damaged"
    listed, full = [], True
    for name, lines in zip(LISTS, LIST_LINES, strict=True):
        if not (folder / name).is_file():
            return f"there is no {name}"
        names = (folder / name).read_text(encoding="utf-8", errors="replace").split()
        full = full and len(names) == lines
        listed += names
    for word in words:
        if marker is not None and word not in marker["words"]:
            return f"it holds {', '.join(marker['words'])}, not {word}"
        sizes = wav_sizes(folder / word)
        empty = [name for name, size in sizes.items() if size < SMALLEST_WAV]
        missing = [name for name in listed if name.startswith(f"{word}/") and name[len(word) + 1 :] not in sizes]
        expected = marker["clips"][word] if marker else CLIPS.get(word) if full else None
        if not sizes:
            return f"there is no clip of {word!r}"
        if empty:
            return f"{len(empty)} clips of {word!r} are empty, such as {one_line(empty[0])}"
        if missing:
            return f"{len(missing)} clips that its lists name are missing, such as {one_line(missing[0])}"
        if expected not in (None, len(sizes)):
            return f"{word!r} has {len(sizes):,} clips of {expected:,}"
    if (full or marker) and not wav_sizes(folder / NOISE_FOLDER):
        return f"there is no recording in {NOISE_FOLDER}"
    return None


def wav_sizes(folder):
    """Return {name: bytes} of the WAV files in a folder; none where it is missing."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".wav")}


def _command(folder, words):
    parts = ["kws data"]
    if folder.name == FOLDERS["synthetic"]:
        parts.append("--synthetic")
    parts.append(f"--root {_quote(folder.parent.parent)}")
    archive = folder.parent.parent / f"{folder.name}.tar.gz"
    if archive.is_file():  # where torchaudio leaves it
        parts.append(f"--archive {_quote(archive)}")
    if set(words) != {"no", "yes"}:
        parts.append(f"--words={','.join(words)}")
    return " ".join(parts)


def _quote(path):
    return shlex.quote(str(path))


def speaker(clip):
    """Return the speaker's hash in a clip's name: 0132a06d of yes/0132a06d_nohash_1.wav."""
    return clip.rpartition("/")[2].partition("_nohash_")[0]
