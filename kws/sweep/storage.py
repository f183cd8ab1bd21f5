"""A sweep's cells in an Optuna storage, shared by any number of processes and machines: each cell is run once.

An attempt at a cell is an Optuna trial. To claim a cell is to create its trial, already running and with its
owner in it, in one step; two who claim one cell at a time then see both trials, and the lower number has it.
That needs nothing of the storage but that trials are numbered in one order, which the journal file (a lock) and the
databases (a row lock on the study) give. An owner that died is noticed: at once on its own machine, by its
heartbeat from another.
"""

import os
import platform
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from kws.sweep.distributions import CHOICES
from kws.sweep.journal import open_storage

HEARTBEAT_S = 10
STALE_S = 60  # an owner on another machine that has not been heard of for so long is dead
ERROR_CHARACTERS = 1500  # MySQL's column for an attribute ends at 2,048


@dataclass
class Attempt:
    """A claimed cell: `drawn` are its swept settings, `run_id` stays the same over a cell's attempts."""

    cell: int
    trial_id: int
    run_id: str
    drawn: dict


@dataclass(frozen=True)
class CellState:
    """How a cell stands: `state` is waiting, running, finished or failed; `trial` is the attempt that says so."""

    state: str
    trial: optuna.trial.FrozenTrial | None = None


