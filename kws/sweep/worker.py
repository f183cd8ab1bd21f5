"""One trial of a sweep in its own process, forked from a server that has already imported everything."""

import contextlib
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedWriter
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

from kws.config import Config
from kws.errors import KwsError, NotResumable, notify
from kws.metrics import Row

FAILED = 1  # exit status; a preempted trial exits with 128 + signal, as kws train does
LONGEST_TEMPORARY = 71  # bytes; /pymp-…/listener-… makes it the path of a socket: at most 103 on macOS, 107 on Linux
DATA_VARIABLE = "KWS_SWEEP_DATA"  # passes the data set to the fork server, which takes no arguments


@dataclass(frozen=True)
class Failure:
    """Why a trial failed. `resumable` is False if the cause is its checkpoint."""

    reason: str
    resumable: bool = True


Message = Row | Failure  # from a trial to the engine: the row of each epoch, or one Failure before it exits


def check_temporary_folder() -> None:
    """Raise KwsError if the path of the fork server's socket would be too long."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_TEMPORARY:
        raise KwsError(
            f"TMPDIR: {folder} is too long a path for a sweep's socket (at most {LONGEST_TEMPORARY} bytes); "
            "set TMPDIR to a shorter one, such as /tmp"
        )


def fork_server(config: Config) -> ForkServerContext:
    """Return the multiprocessing context whose processes are forked from a server with all modules and `config`'s data.

    A process has one server, started with its first child process and not changed afterwards; trials with other data
    read their data themselves.
    """
    os.environ[DATA_VARIABLE] = json.dumps([config.data_dir, config.data, config.words])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kws.sweep.preload"])
    return context


def run_trial(
    connection: Connection, log_path: str, directory: str, config: Config, run_id: str, sweep_id: str | None, jobs: int
) -> None:
    """Train `config` as run `run_id` in `directory`, resuming from its last checkpoint. `jobs`: trials at once.

    Sends a Message through `connection` after each epoch, and before exiting with FAILED. Output goes to `log_path`.
    """
    os.setsid()  # Ctrl-C in the terminal goes to the sweep alone, which then stops its trials
    os.chdir(directory)
    os.environ.setdefault("WANDB_MODE", "offline")
    lock = _redirect_output(log_path)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier process of this trial may still be exiting
        from kws.train import train

        with _temporary_files():
            train(config, run_id, True, sweep_id, on_epoch=connection.send, concurrent_jobs=jobs)
    except Exception as error:
        reason = str(error)
        if not isinstance(error, KwsError):
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        notify(reason)
        connection.send(Failure(reason, resumable=not isinstance(error, NotResumable)))
        sys.exit(FAILED)


def data_fingerprint(config: Config) -> str | None:
    """Return the fingerprint of `config`'s data, None if they cannot be read. A child process reads them."""
    context = fork_server(config)
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, config.data_dir, config.data, config.words)
    process = context.Process(target=_send_fingerprint, args=arguments, daemon=True)
    try:
        process.start()
        sender.close()
        return str(receiver.recv())
    except (EOFError, OSError):  # each trial meets the same problem and reports it
        return None


def _send_fingerprint(connection: Connection, data_dir: str, data: str, words: tuple[str, str]) -> None:
    os.setsid()  # as in run_trial
    from kws.data.corpus import load

    with contextlib.suppress(Exception):
        connection.send(load(data_dir, data, words).fingerprint)


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
