"""The trials of a sweep in an Optuna storage, shared by any number of processes and machines: each trial is run once.

An attempt at a trial is one Optuna trial. To claim a trial is to create an Optuna trial for it, already running and
with its owner in it, in one step. If two workers claim the same trial at once, both then see both Optuna trials, and
the lower number has it. This requires only that the storage numbers Optuna trials in one order, which the journal file
(a lock) and databases (a row lock on the study) do. An owner that died is detected at once on its own machine, and by
its heartbeat from another machine.
"""

import heapq
import os
import platform
import secrets
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from kws.machine import process_scope, process_started
from kws.sweep.distributions import CHOICES, Value
from kws.sweep.journal import open_storage, read_trials
from kws.sweep.spec import Sweep
from kws.training.provenance import Code

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
    """The state of a trial, and the attempt that decides it: the last one if none is finished or running."""

    state: State = "waiting"
    last: FrozenTrial | None = None


class SharedSweep:
    """The Optuna study of one sweep, as one worker sees it. Raises KwsError if the storage cannot be used.

    Each `refresh` reads only what is new; `counts` (trials in each state) are of the last one. read_only: write
    nothing, and raise KeyError if the storage does not have the sweep.
    """

    def __init__(
        self, sweep: Sweep, storage: str | None = None, stale_s: float = STALE_S, read_only: bool = False
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep = sweep
        self.worker = secrets.token_hex(6)
        self._stale_s, self._read_only = stale_s, read_only
        self.owned: set[int] = set()  # Optuna ids of this worker's attempts
        self._beats: dict[str, tuple[float | None, float]] = {}  # worker -> its heartbeat, and when that was first seen
        self._last_heartbeat: float = -HEARTBEAT_S
        self.counts: Counter[str] = Counter({"waiting": sweep.expected})
        self._statuses: dict[int, TrialStatus] = {}  # of the trials that were attempted
        self._waiting = list(range(sweep.expected))  # a heap of all waiting trials; others in it are skipped
        self._attempts: dict[int, dict[int, FrozenTrial]] = {}  # trial -> its attempts by number, oldest first
        self._running: list[int] = []  # numbers of the attempts that had not ended
        self._read = 0  # all attempts with lower numbers were read
        self._retried: set[int] = set()  # numbers of attempts that no longer count
        self._storage = open_storage(sweep, storage, read_only)
        name = f"kws-{sweep.sweep_id}"
        if not read_only:
            goal = StudyDirection[sweep.goal.upper()]
            optuna.create_study(storage=self._storage, study_name=name, direction=goal, load_if_exists=True)
        self._study = optuna.load_study(storage=self._storage, study_name=name)
        self._study_id = self._storage.get_study_id_from_name(name)
        self.refresh()

    def heartbeat(self) -> None:
        """Show the other workers that this one is alive. Cheap to call often."""
        if time.monotonic() - self._last_heartbeat >= HEARTBEAT_S:
            self._last_heartbeat = time.monotonic()
            self._study.set_user_attr(f"worker:{self.worker}", time.time())

    def refresh(self) -> None:
        """Read the attempts that are new, or had not ended before: those that have never change."""
        self._read_s = time.monotonic()  # before reading: this process may be stopped for any time after it
        self._heartbeats = self._study.user_attrs
        found = list(read_trials(self._storage, self._study, self._study_id, self._running, self._read))
        for attempt in found:
            self._attempts.setdefault(attempt.user_attrs["trial"], {})[attempt.number] = attempt
        self._read += len(found) - len(self._running)
        self._running = [attempt.number for attempt in found if not attempt.state.is_finished()]
        self._update({attempt.user_attrs["trial"] for attempt in found})

    def _update(self, trials: Collection[int]) -> None:
        for trial in trials:
            if trial >= self.sweep.expected:  # a larger --count was used before
                continue
            before = self._statuses.get(trial, TrialStatus()).state
            status = self._statuses[trial] = self._status(trial)
            if status.state != before:
                self.counts[before] -= 1
                self.counts[status.state] += 1
                if status.state == "waiting":
                    heapq.heappush(self._waiting, trial)

    def _status(self, trial: int) -> TrialStatus:
        attempts = self._attempts[trial].values()
        for attempt in attempts:
            if self._counts_as_finished(attempt):
                return TrialStatus("finished", attempt)
        for attempt in attempts:
            if not attempt.state.is_finished() and not self._is_dead(attempt):
                return TrialStatus("running", attempt)
        last = next((item for item in reversed(attempts) if item.user_attrs.get("ended") != "dropped"), None)
        failed = last is not None and last.user_attrs.get("ended") == "failed" and last.number not in self._retried
        return TrialStatus("failed" if failed else "waiting", last)

    def _counts_as_finished(self, attempt: FrozenTrial) -> bool:
        return attempt.state is OptunaState.COMPLETE and attempt.number not in self._retried

    def states(self) -> dict[int, TrialStatus]:
        """Return the status of every trial that was attempted, by index; all others are waiting."""
        self.refresh()
        return self._statuses

    def finished(self) -> dict[int, list[FrozenTrial]]:
        """Return {trial: its finished attempts, oldest first} of every finished trial."""
        return {
            trial: [attempt for attempt in self._attempts[trial].values() if self._counts_as_finished(attempt)]
            for trial, status in self._statuses.items()
            if status.state == "finished"
        }

    def retry(self, trials: Collection[int]) -> None:
        """Let finished or failed trials be run again by this worker: they are waiting now."""
        for trial in trials:
            ended = (attempt for attempt in self._attempts[trial].values() if attempt.state.is_finished())
            self._retried.update(attempt.number for attempt in ended)
        self._update(trials)

    def claim(self) -> Attempt | None:
        """Claim the first waiting trial and return the attempt at it; None if none is waiting."""
        self.refresh()
        while self._waiting:
            trial = self._waiting[0]
            status = self._statuses.get(trial, TrialStatus())
            if status.state != "waiting":
                heapq.heappop(self._waiting)
            elif attempt := self._claim(trial, status.last):
                return attempt
        return None

    def finish(self, attempt: Attempt, value: float, code: Code, fingerprint: str) -> bool:
        """Record a finished trial: its run, metric, code, data. Return whether this worker still owned the attempt."""
        self._set(attempt.optuna_id, "run_id", attempt.run_id)
        self._set(attempt.optuna_id, "made_with", {"code": list(code), "fingerprint": fingerprint})
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
        self.refresh()
        count, furthest = 0, 0
        for attempt in self._attempts[trial].values():
            epoch = attempt.user_attrs.get("epoch", 0)
            if epoch > furthest or attempt.user_attrs.get("ended") == "failed":
                count = 0
            count += attempt.user_attrs.get("ended") == "died"
            furthest = max(furthest, epoch)
        return count

    def _claim(self, trial: int, last: FrozenTrial | None) -> Attempt | None:
        for attempt in self._attempts.get(trial, {}).values():
            if not attempt.state.is_finished() and self._is_dead(attempt):
                self._end(attempt._trial_id, "orphaned")
        overrides: dict[str, Value] | None = last.user_attrs.get("overrides") if last else None
        if overrides is None and self.sweep.method != "bayes":
            overrides = self.sweep.overrides(trial)
        run_id = last.user_attrs["run_id"] if last else ""
        ended = last is None or last.state is OptunaState.COMPLETE or last.user_attrs.get("fresh")
        if ended or not os.path.isdir(self.sweep.run_dir / run_id):  # without its folder it cannot be resumed
            run_id = secrets.token_hex(4)
        template = optuna.trial.create_trial(
            state=OptunaState.RUNNING,
            params=last.params if last else None,
            distributions=last.distributions if last else None,
            user_attrs={"trial": trial, "run_id": run_id, "worker": self.worker, "overrides": overrides}
            | {"host": platform.node(), "run_dir": os.path.abspath(self.sweep.run_dir)}
            | {"scope": process_scope(), "pid": os.getpid(), "started": process_started(os.getpid())},
        )
        optuna_id = self._storage.create_new_trial(self._study_id, template)
        number = self._storage.get_trial(optuna_id).number
        self.refresh()
        for other in self._attempts[trial].values():
            if self._counts_as_finished(other) or (other.number < number and not other.state.is_finished()):
                self._end(optuna_id, "dropped")
                return None
        if overrides is None:
            overrides = self._suggest(trial, optuna_id)
            self._set(optuna_id, "overrides", overrides)
        self.owned.add(optuna_id)
        self._update([trial])
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

    def _is_dead(self, attempt: FrozenTrial) -> bool:
        """Whether the process that owns a running attempt is gone."""
        owner = attempt.user_attrs
        if owner["worker"] == self.worker:  # ours, but the reply to its creation was lost
            return attempt._trial_id not in self.owned
        if owner["scope"] == process_scope():
            return bool(process_started(owner["pid"]) != owner["started"])
        # The clocks of two machines differ, so this measures how long the heartbeat has not changed by our own clock.
        beat = self._heartbeats.get(f"worker:{owner['worker']}")
        if self._read_only:  # which looks only once, so that clocks have to do
            return bool(time.time() - (beat or 0) > self._stale_s)
        known, since = self._beats.get(owner["worker"], (None, None))
        if known != beat or since is None:
            self._beats[owner["worker"]] = (beat, time.monotonic())
            return False
        return self._read_s - since > self._stale_s

    def _set(self, optuna_id: int, key: str, value: Any) -> bool:
        with suppress(UpdateFinishedTrialError):  # another worker marked this one as stale and took over the trial
            self._storage.set_trial_user_attr(optuna_id, key, value)
            return True
        return False

    def _end(self, optuna_id: int, ended: Ended, value: float | None = None) -> bool:
        state, values = (OptunaState.FAIL, None) if value is None else (OptunaState.COMPLETE, [value])
        done = False
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(optuna_id, "ended", ended)
            done = self._storage.set_trial_state_values(optuna_id, state, values)
        self.owned.discard(optuna_id)
        return done
