"""Where a sweep's storage is: a journal file, below runs/ or on a shared disk, or a database."""

import fcntl
import os
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import optuna

from kws.errors import KwsError
from kws.formatting import one_line

JOURNAL_START = b'{"op_code"'


class JournalLock:
    """The journal's lock, by the kernel: it ends with its holder, however that ends.

    Optuna's own locks are files that a killed process leaves behind; all others then wait for 30 s. Each holder
    first removes a last line that a crash left unfinished, which Optuna would otherwise refuse for ever.
    """

    def __init__(self, journal):
        self._journal = journal
        self._file = None

    def acquire(self):
        file = open(f"{self._journal}.lock", "a")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._file = file
        with open(self._journal, "rb+") as journal:
            size = journal.seek(0, os.SEEK_END)
            journal.seek(max(size - 65536, 0))
            tail = journal.read()
            if tail and not tail.endswith(b"\n"):
                journal.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
        return True

    def release(self):
        self._file.close()


@contextmanager
def storage_errors():
    """Turn the loss of the storage into a KwsError."""
    import sqlalchemy.exc

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        reason = one_line(getattr(cause, "orig", None) or cause, 200)
        raise KwsError(f"--storage: the database was lost ({reason}); start the sweep again and it goes on") from error


def has_storage(sweep, url):
    """Whether the sweep's journal exists; a database is taken to exist."""
    return bool(url and "://" in url) or _journal_path(sweep, url).exists()


def _with_driver(url):
    # SQLAlchemy's default driver for postgresql:// differs between its versions: take the one that is installed.
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgresql", "postgres"):
        scheme = "postgresql+psycopg" if find_spec("psycopg") else "postgresql+psycopg2"
    return scheme + separator + rest


def _may_be_journal(path):
    if not path.exists():
        return True
    with open(path, "rb") as file:
        return JOURNAL_START.startswith(file.read(len(JOURNAL_START)))


def _journal_path(sweep, url):
    return Path(os.path.abspath(url or sweep.folder / "journal.log"))


def open_storage(sweep, url):
    """Return the Optuna storage that `url` means: a database URL, a journal file's path, or None, the sweep's own.

    Raises KwsError where it cannot be used.
    """
    if not (url and "://" in url):
        path = _journal_path(sweep, url)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not _may_be_journal(path):  # the lock cuts off half a line: never of a file of somebody else's
                raise KwsError(f"{path}: is no journal of a sweep; choose another --storage")
            lock = JournalLock(path)
            backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
            lock.acquire()
            lock.release()
            return optuna.storages.JournalStorage(backend)
        except OSError as error:
            raise KwsError(
                f"{path}: the sweep's journal cannot be used ({error.strerror}); give a --storage"
            ) from error
        except (ValueError, KeyError) as error:
            raise KwsError(f"{path}: is no journal of a sweep ({one_line(error)}); choose another --storage") from error
    import sqlalchemy.exc

    for tries_left in (4, 3, 2, 1, 0):
        try:
            return optuna.storages.RDBStorage(_with_driver(url), engine_kwargs={"pool_pre_ping": True})
        except ImportError as error:
            raise KwsError(
                f"--storage: no driver for {url.partition(':')[0]} is installed ({one_line(error)}); "
                "for PostgreSQL: pip install psycopg2-binary"
            ) from error
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError) as error:
            # Two workers that find an empty database make its tables at once; the loser finds them made.
            if not tries_left:
                raise KwsError(f"--storage: the database refused: {one_line(error.orig)}") from error
            time.sleep(0.2)
        except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, ValueError) as error:
            reason = one_line(getattr(error, "orig", None) or error, 200)
            raise KwsError(f"--storage: the database cannot be used: {reason}") from error
