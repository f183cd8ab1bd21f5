"""Measuring: processes with their wall time and memory, forms that take turns, rows of results."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import NamedTuple

from kws import metrics
from kws.config import Config, parse_flags
from kws.errors import KwsError, notify
from kws.training.run_folder import find_run_folders, read_history

OTHER = ", other commit"  # ends the names of what --against measures
# Passed to every process, so that another commit measures the same network even if its defaults differ.
PINNED = ("data", "data_dir", "n_mels", "channels", "batch_size", "threads", "device")
PARTS = ("batch and augmentation", "forward", "backward", "optimiser")
FRONT_END = "front end (once per run, not in a step)"
NETWORK, PRODUCT, NETWORK_S = "forward, backward, optimiser", "matrix product", "epoch of the network alone"
Row = tuple[str, str, str, Sequence[float]]  # section, what, unit, a value per repetition


class Sizes(NamedTuple):
    """How much is measured. The first epoch of a run warms up and is not counted."""

    repeats: int = 5
    epochs: int = 5  # per run of the sections epoch and fixed
    runs: int = 4  # per sweep of the section fixed
    study_runs: int = 12
    study_epochs: int = 20


class Finished(NamedTuple):
    """A process that ended with status 0."""

    runs: list[Path]  # the run folders that it wrote
    last_line: str  # of its output
    seconds: float
    peak_gb: float  # largest resident set of the process or of one that it waited for

    @property
    def epoch_s(self) -> float:
        """Median of the epochs' seconds that the run folders record, else those that a loop printed."""
        epochs = [read_history(run)[metrics.EPOCH_S] for run in self.runs] or [json.loads(self.last_line)]
        return median(seconds for run in epochs for seconds in run[1:])


Forms = dict[str, Callable[[], Finished]]  # name in the table -> runs a process
Values = Mapping[str, Sequence[float]]  # name in the table -> a value per repetition


@dataclass
class Bench:
    """What the sections share: settings, a temporary directory for all files that are written, and the results."""

    config: Config
    sizes: Sizes
    clips: list[int]  # of the section memory
    folder: Path
    versions: dict[str, Path]  # end of the name in the table -> checkout: "" and, with --against, OTHER
    rows: list[Row] = field(default_factory=list)

    def flags(self, **changed: object) -> list[str]:
        """Return the settings of a run as flags: the pinned ones, sizes.epochs, and `changed`."""
        pinned = {name: getattr(self.config, name) for name in PINNED}
        return [f"--{name}={value}" for name, value in (pinned | {"epochs": self.sizes.epochs} | changed).items()]

    def train(self, version: str = "", one_cpu: bool = False, mode: str = "offline", **changed: object) -> Finished:
        """Run `kws train`."""
        return self.run("kws", "train", *self.flags(**changed), version=version, one_cpu=one_cpu, mode=mode)

    def sweep(self, version: str, jobs: int, runs: int, **changed: object) -> Finished:
        """Run `kws sweep` over so many seeds."""
        parameters = {name: {"value": value} for name, value in parse_flags(self.flags(**changed)).items()}
        seeds = {"seed": {"values": [*range(runs)]}, "study": {"value": "benchmark"}}
        path = self.folder / "sweep.yaml"  # JSON is YAML, too
        path.write_text(json.dumps({"method": "grid", "parameters": parameters | seeds}))
        return self.run("kws", "sweep", str(path), f"--jobs={jobs}", version=version)

    def run(self, *command: str, version: str = "", one_cpu: bool = False, mode: str = "offline") -> Finished:
        """Run `python -m COMMAND` of `version` in a new folder. mode: W&B's. Raises KwsError if it fails."""
        folder = Path(mkdtemp(dir=self.folder))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "KWS_"))}
        environment |= {f"WANDB_{name}_DIR": str(self.folder) for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT")}
        # A cache per commit: if their formats differ, a shared one would be rewritten at every turn.
        cache, path = str(self.folder / f"cache{version}"), str(self.versions[version])
        environment |= {"WANDB_MODE": mode, "KWS_CACHE": cache, "PYTHONPATH": path}
        with open(folder / "output.txt", "w") as output:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", *command], env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT,
                preexec_fn=(lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if one_cpu else None,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        last_line = (folder / "output.txt").read_text().strip().rpartition("\n")[2]
        if process.returncode:
            raise KwsError(f"{' '.join(command[:2])} of {path} failed: {last_line}")
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux KiB
        return Finished(find_run_folders(folder / "runs"), last_line, seconds, peak / 1e9)

    def take_turns(self, section: str, unit: str, value: Callable[[Finished], float], forms: Forms) -> Values:
        """Measure each form once per repetition, in alternating order; add rows, also of ratios between commits."""
        values: dict[str, list[float]] = {name: [] for name in forms}
        for repeat in range(self.sizes.repeats):
            for name in list(forms)[:: -1 if repeat % 2 else 1]:
                notify(f"{section}: {name}, {repeat + 1} of {self.sizes.repeats}")
                values[name].append(value(forms[name]()))
        self.rows += [(section, name, unit, values[name]) for name in forms]
        for name in (name for name in forms if name.endswith(OTHER)):
            self.add_ratio(section, values, name, name.removesuffix(OTHER))
        return values

    def add_ratio(self, section: str, values: Values, one: str, other: str) -> None:
        """Add the row "one / other": a ratio per repetition."""
        ratios = [a / b for a, b in zip(values[one], values[other], strict=True)]
        self.rows.append((section, f"{one} / {other}", "x", ratios))
