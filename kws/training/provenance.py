"""Provenance: what a run's result depends on besides its settings (code, libraries, data, machine)."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from kws import __version__
from kws.config import Config
from kws.data.corpus import DataInfo

PACKAGES = ("torch", "torchaudio", "wandb", "ptflops")


class Provenance(TypedDict):
    """The entries of a run's recorded config besides its settings: kws.config.PROVENANCE_KEYS."""

    run_id: str
    run_name: str
    sweep_id: str | None
    data_info: DataInfo
    versions: dict[str, str]
    git_commit: str | None
    host: str
    device_name: str
    features_prefetched: bool
    started: str


def provenance(
    config: Config, run_id: str, sweep_id: str | None, data_info: DataInfo, device_name: str, features_prefetched: bool
) -> Provenance:
    """Return the Provenance of a run that starts now in this process."""
    return {
        "run_id": run_id,
        "run_name": config.run_name,
        "sweep_id": sweep_id or os.environ.get("WANDB_SWEEP_ID"),
        "data_info": data_info,
        "versions": {"kws": __version__, "python": platform.python_version()}
        | {package: metadata.version(package) for package in PACKAGES},
        "git_commit": git_commit(),
        "host": platform.node(),
        "device_name": device_name,
        "features_prefetched": features_prefetched,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def git_commit() -> str | None:
    """Return the git commit of this code, with `-dirty` if it was edited; None outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
