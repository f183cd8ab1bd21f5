"""Runs read back as one table, from run folders and from W&B, with every run left out named."""

import csv
import json
import math
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from kws.config import CIRCUMSTANCES, SETTINGS, one_line, read_yaml, resolve
from kws.errors import KwsError

# Two runs of one study that agree in all of these are the same cell.
CELL_SETTINGS = tuple(name for name in SETTINGS if name not in CIRCUMSTANCES)
ACCURACIES = ("best/val_accuracy", "test/accuracy")
COSTS = ("model/params", "model/flops", "time/epoch_s_median")
_WANDB_PATH = re.compile(r"^([\w.-]+)/([\w. -]+?)(?:/(?:sweeps/)?([\w-]+))?$")


@dataclass
class Run:
    """One run: settings, summary, and what it wrote. Accuracies are fractions, times seconds."""

    run_id: str
    name: str
    where: str  # the run's folder, or its address on W&B
    config: dict
    summary: dict
    history: dict  # column -> list of floats, one an epoch
    predictions: dict = field(default_factory=dict)  # clip -> (label, probability of label 1); {} if not recorded
    layers: list = field(default_factory=list)  # dicts of layer, output_shape, params, macs
    sweep_id: str = ""

    @property
    def data_info(self):
        return self.config.get("data_info") or {}

    @property
    def study(self):
        return str(self.config.get("study", "single"))

    @property
    def seed(self):
        return self.config.get("seed", 0)

    @property
    def cell(self):
        """What tells this run from every other of its study: settings (the seed too) and the data."""
        settings = (json.dumps(self.config.get(name)) for name in CELL_SETTINGS)
        return (self.study, self.data_info.get("fingerprint"), *settings)


@dataclass(frozen=True)
class Excluded:
    """A run that no figure counts, and why."""

    name: str
    where: str
    study: str
    reason: str


@dataclass
class Results:
    """Runs to count, runs left out, and the sweep files that runs name (sweep id -> the file's mapping)."""

    runs: list
    excluded: list
    sweeps: dict


def load(sources=("runs",), progress=None):
    """Return the Results of `sources`: run folders, folders of run folders, or W&B paths, in any mixture.

    A W&B path is ENTITY/PROJECT, ENTITY/PROJECT/SWEEP_ID or ENTITY/PROJECT/sweeps/SWEEP_ID. `progress` is
    called with (runs read, runs in the source). A run seen twice (a folder and its copy on W&B) counts once,
    as it was first met. Raises KwsError where a source is neither, or where no run at all is found.
    """
    runs, excluded, sweeps = {}, [], {}
    for source in sources or ["runs"]:
        if str(source).strip() and Path(source).is_dir():
            found = _from_folder(Path(source), sweeps, progress)
        elif path := wandb_path(source):
            found = _from_wandb(*path, sweeps, progress)
        else:
            raise KwsError(
                f"{source}: is no folder here and no ENTITY/PROJECT of W&B; kws sweep or kws train make runs"
            )
        for item in found:
            if isinstance(item, Excluded):
                excluded.append(item)
            else:
                runs.setdefault(item.run_id, item)
    counted = _without_duplicates(list(runs.values()), excluded)
    if not counted and not excluded:
        raise KwsError(f"{', '.join(map(str, sources))}: holds no run; kws sweep or kws train make some")
    return Results(counted, excluded, sweeps)


def wandb_path(source):
    """Return (entity, project, sweep id or None) of a W&B path, None for what is a folder here or no such path."""
    path = _WANDB_PATH.match(str(source))
    return path.groups() if path and not str(source).startswith(".") and not Path(source).is_dir() else None


def _without_duplicates(runs, excluded):
    # The first run of a cell counts: were it the last, a rerun could replace a result that did not please.
    cells = {}
    for run in sorted(runs, key=lambda run: (str(run.config.get("started", "")), run.run_id)):
        if run.cell in cells:
            reason = f"the same settings and data as {cells[run.cell].run_id}, which started first"
            excluded.append(Excluded(run.name, run.where, run.study, f"duplicate: {reason}"))
        else:
            cells[run.cell] = run
    return list(cells.values())


def _judged(run, state, error=""):
    """Return the run, or an Excluded that says why it cannot count."""
    reason = _fault(run) if state == "finished" else f"{state or 'unfinished'}{': ' + error if error else ''}"
    return Excluded(run.name, run.where, run.study, one_line(reason, 300)) if reason else run


def _fault(run):
    """Return what keeps a finished run from counting, "" for nothing. Settings are checked as a new run's are."""
    try:
        given = {name: run.config[name] for name in (*CELL_SETTINGS, "words") if name in run.config}
        run.config |= resolve(("config", given)).as_dict() | {k: v for k, v in run.config.items() if k in CIRCUMSTANCES}
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
    if not run.history.get("epoch"):
        return "it has no metrics"
    return ""


