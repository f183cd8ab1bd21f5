"""Sweeps with the real `wandb sweep` and `wandb agent` and the project's own program."""

import json
import math
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import REPOSITORY
from doubles.wandb_server import WandbServer
from helpers import forked, training
from helpers.online_study import call

FIXED = {"epochs": 3, "augment": False, "lr": "1e-3", "study": "bands"}  # YAML reads 1e-3 as a string
COMMAND = ["${env}", "${interpreter}", "-m", "kws.train", "${args}"]


def create_sweep(server, folder, parameters, command):
    """Create a sweep with `wandb sweep FILE`; return the sweep as the server has it."""
    (folder / "sweep.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "bands",
                "project": "kws",
                "program": "kws/train.py",
                "method": "grid",
                "command": command,
                "metric": {"name": "best/val_accuracy", "goal": "maximize"},
                "parameters": {
                    key: {"values": value} if isinstance(value, list) else {"value": value}
                    for key, value in parameters.items()
                },
            }
        )
    )
    return send_sweep(server, folder, "sweep.yaml")


def send_sweep(server, folder, path):
    environment = training.environment(server, folder)
    forked.run("-m", "wandb", "sweep", path, cwd=folder, env=environment).check_returncode()
    return list(server.sweeps.values())[-1]


def start_agent(server, folder, sweep, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "wandb", "agent", *flags, f"tester/kws/{sweep.id}"],
        cwd=folder,
        env=training.environment(server, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return training.make_work_folder(tmp_path_factory.mktemp("agents"))


@pytest.fixture
def server():
    with WandbServer(seed=1) as running:  # other run ids than those of `swept`
        yield running
        assert running.crashes == []


@pytest.fixture(scope="module", autouse=True)
def agents_started(folder):
    """Two agents for three trials, one of them invalid; a third for one trial whose settings are in run.config only."""
    with WandbServer() as server:
        by_flags = create_sweep(server, folder, {"n_mels": 40, "groups": [1, 2, 5], **FIXED}, COMMAND)
        by_config = create_sweep(server, folder, {"n_mels": 40, "groups": 2, **FIXED}, COMMAND[:-1])
        agents = [start_agent(server, folder, sweep) for sweep in (by_flags, by_flags, by_config)]
        yield server, by_flags, by_config, agents
        for agent in agents:
            agent.kill()


@pytest.fixture(scope="module")
def swept(agents_started):
    """The same when everything has finished, and what the agents and their runs printed."""
    server, by_flags, by_config, agents = agents_started
    printed = [agent.communicate(timeout=150)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0, 0], printed
    assert server.crashes == []
    return server, by_flags, by_config, printed


@pytest.fixture(scope="module")
def undisturbed(agents_started, folder):
    """The rows of an undisturbed run, without times."""
    settings = "--n_mels=20", "--epochs=60", "--augment=False", "--lr=0.001", "--run_dir=alone"
    training.train(agents_started[0], folder, *settings, WANDB_MODE="offline", WANDB_RUN_ID="undisturbed")
    return [training.without_times(row) for row in training.rows(folder / "alone" / "undisturbed")]


@pytest.mark.parametrize("machine", ("the same", "another", "another, without its checkpoint"))
def test_a_preempted_run_is_requeued_and_gives_the_results_of_an_undisturbed_one(
    server, tmp_path, machine, undisturbed
):
    folder, there = (training.make_work_folder(tmp_path / name) for name in ("here", "there"))
    sweep = create_sweep(server, folder, {"n_mels": 20, "groups": 1, **FIXED, "epochs": 60}, COMMAND)
    first = start_agent(server, folder, sweep, "--forward-signals")
    while not sweep.assigned:
        assert first.poll() is None
        time.sleep(0.05)
    [run_id] = sweep.assigned
    training.wait_for_epochs(folder / "runs" / run_id, 3, first)
    first.send_signal(signal.SIGTERM)
    printed = first.communicate(timeout=60)[0]
    run = server.runs[run_id]
    assert (run.state, run.preempting, run.exit_code) == ("preempted", True, 143), printed
    assert training.read(folder / "runs" / run_id, "summary.json")["state"] == "preempted"
    done = len(training.rows(folder / "runs" / run_id))
    assert 3 <= done < 60
    assert run.files["last.pt"] == (folder / "runs" / run_id / "last.pt").read_bytes()
    there = folder if machine == "the same" else there
    if machine == "another, without its checkpoint":
        del run.files["last.pt"]
    second = start_agent(server, there, sweep)
    printed = second.communicate(timeout=90)[0]
    assert second.returncode == 0 and sweep.assigned == [run_id, run_id], printed
    assert run.resumed == 1
    if machine == "another, without its checkpoint":  # not spliced: what W&B has of the old run stays as it is
        assert (run.state, len(run.rows), run.gaps, run.rewritten) == ("failed", done, [], [])
        [new_id] = server.runs.keys() - {run_id}
        [notice] = [line for line in printed.splitlines() if line.startswith(f"kws: run {run_id}: ")]
        assert notice == (
            f"kws: run {run_id}: W&B has its epochs 1 to {done}, which cannot be continued here "
            f"(W&B has no last.pt of it); starting again as run {new_id}"
        )
        assert run.summary["error"] in notice
        assert server.runs[new_id].sweep == sweep.id and not (there / "runs" / run_id).exists()
        run_id = new_id
    training.assert_uploaded(server, there / "runs" / run_id, epochs=60)
    assert [training.without_times(row) for row in training.rows(there / "runs" / run_id)] == undisturbed


def test_a_run_that_is_stopped_on_wandb_ends_as_stopped_and_is_not_requeued(server, tmp_path):
    folder = training.make_work_folder(tmp_path)
    sweep = create_sweep(server, folder, {"n_mels": [20, 40], **FIXED, "epochs": 10_000}, COMMAND)
    agent = start_agent(server, folder, sweep)
    for number in range(2):
        training.wait_for(lambda number=number: len(sweep.assigned) > number, agent)
        training.wait_for_epochs(folder / "runs" / sweep.assigned[number], 2, agent)
        if number == 0:
            server.runs[sweep.assigned[0]].stop_requested = True  # by its button, or by early_terminate
        else:
            cancel = "-m", "wandb", "sweep", "--cancel", f"tester/kws/{sweep.id}"
            environment = training.environment(server, folder)
            forked.run(*cancel, cwd=folder, env=environment).check_returncode()
    printed = agent.communicate(timeout=90)[0]
    assert agent.returncode == 0 and len(sweep.assigned) == 2, printed
    for run_id in sweep.assigned:
        run = server.runs[run_id]
        assert (run.state, run.preempting, run.exit_code) == ("killed", False, 255), printed
        assert training.read(folder / "runs" / run_id, "summary.json")["state"] == "stopped"
        line = f"kws: run {run_id}: was stopped on W&B; resume it with: kws train --resume {run_id}"
        assert line in printed.splitlines()


@pytest.mark.parametrize("name, trials", (("n_mels", 15), ("groups", 25)))
def test_wandb_accepts_the_study_files_and_their_first_trial_runs(server, tmp_path, name, trials):
    folder = training.make_work_folder(tmp_path)  # not shared: each server with this seed assigns the same run ids
    sweep = send_sweep(server, folder, str(REPOSITORY / "sweeps" / f"{name}.yaml"))
    assert (sweep.config["name"], sweep.config["project"]) == (name, "kws")
    assert math.prod(len(item.get("values", [0])) for item in sweep.config["parameters"].values()) == trials
    agent = start_agent(server, folder, sweep, "--count", "1")
    printed = agent.communicate(timeout=90)[0]
    [run_id] = sweep.assigned
    assert agent.returncode == 0 and server.runs[run_id].state == "finished", printed
    training.assert_uploaded(server, folder / "runs" / run_id, epochs=20)
    settings = training.read(folder / "runs" / run_id, "config.json")
    assert (settings["study"], settings["n_mels"], settings["groups"], settings["seed"]) == (name, 20, 1, 0)


def test_each_trial_is_run_exactly_once(swept):
    server, sweep, _, printed = swept
    assert len(sweep.assigned) == 3 == len(set(sweep.assigned)), printed
    runs = [server.runs[run] for run in sweep.assigned]
    assert sorted((run.config["n_mels"], run.config["groups"]) for run in runs) == [(40, 1), (40, 2), (40, 5)]
    assert {run.resumed for run in runs} == {0}
    assert server.unknown == []


def test_every_run_is_uploaded_completely(swept, folder):
    server, sweep, _, printed = swept
    valid = [server.runs[run] for run in sweep.assigned if server.runs[run].config["groups"] < 5]
    for run in valid:
        training.assert_uploaded(server, folder / "runs" / run.id, epochs=3)
        assert run.config["sweep_id"] == run.sweep == sweep.id
        settings = training.read(folder / "runs" / run.id, "config.json")
        assert (settings["lr"], settings["augment"], settings["study"]) == (0.001, False, "bands")
        assert run.display_name.startswith(f"mels40-g{run.config['groups']}-")
    assert len(valid) == 2, printed


def test_an_invalid_trial_fails_with_its_reason_and_does_not_block_the_agents(swept, folder):
    server, sweep, _, printed = swept
    [invalid] = [server.runs[run] for run in sweep.assigned if server.runs[run].config["groups"] == 5]
    assert (invalid.state, invalid.rows, sweep.state) == ("crashed", [], "FINISHED")
    reasons = [line for text in printed for line in text.splitlines() if line.startswith("kws: groups")]
    assert len(reasons) == 1 and "5 does not divide" in reasons[0], printed
    environment = training.environment(server, folder, WANDB_MODE="offline")
    done = forked.run("-m", "kws.train", "--groups=5", cwd=folder, env=environment, merge=True)
    assert (done.stdout.splitlines(), done.returncode) == (reasons, 2)


def test_settings_from_run_config_alone_give_the_same_run(swept, folder):
    server, by_flags, by_config, printed = swept
    [run] = by_config.assigned
    training.assert_uploaded(server, folder / "runs" / run, epochs=3)
    name = server.runs[run].display_name
    [twin] = [one for one in by_flags.assigned if server.runs[one].display_name == name]
    assert [training.without_times(row) for row in training.rows(folder / "runs" / run)] == [
        training.without_times(row) for row in training.rows(folder / "runs" / twin)
    ]
    settings = json.loads((folder / "runs" / run / "config.json").read_text())
    assert (settings["n_mels"], settings["lr"], settings["augment"]) == (40, 0.001, False)


READ = """
import json, sys
from kws.analysis.load import load
found = load(sys.argv[1:])
print("GOT " + json.dumps([found.sweeps, sorted([run.run_id, run.sweep_id] for run in found.runs)]))
"""


def test_the_runs_of_an_agent_record_what_a_report_needs_of_their_sweep(swept, folder):
    server, by_flags, by_config, _ = swept
    environment = training.environment(server, folder)
    here, there = (call(server, folder, READ, source, **environment) for source in ("runs", "tester/kws"))
    assert here == there
    assert here[0].keys() == {by_flags.id, by_config.id} and len(here[1]) == 2  # two runs have equal settings
    assert here[0][by_flags.id]["parameters"]["groups"] == {"values": [1, 2, 5]}
