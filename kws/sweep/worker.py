"""One cell of a sweep, in a process of its own: forked from a server that has imported everything already."""

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

from kws.errors import KwsError, NotResumable

FAILED = 1  # exit status; a preempted cell exits with 128 + signal, as kws train does
LONGEST_TEMPORARY = 71  # bytes; /pymp-…/listener-… makes it the path of a socket: at most 103 on macOS, 107 on Linux
DATA_VARIABLE = "KWS_SWEEP_DATA"  # tells the fork server, which takes no arguments, what data to read


def check_temporary_folder():
    """Raise KwsError where the fork server could not have its socket among the temporary files."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_TEMPORARY:
        raise KwsError(
            f"TMPDIR: {folder} is too long a path for a sweep's socket (at most {LONGEST_TEMPORARY} bytes); "
            "set TMPDIR to a shorter one, such as /tmp"
        )


def fork_server(config, *modules):
    """Return the context of multiprocessing whose processes are forked from a server that has what a run needs.

    Modules, `modules` among them, are imported there and `config`'s data read. A process has one server, which starts
    with its first process and stays as it is from then on; cells with other data read them themselves.
    """
    os.environ[DATA_VARIABLE] = json.dumps([config.data_dir, config.data, config.words])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kws.sweep.preload", *modules])
    return context


def run_cell(connection, log_path, directory, config, run_id, sweep_id, cpus):
    """Train `config` as run `run_id` on `cpus` CPUs, going on from its last checkpoint if it has one.

    Sends ("epoch", row) through `connection` after each epoch, and ("failed", reason) before it exits non-zero for
    a reason of its own, ("cannot go on", reason) where that is its checkpoint. Output goes to `log_path`.
    """
    os.setsid()  # Ctrl-C in the terminal is for the sweep, which then tells its cells
    os.chdir(directory)
    os.environ.setdefault("WANDB_MODE", "offline")
    lock = _write_to(log_path)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier process of this cell, told to die, may still be at it
        from kws.train import train

        def on_epoch(row):
            connection.send(("epoch", row))

        with _temporary_files():
            train(config, run_id, resume=True, sweep_id=sweep_id, on_epoch=on_epoch, cpus=cpus)
    except NotResumable as error:
        _fail(connection, str(error), "cannot go on")
    except KwsError as error:
        _fail(connection, str(error))
    except Exception as error:
        traceback.print_exc()
        _fail(connection, f"{type(error).__name__}: {error}".splitlines()[0])


@contextlib.contextmanager
def _temporary_files():
    """Remove what this process leaves among temporary files: W&B's client does so at Python's exit, which a fork lacks.

    Where its own folder cannot be written, it puts the run's record there: that stays.
    """
    tempfile.tempdir = tempfile.mkdtemp(prefix="kws-")
    try:
        yield
    finally:
        if not os.path.exists(os.path.join(tempfile.tempdir, "wandb")):
            shutil.rmtree(tempfile.tempdir, ignore_errors=True)


def _fail(connection, reason, kind="failed"):
    print(f"kws: {reason}", file=sys.stderr, flush=True)
    connection.send((kind, reason))
    sys.exit(FAILED)


def _write_to(log_path):
    """Send stdout and stderr to the end of `log_path`; return a second handle, which no child process inherits."""
    with open(log_path, "ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    return open(log_path, "ab")


def _end_with_parent():
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)
