"""The engine of a sweep: starts cells, listens to them, ends them, and records how each one ended."""

import contextlib
import os
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from kws.config import Config
from kws.errors import KwsError
from kws.formatting import one_line
from kws.machine import usable_cpus
from kws.sweep import worker as sweep_worker
from kws.sweep.storage import Attempt
from kws.training.run_folder import is_finished, read_metric

POLL_S = 0.5
OTHERS_POLL_S = 2.0  # how often to look for cells that other workers left
DEATHS = 5  # as often a cell's process may die without an epoch of progress, before the cell counts as failed
FAILURES_FROM_THE_START = 3
SERVER_DIED = 255  # multiprocessing's exit status of a process whose fork server is gone; it may be at work still
TERMINATE_S = 90  # for a cell to write its checkpoint and end its W&B run
LAST_LINES = 8


@dataclass
class Running:
    """A cell at work in this process's care. `row` is its last epoch's, `reason` why it failed, in its own words."""

    attempt: Attempt
    config: Config
    process: BaseProcess
    connection: Connection
    log: Path
    began: float = field(default_factory=time.monotonic)
    row: dict = field(default_factory=dict)
    reason: str = ""
    anew: bool = False  # whether another attempt has to be another run


class Engine:
    """Keeps `jobs` cells at work until none is left."""

    def __init__(self, sweep, shared, jobs, retry_failed, display, received):
        self.sweep, self.shared, self.jobs, self.display = sweep, shared, jobs, display
        self.received = received  # signals that came, oldest first
        self.retry_failed_until = shared.newest() if retry_failed else -1
        self.running = []
        self.outcomes = []  # of the cells that ended here: True finished, False failed
        self.stopped = ""
        self.seconds = deque(maxlen=50)  # that finished cells took
        self.look_at = 0.0  # when to look for cells to claim, and how the others stand

    def work(self):
        """Return why it ended: "" (no cell is left), "signal" or "failures"."""
        try:
            while not self.stopped:
                self.shared.heartbeat()
                if time.monotonic() >= self.look_at:
                    self.look_at = time.monotonic() + OTHERS_POLL_S
                    self._fill()
                    states = self.shared.states()
                    if not self.running and self._all_ended(states):
                        break
                self._show(states)
                self._listen()
                self._check_stop()
            self._show(self.shared.states())
        finally:
            self._stop_cells()
        return self.stopped

    def _all_ended(self, states):
        """Whether every cell is finished or has failed for good."""
        ended = [
            state
            for state in states.values()
            if state.state == "finished" or state.state == "failed" and state.trial.number > self.retry_failed_until
        ]
        return len(ended) == self.sweep.expected

    def _fill(self):
        """Claim and start cells until `jobs` are at work or none is to be had."""
        while len(self.running) < self.jobs and not self.stopped:
            attempt = self.shared.claim(self.retry_failed_until)
            if attempt is None:
                return
            self._start(attempt)
            self._check_stop()

    def _start(self, attempt):
        try:
            config = self.sweep.config(attempt.drawn)
        except KwsError as error:
            # As under W&B's agents: this run fails, the others are done.
            self.shared.give_up(attempt, "failed", str(error))
            self.display.say(f"cell {attempt.cell} failed: {error}")
            return
        folder = self.sweep.run_dir / attempt.run_id
        if is_finished(folder):  # the sweep died after the run ended and before it was recorded
            self._finished(attempt, config, folder)
            return
        log = self.sweep.folder / "logs" / f"{attempt.cell:04d}.log"
        context = sweep_worker.fork_server(config)
        receiver, sender = context.Pipe(duplex=False)
        cpus = max(1, usable_cpus() // self.jobs)
        arguments = (sender, os.path.abspath(log), os.getcwd(), config, attempt.run_id, self.sweep.sweep_id, cpus)
        process = context.Process(target=sweep_worker.run_cell, args=arguments, daemon=True)
        cell = Running(attempt, config, process, receiver, log)
        try:
            process.start()
            self.running.append(cell)
        except (OSError, EOFError) as error:  # the fork server was killed; the next start makes a new one
            self._died(cell, f"could not be started ({type(error).__name__})")
        finally:
            sender.close()

    def _listen(self):
        """Wait for news of the cells, at most POLL_S, and act on it."""
        ready = wait([item for cell in self.running for item in (cell.connection, cell.process.sentinel)], POLL_S)
        for cell in list(self.running):
            if cell.connection in ready or cell.process.sentinel in ready:
                self._receive(cell)
            if cell.process.sentinel in ready:
                cell.process.join()
                self.running.remove(cell)
                cell.connection.close()
                self._ended(cell)
                self.look_at = 0.0

    def _receive(self, cell):
        try:
            while cell.connection.poll():
                kind, content = cell.connection.recv()
                if kind != "epoch":
                    cell.reason, cell.anew = content, kind == "cannot go on"
                    continue
                cell.row = content
                if not self.shared.note_epoch(cell.attempt, content["epoch"]):
                    cell.process.kill()  # another worker took us for dead and has the cell now
        except (EOFError, OSError):  # the process is gone, perhaps in the middle of a message
            pass

    def _ended(self, cell):
        code = cell.process.exitcode
        if code == 0:
            self._finished(cell.attempt, cell.config, self.sweep.run_dir / cell.attempt.run_id, cell)
        elif code == sweep_worker.FAILED:
            self._failed(cell, cell.reason or f"its process exited with status {code}")
        elif code == SERVER_DIED:
            with contextlib.suppress(ProcessLookupError):
                os.kill(cell.process.pid, signal.SIGKILL)
            self._died(cell, "was lost with the fork server")
        elif self.stopped or code > 128:  # told to end: it has written a checkpoint
            self.shared.give_up(cell.attempt, "preempted")
        else:
            self._died(cell, f"was killed by signal {-code}" if code < 0 else f"exited with status {code}")

    def _died(self, cell, how):
        if self.shared.deaths(cell.attempt.cell) + 1 >= DEATHS:
            self._failed(cell, f"its process {how}, for the {DEATHS}th time without an epoch of progress")
        else:
            self.shared.give_up(cell.attempt, "died", how)
            self.display.say(f"{cell.config.run_name}: its process {how}; it will be run again")

    def _finished(self, attempt, config, folder, cell=None):
        try:
            value = read_metric(folder, self.sweep.metric)
        except KwsError as error:
            self.shared.give_up(attempt, "failed", str(error))
            self.outcomes.append(False)
            self.display.say(f"{config.run_name} failed: {error}")
            return
        if not self.shared.finish(attempt, value):
            return
        self.outcomes.append(True)
        if cell:
            self.seconds.append(time.monotonic() - cell.began)
        self.display.say(f"{config.run_name} finished: {self.sweep.metric} {value:.6g} ({folder})")

    def _failed(self, cell, reason):
        lines = _last_lines(cell.log)
        if cell.anew:
            reason += " (--retry-failed does)"
        self.shared.give_up(cell.attempt, "failed", "\n".join([reason, *lines]), cell.anew)
        self.outcomes.append(False)
        self.display.say(f"{cell.config.run_name} failed: {one_line(reason, 300)}; the end of {cell.log}:")
        for line in lines:
            self.display.say(f"    {one_line(line, 200)}")

    def _check_stop(self):
        if self.received and not self.stopped:
            self.stopped = "signal"
            self.display.say("stopping: the runs at work write a checkpoint (again, to end them at once)")
        first = self.outcomes[:FAILURES_FROM_THE_START]
        if len(first) == FAILURES_FROM_THE_START and not any(first) and not self.stopped:
            self.stopped = "failures"
            self.display.say(f"stopping: the first {FAILURES_FROM_THE_START} runs here failed, so the rest would too")

    def _stop_cells(self):
        """End the cells at work: SIGTERM, on which they write a checkpoint; then, or on a second signal, SIGKILL."""
        if self.running:
            self.stopped = self.stopped or "failures"
        for cell in self.running:
            cell.process.terminate()
        deadline = time.monotonic() + TERMINATE_S
        while self.running:
            if time.monotonic() > deadline or len(self.received) > 1:
                for cell in self.running:
                    cell.process.kill()
            self.shared.heartbeat()
            self._listen()

    def _show(self, states):
        counts = {"finished": 0, "running": 0, "failed": 0}
        for state in states.values():
            if state.state in counts:
                counts[state.state] += 1
        self.display.show(counts, self.running, self._seconds_left(counts))

    def _seconds_left(self, counts):
        """Estimate from the cells that finished here; None before the first."""
        if not self.seconds:
            return None
        mean = sum(self.seconds) / len(self.seconds)
        begun = sum(min(time.monotonic() - cell.began, mean) for cell in self.running)
        left = (self.sweep.expected - counts["finished"] - counts["failed"]) * mean - begun
        return max(left, 0) / max(len(self.running), counts["running"], 1)


def _last_lines(path):
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-LAST_LINES:]
