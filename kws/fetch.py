"""The full data set: the chosen words of Speech Commands v0.02, fetched in one pass, whole or absent.

The archive (2.3 GB, 105,829 clips) is never kept: it is unpacked while it comes, only the chosen words, the
background noise and the lists are written, and its sha256 decides at the end whether they are moved into place.
"""

import contextlib
import difflib
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path, PurePosixPath

from kws.archive import Hashed, members
from kws.config import one_line
from kws.download import PAUSES_S, Download
from kws.errors import KwsError
from kws.files import write_json

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
FOLDER = "SpeechCommands/speech_commands_v0.02"
LISTS = ("validation_list.txt", "testing_list.txt")
LIST_LINES = (9981, 11005)  # of the full set's lists
NOISE = "_background_noise_"
KEPT_FILES = (*LISTS, "LICENSE", "README.md")
MARKER = ".kws-complete"
# Clips of each word in the full set; 105,829 in all (P. Warden, arXiv:1804.03209, and a count of yes and no).
CLIPS = {
    "backward": 1664, "bed": 2014, "bird": 2064, "cat": 2031, "dog": 2128, "down": 3917, "eight": 3787, "five": 4052,
    "follow": 1579, "forward": 1557, "four": 3728, "go": 3880, "happy": 2054, "house": 2113, "learn": 1575,
    "left": 3801, "marvin": 2100, "nine": 3934, "no": 3941, "off": 3745, "on": 3845, "one": 3890, "right": 3778,
    "seven": 3998, "sheila": 2022, "six": 3860, "stop": 3872, "three": 3727, "tree": 1759, "two": 3880, "up": 3723,
    "visual": 1592, "wow": 2123, "yes": 4044, "zero": 4052,
}  # fmt: skip
DISK_PER_CLIP = 33_000  # a clip of one second fills eight blocks of 4 KiB
DISK_BESIDE = 20_000_000  # noise and lists
SMALLEST_WAV = 46  # header and one sample


def fetch(data_dir, words, archive=None, url=URL, sha256=SHA256, progress=None, pauses=PAUSES_S):
    """Put the clips of `words` below `data_dir` and return their folder; nothing is fetched where they are whole.

    A folder of somebody else's making (torchaudio's, a subset placed by hand) is used as it is or refused, never
    touched. One that this function made is made anew when words are missing, with its old words kept. `archive`
    takes a local file instead of `url`. progress(bytes_done, bytes_total or None) follows the archive; `pauses` are
    the seconds before new attempts. Raises KwsError; the folder is then as it was before.
    """
    folder = Path(os.path.expanduser(data_dir)) / FOLDER
    try:
        if folder.exists() and read_marker(folder) is None:
            check_whole(folder, words)
        if diagnose(folder, words) == (None, None):
            return folder
        _check_words(words)
        if archive is not None:
            _open(archive, url, pauses).close()  # a wrong path is told before anything is made
        place = folder.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            part, old = (place.with_name(f".{place.name}.{end}") for end in ("part", "old"))
            if read_marker(part) and not place.exists():  # complete, but killed before the last rename
                os.rename(part, place)
            if diagnose(place, words) != (None, None):
                kept = (read_marker(place) or {}).get("words", ())
                _remove(part)
                _remove(old)
                try:
                    _fill(part, sorted({*words, *kept} & set(CLIPS)), archive, url, sha256, progress, pauses)
                except BaseException:
                    _remove(part)
                    raise
                _put_in_place(part, place, old)
            _remove(old)
    except OSError as error:  # of writing; what is wrong with the archive is told where it is read
        reason = error.strerror or one_line(error)
        raise KwsError(
            f"{folder.parent}: cannot be written ({reason}); mend that, or take another folder with --root"
        ) from error
    return folder


def check_whole(folder, words):
    """Raise KwsError, with the command that mends it, unless the clips of `words` in `folder` are whole.

    Whole means: both lists are there, every clip that they name for these words is there and not empty, and each
    word has as many clips as the marker says, or as the full set has where the lists are the full set's. It reads
    the lists and the folders' entries, no clip.
    """
    fault, command = diagnose(folder, words)
    if fault:
        raise KwsError(f"data: {folder} {fault}; run: {command}")


