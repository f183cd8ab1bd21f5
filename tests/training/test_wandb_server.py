"""The stand-in W&B server stores what the real client sends, and the real client reads it back."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from doubles.wandb_graphql import State
from doubles.wandb_records import Refused
from doubles.wandb_server import WandbServer
from helpers import forked

RUN = """
import os, sys, time
import numpy, wandb
settings = dict(word[2:].split("=", 1) for word in sys.argv[1:])
run = wandb.init(project="words", config={"n_mels": 40, **settings}, group="study", tags=["study", "tones"],
                 name="mels40", id=os.environ.get("WANDB_RUN_ID"), resume="allow")
run.define_metric("*", step_metric="epoch")
first = run.starting_step + 1
for epoch in range(first, first + 3):
    run.log({"epoch": epoch, "train/loss": 1 / epoch})
    time.sleep(float(os.environ.get("PAUSE", 0)))
    print("epoch", epoch, flush=True)
if run.config["n_mels"] in (20, "20") and not run.resumed:
    run.mark_preempting()
    run.finish(exit_code=7)
    sys.exit(7)
run.log({"epoch": epoch, "picture": wandb.Image(numpy.zeros((4, 4, 3), dtype="uint8")),
         "sound": wandb.Audio(numpy.zeros(100, dtype="float32"), sample_rate=16000)})
run.summary["best/epoch"] = 2
with open(f"{run.id}.pt", "wb") as file:
    file.write(b"weights of " + run.id.encode())
