"""Sweeps as processes of their own on a tiny corpus, and what is left on disk when they have ended."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import yaml
from conftest import REPOSITORY

SWEEPS = sorted((REPOSITORY / "sweeps").glob("*.yaml"))
SMALL = {"channels": {"value": 8}, "batch_size": {"value": 16}, "epochs": {"value": 2}}  # a run of half a second


def write_sweep(folder, parameters, file="sweep.yaml", **content):
    """Write a sweep file with `parameters` (W&B specs) over those of a small run; `content` are top-level keys."""
    content = {"method": "grid", "metric": {"name": "best/val_accuracy", "goal": "maximize"}} | content
    path = Path(folder) / file
    path.write_text(yaml.safe_dump(content | {"parameters": SMALL | parameters}, sort_keys=False))
    return path


def runs_of(run_dir):
    """{run folder: (config.json, summary.json)} of the run folders in `run_dir`."""
    found = {}
    for path in sorted(Path(run_dir).glob("*/summary.json")):
        found[path.parent] = json.loads((path.parent / "config.json").read_text()), json.loads(path.read_text())
    return found


def results(run_dir, *keys):
    """{values of the settings `keys`: (metrics without times, predictions)} of the finished runs, each cell once."""
    found = {}
    for folder, (config, summary) in runs_of(run_dir).items():
        assert summary["state"] == "finished", (folder, summary)
        cell = tuple(config[key] for key in keys)
        assert cell not in found, f"cell {cell} was run twice"
        found[cell] = (unclocked(folder / "metrics.csv"), (folder / "predictions.csv").read_text())
    return found


def unclocked(path):
    """The rows of a metrics.csv without the columns that a clock fills."""
    with open(path, newline="") as file:
        return [{key: value for key, value in row.items() if "time/" not in key} for row in csv.DictReader(file)]


def journal(work):
    """The journal file of the one sweep that ran in `work`."""
    [path] = (work / "runs" / "sweeps").glob("*/journal.log")
    return path


def attempts(journal):
    """[(cell, how it ended or None)] of every attempt in a journal file, in order, the dropped claims left out."""
    trials = []
    for line in Path(journal).read_text().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == 4:  # a trial is created
            trials.append([entry["user_attrs"]["cell"], None])
        elif entry["op_code"] == 8 and "ended" in entry["user_attr"]:  # an attribute of a trial is set
            trials[entry["trial_id"]][1] = entry["user_attr"]["ended"]
    return [tuple(trial) for trial in trials if trial[1] != "dropped"]


def children(pid):
    """The living child processes of `pid`, {pid: command line}."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue  # it ended while we looked
    return found


def cells_at_work(pid):
    """The process ids of the cells that the sweep with process id `pid` has at work."""
    return [cell for server in fork_servers(pid) for cell in children(server)]


def fork_servers(pid):
    """The process id of the fork server of the sweep with process id `pid`, in a list."""
    return [child for child, command in children(pid).items() if "forkserver" in command]


def is_alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, what, seconds=60):
    """Wait until `condition()` is true; return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(0.02)
    return value


def kill(pid, number=signal.SIGKILL):
    """Send a signal to a process that may have ended by itself; return whether it was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
