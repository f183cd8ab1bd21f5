"""Progress bars in a terminal, plain lines elsewhere, and notices on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.progress as rp
from rich.console import Console

from kws import errors, metrics
from kws.config import Config


class _Console(Console):
    """rich's console, with lines of ASCII where stdout is not UTF-8: rich itself looks only at a file it is given."""

    @property
    def encoding(self) -> str:
        return str(getattr(self.file, "encoding", None) or "utf-8").lower()

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for kws.cli to handle; rich would exit with status 1


console = _Console(highlight=False)


def notify(line: str) -> None:
    """Print a one-line notice on stderr, or above the progress bar in a terminal."""
    if console.is_terminal:
        console.print(f"kws: {line}", soft_wrap=True, markup=False)  # unwrapped, so that commands can be copied
    else:
        errors.notify(line)


@contextmanager
def bar(what: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a callback(done, total or None) that draws a bar with the time left, or prints a line per quarter."""
    if not console.is_terminal:
        quarters = set()

        def report(done: int, total: int | None) -> None:
            quarter = int(4 * done / total) if total else None
            if quarter not in quarters:
                quarters.add(quarter)
                print(f"{what}: {done:,} of {total:,} {unit}" if total else f"{what} …", flush=True)

        yield report
        return
    counts: list[rp.ProgressColumn] = [rp.MofNCompleteColumn()]
    if unit == "bytes":
        counts = [rp.DownloadColumn(), rp.TransferSpeedColumn()]
    times = (rp.TimeElapsedColumn(), rp.TimeRemainingColumn())
    with rp.Progress("{task.description}", rp.BarColumn(), *counts, *times, console=console, transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def epochs(config: Config) -> Iterator[Callable[[metrics.Row], None]]:
    """Yield a callback(row) that shows a run's epochs: loss, accuracy and time left."""
    if not console.is_terminal:

        def line(row: metrics.Row) -> None:
            print(
                f"{config.run_name}  epoch {row[metrics.EPOCH]}/{config.epochs}  "
                f"train loss {row[metrics.TRAIN_LOSS]:.4f}  val loss {row[metrics.VAL_LOSS]:.4f}  "
                f"val accuracy {row[metrics.VAL_ACCURACY]:.2%}  {row[metrics.EPOCH_S]:.2f} s",
                flush=True,
            )

        yield line
        return
    texts = ("epoch {task.completed:.0f}/{task.total:.0f}", "{task.fields[figures]}")
    with rp.Progress("{task.description}", rp.BarColumn(), *texts, rp.TimeRemainingColumn(), console=console) as shown:
        task = shown.add_task(config.run_name, total=config.epochs, figures="")

        def update(row: metrics.Row) -> None:
            figures = f"loss {row[metrics.TRAIN_LOSS]:.4f}  val accuracy {row[metrics.VAL_ACCURACY]:.2%}"
            shown.update(task, completed=row[metrics.EPOCH], figures=figures)

        yield update
