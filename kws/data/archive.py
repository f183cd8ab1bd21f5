"""The archive of the full set: its bytes from a URL, and its members in one pass, checked before anything is written.

A download is resumed after broken connections. The archive's origin is unknown until its sha256 is.
"""

import gzip
import hashlib
import http.client
import io
import re
import ssl
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import PurePosixPath

from kws import __version__
from kws.errors import KwsError
from kws.formatting import one_line

TIMEOUT_S = 30
PAUSES_S = (1, 2, 4, 8, 16)  # before each new attempt after a break, until new bytes arrive
RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504)
OTHERWISE = "give the archive with --archive FILE, or work without it: kws data --synthetic"

# Bounds; Speech Commands v0.02 has 2.3 GB, 3.4 GB unpacked, 105,829 clips, its longest recording 3 MB.
LARGEST_ARCHIVE = 4_000_000_000
LARGEST_UNPACKED = 6_000_000_000
LARGEST_MEMBER = 10_000_000
MOST_MEMBERS = 200_000

Chunks = Generator[tuple[bytes, int | None], None, None]  # bytes in order, each with the size of all, None if unknown


def download(url: str, pauses: Sequence[float] = PAUSES_S) -> Chunks:
    """Yield the bytes of `url` in order, each with the announced size of all, None if there is none.

    After a break it asks for the rest (Range, with If-Range where the server names a version); from a server that
    starts over it skips the bytes that it has. Raises KwsError where retrying cannot help: no network, a certificate
    that is not trusted, a final HTTP error, a file that changed, or no new byte after all `pauses`.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise KwsError(f"{one_line(url)}: is not an http or https address; for a local file use --archive FILE")
    position, total, breaks = 0, None, 0
    version: str | None = None  # ETag or Last-Modified of the first answer
    while True:
        try:
            with _connect(url, position, version) as response:
                found_version, start, found_total = _describe(response)
                if position == 0:
                    version, total = found_version, found_total
                elif (found_version, found_total) != (version, total) or start > position:
                    raise KwsError(f"{url}: changed on the server during the download; start again, or {OTHERWISE}")
                while data := response.read1(1 << 16):
                    new = data[max(0, position - start) :]  # the server may have started over
                    start += len(data)
                    if new:
                        position, breaks = start, 0
                        yield new, total
                if start >= position and (total is None or position >= total):
                    return
                raise ConnectionError(f"the connection ended at byte {start:,} of {total or position:,}")
        except ValueError as error:  # malformed chunks, an address that cannot be encoded
            raise KwsError(f"{url}: cannot be read ({one_line(error)}); {OTHERWISE}") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                raise KwsError(
                    f"{url}: ends at byte {position:,}, but {total or 0:,} were announced; "
                    f"try again later, or {OTHERWISE}"
                ) from error
            reason = _reason(error, url, parts.hostname, position == 0)
        if breaks == len(pauses):
            raise KwsError(
                f"{url}: failed {breaks + 1} times at byte {position:,} ({reason}); try again later, or {OTHERWISE}"
            )
        time.sleep(pauses[breaks])
        breaks += 1


def _connect(url: str, position: int, version: str | None) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"kws/{__version__}", "Accept-Encoding": "identity"}
    if position:
        headers["Range"] = f"bytes={position}-"
        if version:
            headers["If-Range"] = version
    request = urllib.request.Request(url, headers=headers)
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    return response


def _reason(error: Exception, url: str, host: str, at_start: bool) -> str:
    """Return why the connection failed. Raises KwsError where another attempt cannot help."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        answer = f"the server answers {error.code} {http.client.responses.get(error.code, '')}".strip()
        if error.code not in RETRY_STATUSES:
            raise KwsError(f"{url}: {answer}; {OTHERWISE}") from error
        return answer
    cause = getattr(error, "reason", error)  # urllib wraps what happens while it connects
    reason = one_line(getattr(cause, "strerror", None) or cause or type(cause).__name__)
    if isinstance(cause, ssl.SSLError) and (at_start or isinstance(cause, ssl.SSLCertVerificationError)):
        raise KwsError(
            f"{host}: no secure connection ({reason}); set SSL_CERT_FILE to your network's certificates, or {OTHERWISE}"
        ) from error
    # Raised while connecting, before any byte: a name or a host that does not exist, a closed network.
    if isinstance(error, urllib.error.URLError) and at_start and not isinstance(cause, TimeoutError):
        raise KwsError(f"{host}: cannot be reached ({reason}); check the network, {OTHERWISE}") from error
    return reason


def _describe(response: http.client.HTTPResponse) -> tuple[str | None, int, int | None]:
    """Return (version or None, first byte, size of the whole file or None) of an answer."""
    headers = response.headers
    version = headers.get("ETag")
    if version is None or version.startswith("W/"):  # a weak tag does not promise the same bytes
        version = headers.get("Last-Modified")
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", headers.get("Content-Range", "").strip())
        if span is None:
            raise http.client.HTTPException("a partial answer came without its position in the file")
        return version, int(span[1]), None if span[2] == "*" else int(span[2])
    return version, 0, response.length


class Archive(io.BufferedIOBase):
    """A stream of bytes with its sha256 (`hash`), bytes read (`count`) and in all (`total`); `name` is for messages."""

    def __init__(self, chunks: Chunks, name: str) -> None:
        self.name = name
        self.hash, self.count = hashlib.sha256(), 0
        self.total: int | None = None
        self._chunks, self._rest = chunks, b""

    def read(self, size: int | None = None, /) -> bytes:
        while len(self._rest) < (size or 0) and (chunk := next(self._chunks, None)):
            self._rest, self.total = self._rest + chunk[0], chunk[1]
        data, self._rest = self._rest[:size], self._rest[size:]
        self.hash.update(data)
        self.count += len(data)
        if self.count > LARGEST_ARCHIVE:
            raise KwsError(f"{self.name}: has more than {LARGEST_ARCHIVE:,} bytes; it is not Speech Commands v0.02")
        return data


def members(archive: Archive, chosen: re.Pattern[str]) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    """Yield (path, content) of every member: its bytes where `chosen` matches its path, else None; read to the end.

    Raises KwsError at a damaged archive and at what no data set has: a path outside the folder, a link, a device, a
    size or a number beyond the bounds above.
    """
    try:
        # mode "r:" on our own unpacking instead of "r|gz", which misses a corrupt or missing end of the gzip stream
        with tarfile.open(fileobj=_Unpacked(fileobj=archive), mode="r:") as tar:
            for count, member in enumerate(tar, 1):
                path = _checked_path(member, count, archive.name)
                file = tar.extractfile(member) if chosen.fullmatch(str(path)) else None
                yield path, file.read() if file else None
        while archive.read(1 << 16):
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
    shown = f"{name}: has {one_line(member.name)!r}"
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise KwsError(f"{shown}, a path outside the folder; do not trust this archive")
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        raise KwsError(f"{shown}, a link or a device; do not trust this archive")
    if not 0 <= member.size <= LARGEST_MEMBER:
        raise KwsError(f"{shown} of {member.size:,} bytes; do not trust this archive")
    if count > MOST_MEMBERS or member.offset_data + member.size > LARGEST_UNPACKED:
        raise KwsError(f"{name}: has more files or bytes than Speech Commands does; do not trust this archive")
    return path
