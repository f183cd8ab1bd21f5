"""The live view of kws listen: in a terminal, the level of the sound and a bar per label."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from kws.terminal.progress import console

if TYPE_CHECKING:  # imports torch
    from kws.inference.listen import Moment

LOWEST_DB, WIDTH = -60, 40  # of the level meter, in dB below full scale; of the bars, in columns


class LiveView:
    """A context manager; within it, what is printed appears above the bars. Without a terminal it shows nothing."""

    def __init__(self, labels: Sequence[str], is_wanted: bool) -> None:
        self._labels = labels
        self._moment: Moment | None = None
        self._live = Live(
            console=console, get_renderable=self._bars, refresh_per_second=10, transient=True
        )  # draws in a thread of its own, however fast moments come
        self._is_wanted = is_wanted and console.is_terminal

    def __enter__(self) -> "LiveView":
        if self._is_wanted:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_wanted:
            self._live.stop()

    def watch(self, moments: Iterable["Moment"]) -> Iterator["Moment"]:
        """Yield the moments, and show the last one."""
        for self._moment in moments:
            yield self._moment

    def _bars(self) -> Table:
        table = Table.grid(padding=(0, 1))
        moment = self._moment
        if moment is None:
            return table
        level_db = max(LOWEST_DB, 20 * math.log10(max(moment.level, 1e-9)))
        table.add_row("level", ProgressBar(-LOWEST_DB, level_db - LOWEST_DB, WIDTH), f"{level_db:.0f} dB")
        for label, probability in zip(self._labels, moment.probabilities.tolist(), strict=True):
            table.add_row(label, ProgressBar(1, probability, WIDTH), f"{probability:.2f}")
        return table
