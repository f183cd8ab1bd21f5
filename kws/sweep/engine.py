"""The engine of a sweep: starts trials, receives their messages, stops them, and records how each one ended."""

import contextlib
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from kws.config import Config
from kws.errors import CannotWrite, KwsError, NotResumable
from kws.formatting import one_line
from kws.metrics import EPOCH, Row
from kws.sweep import worker
from kws.sweep.review import finished_runs
from kws.sweep.spec import Sweep, write_copy
from kws.sweep.storage import Attempt, SharedSweep
from kws.training.provenance import code_of, current_code, run_identity
from kws.training.run_folder import fallback, is_finished, read_config, read_metric

POLL_S = 0.5
CLAIM_POLL_S = 2.0  # how often to look for trials that other workers abandoned
MAX_DEATHS = 5  # a trial fails when its process dies so often in a row without completing an epoch
MAX_FIRST_FAILURES = 3
HOLD_S = 60  # how long to wait until files can be written again
ROOM = 4_000_000  # bytes that must be free again before a trial is started
SERVER_DIED = 255  # multiprocessing's exit status of a process whose fork server died; the process may still be running
TERMINATE_S = 90  # for a trial to write its checkpoint and end its W&B run
LAST_LINES = 8


@dataclass
class RunningTrial:
    """A trial that this engine runs. `row` holds the metrics of its last epoch."""

    attempt: Attempt
    config: Config
    process: BaseProcess
    connection: Connection
    started: float = field(default_factory=time.monotonic)
    row: Row = field(default_factory=dict)
    failure: KwsError | None = None

    @property
    def seconds(self) -> float:
        """The time since its start."""
        return time.monotonic() - self.started


class Display(Protocol):
    """Shows the user the progress of a sweep."""

    def print_line(self, line: str) -> None: ...

    def update(self, counts: Mapping[str, int], running: Sequence[RunningTrial], seconds_left: float | None) -> None:
        """Show how many trials are in each state, the trials running here, and the estimated time left."""


