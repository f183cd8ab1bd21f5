"""The run folder: the files that record a run. The only module that knows their names, writes and reads them."""

import csv
import io
import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kws.errors import CannotWrite, KwsError
from kws.files import lock, write_json, write_text
from kws.formatting import one_line
from kws.metrics import EPOCH, EPOCH_METRICS, WANDB_FALLBACK, WANDB_SYNC_DIR, Row
from kws.training.wandb_variables import is_synced

CONFIG = "config.json"
SUMMARY = "summary.json"
METRICS = "metrics.csv"
PREDICTIONS = "predictions.csv"
LAYERS = "layers.csv"
BEST_CHECKPOINT = "best.pt"
LAST_CHECKPOINT = "last.pt"
LOCK = ".lock"

PREDICTIONS_HEADER = ("split", "clip", "label")  # then the probabilities
LAYERS_HEADER = ("layer", "output_shape", "params", "macs")


class Prediction(NamedTuple):
    """The label of a clip, and the probability of each label."""

    label: int
    probabilities: tuple[float, ...]

    @property
    def predicted(self) -> int:
        return self.probabilities.index(max(self.probabilities))

    @property
    def is_correct(self) -> bool:
        return self.predicted == self.label


Predictions = dict[str, Prediction]  # by clip
VALIDATION, TEST = "validation", "test"  # the splits of predictions.csv


