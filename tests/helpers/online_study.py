"""A small study on the stand-in W&B server: real runs by kws.train, shared by all tests that read them."""

import csv
import json

import pytest
from doubles.wandb_records import Run
from doubles.wandb_server import WandbServer
from helpers import forked

SWEEP = """
import json, wandb
sweep = {"description": "Question: how many bands?", "method": "grid", "program": "kws/train.py",
         "parameters": {"n_mels": {"values": [20, 40]}, "seed": {"values": [0, 1, 2]}}}
print("GOT " + json.dumps(wandb.sweep(sweep, project="words")))
"""
TRAIN = """
import sys
from kws.config import resolve
from kws.train import train
for n_mels in (20, 40):
    for seed in (0, 1, 2):
        train(resolve(("test", dict(data_dir=sys.argv[1], study="n_mels", project="words", n_mels=n_mels, seed=seed,
                                    epochs=2, channels=8, batch_size=16))))
"""


def call(server, folder, code, *arguments, **variables):
    """Run Python code with the client's environment of `server`; returns the JSON of its line that begins with GOT."""
    environment = server.environment(folder, **variables)
    done = forked.run("-c", code, *arguments, cwd=folder, env=environment, merge=True)
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("GOT ")]
    return json.loads(lines[-1][4:]) if lines else done.stdout


def store(server, run_folder, project="words", files=("metrics.csv", "predictions.csv", "layers.csv")):
    """Store a run folder on the server, as if it had been uploaded; returns the server's Run."""
    config, summary = (json.loads((run_folder / name).read_text()) for name in ("config.json", "summary.json"))
    created = f"2026-11-22T11:00:00.{len(server.runs):06d}Z"
    run = Run(run_folder.name, project, f"storage-{run_folder.name}", created, summary.pop("state"))
    run.raw_config = {key: {"value": value} for key, value in config.items()} | {"_wandb": {"value": {}}}
    run.summary, run.display_name = summary, config["run_name"]
    with open(run_folder / "metrics.csv", newline="") as file:
        for step, row in enumerate(csv.DictReader(file)):
            run.history[step] = {key: float(value) for key, value in row.items()} | {"_step": step}
    run.files = {name: (run_folder / name).read_bytes() for name in files}
    server.state.CreateProject({"input": {"name": project}})
    server.runs[run.id] = run
    return run


@pytest.fixture(scope="session")
def online(tmp_path_factory, data_dir):
    """(server, folder): six finished runs, n_mels 20 and 40 with three seeds, on the server and in folder/runs."""
    folder = tmp_path_factory.mktemp("online")
    with WandbServer() as server:
        sweep_id = call(server, folder, SWEEP)
        call(server, folder, TRAIN, data_dir, HOME=str(folder), WANDB_ENTITY="tester")
        for run in server.runs.values():
            run.sweep = sweep_id  # as if agents had run them; one process cannot act as several agents
        yield server, folder
        assert server.unknown == [] and server.crashes == []
