"""Reading runs from W&B."""

import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from kws import metrics
from kws.analysis.records import Progress, RunRecord, checked, finite_numbers
from kws.errors import KwsError
from kws.formatting import one_line
from kws.training import run_folder
from kws.training.wandb_account import access_problem
from kws.training.wandb_variables import temporary_wandb_dir

READERS = 16  # runs read at once: reading one is mostly waiting. W&B's client sends ten requests at once
_WANDB_PATH = re.compile(r"([\w.-]+)/([^/\\#?%:]+)(?:/(?:sweeps/)?([\w-]+))?")  # of a project all that W&B allows
R = TypeVar("R")


def wandb_path(source: str | Path) -> tuple[str, str, str | None] | None:
    """Return (entity, project, sweep id or None) of a W&B path, None for anything else, such as a folder with runs."""
    path = _WANDB_PATH.fullmatch(str(source))
    if not path or str(source).startswith(".") or run_folder.find_run_folders(Path(source)):
        return None
    return path[1], path[2], path[3]


def read_project(entity: str, project: str, sweep_id: str | None, progress: Progress) -> list[RunRecord]:
    """Return the runs of a project, or of one of its sweeps. A run that cannot be read has a `problem`.

    Raises KwsError without an account, if W&B is unreachable, or if it has no such project or sweep.
    """
    import wandb

    path = "/".join(filter(None, (entity, project, sweep_id)))
    if problem := access_problem():
        here = "the folder of this name has no run" if os.path.isdir(path) else "there is no folder of this name either"
        raise KwsError(f"W&B {path}: {problem} ({here})")

    def connect() -> Any:
        return _with_retries(path, wandb.Api, timeout=60)

    @cache
    def read_sweep(sweep_id: str) -> Any:
        place = f"{entity}/{project}/{sweep_id}"
        return _with_retries(place, lambda: api.sweep(place).config)

    def runs() -> list[Any]:
        of_sweep = {"sweep": sweep_id} if sweep_id else {}
        return list(api.runs(f"{entity}/{project}", of_sweep, "+created_at", per_page=200, include_sweeps=False))

    def read(remote: Any) -> RunRecord:
        run = RunRecord(remote.id, remote.name or remote.id, remote.url, config={}, summary={}, history={})
        try:
            _with_retries(f"{path}/{remote.id}", _read_run, run, remote, read_sweep)
        except KwsError as error:
            connect()  # raises where W&B, not this run, is the problem
            run.problem = one_line(error, 300)
        return run

    api = connect()
    if sweep_id:
        read_sweep(sweep_id)
    found: list[RunRecord] = []
    with temporary_wandb_dir(), ThreadPoolExecutor(READERS) as readers:
        remote_runs = _with_retries(path, runs)
        for run in readers.map(read, remote_runs):
            found.append(run)
            progress(len(found), len(remote_runs))
    return found


def _read_run(run: RunRecord, remote: Any, read_sweep: Callable[[str], Any]) -> None:
    """Complete `run`. Raises KwsError and W&B's errors."""
    config, summary = dict(remote.config), dict(remote.summary_metrics)
    run.config, run.summary = config, finite_numbers(summary)
    run.name = str(config.get("run_name") or run.name)
    run.sweep_id = str(config.get("sweep_id") or remote.sweep_name or "")
    run.read_sweep((lambda: read_sweep(remote.sweep_name)) if remote.sweep_name else None)
    if remote.state == "finished":
        with tempfile.TemporaryDirectory() as folder:
            for file in remote.files(names=[run_folder.METRICS, run_folder.PREDICTIONS, run_folder.LAYERS]):
                file.download(root=folder, replace=True).close()
            try:
                run.read_files(Path(folder))
            except KwsError as error:
                raise KwsError(f"cannot be read: {str(error).removeprefix(f'{folder}/')}") from error
        if not run.history:  # a run of an earlier version, which did not upload metrics.csv
            # scan_history, because run.history() samples 500 rows. Rows without a validation accuracy contain the
            # tables that are logged once, at the end. One resumed offline by such a version has its first epochs twice.
            rows = [row for row in remote.scan_history() if row.get(metrics.VAL_ACCURACY) is not None]
            epochs = {row.get(metrics.EPOCH): row for row in rows}
            run.history = run_folder.history(list(epochs.values()), "its history")
    checked(run, remote.state, summary.get("error", ""))


def _with_retries(path: str, action: Callable[..., R], *arguments: Any, **options: Any) -> R:
    """Return action(...), with up to four attempts if the network or the server fails."""
    import requests
    import wandb

    for wait in (1, 2, 4, 0):
        try:
            return action(*arguments, **options)
        except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
            raise KwsError(f"W&B {path}: {one_line(error, 200)}; run wandb login --relogin") from error
        except (wandb.errors.CommError, requests.RequestException, ValueError) as error:
            # For a project or a sweep that does not exist, wandb raises either of these.
            if isinstance(error, ValueError) or "Could not find" in str(error):
                raise KwsError(f"W&B {path}: not found ({one_line(error, 200)}); check the path") from error
            if not wait:
                raise KwsError(f"W&B {path}: cannot be read ({one_line(error, 200)}); try again later") from error
            time.sleep(wait)
    raise AssertionError("unreachable")
