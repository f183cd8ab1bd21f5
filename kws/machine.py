"""What this machine lets the process use, and how its processes are recognised."""

import os
import platform
import subprocess
import uuid
from pathlib import Path

PROC = Path("/proc")


def usable_cpus() -> int:
    """Return how many CPUs this process may run on: fewer than the machine has in a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