class SharedSweep:
    """The storage's study of one sweep, seen by one worker. Raises KwsError where the storage cannot be used."""

    def __init__(self, sweep, url=None, stale_s=STALE_S):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep = sweep
        self.worker = secrets.token_hex(6)
        self._stale_s = stale_s
        self._held = set()
        self._heard = {}
        self._last_heartbeat = -HEARTBEAT_S
        self._storage = open_storage(sweep, url)
        direction = "maximize" if sweep.goal == "maximize" else "minimize"
        self._study = optuna.create_study(
            storage=self._storage, study_name=f"kws-{sweep.sweep_id}", direction=direction, load_if_exists=True
        )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self.heartbeat()

    def heartbeat(self):
        """Tell the others that this worker lives. Cheap to call often."""
        if time.monotonic() - self._last_heartbeat >= HEARTBEAT_S:
            self._last_heartbeat = time.monotonic()
            self._study.set_user_attr(f"worker:{self.worker}", time.time())

    def states(self):
        """Return the CellState of every cell that somebody has tried; the cells not in it wait."""
        heartbeats = self._study.user_attrs
        states = {}
        for cell, trials in self._trials().items():
            if cell >= self.sweep.expected:  # a larger --count was used before
                continue
            complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
            unfinished = [trial for trial in trials if not trial.state.is_finished()]
            alive = [trial for trial in unfinished if not self._is_dead(trial, heartbeats)]
            ended = [trial for trial in trials if trial.user_attrs.get("ended") != "dropped"]
            if complete:
                states[cell] = CellState("finished", complete[0])
            elif alive:
                states[cell] = CellState("running", alive[0])
            elif ended and ended[-1].user_attrs.get("ended") == "failed":
                states[cell] = CellState("failed", ended[-1])
            else:
                states[cell] = CellState("waiting", ended[-1] if ended else None)
        return states

    def newest(self):
        """Return the number of the newest trial, -1 without one: what `claim` takes to tell old failures from new."""
        return max((trial.number for trials in self._trials().values() for trial in trials), default=-1)

    def claim(self, retry_failed_until=-1):
        """Claim a waiting cell, or one that failed in trial `retry_failed_until` or before.

        Return its Attempt, None where there is no such cell.
        """
        states = self.states()
        for cell in range(self.sweep.expected):
            known = states.get(cell, CellState("waiting"))
            retried = known.state == "failed" and known.trial.number <= retry_failed_until
            if known.state == "waiting" or retried:
                attempt = self._claim(cell, known.trial)
                if attempt:
                    return attempt
        return None

    def finish(self, attempt, value):
        """Record a finished cell with its metric. Return whether the cell was still ours."""
        return self._end(attempt.trial_id, TrialState.COMPLETE, "finished", [value])

    def give_up(self, attempt, ended, error="", anew=False):
        """Record that an attempt ended: "failed" keeps the cell failed; "died" and "preempted" put it back.

        anew: the next attempt must not go on with this one's run.
        """
        if anew:
            self._set(attempt.trial_id, "anew", True)
        self._set(attempt.trial_id, "error", error[-ERROR_CHARACTERS:])
        return self._end(attempt.trial_id, TrialState.FAIL, ended)

    def note_epoch(self, attempt, epoch):
        """Record how far an attempt came. Return whether the cell is still ours."""
        return self._set(attempt.trial_id, "epoch", epoch)

    def deaths(self, cell):
        """Return how many attempts at the cell died, one after the other, without an epoch of progress."""
        count, furthest = 0, 0
        for trial in self._trials().get(cell, []):
            epoch = trial.user_attrs.get("epoch", 0)
            if epoch > furthest or trial.user_attrs.get("ended") == "failed":
                count = 0
            count += trial.user_attrs.get("ended") == "died"
            furthest = max(furthest, epoch)
        return count

    def _trials(self):
        """Return {cell: its trials, oldest first}."""
        cells = {}
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        for trial in sorted(trials, key=lambda trial: trial.number):
            cells.setdefault(trial.user_attrs["cell"], []).append(trial)
        return cells

    def _claim(self, cell, last):
        for trial in self._trials().get(cell, []):
            if not trial.state.is_finished() and self._is_dead(trial, self._study.user_attrs):
                self._end(trial._trial_id, TrialState.FAIL, "orphaned")
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=last.params if last else None,
            distributions=last.distributions if last else None,
            user_attrs={"cell": cell, "run_id": self._run_id(last), "worker": self.worker} | _process_here(),
        )
        trial_id = self._storage.create_new_trial(self._study_id, template)
        self._held.add(trial_id)
        mine = self._storage.get_trial(trial_id)
        for other in self._trials()[cell]:
            earlier = other.number < mine.number and not other.state.is_finished()
            if other.state is TrialState.COMPLETE or earlier:
                self._end(trial_id, TrialState.FAIL, "dropped")
                return None
        drawn = last.user_attrs.get("drawn") if last else None
        if drawn is None:
            drawn = self._suggest(cell, trial_id) if self.sweep.method == "bayes" else self.sweep.drawn(cell)
        self._set(trial_id, "drawn", drawn)
        return Attempt(cell, trial_id, mine.user_attrs["run_id"], drawn)

    def _run_id(self, last):
        """Keep a cell's run id where its run folder is in reach, so that the run resumes; else start a new run."""
        if last and not last.user_attrs.get("anew") and (self.sweep.run_dir / last.user_attrs["run_id"]).is_dir():
            return last.user_attrs["run_id"]
        return secrets.token_hex(4)

    def _suggest(self, cell, trial_id):
        # A seed for each cell: workers that share a sweep must not all draw the same points.
        seed = int(self.sweep.sweep_id, 16) % 2**31 + cell
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        trial = optuna.trial.Trial(self._study, trial_id)
        drawn = {}
        for name, parameter in self.sweep.searched.items():
            if parameter.form in CHOICES:
                choices = {str(value): value for value in parameter.values}  # Optuna stores no lists, such as words
                drawn[name] = choices[trial.suggest_categorical(name, list(choices))]
            else:  # TPE searches the quantile, so that every one of W&B's distributions is a plain 0 to 1 to it
                drawn[name] = parameter.quantile(trial.suggest_float(name, 0.0, 1.0))
        return drawn

    def _is_dead(self, trial, heartbeats):
        owner = trial.user_attrs
        if owner["worker"] == self.worker:  # ours, but the answer to its creation was lost on the way
            return trial._trial_id not in self._held
        here = _process_here()
        if owner["machine"] == here["machine"]:
            return _process_started(owner["pid"]) != owner["started"]
        # Clocks of two machines differ: what counts is how long the heartbeat has stood still by our own clock.
        beat = heartbeats.get(f"worker:{owner['worker']}")
        known, since = self._heard.get(owner["worker"], (None, None))
        if known != beat or since is None:
            self._heard[owner["worker"]] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > self._stale_s

    def _set(self, trial_id, key, value):
        try:
            self._storage.set_trial_user_attr(trial_id, key, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def _end(self, trial_id, state, ended, values=None):
        self._held.discard(trial_id)
        try:
            self._storage.set_trial_user_attr(trial_id, "ended", ended)
            return self._storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:  # somebody took this worker for dead, and the cell from it
            return False


def _process_here():
    pid = os.getpid()
    return {"machine": _machine(), "host": platform.node(), "pid": pid, "started": _process_started(pid)}


def _machine():
    """Name what process numbers are valid within: this boot of this kernel, and its pid namespace; else a new name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown-{secrets.token_hex(6)}"


def _process_started(pid):
    """Return when process `pid` was started (clock ticks since boot), None where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
