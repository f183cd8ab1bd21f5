"""Provenance: what a run's result depends on besides its settings (code, libraries, data, machine)."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from kws import __version__
from kws.config import IDENTITY_SETTINGS, Config
from kws.config import SCHEMA as SCHEMA
from kws.errors import KwsError
from kws.formatting import one_line

if TYPE_CHECKING:  # it imports torch
    from kws.data.corpus import DataInfo

PACKAGES = ("torch", "torchaudio", "wandb", "ptflops")

# What a report needs of a sweep file, and the types of these entries.
SWEEP_KEYS = {"description": str, "method": str, "metric": Mapping, "parameters": Mapping, "run_cap": int}


class SweepRecord(TypedDict):
    """The sweep that a run belongs to, None without one, and what `sweep_content` returns of it, None if unknown."""

    sweep_id: str | None
    sweep: dict[str, Any] | None


class Provenance(SweepRecord):
    """The entries of a run's recorded config besides its settings: kws.config.PROVENANCE_KEYS."""

    run_id: str
    run_name: str
    schema: int
    data_info: "DataInfo"
    versions: dict[str, str]
    code_version: str
    host: str
    device_name: str
    concurrent_jobs: int  # trials that the sweep ran at once, this one included; 1 for kws train
    started: str


def provenance(
    config: Config,
    run_id: str,
    sweep: SweepRecord,
    data_info: "DataInfo",
    device_name: str,
    concurrent_jobs: int,
) -> Provenance:
    """Return the Provenance of a run that starts now in this process."""
    return {
        "run_id": run_id,
        "run_name": config.run_name,
        **sweep,
        "schema": SCHEMA,
        "data_info": data_info,
        "versions": {"kws": __version__, "python": platform.python_version()}
        | {package: metadata.version(package) for package in PACKAGES},
        "code_version": code_version(),
        "host": platform.node(),
        "device_name": device_name,
        "concurrent_jobs": concurrent_jobs,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def sweep_content(content: object, where: str) -> dict[str, Any]:
    """Return what a report needs of a sweep file, for a SweepRecord. Raises KwsError, naming `where`, if damaged."""
    if not isinstance(content, Mapping) or not content:
        raise KwsError(f"{where}: is empty or not a mapping")
    kept = {key: content[key] for key in SWEEP_KEYS if content.get(key) is not None}
    typed = [(key, value, SWEEP_KEYS[key]) for key, value in kept.items()]
    if "parameters" in kept and isinstance(kept["parameters"], Mapping):
        typed += [(f"parameters: {key}", value, Mapping) for key, value in kept["parameters"].items()]
    for key, value, kind in typed:
        if not isinstance(value, kind):
            raise KwsError(f"{where}: {one_line(key)} is {one_line(value)!r}, which a sweep file cannot have")
    try:
        json.dumps(kept, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise KwsError(f"{where}: has a value that cannot be recorded ({one_line(error)})") from error
    return kept


@cache
def code_version() -> str:
    """Return the last git commit that changed the package, in 12 digits; `kws-VERSION` outside a git checkout.

    If the package's files were edited since, `-dirty-` and 8 digits of a hash of the changes follow.
    """
    package = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments, "--", "."]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("log", "-1", "--format=%H")
        if not commit:  # installed into a checkout of another project
            return f"kws-{__version__}"
        changes = git("diff", "--no-color", "--no-ext-diff", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return f"kws-{__version__}"
    return commit[:12] + (f"-dirty-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")


class Code(NamedTuple):
    """The code that made a run, as far as its numbers depend on it."""

    kws: str
    torch: str
    torchaudio: str

    def __str__(self) -> str:
        return f"kws {self.kws}, torch {self.torch}, torchaudio {self.torchaudio}"


def current_code() -> Code:
    """Return the Code of this process, without importing torch."""
    return Code(code_version(), metadata.version("torch"), metadata.version("torchaudio"))


def code_of(record: Mapping[str, Any]) -> Code:
    """Return the Code in a run's recorded config, "unknown" where it is missing."""
    versions = record.get("versions")
    libraries = versions if isinstance(versions, Mapping) else {}
    found = record.get("code_version"), libraries.get("torch"), libraries.get("torchaudio")
    return Code(*(str(version or "unknown") for version in found))


def run_identity(record: Mapping[str, Any], fingerprint: object, code: Code) -> tuple[object, ...]:
    """Return what distinguishes a run from any other: study, data, code, and settings including the seed."""
    settings = (json.dumps(record.get(name)) for name in IDENTITY_SETTINGS)
    return (str(record.get("study", "")), fingerprint, code, *settings)
