"""What a person sees of a sweep: one live table in a terminal, plain lines elsewhere."""

import sys
import time


def make_display(sweep):
    """Return the display for stdout: a context manager with `say`, `show` and `end`."""
    return LiveDisplay(sweep) if sys.stdout.isatty() else PlainDisplay(sweep)


class PlainDisplay:
    """Lines: what happens to cells, and after each change how many are done."""

    def __init__(self, sweep):
        self.sweep = sweep
        self._told = None

    def __enter__(self):
        sweep = self.sweep
        self.say(f"sweep {sweep.name} ({sweep.sweep_id}): {sweep.expected} cells, in {sweep.folder}")
        return self

    def __exit__(self, *error):
        pass

    def say(self, line):
        """Print one line."""
        print(line, flush=True)

    def show(self, counts, running, seconds_left):
        """Take the state of things: {"finished", "running", "failed"}, the cells at work here, an estimate or None."""
        ended = (counts["finished"], counts["failed"])
        if ended != self._told and any(ended):
            self._told = ended
            self.say(_counts(counts, self.sweep.expected, seconds_left))

    def end(self, outcome):
        """Tell how the sweep stands at the end of this call."""
        for name, reason in outcome.failed.items():
            self.say(f"failed: {name}: {reason}")
        line = f"{outcome.finished} of {outcome.expected} cells finished"
        if outcome.failed:
            line += f", {len(outcome.failed)} failed (again with --retry-failed)"
        if outcome.missing:
            line += f", {len(outcome.missing)} not yet run (the same command goes on)"
        self.say(line)


class LiveDisplay(PlainDisplay):
    """A table of the cells at work, redrawn in place, with what happens printed above it."""

    def __init__(self, sweep):
        super().__init__(sweep)
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(highlight=False), refresh_per_second=4, transient=True)

    def __enter__(self):
        self._live.start()
        return super().__enter__()

    def __exit__(self, *error):
        self._live.stop()

    def say(self, line):
        """Print one line above the table."""
        self._live.console.print(line, markup=False)

    def show(self, counts, running, seconds_left):
        """Redraw the table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=_counts(counts, self.sweep.expected, seconds_left), title_justify="left", box=None)
        for header in ("run", "epoch", "val accuracy", "time"):
            table.add_column(header, justify="left" if header == "run" else "right")
        for cell in running:
            epoch = f"{cell.row.get('epoch', 0)}/{cell.config.epochs}"
            accuracy = f"{cell.row['val/accuracy']:.2%}" if cell.row else "starting"
            table.add_row(Text(cell.config.run_name), epoch, accuracy, duration(time.monotonic() - cell.began))
        self._live.update(table)


def _counts(counts, expected, seconds_left):
    line = f"{counts['finished']} of {expected} cells finished, {counts['running']} running, {counts['failed']} failed"
    return line if seconds_left is None else f"{line}, about {duration(seconds_left)} left"


def duration(seconds):
    """Return 45 s, 3 min 20 s or 2 h 05 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
