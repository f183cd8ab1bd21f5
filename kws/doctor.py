"""One page of facts for a newcomer or a bug report: what is good, what is a warning, what is bad, and what mends it."""

import os
import platform
import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from kws import __version__
from kws.data.layout import FOLDERS, diagnose, wav_sizes
from kws.errors import KwsError
from kws.formatting import one_line
from kws.machine import usable_cpus

PACKAGES = ("torch", "torchaudio", "wandb", "ptflops")
# How to get back to what setup.cfg asks for; a pip that is told of both packages takes two that belong together.
REINSTALL = "pip install --force-reinstall 'torch>=2.11,<2.14' 'torchaudio>=2.11,<2.12'"
REACH_TIMEOUT_S = 5
LITTLE_DISK, NO_DISK = 1_000_000_000, 100_000_000  # bytes free; a cache of the full set has 0.3 GB, a run about 1 MB


@dataclass(frozen=True)
class Check:
    """One fact. level: "good", "warning" or "bad" (kws cannot do its work); remedy: what mends it, None where good."""

    name: str
    level: str
    text: str
    remedy: str | None = None


def report(config):
    """Return the Checks for a Config. Nothing is changed; the one thing sent is a request for W&B's start page.

    No key or password is read out, printed or sent: only where one is found is told.
    """
    checks = [*_versions()]
    for name, examine in (
        ("torchaudio", _torchaudio),
        ("device", _device),
        ("data", _data),
        ("run_dir", _run_dir),
        ("cache", _cache),
        ("W&B", _wandb),
    ):
        try:
            checks += examine(config)
        except Exception as error:  # a package that is broken in any way; its own words may hold what W&B was given
            detail = "" if name == "W&B" else f" ({one_line(error, 200)})"
            checks.append(Check(name, "bad", f"cannot be examined: {type(error).__name__}{detail}", _REMEDIES[name]))
    return checks


def exit_status(checks):
    """Return the command's exit status: 1 if any of the checks is bad, else 0."""
    return int(any(check.level == "bad" for check in checks))


def show(checks, console):
    """Print the checks on a rich Console, a line each, with what mends them below."""
    from rich.text import Text

    width = max(len(check.name) for check in checks)
    styles = {"good": "green", "warning": "yellow", "bad": "bold red"}
    for check in checks:
        line = Text.assemble((f"{check.level:<8}", styles[check.level]), f"{check.name:<{width}}  {check.text}")
        console.print(line, soft_wrap=True)
        if check.remedy:
            console.print(f"{'':<8}{'mend it':<{width}}  {check.remedy}", soft_wrap=True, markup=False)
    counts = {level: sum(check.level == level for check in checks) for level in ("bad", "warning")}
    warnings = f"{counts['warning']} warning" + "s" * (counts["warning"] != 1)
    console.print(f"{counts['bad'] or 'nothing'} bad, {warnings if counts['warning'] else 'no warning'}")


_REMEDIES = {
    "torchaudio": REINSTALL,
    "device": REINSTALL,
    "data": "kws data",
    "run_dir": "take another folder with --run_dir",
    "cache": REINSTALL,
    "W&B": "look at the WANDB_ variables (env | cut -d= -f1 | grep WANDB) and at wandb/settings; pip install wandb",
}


def _versions():
    yield Check("python", "good", f"{platform.python_version()} on {platform.platform()}")
    yield Check("kws", "good", f"{__version__} in {Path(__file__).parent}")
    for package in PACKAGES:
        try:
            yield Check(package, "good", metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, "bad", "is not installed", f"pip install {package}")


def _torchaudio(config):
    """Whether torchaudio imports beside this torch, in which way, and has what kws takes from it."""
    from kws.data.torchaudio_import import how, torchaudio

    lacking = [
        name
        for module, name in ((torchaudio.functional, "melscale_fbanks"), (torchaudio.datasets, "SPEECHCOMMANDS"))
        if not hasattr(module, name)
    ]
    if lacking:
        return [Check("torchaudio import", "bad", f"has no {', '.join(lacking)}", REINSTALL)]
    note = "" if how == "plain" else "; kws does not need that extension"
    return [Check("torchaudio import", "good", f"{one_line(how, 200)}{note}")]


def _device(config):
    import torch

    from kws.train import choose_device

    cores = usable_cpus()
    try:
        device = choose_device(config.device)
    except KwsError as error:
        yield Check("device", "bad", str(error), "--device=auto")
    else:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        driver = Path("/proc/driver/nvidia/version").exists()
        if device.type == "cpu" and config.device == "auto" and driver and not torch.cuda.is_available():
            text = f"cpu ({name}), though there is an NVIDIA driver: torch {torch.__version__} cannot use it"
            yield Check("device", "warning", text, "install a CUDA build of torch that fits the driver (nvidia-smi)")
        else:
            yield Check("device", "good", f"{device} ({name})")
    if config.threads > cores:
        text = f"{config.threads} are set, but {cores} cores are ours"
        yield Check("threads", "warning", text, f"--threads={cores}")
    else:
        yield Check("threads", "good", f"{config.threads} of {cores} cores")


