"""Finished runs as the analysis uses them: a RunRecord for each that counts, an Excluded for each that does not."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from kws import metrics
from kws.config import labels_of, recorded
from kws.errors import KwsError
from kws.formatting import one_line
from kws.training.provenance import Code, code_of, run_identity, sweep_content
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
    layers: list[dict[str, Any]] = field(default_factory=list)  # rows of layer, output_shape, params, macs
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

    def read_sweep(self, read: Callable[[], Any] | None) -> None:
        """Take the sweep's content from the run's config, else from what `read` returns. Raises KwsError."""
        if self.config.get("sweep") is not None:
            self.sweep = sweep_content(self.config["sweep"], "sweep in its config")
        elif read:
            self.sweep = sweep_content(read(), f"sweep {one_line(self.sweep_id)}")

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
        text = json.dumps(run.config, ensure_ascii=False, sort_keys=True)  # W&B does not keep the order of entries
        text.encode()
        run.config = json.loads(text) | vars(recorded("config", run.config))
    except KwsError as error:
        return str(error)
    except UnicodeEncodeError:
        return "its config has text with half a character"
    for name in ACCURACIES:
        if not 0 <= run.summary.get(name, -1) <= 1:
            return f"its summary has no {name} between 0 and 1"
    for name in COSTS:
        if run.summary.get(name, 0) <= 0:
            return f"its summary has no {name}"
    info = run.config.get("data_info")
    if not isinstance(info, dict) or not info.get("fingerprint") or not isinstance(info["fingerprint"], str):
        return "its config has no data_info with a fingerprint"
    if not all(isinstance(info.get(name), int) and 0 < info[name] < 1e9 for name in SPLITS):
        return "its data_info does not give the number of clips in each split"
    epochs = run.history.get(metrics.EPOCH)
    if not epochs:
        return "it has no metrics"
    if epochs != list(range(1, run.config["epochs"] + 1)):
        return f"its metrics are not those of the epochs 1 to {run.config['epochs']}"
    for name in (metrics.TRAIN_LOSS, metrics.VAL_ACCURACY):
        if name not in run.history:
            return f"its metrics have no {name}"
    for clips, predictions, what in (
        (info["val"], run.val_predictions, "validation"), (info["test"], run.predictions, "test"),
    ):  # fmt: skip
        if len(predictions) != clips:
            return f"its predictions.csv has {len(predictions)} of {clips} {what} clips; start a new run"
        if any(len(prediction.probabilities) != len(labels_of(run.config)) for prediction in predictions.values()):
            return f"its predictions are not of its {len(labels_of(run.config))} labels"
    return ""


def excluded(run: RunRecord, reason: str) -> Excluded:
    return Excluded(one_line(run.name, 200), run.where, one_line(run.study), reason)


def finite_numbers(summary: Mapping[str, Any]) -> metrics.Summary:
    """Return the entries of a summary that are numbers of a size that metrics can have, 1.0 as 1, as W&B has it."""
    numbers = ((key, value) for key, value in summary.items() if type(value) in (int, float) and -1e15 < value < 1e15)
    return {key: int(value) if value == int(value) else value for key, value in numbers}
