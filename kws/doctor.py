"""The environment check: what is installed, found and reachable, with suggested fixes."""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from kws import __version__
from kws.config import SETTINGS, Config
from kws.data.clips import Listing
from kws.data.layout import diagnose, locate
from kws.errors import KwsError
from kws.formatting import one_line
from kws.machine import usable_cpus

if TYPE_CHECKING:
    from rich.console import Console

Level = Literal["ok", "warning", "error"]
PACKAGES = ("torch", "torchaudio", "wandb", "ptflops")
# Restores what setup.cfg asks for: given both packages, pip chooses two that belong together.
REINSTALL = "pip install --force-reinstall 'torch>=2.11,<2.14' 'torchaudio>=2.11,<2.12'"
OTHER_RUN_DIR = "choose another folder with --run_dir"
WANDB_FIX = "check the WANDB_ variables (env | cut -d= -f1 | grep WANDB) and wandb/settings; or pip install wandb"
REACH_TIMEOUT_S = 5
LITTLE_DISK, NO_DISK = 1_000_000_000, 100_000_000  # bytes free; a cache of the full set has 0.3 GB, a run about 1 MB


@dataclass(frozen=True)
class Check:
    """One fact about the environment. An "error" keeps kws from working; `fix` is the suggested fix, if any."""

    name: str
    level: Level
    text: str
    fix: str | None = None


def report(config: Config) -> list[Check]:
    """Return the Checks for a Config. Nothing is changed; only W&B's start page is requested.

    No key or password is printed or sent, only the place where one is found.
    """
    checks = [*_versions()]
    for name, (examine, fix) in _EXAMINATIONS.items():
        try:
            checks += examine(config)
        except KwsError as error:
            checks.append(Check(name, "error", str(error)))
        except Exception as error:  # a broken package; W&B's message may quote a key
            detail = "" if name == "W&B" else f" ({one_line(error, 200)})"
            checks.append(Check(name, "error", f"the check failed: {type(error).__name__}{detail}", fix))
    return checks


def exit_status(checks: list[Check]) -> int:
    """Return the command's exit status: 1 if any of the checks is an error, else 0."""
    return int(any(check.level == "error" for check in checks))


def show(checks: list[Check], console: "Console") -> None:
    """Print the checks on a rich Console, one line each, with suggested fixes."""
    from rich.text import Text

    width = max(len(check.name) for check in checks)
    styles = {"ok": "green", "warning": "yellow", "error": "bold red"}
    for check in checks:
        line = Text.assemble((f"{check.level:<8}", styles[check.level]), f"{check.name:<{width}}  {check.text}")
        console.print(line, soft_wrap=True)
        if check.fix:
            console.print(f"{'':<8}{'fix':<{width}}  {check.fix}", soft_wrap=True, markup=False)
    counts = {level: sum(check.level == level for check in checks) for level in ("error", "warning")}
    console.print(", ".join(f"{number} {level}{'s' * (number != 1)}" for level, number in counts.items()))


def _versions() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield Check("kws", "ok", f"{__version__} in {Path(__file__).parent}")
    for package in PACKAGES:
        try:
            yield Check(package, "ok", metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, "error", "is not installed", f"pip install {package}")


def _torchaudio(config: Config) -> list[Check]:
    """Whether torchaudio can be imported with this torch, how, and whether it has what kws needs."""
    from kws.data.torchaudio_import import how, torchaudio

    needed = ((torchaudio.functional, "melscale_fbanks"), (torchaudio.datasets, "SPEECHCOMMANDS"))
    missing = [name for module, name in needed if not hasattr(module, name)]
    if missing:
        return [Check("torchaudio import", "error", f"has no {', '.join(missing)}", REINSTALL)]
    note = "" if how == "plain" else "; kws does not need that extension"
    return [Check("torchaudio import", "ok", f"{one_line(how, 200)}{note}")]


def _device(config: Config) -> Iterator[Check]:
    import torch

    from kws.training.run import choose_device

    cores = usable_cpus()
    try:
        device = choose_device(config.device)
    except KwsError as error:
        yield Check("device", "error", str(error), "--device=auto")
    else:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        driver = Path("/proc/driver/nvidia/version").exists()
        if device.type == "cpu" and config.device == "auto" and driver and not torch.cuda.is_available():
            text = f"cpu ({name}), though there is an NVIDIA driver: torch {torch.__version__} cannot use it"
            yield Check("device", "warning", text, "install a CUDA build of torch that fits the driver (nvidia-smi)")
        else:
            yield Check("device", "ok", f"{device} ({name})")
    if config.threads > cores:
        text = f"{config.threads} are set, but this process may use {cores} cores"
        yield Check("threads", "warning", text, f"--threads={cores}")
    else:
        yield Check("threads", "ok", f"{config.threads} of {cores} cores")


