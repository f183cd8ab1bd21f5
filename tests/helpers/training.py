"""Runs of kws in new processes on a tiny corpus, for the tests that observe them from outside."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

from helpers import forked
from helpers.corpus import make_corpus

from kws.config import labels_of, resolve
from kws.training.model_card import model_card

ROOT = Path(__file__).parents[2]
TIMES = ("time/", "_timestamp", "_runtime", "_wandb")


def make_work_folder(folder):
    """Return `folder` with a corpus of 8 training, 8 validation and 8 test clips in `data`."""
    make_corpus(folder / "data", speakers=12, takes=1)
    return folder


def environment(server, folder, **more):
    """Return the environment of a kws process whose W&B server is `server` and whose corpus is in `folder`."""
    defaults = {
        "KWS_DATA": f"{folder}/data",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "WANDB_INIT_TIMEOUT": "90",
    }  # on a loaded machine the server must not count as unreachable
    return server.environment(folder, **defaults | more)


def start(server, folder, *flags, **variables):
    """Start `python -m kws.train FLAGS` in `folder`, with stderr merged into stdout."""
    return subprocess.Popen(
        [sys.executable, "-m", "kws.train", *flags],
        cwd=folder,
        env=environment(server, folder, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(server, folder, *flags, **variables):
    """Do a complete run and return its output."""
    variables = environment(server, folder, **variables)
    done = forked.run("-m", "kws.train", *flags, cwd=folder, env=variables, merge=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def wait_for_epochs(run_folder, epochs, process, seconds=60):
    """Wait until metrics.csv has `epochs` rows while `process` runs."""
    wait_for(lambda: (run_folder / "metrics.csv").is_file() and len(rows(run_folder)) >= epochs, process, seconds)


def wait_for(condition, process, seconds=60):
    """Wait until `condition()` is true while `process` runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"timed out after {seconds} s"
        time.sleep(0.01)


def rows(run_folder):
    """Return metrics.csv as a list of {column: number}."""
    with open(run_folder / "metrics.csv") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def without_times(row):
    """Return a row or summary without its times."""
    return {key: value for key, value in row.items() if not key.startswith(TIMES)}


def read(run_folder, name):
    return json.loads((run_folder / name).read_text())


def assert_uploaded(server, run_folder, epochs):
    """Everything in the run folder of a finished run is on the server, once."""
    run = server.runs[run_folder.name]
    recorded, summary = read(run_folder, "config.json"), read(run_folder, "summary.json")
    assert (run.state, run.exit_code) == ("finished", 0)
    assert run.gaps == [] and run.rewritten == []
    sent = [row for row in run.rows if "train/loss" in row]
    assert [row["epoch"] for row in sent] == list(range(1, epochs + 1))
    written = rows(run_folder)
    assert [{key: row[key] for key in written[0]} for row in sent] == written
    metrics = run.raw_config["_wandb"]["value"]["m"]
    [every] = [metric for metric in metrics if metric.get("2") == "*"]
    assert metrics[every["5"] - 1]["1"] == "epoch"  # the x axis of every metric
    assert set(run.config) == set(recorded)
    # A swept key stays as the sweep wrote it ("1e-3"): W&B locks it, and readers resolve it.
    assert recorded | run.config | resolve(("run.config", run.config)).as_dict() == recorded
    assert (run.group, run.tags) == (recorded["study"], [recorded["study"], recorded["data"]])
    assert run.display_name == recorded["run_name"]
    shown = {key: value for key, value in summary.items() if "/" in key and not key.startswith("wandb/")}
    assert {"best/val_accuracy", "test/accuracy", "test/errors", "model/params", "frontend/macs"} <= set(shown)
    assert {key: run.summary[key] for key in shown} == shown
    for name in ("metrics.csv", "predictions.csv", "layers.csv"):
        assert run.files[name] == (run_folder / name).read_bytes()
    assert set(run.files) == run.uploaded
    assert any(name.startswith("media/table/test/misclassified") for name in run.files)
    artifact = server.artifact(f"kws-{run.id}")
    assert (artifact.run, artifact.type) == (run.id, "model")
    card = model_card(run_folder)
    assert (artifact.description, json.loads(artifact.metadata)) == card
    assert {name: card.figures[name] for name in shown if name in card.figures} == {
        name: shown[name]
        for name in (
            "test/accuracy",
            "test/errors",
            "model/params",
            "model/macs",
            "model/flops",
            "frontend/macs",
            *(name for name in shown if "recall" in name),
        )
    }
    assert card.figures["labels"] == [*labels_of(recorded)] and card.figures["seed"] == recorded["seed"]
    low, high = card.figures["accuracy_interval_95"]
    assert (
        low - 1e-9 <= shown["test/accuracy"] <= high + 1e-9
        and card.figures["data"]["test"] == recorded["data_info"]["test"]
    )
    assert artifact.files == {"best.pt": (run_folder / "best.pt").read_bytes()}
