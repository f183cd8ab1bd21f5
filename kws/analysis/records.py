"""Finished runs as the analysis uses them: a RunRecord for each that counts, an Excluded for each that does not."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from kws import metrics
from kws.config import labels_of, recorded
from kws.errors import KwsError
from kws.formatting import one_line
from kws.training.provenance import Code, code_of, run_identity
from kws.training.run_folder import TEST, VALIDATION, Predictions, read_history, read_layers, read_predictions

if TYPE_CHECKING:
    from kws.data.corpus import DataInfo

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Sweeps = dict[str, dict[str, Any]]  # sweep id -> content of the sweep file
Progress = Callable[[int, int], None]  # called with (runs read, runs in the source)
ACCURACIES = (metrics.BEST_VAL_ACCURACY, metrics.TEST_ACCURACY)
COSTS = (metrics.PARAMS, metrics.FLOPS, metrics.EPOCH_S_MEDIAN)


@dataclass
class RunRecord:
    """One run: settings, summary and recorded rows. Accuracies are fractions, times are in seconds."""

    run_id: str
    name: str
    where: str  # the run's folder, or its address on W&B
    config: dict[str, Any]  # settings (of a run that counts: with the settings' own types) and provenance
    summary: metrics.Summary
    history: dict[str, list[float]]  # metric -> values, one per epoch
    predictions: Predictions = field(default_factory=dict)  # of the test clips; {} if not recorded
    val_predictions: Predictions = field(default_factory=dict)  # of the validation clips; {} if not recorded
    layers: list[dict[str, str]] = field(default_factory=list)  # rows of layer, output_shape, params, macs
    sweep_id: str = ""
    sweep: dict[str, Any] = field(default_factory=dict)  # content of the sweep file; {} if unknown
    problem: str = ""  # why the run does not count

    @property
    def data_info(self) -> "DataInfo":
        return cast("DataInfo", self.config.get("data_info") or {})

    @property
    def study(self) -> str:
        return str(self.config.get("study", ""))

    @property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.config)

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def started(self) -> str:
        return str(self.config.get("started", ""))

    @property
    def code(self) -> Code:
        return code_of(self.config)

    @property
    def identity(self) -> tuple[object, ...]:
        """What distinguishes this run from any other of its study: settings, including the seed, data and code."""
        return run_identity(self.config, self.data_info.get("fingerprint"), self.code)

    def read_files(self, folder: Path) -> None:
        """Read history, predictions and layers from the run's folder, or from copies of its files. Raises KwsError."""
        self.history = read_history(folder)
        predictions = read_predictions(folder)
        self.predictions, self.val_predictions = predictions[TEST], predictions[VALIDATION]
        self.layers = read_layers(folder)


@dataclass(frozen=True)
class Excluded:
    """A run that is not counted, and why."""

    name: str
    where: str
    study: str
    reason: str


@dataclass
class Results:
    """Runs that count, excluded runs, and the sweep files that the runs name."""

    runs: list[RunRecord]
    excluded: list[Excluded]
    sweeps: Sweeps


def checked(run: RunRecord, state: object, error: object = "") -> RunRecord:
    """Return the run, with its `problem` if it cannot count. `state`, `error`: as its summary or W&B has them."""
    problem = _problem(run) if state == "finished" else f"{state or 'unfinished'}{f': {error}' if error else ''}"
    run.problem = one_line(problem, 300)
    return run


def _problem(run: RunRecord) -> str:
    """Return why a finished run cannot count, "" if it can. Its settings pass the same checks as a new run's."""
    try:
        run.config |= vars(recorded("config", run.config))
    except KwsError as error:
        return str(error)
    for name in ACCURACIES:
        if not 0 <= run.summary.get(name, -1) <= 1:
            return f"its summary has no {name} between 0 and 1"
    for name in COSTS:
        if run.summary.get(name, 0) <= 0:
            return f"its summary has no {name}"
    info = run.config.get("data_info")
    if not isinstance(info, dict) or not info.get("fingerprint"):
        return "its config has no data_info with a fingerprint"
    if not all(isinstance(info.get(name), int) and info[name] > 0 for name in SPLITS):
        return "its data_info does not give the number of clips in each split"
    for clips, predictions, what in (
        (info["val"], run.val_predictions, "validation"), (info["test"], run.predictions, "test"),
    ):  # fmt: skip
        if len(predictions) != clips:
            return f"its predictions.csv has {len(predictions)} of {clips} {what} clips; start a new run"
    if not run.history.get(metrics.EPOCH):
        return "it has no metrics"
    return ""


def excluded(run: RunRecord, reason: str) -> Excluded:
    return Excluded(run.name, run.where, run.study, reason)


def finite_numbers(summary: Mapping[str, Any]) -> metrics.Summary:
    """Return the entries of a summary that are finite numbers."""
    return {
        name: value
        for name, value in summary.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
