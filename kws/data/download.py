"""The bytes of one URL; the download is resumed after broken connections."""

import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

from kws import __version__
from kws.data.archive import Chunks
from kws.errors import KwsError
from kws.formatting import one_line

TIMEOUT_S = 30
PAUSES_S = (1, 2, 4, 8, 16)  # before each new attempt after a break, until new bytes arrive
RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504)
OTHERWISE = "give the archive with --archive FILE, or work without it: kws data --synthetic"


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
