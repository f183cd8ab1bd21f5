"""A stand-in for the W&B server on loopback, for tests with the real W&B client and command line.

    with WandbServer() as server:
        subprocess.run([...], env=server.environment(tmp_path))
        server.runs["abc"].rows

It is based on the client (wandb 0.31.0), not on the server. What it receives is in `runs`, `sweeps`, `artifacts` and
`views`; `unknown` lists the requests it has no answer for. Faults on demand: `fail`, `stop` and `start`, `down`,
`delay`, `reject_key`.
"""

import gzip
import json
import os
import random
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from doubles.wandb_graphql import State
from doubles.wandb_records import Refused

API_KEY = "0123456789abcdef" * 2 + "01234567"


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, owner: "WandbServer"):
        self.owner = owner
        self.open_sockets: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request, address):
        self.open_sockets.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request):
        self.open_sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, address):
        """Record every error except a client that disconnected."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.owner.crashes.append(repr(error))


class WandbServer:
    """The server, a context manager. Its state (runs, sweeps, ...) is kept over `stop` and `start`."""

    def __init__(self, seed: int = 0):
        self._listener = _Listener(0, self)
        self.port = self._listener.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.state = State(self.url, seed)
        self.runs, self.sweeps, self.artifacts = self.state.runs, self.state.sweeps, self.state.artifacts
        self.views, self.unknown = self.state.views, self.state.unknown
        self.operations = self.state.operations
        self.lock = threading.RLock()
        self.crashes: list[str] = []
        self.requests = 0
        self.failed = 0
        self.delay = 0.0
        self.at_once = self.most_at_once = 0  # requests in progress, delay included
        self.key_rejected = False
        self._chance = random.Random(seed)
        self._share, self._status = 0.0, 503
        self._thread: threading.Thread | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "WandbServer":
        self._serve()
        return self

    def __exit__(self, *exception):
        if self._timer:
            self._timer.cancel()
        self.stop()

    def artifact(self, name: str):
        """Return the newest committed version of an artifact."""
        return [one for one in self.artifacts.values() if one.name == name and one.state == "COMMITTED"][-1]

    def environment(self, folder, **more: str) -> dict[str, str]:
        """Return the complete environment of a process whose W&B client uses this server and writes to `folder`.

        `python` and `wandb` are those of this interpreter; the client retries soon after a failure.
        """
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        waits = {
            f"WANDB_X_{part}_RETRY_WAIT_{bound}_SECONDS": seconds
            for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
            for bound, seconds in (("MIN", "0.2"), ("MAX", "2"))
        }
        return {
            **inherited,
            **waits,
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_CONFIG_DIR": f"{folder}/wandb-config",
            "WANDB_CACHE_DIR": f"{folder}/wandb-cache",
            "WANDB_DATA_DIR": f"{folder}/wandb-data",
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), inherited["PATH"]]),
            **more,
        }

    def fail(self, share: float, status: int = 503):
        """From now on, answer this share of the requests with `status`, half of them after they took effect."""
        self._share, self._status = share, status

    def reject_key(self, rejected: bool = True):
        """From now on, reject the API key with status 401."""
        self.key_rejected = rejected

    def stop(self):
        """Stop: the port refuses connections, open ones are closed."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        if self._thread:
            listener.shutdown()
            self._thread.join()
        listener.server_close()
        for connection in list(listener.open_sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already closed

    def start(self):
        """Start again on the same port."""
        self._listener = _Listener(self.port, self)
        self._serve()

    def down(self, seconds: float):
        """Stop now and start again after `seconds`; returns at once."""
        self.stop()
        self._timer = threading.Timer(seconds, self.start)
        self._timer.start()

    def _serve(self):
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def draw_fault(self) -> str | None:
        """Return None, or when to fail this request: "before" or "after" it takes effect."""
        self.requests += 1
        if self._chance.random() >= self._share:
            return None
        self.failed += 1
        return self._chance.choice(["before", "after"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *words):
        pass

    def do_POST(self):
        self._respond()

    do_GET = do_PUT = do_POST

    def _respond(self):
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with owner.lock:
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
        if owner.delay:
            threading.Event().wait(owner.delay)
        with owner.lock:
            owner.at_once -= 1
            fault = owner.draw_fault()
            status, answer = (owner._status, b"") if fault == "before" else self._answer(body)
        if fault == "after":
            status, answer = owner._status, b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _answer(self, body: bytes) -> tuple[int, bytes]:
        state, path = self.server.owner.state, unquote(urlsplit(self.path).path)
        stored = path.removeprefix("/storage/").split("/", 2)
        if path.startswith("/storage/") and self.command == "PUT":
            return self._store(*stored, body)
        if path.startswith("/storage/"):
            return self._fetch(*stored)
        if self.server.owner.key_rejected:
            return 401, b'{"errors": [{"message": "invalid API key"}]}'
        if path == "/graphql":
            sent = json.loads(body)
            try:
                data = state.answer(sent["query"], sent.get("variables") or {})
                return 200, json.dumps({"data": data}).encode()
            except Refused as refused:
                return 400, json.dumps({"errors": [{"message": str(refused)}], "data": None}).encode()
        if path.startswith("/files/") and path.endswith("/file_stream"):
            try:
                return 200, json.dumps(state.stream(path.split("/")[-2], json.loads(body))).encode()
            except Refused as refused:
                return 404, str(refused).encode()
        state.unknown.append(f"{self.command} {path}")
        return 404, b""

    def _store(self, kind: str, owner: str, name: str, body: bytes) -> tuple[int, bytes]:
        state = self.server.owner.state
        if kind == "run":
            state.runs[owner].files[name] = body
        elif kind == "manifest":
            state.artifacts[owner].manifest = json.loads(body)
        else:
            state.artifacts[owner].files[name] = body
        return 200, b""

    def _fetch(self, kind: str, owner: str, name: str) -> tuple[int, bytes]:
        state = self.server.owner.state
        if kind == "manifest":
            return 200, json.dumps(state.artifacts[owner].manifest).encode()
        files = (state.runs if kind == "run" else state.artifacts)[owner].files
        return (200, files[name]) if name in files else (404, b"")
