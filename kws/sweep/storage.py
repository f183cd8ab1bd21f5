"""The trials of a sweep in an Optuna storage, shared by any number of processes and machines: each trial is run once.

An attempt at a trial is one Optuna trial. To claim a trial is to create an Optuna trial for it, already running and
with its owner in it, in one step. If two workers claim the same trial at once, both then see both Optuna trials, and
the lower number has it. This requires only that the storage numbers Optuna trials in one order, which the journal file
(a lock) and databases (a row lock on the study) do. An owner that died is detected at once on its own machine, and by
its heartbeat from another machine.
"""

import os
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from kws.sweep.distributions import CHOICES, Value
from kws.sweep.journal import open_storage
from kws.sweep.spec import Sweep

HEARTBEAT_S = 10
STALE_S = 60  # a worker on another machine is stale when its heartbeat has not changed for so long
ERROR_CHARACTERS = 1500  # MySQL's column for an attribute ends at 2,048

State = Literal["waiting", "running", "finished", "failed"]
# How an attempt ended. "dropped": another worker claimed the trial first; "orphaned": its owner died.
Ended = Literal["finished", "failed", "died", "preempted", "dropped", "orphaned"]


@dataclass(frozen=True)
class Attempt:
    """An attempt at the trial with index `trial`. `overrides` are its swept settings; a resumed run keeps `run_id`."""

    trial: int
    optuna_id: int
    run_id: str
    overrides: dict[str, Value]


@dataclass(frozen=True)
class TrialStatus:
    """The state of a trial, and the last attempt at it."""

    state: State = "waiting"
    last: FrozenTrial | None = None

    def failed_after(self, number: int) -> bool:
        """Whether the trial failed in an Optuna trial newer than `number`."""
        return self.state == "failed" and self.last is not None and self.last.number > number