def _data(config: Config) -> Iterator[Check]:
    for data in SETTINGS["data"].metadata["choices"]:
        folder = locate(config.data_dir, data, config.words)
        found = diagnose(folder, config.words)
        wanted = data == config.data
        if isinstance(found, Listing):
            clips = ", ".join(f"{len(found.words[word]):,} {word}" for word in config.words)
            yield Check(f"data {data}", "ok", f"{clips} in {folder}")
            continue
        problem, fix = found[0], found[1].removeprefix("run: ")
        if wanted or folder.exists():
            yield Check(f"data {data}", "error" if wanted else "warning", f"{folder} {problem}", fix)
        else:
            text = f"none in {folder.parent.parent}; only --data={data} needs it ({fix})"
            yield Check(f"data {data}", "ok", text)


def _run_dir(config: Config) -> list[Check]:
    return [_place("run_dir", Path(os.path.abspath(os.path.expanduser(config.run_dir))), "error", OTHER_RUN_DIR)]


def _cache(config: Config) -> list[Check]:
    from kws.data.corpus import cache_folder

    # Only a warning: without a cache, every start reads all clips.
    return [_place("cache", cache_folder(), "warning", "set KWS_CACHE to a writable folder")]


def _place(name: str, folder: Path, level: Level, fix: str) -> Check:
    """Return the Check of a folder that kws writes to, by writing a file into it or its nearest existing parent."""
    existing = folder
    while not os.path.lexists(existing):
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"kws")
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Check(name, level, f"{folder} cannot be written ({error.strerror})", fix)
    text = f"{folder}, {free / 1e9:,.1f} GB free"
    if free < LITTLE_DISK:
        return Check(name, level if free < NO_DISK else "warning", text, f"free some space, or {fix}")
    return Check(name, "ok", text)


def _wandb(config: Config) -> Iterator[Check]:
    from kws.training.wandb_account import wandb_settings

    settings = wandb_settings()
    mode, address = settings.mode, settings.base_url
    if mode in ("offline", "dryrun"):
        yield Check("W&B mode", "ok", "offline: runs are recorded here; see wandb leet, kws report and wandb sync")
        return
    if mode == "disabled":
        yield Check(
            "W&B mode", "warning", "disabled: runs are kept in run_dir only", "wandb online, or unset WANDB_MODE"
        )
        return
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]  # without a user and password
    address = urlunsplit((parts.scheme, host, parts.path, "", ""))
    source, problem = _key_source(host)
    if problem:
        yield Check("W&B key", "error", problem, "wandb login --relogin, or set WANDB_MODE=offline")
    elif source is None:
        text = f"none for {address}: runs are recorded offline"
        yield Check("W&B key", "warning", text, "wandb login, or set WANDB_MODE=offline")
    else:
        yield Check("W&B key", "ok", f"found one for {address} in {source}")
        yield _reach(address)


def _key_source(host: str) -> tuple[str | None, str | None]:
    """Return (where W&B's client finds a key for `host`, or None; what is wrong with it, or None)."""
    import netrc

    key = os.environ.get("WANDB_API_KEY", "")
    if key:
        # The client refuses shorter keys; it also accepts a token of three parts.
        valid = len(key) >= 40 or key.count(".") == 2
        return "WANDB_API_KEY", None if valid else "WANDB_API_KEY is shorter than a key's 40 characters"
    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "WANDB_IDENTITY_TOKEN_FILE", None
    path = os.path.expanduser(os.environ.get("NETRC") or "~/.netrc")
    try:
        entries = netrc.netrc(path)
    except FileNotFoundError:
        return None, None
    except (netrc.NetrcParseError, UnicodeDecodeError, OSError):  # its message may quote the file
        return None, f"{path} cannot be read as a netrc file"
    # The client also accepts a key stored under the older name of W&B's own server.
    names = (host, "api.wandb.ai") if host.endswith("forge.coreweave.com") else (host,)
    found = any(entries.authenticators(name) for name in names)
    return (path if found else None), None


def _reach(address: str) -> Check:
    import urllib.error
    import urllib.request

    began = time.perf_counter()
    try:
        urllib.request.urlopen(address, timeout=REACH_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        error.close()  # any answer shows that there is a server
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        reason = one_line(getattr(cause, "strerror", None) or cause)
        text = f"{address} is unreachable ({reason}): runs are recorded offline"
        return Check("W&B server", "warning", text, "check the network, or set WANDB_MODE=offline")
    return Check("W&B server", "ok", f"{address} answers in {1000 * (time.perf_counter() - began):.0f} ms")


_EXAMINATIONS: dict[str, tuple[Callable[[Config], Iterable[Check]], str]] = {  # with the fix for one that fails
    "torchaudio": (_torchaudio, REINSTALL),
    "device": (_device, REINSTALL),
    "data": (_data, "kws data"),
    "run_dir": (_run_dir, OTHER_RUN_DIR),
    "cache": (_cache, REINSTALL),
    "W&B": (_wandb, WANDB_FIX),
}