class Engine:
    """Keeps `jobs` trials running until none remain."""

    def __init__(self, sweep: Sweep, shared: SharedSweep, jobs: int, display: Display, received: list[int]) -> None:
        self.sweep, self.shared, self.jobs, self.display = sweep, shared, jobs, display
        self.received = received  # signals, oldest first
        self.known = finished_runs(sweep.run_dir)
        self.running: list[RunningTrial] = []
        self.outcomes: list[bool] = []  # of the trials that ended here: whether they finished
        self.stopped = ""  # "signal" or "failures"
        self.fallback = ""  # why trials that were to be online are offline
        self.durations: deque[float] = deque(maxlen=50)  # of trials that finished here, in seconds
        self.held_since: float | None = None  # when a file could not be written, if no trial started since has an epoch
        self.next_claim = 0.0  # when to look for trials to claim, and at the other workers' progress

    def work(self) -> int:
        """Run trials until none remain or the sweep is stopped; return the signal that stopped it, else 0."""
        try:
            while not self.stopped:
                try:
                    self.shared.heartbeat()
                    if time.monotonic() >= self.next_claim:
                        self.next_claim = time.monotonic() + CLAIM_POLL_S
                        self._fill()
                        self.shared.refresh()
                        if not (self.running or self.shared.counts["waiting"] or self.shared.counts["running"]):
                            break
                    self._show()
                    self._poll()
                except CannotWrite as error:
                    self._hold(error)
                self._check_stop()
            self.shared.refresh()
            self._show()
        finally:
            self._stop_trials()
        return self.received[0] if self.stopped == "signal" else 0

    def _fill(self) -> None:
        """Claim and start trials until `jobs` are running, or none remain. Raises CannotWrite."""
        if self.held_since is not None:
            write_copy(self.sweep)
            free = shutil.disk_usage(self.sweep.folder).free
            if free < ROOM:
                raise CannotWrite(f"{self.sweep.folder}: its disk has only {free / 1e6:.1f} MB free")
        while len(self.running) < self.jobs and not self.stopped and (attempt := self.shared.claim()):
            self._start(attempt)
            self._check_stop()

    def _start(self, attempt: Attempt) -> None:
        try:
            config = self.sweep.config(attempt.overrides)
        except KwsError as error:
            # As with W&B's agents, this trial fails and the others are run.
            self.shared.give_up(attempt, "failed", str(error))
            self.display.print_line(f"trial {attempt.trial} failed: {error}")
            return
        if run_id := self._finished_run(attempt, config):
            self._finished(replace(attempt, run_id=run_id), config)
            return
        arguments = str(self._log(attempt)), os.getcwd(), config, attempt.run_id, self.sweep.record, self.jobs
        try:
            process, connection = worker.start_process(config, worker.run_trial, *arguments)
            self.running.append(RunningTrial(attempt, config, process, connection))
        except (OSError, EOFError) as error:
            self._died(attempt, config, f"could not be started ({type(error).__name__})")

    def _finished_run(self, attempt: Attempt, config: Config) -> str | None:
        """Return the id of a finished run of this trial, or of one with the same settings, code and data."""
        if is_finished(self.sweep.run_dir / attempt.run_id):  # the sweep died before it recorded the run
            return attempt.run_id
        equal = self.known.get(run_identity(config.as_dict(), None, current_code()))
        return equal.get(self.sweep.fingerprint(attempt.overrides) or "") if equal else None

    def _log(self, attempt: Attempt) -> Path:
        return self.sweep.folder / "logs" / f"{attempt.trial:04d}.log"

    def _poll(self) -> None:
        """Wait at most POLL_S for messages from the trials or their end, and handle them."""
        ready = wait([item for trial in self.running for item in (trial.connection, trial.process.sentinel)], POLL_S)
        for trial in list(self.running):
            ended = trial.process.sentinel in ready
            if ended or trial.connection in ready:
                self._receive(trial)
            if ended:
                trial.process.join()
                self._ended(trial)  # if this cannot be recorded, it is tried again
                self.running.remove(trial)
                trial.connection.close()
                self.next_claim = 0.0

    def _receive(self, trial: RunningTrial) -> None:
        try:
            while trial.connection.poll():
                message: worker.Message = trial.connection.recv()
                if isinstance(message, KwsError):
                    trial.failure = message
                    continue
                if (
                    not trial.row
                    and not self.fallback
                    and (reason := fallback(self.sweep.run_dir / trial.attempt.run_id))
                ):
                    self.fallback = reason
                    self.display.print_line(f"{reason}: trials continue offline; upload them later with: wandb sync")
                trial.row = message
                if self.held_since and trial.started > self.held_since:
                    self.held_since = None
                if not self.shared.record_epoch(trial.attempt, int(message[EPOCH])):
                    trial.process.kill()  # another worker marked this one as stale and now runs the trial
        except (EOFError, OSError):  # the process is gone, perhaps in the middle of a message
            pass

    def _ended(self, trial: RunningTrial) -> None:
        attempt, config, code, pid = trial.attempt, trial.config, trial.process.exitcode, trial.process.pid
        assert code is not None and pid is not None  # it has ended
        if code == 0:
            self._finished(attempt, config, trial.seconds)
        elif isinstance(trial.failure, CannotWrite):
            self.shared.give_up(attempt, "preempted", str(trial.failure))
            self._hold(trial.failure)
        elif code == worker.FAILED:
            self._failed(attempt, config, trial.failure or KwsError(f"its process exited with status {code}"))
        elif code == SERVER_DIED:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._died(attempt, config, "was lost with the fork server")
        elif self.stopped or code > 128:  # preempted: it has written a checkpoint
            self.shared.give_up(attempt, "preempted")
        else:
            how = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
            self._died(attempt, config, how)

    def _hold(self, problem: CannotWrite) -> None:
        """Start no trial until the sweep's folder can be written; raise `problem` if it takes too long."""
        what = str(problem).partition(";")[0]
        self.shared.owned &= {trial.attempt.optuna_id for trial in self.running}  # others are claimed again
        if self.held_since is None:
            self.held_since = time.monotonic()
            self.display.print_line(f"{what}; waiting for at most {HOLD_S} s until it can be")
        elif time.monotonic() > self.held_since + HOLD_S and not any(t.process.is_alive() for t in self.running):
            raise CannotWrite(f"{what}; fix that, then re-run the command to resume") from problem
        time.sleep(POLL_S)

    def _died(self, attempt: Attempt, config: Config, how: str) -> None:
        if self.shared.deaths(attempt.trial) + 1 >= MAX_DEATHS:
            reason = f"its process {how}, {MAX_DEATHS} times in a row without completing an epoch"
            self._failed(attempt, config, KwsError(reason))
        else:
            self.shared.give_up(attempt, "died", how)
            self.display.print_line(f"{config.run_name}: its process {how}; it will be restarted")

    def _finished(self, attempt: Attempt, config: Config, seconds: float | None = None) -> None:
        folder = self.sweep.run_dir / attempt.run_id
        try:
            value, record = read_metric(folder, self.sweep.metric), read_config(folder)
        except KwsError as error:
            self._failed(attempt, config, error)
            return
        fingerprint = str(record.get("data_info", {}).get("fingerprint"))
        if not self.shared.finish(attempt, value, code_of(record), fingerprint):
            return
        self.outcomes.append(True)
        if seconds is not None:
            self.durations.append(seconds)
        when = "had finished before" if seconds is None else "finished"
        self.display.print_line(f"{config.run_name} {when}: {self.sweep.metric} {value:.6g} ({folder})")

    def _failed(self, attempt: Attempt, config: Config, failure: KwsError) -> None:
        log, fresh = self._log(attempt), isinstance(failure, NotResumable)
        lines: list[str] = []
        with contextlib.suppress(OSError), open(log, encoding="utf-8", errors="replace") as file:
            lines.extend(deque((line.rstrip() for line in file if line.strip()), LAST_LINES))
        reason = f"{failure} (with --retry-failed)" if fresh else str(failure)
        self.shared.give_up(attempt, "failed", "\n".join([reason, *lines]), fresh)
        self.outcomes.append(False)
        self.display.print_line(f"{config.run_name} failed: {one_line(reason, 300)}; the end of {log}:")
        for line in lines:
            self.display.print_line(f"    {one_line(line, 200)}")

    def _check_stop(self) -> None:
        if self.stopped:
            return
        first = self.outcomes[:MAX_FIRST_FAILURES]
        if self.received:
            self.stopped = "signal"
            self.display.print_line("stopping: running trials write their checkpoints (repeat to kill them at once)")
        elif len(first) == MAX_FIRST_FAILURES and not any(first):
            self.stopped = "failures"
            self.display.print_line(f"stopping: the first {MAX_FIRST_FAILURES} trials here failed")

    def _stop_trials(self) -> None:
        """Stop running trials by SIGTERM, so that they write a checkpoint; later, or on a second signal, by SIGKILL."""
        if self.running:
            self.stopped = self.stopped or "failures"
        for trial in self.running:
            trial.process.terminate()
        deadline = time.monotonic() + TERMINATE_S
        while self.running:
            if time.monotonic() > deadline or len(self.received) > 1:
                for trial in self.running:
                    trial.process.kill()
            try:
                self.shared.heartbeat()
                self._poll()
            except CannotWrite:
                if not any(trial.process.is_alive() for trial in self.running):
                    break

    def _show(self) -> None:
        counts, seconds_left = self.shared.counts, None
        if self.durations:  # estimated from the trials that finished here
            mean = sum(self.durations) / len(self.durations)
            done = sum(min(trial.seconds, mean) for trial in self.running)
            left = (counts["waiting"] + counts["running"]) * mean - done
            seconds_left = max(left, 0) / max(len(self.running), counts["running"], 1)
        self.display.update(counts, self.running, seconds_left)
