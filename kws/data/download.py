"""One URL read as one stream of bytes that goes on across broken connections."""

import http.client
import io
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from kws import __version__
from kws.errors import KwsError
from kws.formatting import one_line

TIMEOUT_S = 30
PAUSES_S = (1, 2, 4, 8, 16)  # before the attempts that follow a break, as long as no new byte comes
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
OTHERWISE = "give the archive with --archive FILE, or work without it: kws data --synthetic"


class Download(io.RawIOBase):
    """The bytes of `url`, in order. `position` counts those read, `total` is the announced size or None.

    After a break it asks for the rest (Range, with If-Range where the server names a version); from a server that
    starts over it reads and drops the bytes that were seen. Raises KwsError when that is hopeless: no network, a
    certificate that is not trusted, a refusal, another file than before, or no new byte after all `pauses`.
    """

    def __init__(self, url, pauses=PAUSES_S):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise KwsError(f"{one_line(url)}: is not an http or https address; for a local file use --archive FILE")
        self.url, self.host, self.pauses = url, parts.hostname, pauses
        self.position, self.total = 0, None
        self._version = None  # ETag or Last-Modified of the first answer
        self._response = None
        self._breaks = 0  # since the last byte that was new

    def readable(self):
        return True

    def readinto(self, buffer):
        while True:
            try:
                if self._response is None:
                    self._response = self._connect()
                data = self._response.read1(len(buffer))
                if not data and self.total is not None and self.position < self.total:
                    raise ConnectionError(f"the connection ended at byte {self.position:,} of {self.total:,}")
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in TRY_AGAIN:
                    raise self._refusal(error.code) from error
                reason = f"the server answers {error.code} {http.client.responses.get(error.code, '')}".strip()
            except ValueError as error:  # malformed chunks, an address that cannot be encoded
                raise KwsError(f"{self.url}: cannot be read ({one_line(error)}); {OTHERWISE}") from error
            except (OSError, http.client.HTTPException) as error:
                reason = self._reason(error)
            else:
                self._breaks = 0
                buffer[: len(data)] = data
                self.position += len(data)
                return len(data)
            self._pause(reason)

    def close(self):
        if self._response is not None:
            self._response.close()
            self._response = None
        super().close()

    def _connect(self):
        headers = {"User-Agent": f"kws/{__version__}", "Accept-Encoding": "identity"}
        if self.position:
            headers["Range"] = f"bytes={self.position}-"
            if self._version:
                headers["If-Range"] = self._version
        response = urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=TIMEOUT_S)
        version, start, total = _describe(response)
        if self.position == 0:
            self._version, self.total = version, total
        elif (version, total) != (self._version, self.total) or start > self.position:
            response.close()
            raise KwsError(f"{self.url}: changed on the server during the fetch; start again, or {OTHERWISE}")
        self._skip(response, self.position - start)
        return response

    def _skip(self, response, count):
        while count:
            data = response.read1(min(count, 1 << 16))
            if not data:
                response.close()
                raise ConnectionError("the connection ended before the place of the last break")
            count -= len(data)

    def _refusal(self, code):
        if code == 416:
            return KwsError(
                f"{self.url}: ends at byte {self.position:,}, but {self.total or 0:,} were announced; "
                f"try again later, or {OTHERWISE}"
            )
        name = http.client.responses.get(code, "no such answer is known")
        return KwsError(f"{self.url}: the server answers {code} {name}; {OTHERWISE}")

    def _reason(self, error):
        """Return why the connection broke, in words. Raises KwsError where another attempt cannot help."""
        cause = getattr(error, "reason", error)  # urllib wraps what happens while it connects
        words = one_line(getattr(cause, "strerror", None) or cause or type(cause).__name__)
        if isinstance(cause, ssl.SSLError) and (self.position == 0 or isinstance(cause, ssl.SSLCertVerificationError)):
            raise KwsError(
                f"{self.host}: no secure connection ({words}); set SSL_CERT_FILE to your network's certificates, "
                f"or {OTHERWISE}"
            ) from error
        # Raised while connecting, before any byte: a name or a host that is not there, a closed network.
        if isinstance(error, urllib.error.URLError) and self.position == 0 and not isinstance(cause, TimeoutError):
            raise KwsError(f"{self.host}: cannot be reached ({words}); check the network, {OTHERWISE}") from error
        return words

    def _pause(self, reason):
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._breaks == len(self.pauses):
            raise KwsError(
                f"{self.url}: broke off {self._breaks + 1} times at byte {self.position:,} ({reason}); "
                f"try again later, or {OTHERWISE}"
            )
        time.sleep(self.pauses[self._breaks])
        self._breaks += 1


def _describe(response):
    """Return (version or None, first byte, size of the whole file or None) of an answer."""
    headers = response.headers
    version = headers.get("ETag")
    if version is None or version.startswith("W/"):  # a weak tag does not promise the same bytes
        version = headers.get("Last-Modified")
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", headers.get("Content-Range", "").strip())
        if span is None:
            raise http.client.HTTPException("a part came without its place in the file")
        return version, int(span[1]), None if span[2] == "*" else int(span[2])
    return version, 0, response.length