class SharedSweep:
    """The Optuna study of one sweep, as one worker sees it. Raises KwsError if the storage cannot be used."""

    def __init__(self, sweep: Sweep, storage: str | None = None, stale_s: float = STALE_S) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep = sweep
        self.worker = secrets.token_hex(6)
        self._stale_s = stale_s
        self._owned: set[int] = set()  # Optuna ids of this worker's attempts
        self._beats: dict[str, tuple[float | None, float]] = {}  # worker -> its heartbeat, and when that was first seen
        self._last_heartbeat: float = -HEARTBEAT_S
        self._storage = open_storage(sweep, storage)
        self._study = optuna.create_study(
            storage=self._storage, study_name=f"kws-{sweep.sweep_id}", direction=sweep.goal, load_if_exists=True
        )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self.heartbeat()

    def heartbeat(self) -> None:
        """Show the other workers that this one is alive. Cheap to call often."""
        if time.monotonic() - self._last_heartbeat >= HEARTBEAT_S:
            self._last_heartbeat = time.monotonic()
            self._study.set_user_attr(f"worker:{self.worker}", time.time())

    def states(self) -> dict[int, TrialStatus]:
        """Return the status of every trial that was attempted, by index; all others are waiting."""
        heartbeats = self._study.user_attrs
        return {
            trial: self._status(attempts, heartbeats)
            for trial, attempts in self._attempts().items()
            if trial < self.sweep.expected  # a larger --count was used before
        }

    def _status(self, attempts: list[FrozenTrial], heartbeats: Mapping[str, float]) -> TrialStatus:
        for attempt in attempts:
            if attempt.state is OptunaState.COMPLETE:
                return TrialStatus("finished", attempt)
        for attempt in attempts:
            if not attempt.state.is_finished() and not self._is_dead(attempt, heartbeats):
                return TrialStatus("running", attempt)
        counted = [attempt for attempt in attempts if attempt.user_attrs.get("ended") != "dropped"]
        last = counted[-1] if counted else None
        failed = last is not None and last.user_attrs.get("ended") == "failed"
        return TrialStatus("failed" if failed else "waiting", last)

    def newest(self) -> int:
        """Return the number of the newest attempt, -1 if there is none: separates old failures from new ones."""
        return max((attempt.number for attempts in self._attempts().values() for attempt in attempts), default=-1)

    def claim(self, retry_failed_until: int = -1) -> Attempt | None:
        """Claim a waiting trial, or one that failed in attempt `retry_failed_until` or before; None if none remain."""
        states = self.states()
        for trial in range(self.sweep.expected):
            status = states.get(trial, TrialStatus())
            retry = status.state == "failed" and not status.failed_after(retry_failed_until)
            if (status.state == "waiting" or retry) and (attempt := self._claim(trial, status.last)):
                return attempt
        return None

    def finish(self, attempt: Attempt, value: float) -> bool:
        """Record a finished trial with its metric. Return whether this worker still owned the attempt."""
        return self._end(attempt.optuna_id, "finished", value)

    def give_up(self, attempt: Attempt, ended: Ended, error: str = "", fresh: bool = False) -> None:
        """Record that an attempt ended: after "failed" the trial stays failed; "died" and "preempted" requeue it.

        fresh: the next attempt has to start a new run instead of resuming this one's.
        """
        if fresh:
            self._set(attempt.optuna_id, "fresh", True)
        self._set(attempt.optuna_id, "error", error[-ERROR_CHARACTERS:])
        self._end(attempt.optuna_id, ended)

    def record_epoch(self, attempt: Attempt, epoch: int) -> bool:
        """Record the progress of an attempt. Return whether this worker still owns it."""
        return self._set(attempt.optuna_id, "epoch", epoch)

    def deaths(self, trial: int) -> int:
        """Return how many attempts at the trial died in a row without completing a further epoch."""
        count, furthest = 0, 0
        for attempt in self._attempts().get(trial, []):
            epoch = attempt.user_attrs.get("epoch", 0)
            if epoch > furthest or attempt.user_attrs.get("ended") == "failed":
                count = 0
            count += attempt.user_attrs.get("ended") == "died"
            furthest = max(furthest, epoch)
        return count

    def _attempts(self) -> dict[int, list[FrozenTrial]]:
        """Return {trial: its attempts, oldest first}."""
        attempts: dict[int, list[FrozenTrial]] = {}
        optuna_trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        for optuna_trial in sorted(optuna_trials, key=lambda optuna_trial: optuna_trial.number):
            attempts.setdefault(optuna_trial.user_attrs["trial"], []).append(optuna_trial)
        return attempts

    def _claim(self, trial: int, last: FrozenTrial | None) -> Attempt | None:
        for attempt in self._attempts().get(trial, []):
            if not attempt.state.is_finished() and self._is_dead(attempt, self._study.user_attrs):
                self._end(attempt._trial_id, "orphaned")
        # A run is resumed if its run folder is reachable from here.
        run_id: str = "" if last is None or last.user_attrs.get("fresh") else last.user_attrs["run_id"]
        if not run_id or not (self.sweep.run_dir / run_id).is_dir():
            run_id = secrets.token_hex(4)
        template = optuna.trial.create_trial(
            state=OptunaState.RUNNING,
            params=last.params if last else None,
            distributions=last.distributions if last else None,
            user_attrs={"trial": trial, "run_id": run_id, "worker": self.worker} | _this_process(),
        )
        optuna_id = self._storage.create_new_trial(self._study_id, template)
        self._owned.add(optuna_id)
        number = self._storage.get_trial(optuna_id).number
        for other in self._attempts()[trial]:
            earlier = other.number < number and not other.state.is_finished()
            if other.state is OptunaState.COMPLETE or earlier:
                self._end(optuna_id, "dropped")
                return None
        overrides = last.user_attrs.get("overrides") if last else None
        if overrides is None:
            bayes = self.sweep.method == "bayes"
            overrides = self._suggest(trial, optuna_id) if bayes else self.sweep.overrides(trial)
        self._set(optuna_id, "overrides", overrides)
        return Attempt(trial, optuna_id, run_id, overrides)

    def _suggest(self, trial: int, optuna_id: int) -> dict[str, Value]:
        # One seed per trial: workers that share a sweep must not all draw the same points.
        seed = int(self.sweep.sweep_id, 16) % 2**31 + trial
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        optuna_trial = optuna.trial.Trial(self._study, optuna_id)
        overrides = {}
        for name, parameter in self.sweep.searched.items():
            if parameter.form in CHOICES:
                choices = {str(value): value for value in parameter.values}  # Optuna stores no lists, such as words
                overrides[name] = choices[optuna_trial.suggest_categorical(name, list(choices))]
            else:  # TPE searches the quantile, so that it sees each of W&B's distributions as uniform from 0 to 1
                overrides[name] = parameter.quantile(optuna_trial.suggest_float(name, 0.0, 1.0))
        return overrides

    def _is_dead(self, attempt: FrozenTrial, heartbeats: Mapping[str, float]) -> bool:
        """Whether the process that owns a running attempt is gone."""
        owner, here = attempt.user_attrs, _this_process()
        if owner["worker"] == self.worker:  # ours, but the reply to its creation was lost
            return attempt._trial_id not in self._owned
        if owner["machine"] == here["machine"]:
            return bool(_process_started(owner["pid"]) != owner["started"])
        # The clocks of two machines differ, so this measures how long the heartbeat has not changed by our own clock.
        beat = heartbeats.get(f"worker:{owner['worker']}")
        known, since = self._beats.get(owner["worker"], (None, None))
        if known != beat or since is None:
            self._beats[owner["worker"]] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > self._stale_s

    def _set(self, optuna_id: int, key: str, value: Any) -> bool:
        try:
            self._storage.set_trial_user_attr(optuna_id, key, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def _end(self, optuna_id: int, ended: Ended, value: float | None = None) -> bool:
        self._owned.discard(optuna_id)
        state, values = (OptunaState.FAIL, None) if value is None else (OptunaState.COMPLETE, [value])
        if not self._set(optuna_id, "ended", ended):
            return False
        try:
            return self._storage.set_trial_state_values(optuna_id, state, values)
        except UpdateFinishedTrialError:  # another worker marked this one as stale and took over the trial
            return False


def _this_process() -> dict[str, str | int | None]:
    pid = os.getpid()
    return {"machine": _machine(), "host": platform.node(), "pid": pid, "started": _process_started(pid)}


def _machine() -> str:
    """Return a name for the scope of process ids: this boot of this kernel and its pid namespace; else a new name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown-{secrets.token_hex(6)}"


def _process_started(pid: int) -> int | None:
    """Return when process `pid` was started (clock ticks since boot), None if it does not exist."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
