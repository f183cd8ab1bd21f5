"""The full data set: the chosen words of Speech Commands v0.02, downloaded in one pass and installed atomically.

The archive (2.3 GB, 105,829 clips) is not stored: it is unpacked while it is downloaded. Only the chosen words, the
background noise and the lists are written, and its sha256 decides at the end whether they are installed.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from kws.data import layout
from kws.data.archive import PAUSES_S, Archive, Chunks, download, members
from kws.data.clips import LISTS, NOISE_FOLDER, Listing, list_folder, some
from kws.data.layout import CLIPS, Marker, locate, read_marker
from kws.errors import KwsError

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
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
        with contextlib.closing(download(url, pauses) if archive is None else _read(archive)) as chunks:
            stream = Archive(chunks, str(archive or url))
            marker = _fill(part, sorted({*words, *kept} & set(CLIPS)), stream, sha256, progress)
        if place.exists() and read_marker(place) is None:
            raise KwsError(f"{place}: appeared during the download; remove it and run kws data again")
        return marker

    layout.install(folder, lambda place: isinstance(layout.diagnose(place, words), Listing), fill, wait=False)
    return folder


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
    room = DISK_EXTRA + DISK_PER_CLIP * sum(CLIPS[word] for word in words)
    free = shutil.disk_usage(part.parent).free
    if free < room:
        raise KwsError(
            f"{part.parent}: {free / 1e6:,.0f} MB are free, but {', '.join(words)} need {room / 1e6:,.0f} MB; "
            "free some space, or choose a folder on another disk with --root"
        )
    for folder in (*words, NOISE_FOLDER):
        (part / folder).mkdir()
    names = "|".join(map(re.escape, KEPT_FILES))
    noise = rf"{NOISE_FOLDER}/\w{{1,80}}\.wav"
    clip = rf"({'|'.join(words)})/[0-9a-z]{{1,40}}_nohash_[0-9]{{1,4}}\.wav"
    for path, content in members(archive, re.compile(f"{names}|{noise}|{clip}", re.ASCII)):
        if progress:
            progress(archive.count, archive.total)
        if content is None:
            continue
        room -= len(content)
        if room < 0:
            raise KwsError(
                f"{archive.name}: has more of {', '.join(words)} than Speech Commands does; do not trust this archive"
            )
        try:
            with open(part / path, "xb") as file:
                file.write(content)
        except FileExistsError:
            raise KwsError(f"{archive.name}: has {path} twice; do not trust this archive") from None
    found = archive.hash.hexdigest()
    if found != sha256:
        raise KwsError(
            f"{archive.name}: is not speech_commands_v0.02.tar.gz (sha256 is {found}, not {sha256}); "
            "nothing was stored, download it again"
        )
    listing = list_folder(part, words)
    clips = {word: len(listing.words[word]) for word in words}
    marker: Marker = {"words": words, "clips": clips, "sha256": sha256}
    problem = layout.find_problem(part, words, marker, listing)
    if problem:
        raise KwsError(f"{archive.name}: is incomplete ({problem}); nothing was stored")
    return marker


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
