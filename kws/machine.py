"""What this machine lets the process use, and how its processes are recognised."""

import math
import os
import platform
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Return how many CPUs this process may use: fewer than the machine has in a container or under taskset."""
    affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    cpus = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min(cpus, *_cpu_quotas())))


def _cpu_quotas() -> Iterator[float]:
    """Yield how many CPUs' time each control group (version 2) of this process may use."""
    yield math.inf
    try:
        groups = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    # In a container the path may be the host's: then the first that exists is the container's own.
    group = CGROUPS / next((line[4:] for line in groups if line.startswith("0::/")), "")
    for folder in (group, *group.parents):
        with suppress(OSError, ValueError):  # without a limit the quota is "max"
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)


def memory() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def process_scope() -> str:
    """Return a name for the scope of process ids: this boot and pid namespace; without /proc, this computer."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink(PROC / 'self/ns/pid')}"
    except OSError:  # macOS
        return f"{platform.node()}/{uuid.getnode():x}"


def process_started(pid: int) -> str | None:
    """Return when process `pid` was started, as a text to compare, None if it does not exist or is a zombie."""
    if (PROC / "self").exists():
        try:
            state, *fields = (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        started = fields[18]  # in clock ticks since boot
    else:
        command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
        environment = os.environ | {"LC_ALL": "C", "TZ": "UTC"}
        shown = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
        state, _, started = shown.strip().partition(" ")
    return started.strip() if state and state[0] not in "ZX" else None
