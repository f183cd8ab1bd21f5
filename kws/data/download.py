"""One URL read as one stream of bytes that is resumed after broken connections."""

import http.client
import io
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kws import __version__
from kws.errors import KwsError
from kws.formatting import one_line

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TIMEOUT_S = 30
PAUSES_S = (1, 2, 4, 8, 16)  # before each new attempt after a break, until new bytes arrive
RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504)
OTHERWISE = "give the archive with --archive FILE, or work without it: kws data --synthetic"


class Download(io.RawIOBase):
    """The bytes of `url`, in order. `position` counts those read, `total` is the announced size or None.

    After a break it asks for the rest (Range, with If-Range where the server names a version); from a server that
    starts over it skips the bytes that it has. Raises KwsError where retrying cannot help: no network, a certificate
    that is not trusted, a final HTTP error, a file that changed, or no new byte after all `pauses`.
    """

    def __init__(self, url: str, pauses: Sequence[float] = PAUSES_S) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise KwsError(f"{one_line(url)}: is not an http or https address; for a local file use --archive FILE")
        self.url, self.host, self.pauses = url, parts.hostname, pauses
        self.position = 0
        self.total: int | None = None
        self._version: str | None = None  # ETag or Last-Modified of the first answer
        self._response: http.client.HTTPResponse | None = None
        self._breaks = 0  # since the last new byte

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        while True:
            try:
                if self._response is None:
                    self._response = self._connect()
                data = self._response.read1(len(view))
                if not data and self.total is not None and self.position < self.total:
                    raise ConnectionError(f"the connection ended at byte {self.position:,} of {self.total:,}")
            except ValueError as error:  # malformed chunks, an address that cannot be encoded
                raise KwsError(f"{self.url}: cannot be read ({one_line(error)}); {OTHERWISE}") from error
            except (OSError, http.client.HTTPException) as error:
                reason = self._reason(error)
            else:
                self._breaks = 0
                view[: len(data)] = data
                self.position += len(data)
                return len(data)
            self._drop_response()
            if self._breaks == len(self.pauses):
                raise KwsError(
                    f"{self.url}: failed {self._breaks + 1} times at byte {self.position:,} ({reason}); "
                    f"try again later, or {OTHERWISE}"
                )
            time.sleep(self.pauses[self._breaks])
            self._breaks += 1

    def close(self) -> None:
        self._drop_response()
        super().close()

    def _drop_response(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _connect(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"kws/{__version__}", "Accept-Encoding": "identity"}
        if self.position:
            headers["Range"] = f"bytes={self.position}-"
            if self._version:
                headers["If-Range"] = self._version
        request = urllib.request.Request(self.url, headers=headers)
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        version, start, total = _describe(response)
        if self.position == 0:
            self._version, self.total = version, total
        elif (version, total) != (self._version, self.total) or start > self.position:
            response.close()
            raise KwsError(f"{self.url}: changed on the server during the download; start again, or {OTHERWISE}")
        while start < self.position:  # the server started over
            data = response.read1(min(self.position - start, 1 << 16))
            if not data:
                response.close()
                raise ConnectionError("the connection ended before the position of the last break")
            start += len(data)
        return response

    def _reason(self, error: Exception) -> str:
        """Return why the connection failed. Raises KwsError where another attempt cannot help."""
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            answer = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
            if error.code == 416:
                raise KwsError(
                    f"{self.url}: ends at byte {self.position:,}, but {self.total or 0:,} were announced; "
                    f"try again later, or {OTHERWISE}"
                ) from error
            if error.code not in RETRY_STATUSES:
                raise KwsError(f"{self.url}: the server answers {answer}; {OTHERWISE}") from error
            return f"the server answers {answer}"
        cause = getattr(error, "reason", error)  # urllib wraps what happens while it connects
        reason = one_line(getattr(cause, "strerror", None) or cause or type(cause).__name__)
        if isinstance(cause, ssl.SSLError) and (self.position == 0 or isinstance(cause, ssl.SSLCertVerificationError)):
            raise KwsError(
                f"{self.host}: no secure connection ({reason}); set SSL_CERT_FILE to your network's certificates, "
                f"or {OTHERWISE}"
            ) from error
        # Raised while connecting, before any byte: a name or a host that does not exist, a closed network.
        if isinstance(error, urllib.error.URLError) and self.position == 0 and not isinstance(cause, TimeoutError):
            raise KwsError(f"{self.host}: cannot be reached ({reason}); check the network, {OTHERWISE}") from error
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
