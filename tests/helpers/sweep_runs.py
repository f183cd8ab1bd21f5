"""Sweeps on a tiny corpus: writing sweep files, finding their processes, reading what they left on disk."""

import contextlib
import csv
import json
import os
import signal
import threading
import time
from pathlib import Path

import yaml
from conftest import REPOSITORY

SWEEPS = sorted((REPOSITORY / "sweeps").glob("*.yaml"))
SMALL = {"channels": {"value": 8}, "batch_size": {"value": 16}, "epochs": {"value": 2}}  # a run takes half a second


def write_sweep(folder, parameters, file="sweep.yaml", **content):
    """Write a sweep file with `parameters` (W&B's form) added to a small run's; `content` are top-level keys."""
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
    """{values of the settings `keys`: (metrics without times, predictions)} of the finished runs, one per key."""
    found = {}
    for folder, (config, summary) in runs_of(run_dir).items():
        assert summary["state"] == "finished", (folder, summary)
        values = tuple(config[key] for key in keys)
        assert values not in found, f"{values} was run twice"
        found[values] = (without_times(folder / "metrics.csv"), (folder / "predictions.csv").read_text())
    return found


def without_times(path):
    """The rows of a metrics.csv without measured times."""
    with open(path, newline="") as file:
        return [{key: value for key, value in row.items() if "time/" not in key} for row in csv.DictReader(file)]


def journal(work):
    """The journal file of the one sweep that ran in `work`."""
    [path] = (work / "runs" / "sweeps").glob("*/journal.log")
    return path


def attempts(journal):
    """[(trial, how it ended or None)] of every attempt in a journal file, in order, without dropped claims."""
    found = []
    for line in Path(journal).read_text().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == 4:  # an Optuna trial is created
            found.append([entry["user_attrs"]["trial"], None])
        elif entry["op_code"] == 8 and "ended" in entry["user_attr"]:  # an attribute of it is set
            found[entry["trial_id"]][1] = entry["user_attr"]["ended"]
    return [(trial, ended) for trial, ended in found if ended != "dropped"]


def edit_journal(journal, change):
    """Call `change` with every entry of a journal file, and write what it makes of them."""
    entries = [json.loads(line) for line in Path(journal).read_text().splitlines()]
    for entry in entries:
        change(entry)
    Path(journal).write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


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
            continue  # it has ended meanwhile
    return found


def running_trials(pid):
    """The process ids of the trials that the sweep with process id `pid` is running."""
    return [trial for server in fork_servers(pid) for trial in children(server)]


def fork_servers(pid):
    """The process id of the fork server of the sweep with process id `pid`, in a list."""
    return [child for child, command in children(pid).items() if "forkserver" in command]


def state_of(pid):
    """The state of a process as in /proc (T: stopped, Z: ended), "" if there is none."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_alive(pid):
    return state_of(pid) not in ("", "Z")


def wait_until(condition, what, seconds=60):
    """Wait until `condition()` is true; return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"timed out after {seconds} s waiting until {what}"
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def meanwhile(condition, what, action):
    """Call `action` in a thread when `condition()` is true, while the body of the with statement runs."""

    def act():
        wait_until(condition, what)
        action()

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()


def kill(pid, number=signal.SIGKILL):
    """Send a signal to a process that may have ended; return whether it was running."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
