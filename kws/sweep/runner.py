"""A sweep file without a server: every cell an ordinary run, in a process of its own, once, whatever is killed."""

import signal
from contextlib import contextmanager
from dataclasses import dataclass, field

from kws.config import resolve
from kws.data.layout import find
from kws.errors import KwsError
from kws.files import write_text
from kws.machine import usable_cpus
from kws.sweep.spec import load_sweep, sweep_file
from kws.sweep.worker import check_temporary_folder
from kws.training.tracker import check_mode


@dataclass(frozen=True)
class Status:
    """How a sweep stands. `failed` maps a failed cell's run name to its reason; `missing` are names of unrun cells."""

    sweep_id: str
    expected: int
    finished: int
    running: int
    failed: dict = field(default_factory=dict)
    missing: tuple = ()


@dataclass(frozen=True)
class Outcome(Status):
    """How a call of `run` ended: `stopped` is "", "failures" or "signal", `signal` the signal's number."""

    stopped: str = ""
    signal: int = 0

    @property
    def exit_status(self):
        """0 when every cell is finished, 1 when cells failed or are missing, 128 + signal after a signal."""
        if self.stopped == "signal":
            return 128 + self.signal
        return 0 if self.finished == self.expected else 1


def run(path, assignments, storage, count, make_display, jobs=None, retry_failed=False):
    """Work off the sweep file `path`, sharing it with whoever else does; return the Outcome when no cell is left.

    assignments: texts KEY=VALUE over the file's parameters. jobs: cells at once, default one a usable CPU. storage: an
    Optuna storage URL or the path of a journal file, default a journal in the sweep's folder. count: runs of a
    random or bayes sweep, in place of run_cap. Raises KwsError, before anything runs, at what a person can mend.
    """
    sweep = load_sweep(path, assignments, count)
    jobs = usable_cpus() if jobs is None else jobs
    if not 1 <= jobs <= 1024:
        raise KwsError(f"--jobs: is {jobs}, but must lie between 1 and 1024")
    _check_data(sweep)
    check_temporary_folder()
    check_mode()
    from kws.sweep.engine import Engine
    from kws.sweep.journal import storage_errors
    from kws.sweep.storage import SharedSweep

    with storage_errors(), _signals() as received:
        shared = SharedSweep(sweep, storage)
        (sweep.folder / "logs").mkdir(parents=True, exist_ok=True)
        _copy_file(sweep)
        with make_display(sweep) as shown:
            stopped = Engine(sweep, shared, jobs, retry_failed, shown, received).work()
            number = received[0] if stopped == "signal" else 0
            outcome = Outcome(**_standing(sweep, shared.states()), stopped=stopped, signal=number)
            shown.end(outcome)
            return outcome


def _check_data(sweep):
    """Raise KwsError where the sweep's data are missing, in place of a failure in each cell."""
    if any(name in sweep.searched for name in ("data", "data_dir", "words")):
        return  # cells of several data sets; each tells of its own
    values = {name: parameter.values[0] for name, parameter in sweep.parameters.items() if parameter.is_fixed}
    config = resolve((sweep.path, {name: values[name] for name in ("data", "data_dir", "words") if name in values}))
    find(config.data_dir, config.data, config.words)


def status(path, assignments=(), storage=None, count=None):
    """Return the Status of a sweep; start nothing, and make nothing where there is nothing yet."""
    sweep = load_sweep(path, assignments, count)
    from kws.sweep.journal import has_storage, storage_errors
    from kws.sweep.storage import SharedSweep

    with storage_errors():
        states = SharedSweep(sweep, storage).states() if has_storage(sweep, storage) else {}
    return Status(**_standing(sweep, states))


def _standing(sweep, states):
    failed, missing, counts = {}, [], {"finished": 0, "running": 0}
    for cell in range(sweep.expected):
        state = states.get(cell)
        if state and state.state in counts:
            counts[state.state] += 1
        elif state and state.state == "failed":
            failed[_name(sweep, cell, state)] = state.trial.user_attrs.get("error", "").partition("\n")[0]
        else:
            missing.append(_name(sweep, cell, state))
    counts |= {"sweep_id": sweep.sweep_id, "expected": sweep.expected}
    return counts | {"failed": failed, "missing": tuple(missing)}


def _name(sweep, cell, state):
    drawn = state.trial.user_attrs.get("drawn") if state and state.trial else None
    if drawn is None and sweep.method == "bayes":
        return f"cell {cell}"
    try:
        return sweep.config(sweep.drawn(cell) if drawn is None else drawn).run_name
    except KwsError:
        return f"cell {cell}"


def _copy_file(sweep):
    """Keep the sweep file as it is run, with --set applied, beside the journal."""
    import yaml

    text = yaml.safe_dump(sweep.content, sort_keys=False, allow_unicode=True)
    write_text(sweep_file(sweep.run_dir, sweep.sweep_id), text)


@contextmanager
def _signals():
    """Collect SIGINT, SIGTERM and SIGHUP in a list, so that the sweep ends at a place of its choosing."""
    received, before = [], {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
