"""The members of a .tar.gz of unknown origin, in one pass, each checked before anything is written."""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from kws.errors import KwsError
from kws.formatting import one_line

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bounds; Speech Commands v0.02 has 2.3 GB, 3.4 GB unpacked, 105,829 clips, its longest recording 3 MB.
LARGEST_ARCHIVE = 4_000_000_000
LARGEST_UNPACKED = 6_000_000_000
LARGEST_MEMBER = 10_000_000
MOST_MEMBERS = 200_000


Chunks = Generator[tuple[bytes, int | None], None, None]  # bytes in order, each with the size of all, None if unknown


class Archive(io.RawIOBase):
    """A stream of bytes with its sha256 (`hash`), bytes read (`count`) and in all (`total`); `name` is for messages."""

    def __init__(self, chunks: Chunks, name: str) -> None:
        self.name = name
        self.hash, self.count = hashlib.sha256(), 0
        self.total: int | None = None
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._rest:
            self._rest, self.total = next(self._chunks, (b"", self.total))
        view = memoryview(buffer)
        data, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(data)] = data
        self.hash.update(data)
        self.count += len(data)
        if self.count > LARGEST_ARCHIVE:
            raise KwsError(f"{self.name}: has more than {LARGEST_ARCHIVE:,} bytes; it is not Speech Commands v0.02")
        return len(data)


def members(
    archive: Archive, is_chosen: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    """Yield (path, content) of every member: its bytes where is_chosen(path), else None; then read to the end.

    Raises KwsError at a damaged archive and at what no data set has: a path outside the folder, a link, a device, a
    size or a number beyond the bounds above.
    """
    compressed = io.BufferedReader(archive, 1 << 16)
    try:
        # mode "r:" on our own unpacking instead of "r|gz", which misses a corrupt or missing end of the gzip stream
        with tarfile.open(fileobj=_Unpacked(fileobj=compressed), mode="r:") as tar:
            count = 0
            while (member := tar.next()) is not None:
                count += 1
                path = _checked_path(member, count, archive.name)
                content = None
                if is_chosen(path) and (file := tar.extractfile(member)):
                    content = file.read(member.size)
                    if len(content) != member.size:
                        raise EOFError("it ends within a file")
                yield path, content
        while compressed.read(1 << 16):
            pass
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, RecursionError) as error:
        raise KwsError(
            f"{archive.name}: is a damaged archive ({one_line(error)}); nothing was stored, download it again"
        ) from error


class _Unpacked(gzip.GzipFile):
    """Rejects one huge read: tarfile trusts the sizes of its extended headers."""

    def read(self, size: int | None = None) -> bytes:
        if size is None or not 0 <= size <= LARGEST_MEMBER:
            raise tarfile.ReadError(f"a header of {size or 0:,} bytes")
        return super().read(size)


def _checked_path(member: tarfile.TarInfo, count: int, name: str) -> PurePosixPath:
    shown = one_line(member.name)
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise KwsError(f"{name}: has {shown!r}, a path outside the folder; do not trust this archive")
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        raise KwsError(f"{name}: has {shown!r}, a link or a device; do not trust this archive")
    if not 0 <= member.size <= LARGEST_MEMBER:
        raise KwsError(f"{name}: has {shown!r} of {member.size:,} bytes; do not trust this archive")
    if count > MOST_MEMBERS or member.offset_data + member.size > LARGEST_UNPACKED:
        raise KwsError(f"{name}: has more files or bytes than Speech Commands does; do not trust this archive")
    return path