class RunFolder:
    """`RUN_DIR/RUN_ID/`, locked by one process at a time; every file in it is written atomically.

    A context manager that releases the lock. Raises KwsError if the folder cannot be created or is in use.
    """

    def __init__(self, run_dir: str, run_id: str) -> None:
        self.run_dir, self.run_id = run_dir, run_id
        self.path = Path(os.path.abspath(os.path.expanduser(run_dir))) / run_id
        self.best_checkpoint, self.last_checkpoint = self.path / BEST_CHECKPOINT, self.path / LAST_CHECKPOINT
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / LOCK, "w")  # the lock ends with the process, however it ends
        except OSError as error:
            raise CannotWrite(
                f"run_dir: {self.path} cannot be written ({error.strerror}); choose another --run_dir"
            ) from error
        try:
            lock(self._lock, "--run_dir", wait=False)
        except BlockingIOError as error:
            self._lock.close()
            raise KwsError(
                f"run {run_id}: another process is using {self.path}; wait until it ends, or stop it"
            ) from error
        for temporary in self.path.glob(".*.*"):  # left by a killed process
            temporary.unlink()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):  # the folder was removed, or has other files
            if not self.has_run:  # a failed start leaves nothing
                (self.path / LOCK).unlink()
                self.path.rmdir()
        self._lock.close()

    @property
    def has_run(self) -> bool:
        """Whether a run was started in this folder."""
        return any((self.path / name).exists() for name in (CONFIG, SUMMARY, LAST_CHECKPOINT))

    def write_config(self, config: Mapping[str, Any]) -> None:
        write_json(self.path / CONFIG, config)

    def write_rows(self, rows: Sequence[Row]) -> None:
        self._write_csv(METRICS, EPOCH_METRICS, ([row[name] for name in EPOCH_METRICS] for row in rows))

    def write_predictions(self, labels: Sequence[str], **splits: Iterable[tuple[str, int, tuple[float, ...]]]) -> None:
        """Write rows of (clip, label, probabilities) of the splits. Of two labels, only the second's probability."""
        binary = len(labels) == 2
        header = PREDICTIONS_HEADER + (("probability",) if binary else tuple(f"p_{label}" for label in labels))
        rows = ((split, *row[:2], *row[2][binary:]) for split, rows in splits.items() for row in rows)
        self._write_csv(PREDICTIONS, header, rows)

    def write_layers(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows of (name, output shape, parameters, MACs) of the network's layers."""
        self._write_csv(LAYERS, LAYERS_HEADER, rows)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_json(self.path / SUMMARY, summary)

    def _write_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write floats so that reading them gives the same number."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
        write_text(self.path / name, buffer.getvalue())


def resume_command(folder: RunFolder) -> str:
    """Return the command that resumes the run."""
    run_dir = [] if folder.run_dir == "runs" else ["--run_dir", folder.run_dir]
    return shlex.join(["kws", "train", "--resume", folder.run_id, *run_dir])


def find_run_folders(folder: Path) -> list[Path]:
    """Return `folder` itself if it is a run folder, else the run folders in it."""
    if (folder / CONFIG).exists():
        return [folder]
    return sorted({path.parent for name in (CONFIG, SUMMARY) for path in folder.glob(f"*/{name}")})


def find_checkpoint(run: str, run_dir: str) -> Path:
    """Return the best checkpoint of `run`: a run folder, a run id in `run_dir`, or the file itself."""
    tried = [Path(run), Path(run_dir) / run]
    for path in tried:
        for file in (path, path / BEST_CHECKPOINT):
            if file.is_file():
                return file
    places = " or ".join(map(str, tried))
    raise KwsError(f"--model: there is no trained run at {places}; give a run folder, a run id or a best.pt")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the recorded settings and provenance of a run. Raises KwsError."""
    return _read_json(folder / CONFIG)


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the state and the summary metrics of a run. Raises KwsError."""
    return _read_json(folder / SUMMARY)


def has_summary(folder: Path) -> bool:
    return (folder / SUMMARY).exists()


def is_finished(folder: Path) -> bool:
    """Whether the run has a summary with the state "finished"."""
    try:
        return bool(read_summary(folder).get("state") == "finished")
    except KwsError:
        return False


def fallback(folder: Path) -> str:
    """Return why a run that was to be online is offline; "" if it is not, or once it is uploaded."""
    try:
        summary = read_summary(folder)
    except KwsError:
        return ""
    synced = is_synced(Path(str(summary.get(WANDB_SYNC_DIR))), folder.name)
    return "" if synced else str(summary.get(WANDB_FALLBACK, ""))


def read_history(folder: Path) -> dict[str, list[float]]:
    """Return {metric: values, one per epoch} of metrics.csv; {} if there is none. Raises KwsError."""
    return history(_read_csv(folder / METRICS, EPOCH), str(folder / METRICS))


def history(rows: Sequence[Mapping[str, Any]], where: str) -> dict[str, list[float]]:
    """Return {metric: values, one per epoch} of rows. Raises KwsError, naming `where`, if a value is not a number."""
    names = [name for name in EPOCH_METRICS if rows and name in rows[0]]
    try:
        return {name: [float(row[name]) for row in rows] for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise KwsError(f"{where}: is damaged ({one_line(error)})") from error


def read_predictions(folder: Path) -> dict[str, Predictions]:
    """Return {VALIDATION: predictions, TEST: predictions} of the best epoch; {} for those that were not written.

    A file without the column `split`, of an earlier version, has test predictions alone. Raises KwsError.
    """
    predictions: dict[str, Predictions] = {VALIDATION: {}, TEST: {}}
    try:
        for row in _read_csv(folder / PREDICTIONS, "clip", "label"):
            values = [float(value) for name, value in row.items() if name == "probability" or name.startswith("p_")]
            probabilities = (1 - values[0], values[0]) if len(values) == 1 else tuple(values)
            label = int(row["label"])
            if not (0 <= label < len(probabilities) and all(0 <= value <= 1 for value in probabilities)):
                raise ValueError("a label without a probability, or a probability outside 0 to 1")
            predictions[row.get("split", TEST)][row["clip"]] = Prediction(label, probabilities)
    except (KeyError, ValueError) as error:
        raise KwsError(f"{folder / PREDICTIONS}: is damaged ({one_line(error)})") from error
    return predictions


def read_layers(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of layers.csv, with whole numbers as int; [] if there is none. Raises KwsError."""
    try:
        rows = _read_csv(folder / LAYERS, *LAYERS_HEADER)
        return [row | {name: int(row[name]) for name in ("params", "macs")} for row in rows]
    except ValueError as error:
        raise KwsError(f"{folder / LAYERS}: is damaged ({one_line(error)})") from error


def read_metric(folder: Path, name: str) -> float:
    """Return a metric of a finished run: from its summary, else of its last epoch. Raises KwsError if not finite."""
    summary = read_summary(folder)
    value = _to_float(summary[name] if name in summary else read_history(folder).get(name, [math.nan])[-1])
    if not math.isfinite(value):
        raise KwsError(f"{folder}: {name} is {value}; a search needs a finite number")
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise KwsError(f"{path}: is not JSON ({one_line(error)})") from error
    if not isinstance(value, dict):
        raise KwsError(f"{path}: is not a JSON object")
    return value


def _read_csv(path: Path, *columns: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file, [] if there is none. Raises KwsError unless it is whole and has the columns."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(reader)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise KwsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or one_line(error)})") from error
    if not text.endswith("\n") or any(None in row or None in row.values() for row in rows):
        raise KwsError(f"{path}: is truncated")
    for name in columns:
        if name not in (reader.fieldnames or ()):
            raise KwsError(f"{path}: has no column {name}")
    return rows


def _to_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
