"""Runs a sweep file without a server: every trial is an ordinary run in its own process, done once and resumable."""

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kws.data.layout import find
from kws.errors import KwsError
from kws.machine import usable_cpus
from kws.sweep.distributions import Value
from kws.sweep.spec import DATA_SETTINGS, Sweep, load_sweep, write_copy
from kws.sweep.worker import check_temporary_folder
from kws.training.wandb_variables import check_mode

if TYPE_CHECKING:
    from kws.sweep.engine import Display
    from kws.sweep.storage import TrialStatus


@dataclass(frozen=True)
class Status:
    """The state of a sweep. `failed` maps a failed trial's run name to the reason; `missing` are waiting trials' names.

    `signal` is the signal that stopped this worker, 0 if there was none. `notices`: lines about outdated trials.
    """

    sweep_id: str
    expected: int
    finished: int
    running: int
    failed: dict[str, str]
    missing: tuple[str, ...]
    signal: int = 0
    notices: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 if every trial is finished, 1 if trials failed or are missing, 128 + signal after a signal."""
        return 128 + self.signal if self.signal else int(self.finished < self.expected)


def run(
    path: str | Path,
    assignments: Iterable[str],
    storage: str | None,
    count: int | None,
    make_display: Callable[[Sweep], AbstractContextManager["Display"]],
    jobs: int | None = None,
    retry_failed: bool = False,
    retry_stale: bool = False,
) -> Status:
    """Run the trials of the sweep file `path`, shared with other workers; return its Status when none remain.

    Args:
        assignments, count: see load_sweep.
        storage: an Optuna storage URL or the path of a journal file; default a journal in the sweep's folder.
        jobs: trials at once; default one per usable CPU.
        retry_failed: run trials again that failed before this call.
        retry_stale: run trials again that were finished by other code.

    Raises:
        KwsError: an error the user can fix, before anything runs where it can be known then.
    """
    sweep = load_sweep(path, assignments, count)
    jobs = usable_cpus() if jobs is None else jobs
    if not 1 <= jobs <= 1024:
        raise KwsError(f"--jobs: is {jobs}, but must be between 1 and 1024")
    if not any(name in sweep.searched for name in DATA_SETTINGS):  # else each trial reports its own missing data
        config = sweep.data_config({})
        find(config.data_dir, config.data, config.words)
    check_temporary_folder()
    check_mode()
    from kws.sweep.engine import Engine
    from kws.sweep.journal import storage_errors
    from kws.sweep.review import review
    from kws.sweep.storage import SharedSweep

    with storage_errors(), _signals() as received:
        shared = SharedSweep(sweep, storage)
        write_copy(sweep)
        with make_display(sweep) as display:
            if retry_failed:
                shared.retry([trial for trial, status in shared.states().items() if status.state == "failed"])
            for line in review(sweep, shared, retry_stale, compare_data=True):
                display.print_line(line)
            stopped_by = Engine(sweep, shared, jobs, display, received).work()
        return replace(_status(sweep, shared.states()), signal=stopped_by)


def status(
    path: str | Path, assignments: Iterable[str] = (), storage: str | None = None, count: int | None = None
) -> Status:
    """Return the Status of a sweep as recorded; nothing is started or written, and data are not compared."""
    sweep = load_sweep(path, assignments, count)
    from kws.sweep.journal import storage_errors
    from kws.sweep.review import review
    from kws.sweep.storage import SharedSweep

    with storage_errors():
        try:
            shared = SharedSweep(sweep, storage, read_only=True)
        except KeyError:  # the sweep was not started
            return _status(sweep, {})
        notices = tuple(review(sweep, shared))
        return replace(_status(sweep, shared.states()), notices=notices)


def _status(sweep: Sweep, states: Mapping[int, "TrialStatus"]) -> Status:
    counts = Counter(known.state for known in states.values())
    failed: dict[str, str] = {}
    missing: list[str] = []
    for trial in range(sweep.expected):
        known = states.get(trial)
        attributes = known.last.user_attrs if known and known.last else {}
        if known and known.state == "failed":
            name = _name(sweep, trial, attributes.get("overrides"))
            failed[name] = attributes.get("error", "").partition("\n")[0]
        elif not known or known.state == "waiting":
            missing.append(_name(sweep, trial, attributes.get("overrides")))
    return Status(sweep.sweep_id, sweep.expected, counts["finished"], counts["running"], failed, tuple(missing))


def _name(sweep: Sweep, trial: int, overrides: Mapping[str, Value] | None) -> str:
    if overrides is None and sweep.method == "bayes":
        return f"trial {trial}"
    try:
        return sweep.config(sweep.overrides(trial) if overrides is None else overrides).run_name
    except KwsError:
        return f"trial {trial}"


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list, so that the sweep stops at a safe point.

    One that was ignored at the start, as nohup starts it, stays ignored.
    """
    received: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
