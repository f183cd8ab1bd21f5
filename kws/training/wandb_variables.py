"""W&B's environment variables, run ids and logs: what is read before W&B's client is imported."""

import os
import re
import secrets
import string
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kws.config import Config, resolve
from kws.errors import KwsError
from kws.files import read_yaml
from kws.formatting import one_line

FINISH_TIMEOUT_S = 120  # for all uploads at the end; WANDB_FINISH_TIMEOUT changes it
LONGEST_ID = 64  # W&B allows 128 characters for the names of artifacts, which contain the run id
MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")


def check_mode() -> None:
    """Raise KwsError unless $WANDB_MODE is unset or one of W&B's modes."""
    mode = os.environ.get("WANDB_MODE", MODES[0])
    if mode not in MODES:
        raise KwsError(f"WANDB_MODE is {one_line(mode)!r}, but must be one of {', '.join(MODES)}")


def tags() -> list[str]:
    """Return the tags of $WANDB_TAGS, and remove empty ones from it: W&B's client would not start."""
    found = [tag.strip() for tag in os.environ.pop("WANDB_TAGS", "").split(",") if tag.strip()]
    if found:
        os.environ["WANDB_TAGS"] = ",".join(found)
    return found


def agent_config(config: Config) -> Config:
    """Return `config` with the settings that a W&B agent passes in a file, if there is one.

    The file has all settings of the trial, also those that the agent's command lacks without ${args}. `wandb.init`
    applies it to the run's config too, but name, group and folder of the run are needed before. Raises KwsError where
    a setting is not valid.
    """
    path = os.environ.get("WANDB_SWEEP_PARAM_PATH")
    if not path:
        return config
    entries = {key: entry["value"] for key, entry in read_yaml(path).items() if key != "wandb_version"}
    return resolve(("the run's config", config.as_dict()), ("the agent's settings", entries))


def random_run_id() -> str:
    """Return eight random letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def check_run_id(run_id: str) -> None:
    """Raise KwsError unless `run_id` is a valid name for a folder and for a W&B run."""
    if not re.fullmatch(rf"[\w-][\w.-]{{,{LONGEST_ID - 1}}}", run_id, re.ASCII):
        raise KwsError(
            f"run id: {one_line(run_id)!r} is not valid; use at most {LONGEST_ID} letters, digits, - _ . (no leading .)"
        )


def is_synced(log: Path, run_id: str) -> bool:
    """Return whether `wandb sync` has uploaded the folder of an offline run's log."""
    return (log / f"run-{run_id}.wandb.synced").exists()


def finish_timeout() -> float:
    """Return the seconds that all uploads at the end of a run may take. Raises KwsError."""
    text = os.environ.get("WANDB_FINISH_TIMEOUT") or str(FINISH_TIMEOUT_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise KwsError(f"WANDB_FINISH_TIMEOUT is {one_line(text)!r}, but must be a number of seconds above 0")
    return seconds


@contextmanager
def temporary_wandb_dir() -> Iterator[Path]:
    """Set $WANDB_DIR to a temporary folder and yield it: each run that W&B's API reads leaves an empty folder there."""
    before = os.environ.get("WANDB_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WANDB_DIR"] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ["WANDB_DIR"]
            if before is not None:
                os.environ["WANDB_DIR"] = before
