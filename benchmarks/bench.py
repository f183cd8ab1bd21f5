"""`kws bench`: what a run and a study cost on this machine, part by part, beside a plain loop doing the same.

Forms that are compared take turns, repeat by repeat; their ratio is the median of the repeats' ratios.
"""

import math
import os
import platform
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from statistics import median

import torch
from kws.bench_race import prepare_server, race

from kws import __version__, bench_baseline, bench_parts, bench_runs
from kws.config import resolve
from kws.data.corpus import load
from kws.data.layout import FOLDERS

OURS, ALONE, PLAIN_BATCHES, FROM_FILES, IN_MEMORY = (
    "kws", "kws, one CPU", "kws, without augmentation", "plain loop, WAV files", "plain loop, in memory",
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How much is measured. Epochs are those of a run, per section."""

    repeats: int = 7
    run_repeats: int = 5
    run_epochs: int = 6
    study_epochs: int = 20
    study_runs: int = 4
    plain_runs: int = 2
    most_jobs: int = 7  # how many of 1, 2, 4, … jobs are tried
    data_times: tuple = (1, 2, 4)
    matrix_sizes: tuple = bench_parts.MATRIX_SIZES


# Shows that everything works; its figures mean little.
QUICK = Sizes(
    repeats=1, run_repeats=1, run_epochs=2, study_epochs=1, study_runs=1, plain_runs=1, most_jobs=1, data_times=(1,),
    matrix_sizes=(512,),
)  # fmt: skip


class Measurements(list):
    """Rows {section, what, value, unit, low, high, repeats}: value is the median, low and high the extremes."""

    def add(self, section, what, values, unit):
        values = [values] if isinstance(values, (int, float)) else list(values)
        row = {"section": section, "what": what, "value": median(values), "unit": unit}
        self.append(row | {"low": min(values), "high": max(values), "repeats": len(values)})

    def add_ratios(self, section, what, values, others):
        self.add(section, what, [other / value for value, other in zip(values, others, strict=True)], "x")


def run(config, quick=False, progress=None):
    """Measure everything; return {"machine", "versions", "settings", "measurements"}, ready for JSON.

    progress(text) is told what is being measured. Raises KwsError where the data are missing or a measurement fails.
    """
    say = progress or (lambda text: None)
    sizes = QUICK if quick else Sizes()
    config = replace(config, data_dir=os.path.abspath(os.path.expanduser(config.data_dir)), device="cpu", augment=True)
    load(config.data_dir, config.data, config.words, progress)  # says what is wrong with them, and fills the cache
    rows = Measurements()
    with bench_runs.scratch_folder():
        config = replace(config, run_dir=os.path.abspath("runs"))
        prepare_server(config)
        load_before = os.getloadavg()[0]
        _epochs(rows, config, sizes, say)
        _parts(rows, config, sizes, say)
        _runs(rows, replace(config, epochs=sizes.run_epochs), sizes, say)
        _studies(rows, replace(config, epochs=sizes.study_epochs), sizes, say)
        _sizes(rows, replace(config, epochs=min(3, sizes.run_epochs)), sizes, say)
        if torch.cuda.is_available():
            _cuda(rows, replace(config, device="cuda"), sizes, say)
    return {
        "machine": machine() | {"load at the start": load_before},
        "versions": {"kws": __version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in ("torch", "torchaudio", "wandb", "optuna")},
        "settings": {key: getattr(config, key) for key in ("data", "n_mels", "channels", "batch_size", "threads")}
        | {"quick": quick},
        "measurements": rows,
    }


def choose_data(data_dir=None):
    """Return the Config to measure with: Speech Commands in `data_dir` where it is there, else the synthetic corpus."""
    config = resolve(("--data_dir", {"data_dir": data_dir} if data_dir else {}))
    folders = Path(os.path.expanduser(config.data_dir), "SpeechCommands")
    if (folders / FOLDERS["synthetic"]).is_dir() and not (folders / FOLDERS["speech_commands"]).is_dir():
        return replace(config, data="synthetic")
    return config


def machine():
    """Return what the figures depend on: processor, cores, system, and the GPU where there is one."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    instructions = torch.backends.cpu.get_cpu_capability()
    return {
        "processor": processor, "instructions": instructions, "cores": os.cpu_count(), "system": platform.system(),
        "gpu": gpu,
    }  # fmt: skip


def _epochs(rows, config, sizes, say):
    forms = {
        OURS: (bench_parts.timed_epoch, config),
        ALONE: (bench_parts.timed_epoch, config, 1),
        PLAIN_BATCHES: (bench_parts.timed_epoch, replace(config, augment=False)),
        FROM_FILES: (bench_baseline.timed_epoch, config),
        f"{IN_MEMORY}, 2 workers": (bench_baseline.timed_epoch, config, True, 2),
        f"{IN_MEMORY}, no workers": (bench_baseline.timed_epoch, config, True, 0),
    }
    section = "epoch"
    times = _race(forms, sizes.repeats, say, section)
    seconds = {name: [result["seconds"] for result in results] for name, results in times.items()}
    for name, values in seconds.items():
        rows.add(section, name, values, "s")
    for name in list(forms)[3:]:
        for ours in (OURS, ALONE, PLAIN_BATCHES):
            rows.add_ratios(section, f"{name} / {ours}", seconds[ours], seconds[name])


def _parts(rows, config, sizes, say):
    forms = {
        "parts": (bench_parts.timed_parts, config),
        "matrix product": (bench_parts.timed_matrix_product, config.threads, sizes.matrix_sizes),
        "1": (bench_parts.timed_inference, replace(config, threads=1), 1),
        "256": (bench_parts.timed_inference, replace(config, threads=1), 256),
    }
    results = _race(forms, sizes.repeats, say, "step")
    parts = results["parts"]
    for name in parts[0]:
        if name not in ("gflop", "network"):
            rows.add("step", name, [part[name] for part in parts], "ms a batch")
    gflop = parts[0]["gflop"]
    achieved = [gflop / part["network"] * 1000 for part in parts]
    possible = [result["gflops"] for result in results["matrix product"]]
    rows.add("step", "network: forward and backward", gflop, "GFLOP a batch")
    rows.add("step", "network: forward, backward, optimiser", achieved, "GFLOP/s")
    rows.add("step", "matrix product", possible, "GFLOP/s")
    rows.add_ratios("step", "network / matrix product", possible, achieved)
    for batch in ("1", "256"):
        rows.add("inference", f"batch {batch}, one thread", [result["ms"] for result in results[batch]], "ms a clip")


def _runs(rows, config, sizes, say):
    modes = {"offline": [], "disabled": []}
    warm, processes = [], bench_runs.WarmProcesses()
    for repeat in range(sizes.run_repeats):
        say(f"runs, {repeat + 1} of {sizes.run_repeats}")
        for mode, results in modes.items():
            results.append(bench_runs.fresh_run(config, mode))
        warm.append(processes.run(config))
    for section, results in (("run, fresh process", modes["offline"]), ("run, in a sweep's process", warm)):
        for part in results[0][0]:
            rows.add(section, part, [parts.get(part, 0.0) for parts, _ in results], "s")
    logs = [typical["log"] for _, typical in modes["offline"]]
    whole = {mode: [typical["epoch"] + typical["log"] for _, typical in results] for mode, results in modes.items()}
    rows.add("tracking", "epoch with validation and checkpoint, W&B disabled", whole["disabled"], "s")
    rows.add("tracking", "the same, W&B offline", whole["offline"], "s")
    rows.add_ratios("tracking", "offline / disabled", whole["disabled"], whole["offline"])
    rows.add("tracking", "log call", [1000 * log for log in logs], "ms")
    rows.add_ratios("tracking", "log call / epoch", whole["offline"], logs)
    saved = [1000 * typical["checkpoint"] for _, typical in modes["offline"]]
    rows.add("tracking", "checkpoints of an epoch, flushed to disk", saved, "ms")


def _studies(rows, config, sizes, say):
    section = f"study, {config.epochs} epochs a run"
    rates = {}

    def add(what, seconds, runs):
        rates[what] = 60 * runs / seconds
        rows.add(section, what, rates[what], "runs a minute")

    jobs = [2**power for power in range(int(math.log2(os.cpu_count() or 1)) + 1)][: sizes.most_jobs]
    for count in jobs:
        say(f"study with {count} jobs")
        add(f"kws sweep --jobs {count}", bench_runs.study_seconds(config, sizes.study_runs, count), sizes.study_runs)
    say("study of twice as many runs")
    twice = bench_runs.study_seconds(config, 2 * sizes.study_runs, jobs[-1])
    add(f"the same, {2 * sizes.study_runs} runs for {sizes.study_runs}", twice, 2 * sizes.study_runs)
    for what, measure in (
        ("kws train, a process a run", bench_runs.process_seconds),
        ("plain loop, a process a run", bench_runs.plain_process_seconds),
    ):
        say(what)
        add(what, sum(measure(config) for _ in range(sizes.plain_runs)), sizes.plain_runs)
    best = max(rate for what, rate in rates.items() if what.startswith("kws sweep"))
    rows.add(section, "kws sweep / kws train, a process a run", best / rates["kws train, a process a run"], "x")
    rows.add(section, "kws sweep / plain loop, a process a run", best / rates["plain loop, a process a run"], "x")


def _sizes(rows, config, sizes, say):
    section = "size of the data"
    for times in sizes.data_times:
        say(f"{times} times the data")
        measured = bench_runs.sized_run(config, times)
        what = f"{measured['clips']:,} clips ({times}x)"
        rows.add(section, f"{what}: epoch", measured["epoch_s"], "s")
        rows.add(section, f"{what}: peak memory, first run", measured["first_bytes"] / 1e9, "GB")
        rows.add(section, f"{what}: peak memory, from the cache", measured["cached_bytes"] / 1e9, "GB")


def _cuda(rows, config, sizes, say):
    forms = {
        "kws": (bench_parts.timed_epoch, config),
        "kws, compiled": (bench_parts.timed_epoch, config, None, "default"),
        "kws, compiled, CUDA graphs": (bench_parts.timed_epoch, config, None, "reduce-overhead"),
    }
    for name, results in _race(forms, sizes.repeats, say, "epoch on CUDA").items():
        rows.add("epoch on CUDA", name, [result["seconds"] for result in results], "s")


def _race(forms, repeats, say, section):
    return race(forms, repeats, lambda what: say(f"{section}: {what}"))


def show(result, console):
    """Print the result as a table; as Markdown where the console is no terminal."""
    from rich.table import Table

    machine, versions, settings = (result[key] for key in ("machine", "versions", "settings"))
    about = [f"{name} {value}" for name, value in versions.items()]
    about += [f"{name} {value}" for part in (settings, machine) for name, value in part.items()]
    lines = [
        (row["section"], row["what"], _number(row["value"]), row["unit"], _spread(row))
        for row in result["measurements"]
    ]
    header = ("section", "what", "median", "unit", "lowest to highest")
    if not console.is_terminal:
        print(", ".join(about), end="\n\n")
        for line in (header, ("---", "---", "---:", "---", "---"), *lines):
            print("| " + " | ".join(line) + " |")
        return
    table = Table(*header)
    for before, line in zip([None, *lines], lines, strict=False):
        new = before is None or before[0] != line[0]
        if new and before:
            table.add_section()
        table.add_row(line[0] if new else "", *line[1:])
    console.print(table)
    console.print(", ".join(about), style="dim")


def _number(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"


def _spread(row):
    return f"{_number(row['low'])} to {_number(row['high'])} ({row['repeats']})" if row["repeats"] > 1 else ""