def _numbers(summary):
    return {
        name: value
        for name, value in summary.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


# Run folders


def _from_folder(folder, sweeps, progress):
    folders = [folder]
    if not (folder / "config.json").exists():
        folders = sorted({path.parent for name in ("config", "summary") for path in folder.glob(f"*/{name}.json")})
    for done, path in enumerate(folders, 1):
        yield _read_run(path, sweeps)
        if progress:
            progress(done, len(folders))


def _read_run(folder, sweeps):
    try:
        config = _read_json(folder / "config.json")
        name = str(config.get("run_name") or folder.name)
        study = str(config.get("study", ""))
        if not (folder / "summary.json").exists():
            return Excluded(name, str(folder), study, "unfinished: it has no summary.json")
        summary = _read_json(folder / "summary.json")
        run = Run(
            run_id=str(config.get("run_id") or folder.name),
            name=name,
            where=str(folder),
            config=config,
            summary=_numbers(summary),
            history=_history(_read_csv(folder / "metrics.csv")),
            predictions=_predictions(_read_csv(folder / "predictions.csv")),
            layers=_read_csv(folder / "layers.csv"),
            sweep_id=str(config.get("sweep_id") or ""),
        )
    except (OSError, ValueError, KeyError) as error:
        return Excluded(folder.name, str(folder), "", f"cannot be read: {one_line(error, 200)}")
    sweep_file = folder.parent / "sweeps" / run.sweep_id / "sweep.yaml"
    if run.sweep_id and run.sweep_id not in sweeps and sweep_file.is_file():
        sweeps[run.sweep_id] = read_yaml(sweep_file)
    return _judged(run, summary.get("state"), str(summary.get("error", "")))


def _read_json(path):
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return value


def _read_csv(path):
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _history(rows):
    """Return {column: list of floats}; a value that a row lacks is not-a-number."""
    columns = [name for name in (rows[0] if rows else {}) if name and not name.startswith("_")]
    return {name: [_to_float(row.get(name)) for row in rows] for name in columns}


def _to_float(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _predictions(rows):
    predictions = {row["clip"]: (int(row["label"]), float(row["probability"])) for row in rows}
    if any(label not in (0, 1) or not 0 <= probability <= 1 for label, probability in predictions.values()):
        raise ValueError("predictions.csv has a label that is not 0 or 1, or a probability outside 0 to 1")
    return predictions


# W&B


def _from_wandb(entity, project, sweep_id, sweeps, progress):
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise KwsError(
            f"W&B {entity}/{project}: no account is set up here; wandb login or $WANDB_API_KEY does that "
            "(there is no such folder here either)"
        )
    path = "/".join(filter(None, (entity, project, sweep_id)))

    api = _patiently(path, wandb.Api, timeout=60)
    remote_runs = _patiently(path, _list_remote, api, path, is_sweep=bool(sweep_id))
    for done, remote in enumerate(remote_runs, 1):
        run_sweep = sweep_id or remote.sweep_name or ""
        if run_sweep and run_sweep not in sweeps:
            sweeps[run_sweep] = _patiently(path, _remote_sweep, api, f"{entity}/{project}/{run_sweep}")
        yield _patiently(f"{path}/{remote.id}", _read_remote, remote, run_sweep)
        if progress:
            progress(done, len(remote_runs))


def _remote_sweep(api, path):
    return dict(api.sweep(path).config)


def _list_remote(api, path, is_sweep):
    return list(api.sweep(path).runs if is_sweep else api.runs(path, order="+created_at", per_page=200))


def _read_remote(remote, sweep_id):
    config = dict(remote.config)
    run = Run(
        run_id=remote.id,
        name=str(config.get("run_name") or remote.name),
        where=remote.url,
        config=config,
        summary=_numbers(dict(remote.summary_metrics)),
        history={},
        sweep_id=sweep_id,
    )
    if remote.state == "finished":
        # scan_history: run.history() samples 500 rows.
        # Rows without a validation accuracy hold the tables that are logged once, at the end.
        run.history = _history([row for row in remote.scan_history() if row.get("val/accuracy") is not None])
        with tempfile.TemporaryDirectory() as folder:
            for file in remote.files(names=["predictions.csv", "layers.csv"]):
                file.download(root=folder, replace=True)
            run.predictions = _predictions(_read_csv(Path(folder) / "predictions.csv"))
            run.layers = _read_csv(Path(folder) / "layers.csv")
    return _judged(run, remote.state)


def _patiently(path, action, *arguments, **options):
    """Return action(...), tried four times where the network or the server fails."""
    import requests
    import wandb

    for wait in (1, 2, 4, None):
        try:
            return action(*arguments, **options)
        except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
            raise KwsError(f"W&B {path}: {one_line(error, 200)}; wandb login --relogin sets the key") from error
        except (wandb.errors.CommError, requests.RequestException, ValueError) as error:
            # wandb raises one or the other for a project or a sweep that does not exist.
            if isinstance(error, ValueError) or "Could not find" in str(error):
                raise KwsError(f"W&B {path}: not found ({one_line(error, 200)}); check the path") from error
            if wait is None:
                raise KwsError(f"W&B {path}: cannot be read ({one_line(error, 200)}); try again later") from error
            time.sleep(wait)
