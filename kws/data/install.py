"""Atomic installation of a data set's folder: built beside its place under a hidden name, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kws.data.layout import MARKER, Marker, part_folder, read_marker
from kws.errors import KwsError
from kws.files import write_json


@contextmanager
def locked(folder: Path, wait: bool) -> Iterator[Path]:
    """Hold the lock of a data set's folder; yield the folder with its links resolved.

    The kernel releases the lock when the process ends, however it ends. Raises KwsError if another process holds it,
    unless `wait`.
    """
    import fcntl

    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KwsError(f"{folder}: another process is downloading it; wait until it ends") from None
        if read_marker(part_folder(folder)) and not folder.exists():  # complete: killed before the last rename
            os.rename(part_folder(folder), folder)
        yield folder


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, then rename it to `folder`, replacing what is there; needs the lock.

    On an exception the new folder is removed and `folder` stays as it was. A kill between the two renames leaves a
    complete new folder, which `locked` installs the next time.
    """
    part, old = part_folder(folder), folder.with_name(f".{folder.name}.old")
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir()
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if folder.exists():
        os.rename(folder, old)
    os.rename(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def write_marker(folder: Path, marker: Marker) -> None:
    """Mark a new folder as complete, once its clips are on the disk."""
    os.sync()
    write_json(folder / MARKER, marker)
