"""What the user sees of a sweep: a live table in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from kws.metrics import EPOCH, VAL_ACCURACY
from kws.sweep.spec import Sweep

if TYPE_CHECKING:
    from kws.sweep.engine import RunningTrial
    from kws.sweep.runner import Status


def make_display(sweep: Sweep) -> "PlainDisplay":
    """Return the display for stdout, a context manager."""
    return LiveDisplay(sweep) if sys.stdout.isatty() else PlainDisplay(sweep)


class PlainDisplay:
    """Lines: events of trials, and after each change how many have ended."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._shown = (0, 0)  # finished and failed

    def __enter__(self) -> "PlainDisplay":
        sweep = self.sweep
        self.print_line(f"sweep {sweep.name} ({sweep.sweep_id}): {sweep.expected} trials, in {sweep.folder}")
        return self

    def __exit__(self, *error: object) -> None: ...

    def print_line(self, line: str) -> None:
        print(line, flush=True)

    def update(self, counts: Mapping[str, int], running: Sequence["RunningTrial"], seconds_left: float | None) -> None:
        """Print how many trials have ended, if that has changed."""
        ended = (counts["finished"], counts["failed"])
        if ended != self._shown:
            self._shown = ended
            self.print_line(_counts(counts, self.sweep.expected, seconds_left))


class LiveDisplay(PlainDisplay):
    """A table of the running trials, redrawn in place, with events printed above it."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__(sweep)
        from rich.live import Live

        from kws.terminal.progress import console

        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def print_line(self, line: str) -> None:
        self._live.console.print(line, markup=False)

    def update(self, counts: Mapping[str, int], running: Sequence["RunningTrial"], seconds_left: float | None) -> None:
        """Redraw the table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=_counts(counts, self.sweep.expected, seconds_left), title_justify="left", box=None)
        for header in ("run", "epoch", "val accuracy", "time"):
            table.add_column(header, justify="left" if header == "run" else "right")
        for trial in running:
            epoch = f"{trial.row.get(EPOCH, 0)}/{trial.config.epochs}"
            accuracy = f"{trial.row[VAL_ACCURACY]:.2%}" if trial.row else "starting"
            table.add_row(Text(trial.config.run_name), epoch, accuracy, str(_duration(trial.seconds)))
        self._live.update(table)


def print_outcome(status: "Status") -> None:
    """Print the failed trials, and how many finished, failed and were not run."""
    for name, reason in status.failed.items():
        print(f"failed: {name}: {reason}")
    line = f"{status.finished} of {status.expected} trials finished"
    if status.failed:
        line += f", {len(status.failed)} failed (retry them with --retry-failed)"
    if status.missing:
        line += f", {len(status.missing)} not yet run (re-run the command to resume)"
    print(line, flush=True)


def _counts(counts: Mapping[str, int], expected: int, seconds_left: float | None) -> str:
    line = f"{counts['finished']} of {expected} trials finished, {counts['running']} running, {counts['failed']} failed"
    return line if seconds_left is None else f"{line}, about {_duration(seconds_left)} left"


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))  # shown as 0:03:20
