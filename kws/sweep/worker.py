"""One trial of a sweep in its own process, forked from a server that has already imported everything."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from io import BufferedWriter
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from kws.config import Config
from kws.errors import DISK_FAULTS, CannotWrite, KwsError, NotResumable, notify
from kws.files import lock
from kws.metrics import Row
from kws.training.provenance import SweepRecord

FAILED = 1  # exit status; a preempted trial exits with 128 + signal, as kws train does
LONGEST_TEMPORARY = 71  # bytes; /pymp-…/listener-… makes it the path of a socket: at most 103 on macOS, 107 on Linux
DATA_VARIABLE = "KWS_SWEEP_DATA"  # passes the data set to the fork server, which takes no arguments
Message = Row | KwsError  # from a trial to the engine: the row of each epoch, or why it exits with FAILED


def check_temporary_folder() -> None:
    """Raise KwsError if the path of the fork server's socket would be too long."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_TEMPORARY:
        raise KwsError(
            f"TMPDIR: {folder} is too long a path for a sweep's socket (at most {LONGEST_TEMPORARY} bytes); "
            "set TMPDIR to a shorter one, such as /tmp"
        )


def start_process(config: Config, target: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """Start `target(connection, *arguments)`, forked from a server that has all modules and `config`'s data.

    Returns the process and the connection that receives what it sends. A process has one server, started with its
    first child process and not changed afterwards; trials with other data read their data themselves. Raises OSError
    or EOFError if the server was killed; the next call starts a new one.
    """
    os.environ[DATA_VARIABLE] = json.dumps(config.as_dict())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kws.sweep.preload"])
    receiver, sender = context.Pipe(duplex=False)
    with sender:
        process = context.Process(target=target, args=(sender, *arguments), daemon=True)
        process.start()
    return process, receiver


def run_trial(
    connection: Connection, log_path: str, directory: str, config: Config, run_id: str, sweep: SweepRecord, jobs: int
) -> None:
    """Train `config` as run `run_id` in `directory`, resuming from its last checkpoint. `jobs`: trials at once.

    Sends a Message through `connection` after each epoch, and before exiting with FAILED. Output goes to `log_path`.
    """
    os.chdir(directory)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        log = _redirect_output(log_path)
        lock(log, "--set run_dir=DIR")  # an earlier process of this trial may still be exiting
        from kws.train import train

        with _temporary_files():
            train(config, run_id, True, sweep, on_epoch=connection.send, concurrent_jobs=jobs)
    except Exception as error:
        failure: Exception = error
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            failure = CannotWrite(f"{error.filename or log_path}: cannot be written ({error.strerror})")
        elif not isinstance(error, KwsError):
            failure = KwsError(f"{type(error).__name__}: {error}".splitlines()[0])
        # To receive a class of another module may import torch.
        kind = next(kind for kind in (NotResumable, CannotWrite, KwsError) if isinstance(failure, kind))
        connection.send(kind(str(failure)))
        with contextlib.suppress(OSError):
            notify(str(failure)) if isinstance(error, KwsError) else traceback.print_exc()
        sys.exit(FAILED)


def data_fingerprint(config: Config) -> str | None:
    """Return the fingerprint of `config`'s data, None if they cannot be read. A child process reads them."""
    try:
        _, receiver = start_process(config, _send_fingerprint, config)
        return str(receiver.recv())
    except (EOFError, OSError):  # each trial meets the same problem and reports it
        return None


def _send_fingerprint(connection: Connection, config: Config) -> None:
    from kws.data.labels import load_labelled

    with contextlib.suppress(Exception):
        corpus = load_labelled(config)
        connection.send(corpus.fingerprint)


@contextlib.contextmanager
def _temporary_files() -> Iterator[None]:
    """Remove this process's temporary files: W&B's client does so when Python exits, which a forked process skips.

    If W&B could not write to its own folder, it put the run's record among the temporary files: they are kept then.
    """
    tempfile.tempdir = tempfile.mkdtemp(prefix="kws-")
    try:
        yield
    finally:
        if not os.path.exists(os.path.join(tempfile.tempdir, "wandb")):
            shutil.rmtree(tempfile.tempdir, ignore_errors=True)


def _redirect_output(log_path: str) -> BufferedWriter:
    """Append stdout and stderr to `log_path`; return a second handle, which child processes do not inherit."""
    with open(log_path, "ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    return open(log_path, "ab")


def _exit_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
