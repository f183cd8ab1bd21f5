"""The full data set: the chosen words of Speech Commands v0.02, fetched in one pass, whole or absent.

The archive (2.3 GB, 105,829 clips) is never kept: it is unpacked while it comes, only the chosen words, the
background noise and the lists are written, and its sha256 decides at the end whether they are moved into place.
"""

import contextlib
import io
import os
import re
import shutil
from pathlib import Path

from kws.data.archive import Hashed, members
from kws.data.download import PAUSES_S, Download
from kws.data.layout import (
    CLIPS,
    FOLDERS,
    LISTS,
    MARKER,
    NOISE_FOLDER,
    check_whole,
    check_words,
    diagnose,
    find_problem,
    read_marker,
)
from kws.errors import KwsError
from kws.files import write_json
from kws.formatting import one_line

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
KEPT_FILES = (*LISTS, "LICENSE", "README.md")
DISK_PER_CLIP = 33_000  # a clip of one second fills eight blocks of 4 KiB
DISK_BESIDE = 20_000_000  # noise and lists


def fetch(data_dir, words, archive=None, url=URL, sha256=SHA256, progress=None, pauses=PAUSES_S):
    """Put the clips of `words` below `data_dir` and return their folder; nothing is fetched where they are whole.

    A folder of somebody else's making (torchaudio's, a subset placed by hand) is used as it is or refused, never
    touched. One that this function made is made anew when words are missing, with its old words kept. `archive`
    takes a local file instead of `url`. progress(bytes_done, bytes_total or None) follows the archive; `pauses` are
    the seconds before new attempts. Raises KwsError; the folder is then as it was before.
    """
    folder = Path(os.path.expanduser(data_dir)) / "SpeechCommands" / FOLDERS["speech_commands"]
    try:
        if folder.exists() and read_marker(folder) is None:
            check_whole(folder, words)
        if diagnose(folder, words) == (None, None):
            return folder
        check_words(words)
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
    for name in (*words, NOISE_FOLDER):
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
    fault = find_problem(part, words, marker)
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
    if folder == NOISE_FOLDER:
        return re.fullmatch(r"\w{1,80}\.wav", name, re.ASCII) is not None
    return folder in words and re.fullmatch(r"[0-9a-z]{1,40}_nohash_[0-9]{1,4}\.wav", name) is not None
