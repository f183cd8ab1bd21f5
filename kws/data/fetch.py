"""The full data set: the chosen words of Speech Commands v0.02, downloaded in one pass and installed atomically.

The archive (2.3 GB, 105,829 clips) is not stored: it is unpacked while it is downloaded. Only the chosen words, the
background noise and the lists are written, and its sha256 decides at the end whether they are installed.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kws.config import SILENCE, UNKNOWN, WORD_SETS
from kws.data import layout
from kws.data.archive import PAUSES_S, Archive, Chunks, download, members
from kws.data.clips import LISTS, NOISE_FOLDER, Listing, list_folder, some
from kws.data.layout import CLIPS, Marker, locate, read_marker
from kws.errors import KwsError

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
TEST_SET_URL = "http://download.tensorflow.org/data/speech_commands_test_set_v0.02.tar.gz"
TEST_SET_SHA256 = "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df"
TEST_SET_CLIPS = 4890
KEPT_FILES = (*LISTS, "LICENSE", "README.md")
DISK_PER_CLIP = 33_000  # a clip of one second fills eight blocks of 4 KiB
DISK_EXTRA = 20_000_000  # noise and lists

Progress = Callable[[int, int | None], None]  # called with the archive's bytes so far and in all, None if unknown


def fetch(
    data_dir: str | Path,
    words: Sequence[str],
    archive: str | Path | None = None,
    url: str = URL,
    sha256: str = SHA256,
    progress: Progress | None = None,
    pauses: Sequence[float] = PAUSES_S,
) -> Path:
    """Install the clips of `words` below `data_dir` and return their folder; nothing is downloaded if it has them.

    A folder made by others (torchaudio, a subset copied by hand) is used or rejected, but never changed. One that this
    function made is replaced when words are missing; its words are kept. On an error, the folder stays as it was.

    Args:
        archive: a local file to use in place of `url`.
        pauses: seconds before each new attempt to connect.

    Raises:
        KwsError: no network, no disk space, a wrong archive, an incomplete folder made by others, unknown words.
    """
    folder = locate(data_dir, "speech_commands", words)
    if isinstance(layout.diagnose(folder, words), Listing):
        return folder
    if os.path.exists(folder) and read_marker(folder) is None:  # made by others: reported, with the command that helps
        layout.check_complete(folder, words)
    layout.check_words(words)
    _check_own_files(folder)
    if archive is not None:
        _check_readable(archive)  # a wrong path is reported before anything is created

    def fill(place: Path, part: Path) -> Marker:
        kept = (read_marker(place) or {}).get("words", [])
        with _open(archive, url, pauses) as stream:
            marker = _fill(part, sorted({*words, *kept} & set(CLIPS)), stream, sha256, progress)
        if place.exists() and read_marker(place) is None:
            raise KwsError(f"{place}: appeared during the download; remove it and run kws data again")
        return marker

    layout.install(folder, lambda place: isinstance(layout.diagnose(place, words), Listing), fill, wait=False)
    return folder


def fetch_test_set(
    data_dir: str | Path,
    archive: str | Path | None = None,
    url: str = TEST_SET_URL,
    sha256: str = TEST_SET_SHA256,
    progress: Progress | None = None,
    pauses: Sequence[float] = PAUSES_S,
) -> Path:
    """Install the official test set of the twelve-label task below `data_dir`, as `fetch` does; return its folder."""
    folder = layout.dataset_folder(data_dir, "test_set")
    if os.path.exists(folder) and read_marker(folder) is None:  # made by others: used as it is
        return folder
    if archive is not None:
        _check_readable(archive)

    def fill(place: Path, part: Path) -> Marker:
        labels = [*WORD_SETS["core10"], UNKNOWN, SILENCE]
        names = rf"LICENSE|README\.md|({'|'.join(labels)})/\w{{1,80}}(\.wav){{1,2}}"
        with _open(archive, url, pauses) as stream:
            _unpack(part, labels, names, TEST_SET_CLIPS * DISK_PER_CLIP, stream, sha256, progress)
        clips = {label: len(list((part / label).iterdir())) for label in labels}
        return {"words": labels, "clips": clips, "sha256": sha256}

    layout.install(folder, lambda place: read_marker(place) is not None, fill, wait=False)
    return folder


@contextlib.contextmanager
def _open(archive: str | Path | None, url: str, pauses: Sequence[float]) -> Iterator[Archive]:
    with contextlib.closing(download(url, pauses) if archive is None else _read(archive)) as chunks:
        yield Archive(chunks, str(archive or url))


def _check_own_files(folder: Path) -> None:
    """Raise KwsError where a folder that is to be replaced has files that are not from an earlier download."""
    marker = read_marker(folder) or {}
    if marker:
        known = {*marker["words"], *KEPT_FILES, NOISE_FOLDER}
        own = sorted(name for name in os.listdir(folder) if name not in known and not name.startswith("."))
        clips = list_folder(folder, marker["words"]).words
        own += [f"more clips of {word}" for word, count in marker["clips"].items() if len(clips[word]) > count]
        if own:
            raise KwsError(f"{folder}: has {some(own)}, which would be removed; move them to another folder first")


def _fill(part: Path, words: list[str], archive: Archive, sha256: str, progress: Progress | None) -> Marker:
    """Write the clips of `words`, the noise and the lists into the new folder `part`; return its marker."""
    names = "|".join(map(re.escape, KEPT_FILES))
    noise = rf"{NOISE_FOLDER}/\w{{1,80}}\.wav"
    clip = rf"({'|'.join(words)})/[0-9a-z]{{1,40}}_nohash_[0-9]{{1,4}}\.wav"
    room = DISK_EXTRA + DISK_PER_CLIP * sum(CLIPS[word] for word in words)
    _unpack(part, [*words, NOISE_FOLDER], f"{names}|{noise}|{clip}", room, archive, sha256, progress)
    listing = list_folder(part, words)
    clips = {word: len(listing.words[word]) for word in words}
    marker: Marker = {"words": words, "clips": clips, "sha256": sha256}
    problem = layout.find_problem(part, words, marker, listing)
    if problem:
        raise KwsError(f"{archive.name}: is incomplete ({problem}); nothing was stored")
    return marker


def _unpack(
    part: Path, folders: Sequence[str], names: str, room: int, archive: Archive, sha256: str, progress: Progress | None
) -> None:
    """Write the members that `names` matches, of `room` bytes at most, into `folders` of the new folder `part`."""
    what = ", ".join(name for name in folders if name != NOISE_FOLDER)
    free = shutil.disk_usage(part.parent).free
    if free < room:
        raise KwsError(
            f"{part.parent}: {free / 1e6:,.0f} MB are free, but {what} need {room / 1e6:,.0f} MB; "
            "free some space, or choose a folder on another disk with --root"
        )
    for folder in folders:
        (part / folder).mkdir()
    for path, content in members(archive, re.compile(names, re.ASCII)):
        if progress:
            progress(archive.count, archive.total)
        if content is None:
            continue
        room -= len(content)
        if room < 0:
            raise KwsError(f"{archive.name}: has more of {what} than Speech Commands does; do not trust this archive")
        try:
            with open(part / path, "xb") as file:
                file.write(content)
        except FileExistsError:
            raise KwsError(f"{archive.name}: has {path} twice; do not trust this archive") from None
    found = archive.hash.hexdigest()
    if found != sha256:
        name = "speech_commands_test_set_v0.02.tar.gz" if SILENCE in folders else "speech_commands_v0.02.tar.gz"
        raise KwsError(
            f"{archive.name}: is not {name} (sha256 is {found}, not {sha256}); nothing was stored, download it again"
        )


def _check_readable(archive: str | Path) -> None:
    try:
        open(archive, "rb").close()
    except OSError as error:
        raise KwsError(
            f"{archive}: cannot be read ({error.strerror}); give the path of speech_commands_v0.02.tar.gz"
        ) from error


def _read(archive: str | Path) -> Chunks:
    with open(archive, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while data := file.read(1 << 16):
            yield data, size
