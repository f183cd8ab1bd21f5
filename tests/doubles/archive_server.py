"""A small archive in the layout of Speech Commands, and a loopback server that serves it with chosen faults."""

import gzip
import hashlib
import io
import random
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ("no", "right", "yes")
SPEAKERS = 12


def wav(samples, seed):
    """Return the bytes of a 16 kHz mono WAV of noise, which gzip cannot compress."""
    data = random.Random(seed).randbytes(2 * samples)
    header = b"RIFF" + (36 + len(data)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    header += b"".join(
        n.to_bytes(size, "little") for n, size in ((1, 2), (1, 2), (16000, 4), (32000, 4), (2, 2), (16, 2))
    )
    return header + b"data" + len(data).to_bytes(4, "little") + data


def files():
    """Return {path: bytes} of a data set of three words, 12 speakers each; the lists name the first four."""
    content, lists = {}, {"validation_list.txt": [], "testing_list.txt": []}
    for word in WORDS:
        for n in range(SPEAKERS):
            path = f"{word}/{n:08x}_nohash_0.wav"
            content[path] = wav(2000, path)
            if n < 4:
                lists["validation_list.txt" if n < 2 else "testing_list.txt"].append(path)
    content["_background_noise_/white_noise.wav"] = wav(8000, "noise")
    content["_background_noise_/README.md"] = b"six recordings\n"
    content |= {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in lists.items()}
    return content | {"LICENSE": b"CC BY 4.0\n", "README.md": b"Speech Commands\n"}


def add(tar, path, content=b"", **fields):
    """Append a member whose header has `fields` changed."""
    member = tarfile.TarInfo(path)
    member.size = len(content)
    for name, value in fields.items():
        setattr(member, name, value)
    tar.addfile(member, io.BytesIO(content) if content else None)


def pack(content, extra=None):
    """Return the bytes of the .tar.gz with the members of `content`; extra(tar) may append others."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("./", *(f"./{name}" for name in (*WORDS, "_background_noise_"))):
            add(tar, folder, type=tarfile.DIRTYPE)
        for path, data in content.items():
            add(tar, f"./{path}", data)
        if extra:
            extra(tar)
    return gzip.compress(buffer.getvalue(), 1, mtime=0)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class ArchiveServer(ThreadingHTTPServer):
    """Serves `body` on a free loopback port. Each request takes one element of each list; then there are no faults.

    breaks: bytes after which the connection is closed. statuses: HTTP errors. etags: versions (the last one is used
    again). ranges: whether Range is supported. announced: a wrong Content-Length. delay_s: pause after every 8 KiB.
    stalls: seconds of silence after a break's bytes. `requests` has the Range headers, `conditions` the If-Range ones.
    """

    daemon_threads = True

    def __init__(self, body, breaks=(), statuses=(), etags=('"1"',), ranges=True, announced=None, delay_s=0, stalls=0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.ranges, self.announced, self.delay_s, self.stalls = body, ranges, announced, delay_s, stalls
        self.breaks, self.statuses, self.etags = list(breaks), list(statuses), list(etags)
        self.requests, self.conditions = [], []
        self.url = f"http://127.0.0.1:{self.server_port}/speech_commands_v0.02.tar.gz"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass  # the tests close connections on purpose


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        server.conditions.append(self.headers.get("If-Range"))
        etag = server.etags.pop(0) if len(server.etags) > 1 else server.etags[0]
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        total = len(server.body) if server.announced is None else server.announced
        start = int(wanted[6:-1]) if wanted and server.ranges else 0
        if start >= len(server.body):
            self.send_error(416)
            return
        if start and self.headers.get("If-Range") in (None, etag):
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            start = 0
            self.send_response(200)
        self.send_header("Content-Length", str(total - start))
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        cut = server.breaks.pop(0) if server.breaks else len(server.body)
        data = server.body[start : start + cut]
        for n in range(0, len(data), 8192):
            self.wfile.write(data[n : n + 8192])
            time.sleep(server.delay_s)
        if start + cut < len(server.body):
            time.sleep(server.stalls)

    def log_message(self, *arguments):
        pass
