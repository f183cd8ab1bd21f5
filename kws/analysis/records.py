"""Runs as the analysis sees them, wherever they were read: one RunRecord per run that counts, one Excluded per other."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kws import metrics
from kws.config import IDENTITY_SETTINGS, NON_IDENTITY, resolve
from kws.errors import KwsError
from kws.formatting import one_line
from kws.training.run_folder import Predictions

ACCURACIES = (metrics.BEST_VAL_ACCURACY, metrics.TEST_ACCURACY)
COSTS = (metrics.PARAMS, metrics.FLOPS, metrics.EPOCH_S_MEDIAN)


@dataclass
class RunRecord:
    """One run: settings, summary, and what it wrote. Accuracies are fractions, times seconds."""

    run_id: str
    name: str
    where: str  # the run's folder, or its address on W&B
    config: dict[str, Any]
    summary: dict[str, float]
    history: dict[str, list[float]]  # metric -> values, one per epoch
    predictions: Predictions = field(default_factory=dict)  # {} if not recorded
    layers: list[dict[str, str]] = field(default_factory=list)  # rows of layer, output_shape, params, macs
    sweep_id: str = ""

    @property
    def data_info(self) -> dict[str, Any]:
        return self.config.get("data_info") or {}

    @property
    def study(self) -> str:
        return str(self.config.get("study", "single"))

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def identity(self) -> tuple[Any, ...]:
        """What distinguishes this run from every other of its study: settings (the seed too) and the data."""
        settings = (json.dumps(self.config.get(name)) for name in IDENTITY_SETTINGS)
        return (self.study, self.data_info.get("fingerprint"), *settings)


@dataclass(frozen=True)
class Excluded:
    """A run that is not counted, and why."""

    name: str
    where: str
    study: str
    reason: str


@dataclass
class Results:
    """Runs that count, runs excluded, and the sweep files that runs name (sweep id -> the file's mapping)."""

    runs: list[RunRecord]
    excluded: list[Excluded]
    sweeps: dict[str, dict[str, Any]]


def checked(run: RunRecord, state: str | None, error: str = "") -> RunRecord | Excluded:
    """Return the run, or an Excluded that says why it cannot count."""
    reason = _problem(run) if state == "finished" else f"{state or 'unfinished'}{': ' + error if error else ''}"
    return Excluded(run.name, run.where, run.study, one_line(reason, 300)) if reason else run


def _problem(run: RunRecord) -> str:
    """Return what keeps a finished run from counting, "" for nothing. Settings are checked as a new run's are."""
    try:
        given = {name: run.config[name] for name in (*IDENTITY_SETTINGS, "words") if name in run.config}
        run.config |= resolve(("config", given)).as_dict() | {k: v for k, v in run.config.items() if k in NON_IDENTITY}
    except KwsError as error:
        return str(error)
    for name in ACCURACIES:
        if not 0 <= run.summary.get(name, -1) <= 1:
            return f"its summary has no {name} between 0 and 1"
    for name in COSTS:
        if run.summary.get(name, 0) <= 0:
            return f"its summary has no {name}"
    info = run.data_info
    if not isinstance(info, dict) or not info.get("fingerprint"):
        return "its config says nothing about the data (data_info)"
    if not all(isinstance(info.get(name), int) and info[name] > 0 for name in ("train", "val", "test")):
        return "its config does not say how many clips each split had (data_info)"
    if not run.history.get(metrics.EPOCH):
        return "it has no metrics"
    return ""


def finite_numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries of a summary that are finite numbers."""
    return {
        name: value
        for name, value in summary.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
