"""What this machine lets the process use."""

import os


def usable_cpus() -> int:
    """Return how many CPUs this process may run on: fewer than the machine has in a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