artifact = wandb.Artifact("kws-" + run.id, "model")
artifact.add_file(f"{run.id}.pt", "best.pt", policy="immutable")
run.log_artifact(artifact)
run.finish()
"""


@pytest.fixture
def server():
    with WandbServer() as running:
        yield running
        assert running.crashes == []


@pytest.fixture
def program(tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def sweep(tmp_path_factory):
    """Two agents on a grid, one trial of which is preempted once; the other tests run in the meantime."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "run.py").write_text(RUN)
    (folder / "sweep.yaml").write_text(
        "program: run.py\nmethod: grid\nproject: words\nparameters: {n_mels: {values: [20, 40]}, lr: {value: 0.003}}\n"
    )
    with WandbServer(seed=1) as server:
        call(server, folder, "-m", "wandb", "sweep", "sweep.yaml")
        [sweep] = server.sweeps.values()
        command = [sys.executable, "-m", "wandb", "agent", f"tester/words/{sweep.id}"]
        agents = [
            subprocess.Popen(
                command,
                cwd=folder,
                env=server.environment(folder),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        yield server, sweep, agents
        for agent in agents:
            agent.kill()


def call(server, folder, *command, **variables):
    """Run a command with the client's environment and return its output."""
    done = forked.run(*command, cwd=folder, env=server.environment(folder, **variables), merge=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def assert_complete(server, run_id):
    """The run of RUN has all of its parts, once each."""
    run = server.runs[run_id]
    assert (run.state, run.exit_code, run.group, run.tags) == ("finished", 0, "study", ["study", "tones"])
    assert [row["epoch"] for row in run.rows if "train/loss" in row] == [1, 2, 3]
    assert run.gaps == [] and run.rewritten == []
    assert run.summary["best/epoch"] == 2
    kinds = {Path(name).suffix for name in run.files if name.startswith("media/")}
    assert kinds == {".png", ".wav"}
    assert {"config.yaml", "wandb-summary.json", "requirements.txt"} <= set(run.files) == run.uploaded
    artifact = server.artifact(f"kws-{run_id}")
    assert artifact.files == {"best.pt": b"weights of " + run_id.encode()}
    assert (artifact.run, artifact.type, artifact.aliases) == (run_id, "model", ["latest"])


def test_an_online_run_is_stored_completely(server, program):
    call(server, program, "run.py", "--seed=3", WANDB_RUN_ID="online")
    assert_complete(server, "online")
    assert server.runs["online"].config == {"n_mels": 40, "seed": "3"}
    assert server.runs["online"].display_name == "mels40"
    assert server.unknown == []


def test_a_synced_offline_run_is_stored_completely(server, program):
    call(server, program, "run.py", WANDB_RUN_ID="later", WANDB_MODE="offline")
    assert server.runs == {}
    [folder] = (program / "wandb").glob("offline-run-*")
    call(server, program, "-m", "wandb", "sync", str(folder))
    assert_complete(server, "later")
    assert server.unknown == []


def test_a_resumed_run_continues_with_the_next_step(server, program):
    for resumed in (0, 1):
        call(server, program, "run.py", WANDB_RUN_ID="twice")
        assert server.runs["twice"].resumed == resumed
    rows = [row for row in server.runs["twice"].rows if "train/loss" in row]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 5, 6, 7]  # row 4 held the media
    assert [row["_step"] for row in server.runs["twice"].rows] == list(range(8))
    assert server.runs["twice"].gaps == []


READ = """
import json, os, wandb
api = wandb.Api()
wanted = {"$and": [{"group": "study"}, {"config.seed": {"$in": ["1", "2"]}}, {"state": "finished"}]}
best = api.runs("tester/words", order="-config.seed.value", per_page=1)
run = api.run("tester/words/r1")
artifact = api.artifact("tester/words/kws-r1:latest")
run.file("wandb-summary.json").download(root="got")
print("READ", json.dumps({
    "filtered": sorted(one.id for one in api.runs("tester/words", filters=wanted)),
    "ordered": [one.id for one in best], "config": run.config, "best": run.summary["best/epoch"],
    "epochs": [row["epoch"] for row in run.scan_history(keys=["epoch", "train/loss"])],
    "rows": len(list(run.scan_history())), "file": json.load(open("got/wandb-summary.json"))["best/epoch"],
    "artifacts": [one.name for one in run.logged_artifacts()],
    "weights": open(artifact.download(root="weights") + "/best.pt").read(),
    "sweeps": len(api.project("words", "tester").sweeps())}))
"""


def test_the_public_api_reads_it_back(server, program):
    with ThreadPoolExecutor() as pool:
        for seed in "0123":
            pool.submit(call, server, program, "run.py", f"--seed={seed}", WANDB_RUN_ID=f"r{seed}")
    answer = json.loads(call(server, program, "-c", READ).split("READ ")[1].splitlines()[0])
    assert answer == {
        "filtered": ["r1", "r2"],
        "ordered": ["r3", "r2", "r1", "r0"],
        "config": {"n_mels": 40, "seed": "1"},
        "best": 2,
        "epochs": [1, 2, 3],
        "rows": 4,
        "file": 2,
        "artifacts": ["kws-r1:v0"],
        "weights": "weights of r1",
        "sweeps": 0,
    }
    assert server.unknown == []


REPORT = """
import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces
grid = reports.PanelGrid(runsets=[reports.Runset(entity="tester", project="words")],
                         panels=[reports.LinePlot(x="epoch", y=["train/loss"])])
report = reports.Report(project="words", entity="tester", title="Study", blocks=[reports.H1("Result"), grid])
report.save()
again = reports.Report.from_url(report.url)
assert [type(block).__name__ for block in again.blocks] == ["H1", "PanelGrid"], again.blocks
again.title = "Study, again"
again.save()
workspace = workspaces.Workspace(name="Study", entity="tester", project="words",
                                 sections=[workspaces.Section(name="loss", panels=grid.panels)])
workspace.save()
assert workspaces.Workspace.from_url(workspace.url).sections[0].name == "loss"
"""


def test_reports_and_workspaces_are_saved_and_read(server, program):
    call(server, program, "run.py")
    call(server, program, "-c", REPORT)
    assert [(view["type"], view["displayName"]) for view in server.views.values()] == [
        ("runs", "Study, again"),
        ("project-view", "Study"),
    ]
    assert server.unknown == []


def test_no_data_is_lost_when_a_share_of_the_requests_fails(server, program):
    server.fail(share=0.3)
    call(server, program, "run.py", WANDB_RUN_ID="tried")
    assert server.failed > 2
    assert_complete(server, "tried")


def test_no_data_is_lost_when_the_server_stops_during_a_run(server, program):
    environment = server.environment(program, WANDB_RUN_ID="cut", PAUSE="1")
    client = subprocess.Popen(
        [sys.executable, "run.py"],
        cwd=program,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    while "epoch 1" not in client.stdout.readline():
        pass
    server.stop()
    while "epoch 3" not in client.stdout.readline():
        pass
    time.sleep(2)  # the client is at its last uploads now, against a closed port
    assert client.poll() is None
    server.start()
    client.communicate(timeout=100)
    assert client.returncode == 0
    assert_complete(server, "cut")


def test_a_rejected_key_and_unknown_operations_are_errors(server, program):
    server.reject_key()
    refused = forked.run("run.py", cwd=program, env=server.environment(program))
    assert refused.returncode != 0 and "invalid API key" in refused.stderr
    assert server.runs == {}
    state = State(server.url)
    for name in ("NoSuchThing", "answer", "runs", "_id"):
        with pytest.raises(Refused, match=f"unknown operation {name}"):
            state.answer(f"query {name} {{ x }}", {})
    assert state.unknown == ["NoSuchThing", "answer", "runs", "_id"]


def test_two_agents_share_a_grid_and_a_preempted_trial_is_requeued(sweep):
    server, sweep, agents = sweep
    assert [agent.wait(timeout=90) for agent in agents] == [0, 0]
    runs = list(server.runs.values())
    assert sorted(run.config["n_mels"] for run in runs) == [20, 40]
    assert {run.config["lr"] for run in runs} == {0.003}
    assert {(run.state, run.sweep, run.resumed) for run in runs} == {
        ("finished", sweep.id, 0),
        ("finished", sweep.id, 1),
    }
    assert sorted(len(run.rows) for run in runs) == [4, 7]
    [requeued] = [run for run in runs if run.resumed]
    assert requeued.config["n_mels"] == 20 and sweep.assigned.count(requeued.id) == 2
    assert sweep.state == "FINISHED" and server.unknown == [] and server.crashes == []
