"""The run folder: a run's record in plain files, whole at any moment, whatever becomes of W&B."""

import csv
import fcntl
import io
import os
from pathlib import Path

from kws.errors import KwsError
from kws.files import write_json, write_text

ROW = ("epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "time/epoch_s", "time/clips_per_s")


class RunFolder:
    """`runs/RUN_ID/`, held by one process at a time; every file in it is whole or absent.

    Raises KwsError where the folder cannot be made or another process holds it.
    """

    def __init__(self, run_dir, run_id):
        self.run_id = run_id
        self.path = Path(os.path.abspath(os.path.expanduser(run_dir))) / run_id
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")  # the lock ends with the process, however it ends
        except OSError as error:
            raise KwsError(
                f"run_dir: {self.path} cannot be written ({error.strerror}); choose another --run_dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise KwsError(f"run {run_id}: another process is at work in {self.path}; wait for it or end it") from error
        for half in self.path.glob(".*.*"):  # what a killed process was writing
            half.unlink()

    @property
    def begun(self):
        """Whether the folder holds a run."""
        return any((self.path / name).exists() for name in ("config.json", "summary.json", "last.pt"))

    def write_config(self, config):
        write_json(self.path / "config.json", config)

    def write_rows(self, rows):
        write_text(self.path / "metrics.csv", table_text(ROW, ([row[name] for name in ROW] for row in rows)))

    def write_table(self, name, header, rows):
        write_text(self.path / name, table_text(header, rows))

    def write_summary(self, summary):
        write_json(self.path / "summary.json", summary)

    def close(self):
        self._lock.close()


def table_text(header, rows):
    """Return CSV text. Floats are written so that reading them gives the same number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