def _data(config):
    root = Path(os.path.abspath(os.path.expanduser(config.data_dir)))
    for data, name in FOLDERS.items():
        folder = root / "SpeechCommands" / name
        fault, command = diagnose(folder, config.words)
        wanted = data == config.data
        if fault is None:
            clips = ", ".join(f"{len(wav_sizes(folder / word)):,} {word}" for word in config.words)
            yield Check(f"data {data}", "good", f"{clips} in {folder}")
        elif wanted or folder.exists():
            yield Check(f"data {data}", "bad" if wanted else "warning", f"{folder} {fault}", command)
        else:
            yield Check(f"data {data}", "good", f"none in {root}; only --data={data} needs it ({command})")


def _run_dir(config):
    folder = Path(os.path.abspath(os.path.expanduser(config.run_dir)))
    return [_place("run_dir", folder, "bad", "take another folder with --run_dir")]


def _cache(config):
    from kws.data.corpus import cache_folder

    # Only a warning: without a cache every start reads the clips again.
    return [_place("cache", cache_folder(), "warning", "set KWS_CACHE to a folder that can be written")]


def _place(name, folder, level, remedy):
    """Return the Check of a folder that kws writes to: tried by writing into it, or where it will be made."""
    there = folder
    while not os.path.lexists(there):
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"kws")
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Check(name, level, f"{folder} cannot be written ({error.strerror})", remedy)
    text = f"{folder}, {free / 1e9:,.1f} GB free"
    if free < LITTLE_DISK:
        return Check(name, level if free < NO_DISK else "warning", text, f"free some, or {remedy}")
    return Check(name, "good", text)


def _wandb(config):
    from kws.training.tracker import wandb_settings

    mode, address = wandb_settings()
    if mode in ("offline", "dryrun"):
        yield Check("W&B mode", "good", "offline: runs are recorded here, for wandb leet, kws report and wandb sync")
        return
    if mode == "disabled":
        yield Check("W&B mode", "warning", "disabled: runs are kept in run_dir alone", "unset WANDB_MODE")
        return
    address = _without_password(address)
    source, fault = _key_source(urlsplit(address).netloc)
    if fault:
        yield Check("W&B key", "bad", fault, "wandb login --relogin, or export WANDB_MODE=offline")
    elif source is None:
        text = f"there is none for {address}: runs are recorded offline"
        yield Check("W&B key", "warning", text, "wandb login, or mean it: export WANDB_MODE=offline")
    else:
        yield Check("W&B key", "good", f"there is one for {address} in {source}")
        yield _reach(address)


def _without_password(address):
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _key_source(host):
    """Return (where W&B's client finds a key for `host` or None, what is wrong with it or None), in its order."""
    import netrc

    key = os.environ.get("WANDB_API_KEY", "")
    if key:
        # Shorter ones are refused by the client; a token of three parts is the other kind that it takes.
        fine = len(key) >= 40 or key.count(".") == 2
        return "WANDB_API_KEY", None if fine else "WANDB_API_KEY is shorter than a key's 40 characters"
    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "WANDB_IDENTITY_TOKEN_FILE", None
    path = os.path.expanduser(os.environ.get("NETRC") or "~/.netrc")
    try:
        entries = netrc.netrc(path)
    except FileNotFoundError:
        return None, None
    except (netrc.NetrcParseError, UnicodeDecodeError, OSError):  # whose message may quote the file
        return None, f"{path} cannot be read as a netrc file"
    # The client also takes a key that was stored under the older name of W&B's own server.
    names = (host, "api.wandb.ai") if host.endswith("forge.coreweave.com") else (host,)
    found = any(entries.authenticators(name) for name in names)
    return (path if found else None), None


def _reach(address):
    import urllib.error
    import urllib.request

    begun = time.perf_counter()
    try:
        urllib.request.urlopen(address, timeout=REACH_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        error.close()  # any answer will do: there is a server
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        reason = one_line(getattr(cause, "strerror", None) or cause)
        text = f"{address} cannot be reached ({reason}): runs go on offline"
        return Check("W&B server", "warning", text, "check the network, or export WANDB_MODE=offline")
    return Check("W&B server", "good", f"{address} answers in {1000 * (time.perf_counter() - begun):.0f} ms")
