"""W&B's settings and account: mode, project, entity, access, and what W&B has of a run."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from kws.config import Config, resolve
from kws.errors import KwsError
from kws.formatting import one_line
from kws.training import wandb_variables
from kws.training.provenance import SweepRecord, sweep_content

if TYPE_CHECKING:
    import wandb

DEFAULT_PROJECT = "kws"
OFFLINE = ("offline", "dryrun")
READ_TIMEOUT_S = 10


def wandb_settings() -> "wandb.Settings":
    """Return the settings of W&B's client, from its variables, settings files and defaults. Starts its service.

    Raises KwsError if one of them is not valid.
    """
    import wandb

    wandb_variables.tags()
    try:
        return wandb.setup().settings
    except (wandb.errors.UsageError, ValueError) as error:
        raise rejected(error) from None


def rejected(error: Exception) -> KwsError:
    """Return the KwsError for settings that W&B's client rejects. Their values are left out: one may hold a key."""
    reason = one_line(str(error).partition(" [type=")[0], 200)
    return KwsError(f"W&B rejects its settings ({reason}); check the WANDB_ variables")


def choose_mode(offline: bool, notify: Callable[[str], None]) -> Any:
    """Return W&B's mode: $WANDB_MODE, else that of its settings files, else "offline" if asked for or needed."""
    mode = os.environ.get("WANDB_MODE") or wandb_settings().mode
    if "WANDB_MODE" in os.environ or mode != "online":
        return mode
    if not offline and (problem := access_problem()):
        notify(f"W&B: {problem}; the run is recorded offline")
        offline = True
    return "offline" if offline else mode


def access_problem() -> str | None:
    """Return why W&B cannot be used, and what to do; None if it can. Nothing is asked or sent."""
    import wandb

    mode = wandb_settings().mode
    if mode in (*OFFLINE, "disabled"):
        return f"its mode is {mode} here; run wandb online or unset WANDB_MODE"
    try:
        # Not verified: that would be one more request, and init verifies the key anyway.
        if wandb.login(prompt=False, verify=False):
            return None
        return "no account is configured; run wandb login or set WANDB_API_KEY"
    except wandb.errors.AuthenticationError as error:
        return f"the configured key is rejected ({one_line(error, 200)}); run wandb login --relogin"


def in_project(config: Config) -> Config:
    """Return `config` with its W&B project and entity: as set, else from W&B's variables, else its settings files.

    W&B's server has given the variables to an agent's trial, and its client ignores the settings then.
    """
    known = wandb_settings()
    first, second = (known, config) if known.sweep_id else (config, known)
    found = {name: getattr(first, name) or getattr(second, name) or "" for name in ("project", "entity")}
    found["project"] = found["project"] or DEFAULT_PROJECT
    return resolve(("settings", config.as_dict()), ("W&B's variables and settings files", found))


def stored_run(config: Config, run_id: str) -> Any:
    """Return the W&B run that is resumed, None if W&B has none that was started, or cannot be read."""
    import wandb

    place = {name: getattr(config, name) for name in ("project", "entity") if getattr(config, name)}
    with reading():
        run: Any = wandb.Api(place, timeout=READ_TIMEOUT_S).run(run_id)
        return run if "run_id" in run.config else None  # an agent's trial is there before it is started
    return None


def read_sweep(config: Config) -> SweepRecord:
    """Return the sweep of the W&B agent that started this process; without its content if W&B cannot be read."""
    import wandb

    record: SweepRecord = {"sweep_id": os.environ.get("WANDB_SWEEP_ID"), "sweep": None}
    # Offline, only an agent is sure to reach the server: others would wait in vain.
    reachable = wandb_settings().mode not in (*OFFLINE, "disabled") or "WANDB_SWEEP_PARAM_PATH" in os.environ
    if record["sweep_id"] and reachable:
        with reading(), suppress(KwsError):
            api: Any = wandb.Api({"project": config.project, "entity": config.entity}, timeout=READ_TIMEOUT_S)
            record["sweep"] = sweep_content(api.sweep(record["sweep_id"]).config, "sweep")
    return record


@contextmanager
def reading() -> Iterator[None]:
    """Ignore that W&B cannot be read."""
    import requests
    import wandb

    failures = wandb.errors.Error, requests.RequestException, ValueError, OSError
    with suppress(*failures), wandb_variables.temporary_wandb_dir():
        yield


def replace_run_id() -> str:
    """Replace $WANDB_RUN_ID, the only id that W&B's client accepts in an agent's process; return the new id."""
    import wandb

    os.environ["WANDB_RUN_ID"] = wandb_variables.random_run_id()
    wandb.teardown()  # it has read the environment already
    return os.environ["WANDB_RUN_ID"]
