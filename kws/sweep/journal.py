"""Opens the storage of a sweep: a journal file, in the run folder or on a shared disk, or a database."""

import json
import os
import random
import re
import time
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from kws.errors import CannotWrite, KwsError
from kws.files import lock
from kws.formatting import one_line
from kws.sweep.spec import Sweep

JOURNAL_START = b'{"op_code"'
CONNECT_ATTEMPTS = 20
LOCK_TIMEOUT_S = 60  # for another worker's write to an SQLite file


class Journal(JournalFileBackend):
    """Optuna's journal file. Raises KwsError: CannotWrite if it can be used again when its disk has room.

    Its lock is held through the kernel, so that it is released when its process ends for any reason: Optuna's own locks
    are files that a killed process leaves behind, and all others then wait for 30 s.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with _journal_errors(self._file_path), open(f"{self._file_path}.lock", "a") as file:
            lock(file, "--storage (a path or a database)")
            with open(self._file_path, "rb+") as journal:
                size = journal.seek(0, os.SEEK_END)
                start = journal.seek(max(size - 65536, 0))
                # Remove an incomplete last line, left by a crash or a full disk: Optuna would reject the journal.
                journal.seek(start + journal.read().rfind(b"\n") + 1)
                journal.truncate()
                journal.write(lines.encode())
                journal.flush()
                os.fsync(journal.fileno())

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        with _journal_errors(self._file_path):
            yield from super().read_logs(log_number_from)


@contextmanager
def _journal_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"{path}: the sweep's journal cannot be used ({error.strerror})"
        raise CannotWrite(f"{problem}; choose another place with --storage") from error
    except (ValueError, KeyError) as error:
        raise KwsError(f"{path}: is not a sweep journal ({one_line(error)}); choose another --storage") from error


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the loss of the storage into a KwsError."""
    import sqlalchemy.exc

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        reason = _database_problem(error.__cause__ or error)
        raise KwsError(f"--storage: the database connection failed ({reason}); re-run the command to resume") from error


def open_storage(sweep: Sweep, storage: str | None, read_only: bool) -> BaseStorage:
    """Return the Optuna storage for a database URL or the path of a journal file; by default the sweep's own journal.

    read_only: write nothing, and raise KeyError if there is no storage yet. Raises KwsError if it cannot be used.
    """
    if storage and "://" in storage:
        return _open_database(storage, read_only)
    path = Path(os.path.abspath(storage or sweep.folder / "journal.log"))
    if read_only and not path.exists():
        raise KeyError(str(path))
    with _journal_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():  # the first write removes an incomplete last line: not from a foreign file
            with open(path, "rb") as file:
                if not JOURNAL_START.startswith(file.read(len(JOURNAL_START))):
                    raise ValueError("it has other content")
        return JournalStorage(Journal(str(path)))


def read_trials(
    storage: BaseStorage, study: optuna.Study, study_id: int, known: Collection[int], start: int
) -> Iterator[FrozenTrial]:
    """Yield the Optuna trials with the numbers `known`, and then all from number `start` on.

    Costs the same however many trials there are: a journal is in memory, where each is looked up, and from a database
    Optuna's cache reads only those that are new or were not finished before.
    """
    if start == 0 or not isinstance(storage, JournalStorage):
        trials = study.get_trials(deepcopy=False)
        yield from (trials[number] for number in (*known, *range(start, len(trials))))
        return
    for number in chain(known, count(start)):
        try:
            optuna_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
        except KeyError:  # there is no such trial yet
            return
        yield storage.get_trial(optuna_id)


def _open_database(url: str, read_only: bool, attempts: int = CONNECT_ATTEMPTS) -> optuna.storages.RDBStorage:
    import sqlalchemy.exc

    # SQLAlchemy's default driver for postgresql:// depends on its version: choose the one that is installed.
    driver = "psycopg" if find_spec("psycopg") else "psycopg2"
    with_driver = re.sub("^postgres(ql)?://", f"postgresql+{driver}://", url)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite:///"):
        path = os.path.expanduser(url.removeprefix("sqlite:///"))
        if read_only and not os.path.exists(path):
            raise KeyError(url)
        with_driver, options["connect_args"] = f"sqlite:///{path}", {"timeout": LOCK_TIMEOUT_S}
    try:
        return optuna.storages.RDBStorage(with_driver, options, skip_table_creation=read_only)
    except ImportError as error:
        problem = f"no driver for {url.partition(':')[0]} is installed ({one_line(error)})"
        raise KwsError(f"--storage: {problem}; for PostgreSQL: pip install psycopg2-binary") from error
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        problem = _database_problem(cause)
        of_tables = isinstance(cause, (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError))
        if of_tables or re.search(r"\btable\b", problem):
            if read_only:
                raise KeyError(url) from error
            if attempts > 1:  # workers that find an empty database create its tables at once: one wins, others retry
                time.sleep(random.uniform(0.1, 0.3))
                return _open_database(url, read_only, attempts - 1)
        raise KwsError(f"--storage: the database cannot be used: {problem}") from error


def _database_problem(error: BaseException) -> str:
    return one_line(getattr(error, "orig", None) or error, 200)
