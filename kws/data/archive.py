"""The members of a .tar.gz of unknown origin, in one pass, each checked before anything is written."""

import gzip
import hashlib
import io
import tarfile
import zlib
from pathlib import PurePosixPath

from kws.errors import KwsError
from kws.formatting import one_line

# Bounds; Speech Commands v0.02 has 2.3 GB, 3.4 GB unpacked, 105,829 clips, its longest recording 3 MB.
LARGEST_ARCHIVE = 4_000_000_000
LARGEST_UNPACKED = 6_000_000_000
LARGEST_MEMBER = 10_000_000
MOST_MEMBERS = 200_000


class Hashed(io.RawIOBase):
    """`source` with the sha256 (`hash`) and number (`count`) of the bytes that have passed."""

    def __init__(self, source, name):
        self._source, self._name = source, name
        self.hash, self.count = hashlib.sha256(), 0

    @property
    def total(self):
        """The announced size in bytes, or None."""
        return self._source.total

    def readable(self):
        return True

    def readinto(self, buffer):
        count = self._source.readinto(buffer)
        self.hash.update(memoryview(buffer)[:count])
        self.count += count
        if self.count > LARGEST_ARCHIVE:
            raise KwsError(f"{self._name}: has more than {LARGEST_ARCHIVE:,} bytes; it is not Speech Commands v0.02")
        return count


def members(stream, name, is_chosen):
    """Yield (path, content) of every member: its bytes where is_chosen(path), else None; then read to the end.

    `stream` is a raw byte stream, `name` what messages call it. Raises KwsError at a damaged archive and at what no
    data set holds: a path that leaves the folder, a link, a device, a size or a number beyond the bounds above.
    """
    compressed = io.BufferedReader(stream, 1 << 16)
    try:
        # mode "r:" on our own unpacking instead of "r|gz", which overlooks a corrupt or missing end of the gzip stream
        with tarfile.open(fileobj=_Unpacked(fileobj=compressed), mode="r:") as tar:
            count = 0
            while (member := tar.next()) is not None:
                count += 1
                path = _checked_path(member, count, name)
                content = None
                if member.isreg() and is_chosen(path):
                    content = tar.extractfile(member).read(member.size)
                    if len(content) != member.size:
                        raise EOFError("it ends within a file")
                yield path, content
        while compressed.read(1 << 16):
            pass
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, RecursionError) as error:
        raise KwsError(f"{name}: is a damaged archive ({one_line(error)}); nothing was kept, fetch it again") from error


class _Unpacked(gzip.GzipFile):
    """Refuses one huge read: tarfile takes the sizes of its extended headers on trust."""

    def read(self, size=-1):
        if not 0 <= size <= LARGEST_MEMBER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return super().read(size)


def _checked_path(member, count, name):
    shown = one_line(member.name)
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise KwsError(f"{name}: holds {shown!r}, a path that leaves the folder; do not trust this archive")
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        raise KwsError(f"{name}: holds {shown!r}, a link or a device; do not trust this archive")
    if not 0 <= member.size <= LARGEST_MEMBER:
        raise KwsError(f"{name}: holds {shown!r} of {member.size:,} bytes; do not trust this archive")
    if count > MOST_MEMBERS or member.offset_data + member.size > LARGEST_UNPACKED:
        raise KwsError(f"{name}: holds more files or bytes than Speech Commands does; do not trust this archive")
    return path
