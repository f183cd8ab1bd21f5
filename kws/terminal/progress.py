"""What the user sees while something runs: progress bars in a terminal, plain lines elsewhere, notices on stderr."""

from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from kws import errors


class _Console(Console):
    def on_broken_pipe(self):
        raise BrokenPipeError  # kws.cli ends the command; rich's own way out is exit status 1


console = _Console(highlight=False)


def notify(line):
    """Say one line on stderr, above a progress bar if there is one."""
    if console.is_terminal:
        console.print(f"kws: {line}", soft_wrap=True, markup=False)  # a command in it can be copied
    else:
        errors.notify(line)


@contextmanager
def bar(what, unit):
    """Yield a callback(done, total or None) that draws a bar with rate and time left, or a line each quarter."""
    if not console.is_terminal:
        quarters = set()

        def report(done, total):
            quarter = int(4 * done / total) if total else None
            if quarter not in quarters:
                quarters.add(quarter)
                print(f"{what}: {done:,} of {total:,} {unit}" if total else f"{what} …", flush=True)

        yield report
        return
    counts = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *counts, TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def epochs(config):
    """Yield a callback(row) that shows a run's epochs: loss, accuracy and time left."""
    if not console.is_terminal:

        def line(row):
            print(
                f"{config.run_name}  epoch {row['epoch']}/{config.epochs}  train loss {row['train/loss']:.4f}  "
                f"val loss {row['val/loss']:.4f}  val accuracy {row['val/accuracy']:.2%}  {row['time/epoch_s']:.2f} s",
                flush=True,
            )

        yield line
        return
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(config.run_name, total=config.epochs, figures="")

        def update(row):
            figures = f"loss {row['train/loss']:.4f}  val accuracy {row['val/accuracy']:.2%}"
            bar.update(task, completed=row["epoch"], figures=figures)

        yield update