def diagnose(folder, words):
    """Return (what is wrong with the data in `folder`, the command that mends it), (None, None) if they are whole."""
    folder = Path(folder)
    command = _command(folder, words)
    if not folder.is_dir():
        left = folder.with_name(f".{folder.name}.part").exists()
        return "was not fetched to its end" if left else "is not there", command
    marker = read_marker(folder)
    try:
        fault = _fault(folder, words, marker)
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


def _fault(folder, words, marker):
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
    if (full or marker) and not wav_sizes(folder / NOISE):
        return f"there is no recording in {NOISE}"
    return None


def wav_sizes(folder):
    """Return {name: bytes} of the WAV files in a folder; none where it is missing."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".wav")}


def _command(folder, words):
    parts = ["kws data"]
    if folder.name != PurePosixPath(FOLDER).name:
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


def _remove(folder):
    shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(part, place, old):
    """Rename `part` to `place`. A kill between the renames leaves a complete `part`, which the next fetch takes."""
    if place.exists():
        if read_marker(place) is None:
            _remove(part)
            raise KwsError(f"{place}: appeared during the fetch and is not ours; remove it and run kws data again")
        os.rename(place, old)
    os.rename(part, place)


def _check_words(words):
    for word in words:
        if word not in CLIPS:
            near = difflib.get_close_matches(word, CLIPS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its words are: {', '.join(CLIPS)}"
            raise KwsError(f"words: Speech Commands has no {one_line(word)!r}; {hint}")


@contextlib.contextmanager
def _alone(place):
    """Hold the lock of one data folder. The kernel drops it with the process, however that ends."""
    import fcntl

    with open(place.with_name(f".{place.name}.lock"), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KwsError(f"{place}: another process is fetching it now; wait until that ends") from None
        yield


def _fill(part, words, archive, url, sha256, progress, pauses):
    """Write the clips of `words` and what belongs to them into the new folder `part`, the marker last."""
    room = DISK_BESIDE + DISK_PER_CLIP * sum(CLIPS[word] for word in words)
    free = shutil.disk_usage(part.parent).free
    if free < room:
        raise KwsError(
            f"{part.parent}: {free / 1e6:,.0f} MB are free, but {', '.join(words)} need {room / 1e6:,.0f} MB; "
            "free some, or name a folder elsewhere with --root"
        )
    part.mkdir()
    for name in (*words, NOISE):
        (part / name).mkdir()
    clips = dict.fromkeys(words, 0)
    name = str(archive or url)
    with _open(archive, url, pauses) as source:
        stream = Hashed(source, name)
        for path, content in members(stream, name, lambda path: _is_chosen(path, words)):
            if progress:
                progress(stream.count, stream.total)
            if content is None:
                continue
            room -= len(content)
            if room < 0:
                raise KwsError(
                    f"{name}: holds more of {', '.join(words)} than Speech Commands does; do not trust this archive"
                )
            try:
                with open(part / path, "xb") as file:
                    file.write(content)
            except FileExistsError:
                raise KwsError(f"{name}: holds {path} twice; do not trust this archive") from None
            if path.parent.name in clips:
                clips[path.parent.name] += 1
    found = stream.hash.hexdigest()
    if found != sha256:
        raise KwsError(
            f"{name}: is not speech_commands_v0.02.tar.gz (sha256 is {found}, not {sha256}); nothing was kept, "
            "fetch it again"
        )
    marker = {"words": words, "clips": clips, "sha256": sha256}
    fault = _fault(part, words, marker)
    if fault:
        raise KwsError(f"{name}: is not whole ({fault}); nothing was kept")
    os.sync()  # the clips reach the disk before the marker and the rename that vouch for them
    write_json(part / MARKER, marker)


def _open(archive, url, pauses):
    if archive is None:
        return Download(url, pauses)
    try:
        return _LocalArchive(archive)
    except OSError as error:
        raise KwsError(
            f"{archive}: cannot be read ({error.strerror}); give the path of speech_commands_v0.02.tar.gz"
        ) from error


class _LocalArchive(io.FileIO):
    def __init__(self, path):
        super().__init__(path)
        self.total = os.fstat(self.fileno()).st_size


def _is_chosen(path, words):
    parts = path.parts
    if len(parts) == 1:
        return path.name in KEPT_FILES
    folder, name = parts if len(parts) == 2 else (None, "")
    if folder == NOISE:
        return re.fullmatch(r"\w{1,80}\.wav", name, re.ASCII) is not None
    return folder in words and re.fullmatch(r"[0-9a-z]{1,40}_nohash_[0-9]{1,4}\.wav", name) is not None
