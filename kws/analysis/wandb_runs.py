"""Reading runs from W&B."""

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from kws import metrics
from kws.analysis.records import Excluded, Progress, RunRecord, Sweeps, checked, finite_numbers
from kws.errors import KwsError
from kws.formatting import one_line
from kws.training import run_folder

_WANDB_PATH = re.compile(r"^([\w.-]+)/([\w. -]+?)(?:/(?:sweeps/)?([\w-]+))?$")
R = TypeVar("R")


def wandb_path(source: str | Path) -> tuple[str, str, str | None] | None:
    """Return (entity, project, sweep id or None) of a W&B path, None for anything else."""
    path = _WANDB_PATH.match(str(source))
    if not path or str(source).startswith(".") or Path(source).is_dir():
        return None
    return path[1], path[2], path[3]


def read_project(
    entity: str, project: str, sweep_id: str | None, sweeps: Sweeps, progress: Progress
) -> Iterator[RunRecord | Excluded]:
    """Yield the runs of a project, or of one of its sweeps, and add the sweep files they name to `sweeps`.

    Raises KwsError without an account, if W&B is unreachable, or if it has no such project.
    """
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise KwsError(
            f"W&B {entity}/{project}: not logged in; run wandb login or set WANDB_API_KEY "
            "(there is no folder of this name either)"
        )
    path = "/".join(filter(None, (entity, project, sweep_id)))
    api: Any = _with_retries(path, wandb.Api, timeout=60)
    remote_runs = _with_retries(
        path,
        lambda: list(api.sweep(path).runs if sweep_id else api.runs(path, order="+created_at", per_page=200)),
    )
    for done, remote in enumerate(remote_runs, 1):
        run_sweep = sweep_id or remote.sweep_name or ""
        if run_sweep and run_sweep not in sweeps:
            sweeps[run_sweep] = dict(_with_retries(path, api.sweep, f"{entity}/{project}/{run_sweep}").config)
        yield _with_retries(f"{path}/{remote.id}", _read_run, remote, run_sweep)
        progress(done, len(remote_runs))


def _read_run(remote: Any, sweep_id: str) -> RunRecord | Excluded:
    config = dict(remote.config)
    run = RunRecord(
        run_id=remote.id,
        name=str(config.get("run_name") or remote.name),
        where=remote.url,
        config=config,
        summary=finite_numbers(dict(remote.summary_metrics)),
        history={},
        sweep_id=sweep_id,
    )
    if remote.state == "finished":
        # scan_history, because run.history() samples 500 rows. Rows without a validation accuracy contain the tables
        # that are logged once, at the end.
        epochs = [row for row in remote.scan_history() if row.get(metrics.VAL_ACCURACY) is not None]
        run.history = run_folder.history(epochs)
        with tempfile.TemporaryDirectory() as folder:
            for file in remote.files(names=[run_folder.PREDICTIONS, run_folder.LAYERS]):
                file.download(root=folder, replace=True)
            predictions = run_folder.read_predictions(Path(folder))
            run.predictions, run.val_predictions = predictions[run_folder.TEST], predictions[run_folder.VALIDATION]
            run.layers = run_folder.read_layers(Path(folder))
    return checked(run, remote.state)


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
