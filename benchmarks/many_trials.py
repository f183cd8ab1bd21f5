"""Measure what claiming and finishing a trial costs in a sweep of many trials that do nothing, on a journal file.

python -m benchmarks.many_trials --trials 5000
"""

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import yaml

from kws.sweep.spec import load_sweep
from kws.sweep.storage import SharedSweep
from kws.training.provenance import current_code

GROUP = 100  # trials per row of the table


def main() -> None:
    """Print, for the first hundred trials, the last and some between, the median time of each hundred."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_trials", allow_abbrev=False)
    parser.add_argument("--trials", type=int, default=5000, metavar="N", help="of the sweep (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="trials at once (default: %(default)s)")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="kws-benchmarks-") as folder:
        costs = measure(Path(folder), options.trials, options.jobs)
    groups = [costs[start : start + GROUP] for start in range(0, len(costs), GROUP)]
    shown = sorted({round(step * (len(groups) - 1) / 10) for step in range(11)})
    print("| trials | ms per trial | of it processor time |\n| --- | ---: | ---: |")
    for index in shown:
        wall, cpu = medians(groups[index])
        last = index * GROUP + len(groups[index])
        print(f"| {index * GROUP + 1:,} to {last:,} | {wall:.1f} | {cpu:.2f} |")
    ratios = [later / first for first, later in zip(medians(groups[0]), medians(groups[-1]), strict=True)]
    print(f"| last / first | {ratios[0]:.2f} x | {ratios[1]:.2f} x |")


def measure(folder: Path, trials: int, jobs: int) -> list[tuple[float, float]]:
    """Return (seconds, seconds of processor time) from claiming to finishing each trial, `jobs` at once."""
    path = folder / "sweep.yaml"
    parameters = {"seed": {"min": 0, "max": trials - 1}, "run_dir": {"value": str(folder / "runs")}}
    path.write_text(yaml.safe_dump({"method": "grid", "parameters": parameters}))
    shared, code = SharedSweep(load_sweep(path)), current_code()
    running, costs = [], []
    for _ in range(trials):
        before = time.perf_counter(), time.process_time()
        attempt = shared.claim()
        assert attempt is not None
        running.append(attempt)
        if len(running) == jobs:
            shared.finish(running.pop(0), 0.5, code, "data")
        costs.append((time.perf_counter() - before[0], time.process_time() - before[1]))
    return costs


def medians(costs: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the median milliseconds: of the wall clock, and of processor time."""
    return 1000 * median(wall for wall, _ in costs), 1000 * median(cpu for _, cpu in costs)


if __name__ == "__main__":
    main()
