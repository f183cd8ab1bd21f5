"""`kws sweep` without a server: real processes and runs, killed, failing and resumed."""

import collections
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import REPOSITORY, TINY, finish, start
from doubles.wandb_server import WandbServer
from helpers import forked
from helpers.corpus import make_corpus
from helpers.sweep_runs import (
    SWEEPS,
    attempts,
    children,
    edit_journal,
    fork_servers,
    is_alive,
    journal,
    kill,
    meanwhile,
    results,
    running_trials,
    runs_of,
    state_of,
    wait_until,
    without_times,
    write_sweep,
)

SEEDS = {"seed": {"values": [0, 1, 2, 3]}}


@pytest.fixture(autouse=True)
def corpus(data_dir, monkeypatch):
    monkeypatch.setenv("KWS_DATA", str(data_dir))


def each_finished_once(work, trials):
    """Whether the journal records that each of so many trials finished exactly once."""
    ends = collections.Counter(trial for trial, ended in attempts(journal(work)) if ended == "finished")
    return ends == collections.Counter(range(trials))


# What a sweep does


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_first_run_of_every_sweep_file(work, kws, path, monkeypatch):
    content = yaml.safe_load(path.read_text())
    if "unknown" in content["parameters"]:
        make_corpus(work / "data", words=("no", "yes", "bed", "cat", "happy"), noise_s=20)
        monkeypatch.setenv("KWS_DATA", str(work / "data"))
    swept = {name: spec["values"][0] for name, spec in content["parameters"].items() if "values" in spec}
    values = swept | {"epochs": 1}
    fixed = [f"{name}={value}" for name, value in values.items()] if content["method"] == "grid" else []
    outcome = kws("sweep", path, "--set", *(fixed or ["epochs=1", "--count", 1]))
    assert outcome.status == 0, outcome.err + outcome.out
    [(folder, (config, summary))] = runs_of("runs").items()
    assert summary["state"] == "finished" and config["study"] == path.stem and config["epochs"] == 1
    assert {name: config[name] for name in values} == values or not fixed


def test_trials_with_several_threads_run_after_the_fork_server_has_read_the_data(work):
    folder = make_corpus(work / "data")
    for name in ("long", "longer"):  # long enough to be computed on several threads
        soundfile.write(folder / f"_background_noise_/{name}.wav", np.zeros(960_000, np.int16), 16000, subtype="PCM_16")
    path = write_sweep(work, {"threads": {"value": 2}, "seed": {"values": [0, 1]}})
    with tempfile.TemporaryDirectory(prefix="kws-") as folder:
        environment = {
            "KWS_DATA": str(work / "data"), "OMP_NUM_THREADS": "2", "TMPDIR": folder,
            "KWS_CACHE": str(work / "cache"),  # empty: the fork server reads every recording
        }  # fmt: skip
        assert finish(start("sweep", path, "--jobs=2", env=environment), timeout=60).status == 0
        assert os.listdir(folder) == []  # no temporary files are left
    assert [config["concurrent_jobs"] for config, _ in runs_of("runs").values()] == [2, 2]


def test_a_sweep_makes_the_same_runs_as_kws_train(work, kws):
    path = write_sweep(work, {"n_mels": {"values": [20, 40]}, "seed": {"value": 3}, "study": {"value": "mels"}})
    swept = kws("sweep", path)
    assert swept.status == 0 and swept.err == "" and "2 of 2 trials finished" in swept.out
    for n_mels in (20, 40):
        alone = kws("train", f"--n_mels={n_mels}", "--seed=3", "--study=mels", "--run_dir=alone",
                            "--channels=8", "--batch_size=16", "--epochs=2")  # fmt: skip
        assert alone.status == 0, alone.err
    assert results("runs", "n_mels") == results("alone", "n_mels")

    sweep_id = journal(work).parent.name
    for folder, (config, summary) in runs_of("runs").items():
        assert config["sweep_id"] == sweep_id and config["run_id"] == folder.name and config["study"] == "mels"
        assert {file.name for file in folder.iterdir()} >= {
            "config.json", "metrics.csv", "summary.json", "predictions.csv", "layers.csv", "best.pt", "last.pt",
        }  # fmt: skip
        [log] = glob.glob(f"wandb/offline-run-*-{folder.name}")
        seen = json.loads(forked.run("-m", "wandb", "leet", "inspect", "--summary", "--json", log).stdout)
        assert seen["run_id"] == folder.name and seen["tags"] == ["mels", "speech_commands"]
        assert seen["summary"]["test/accuracy"] == summary["test/accuracy"]
    copy = yaml.safe_load((journal(work).parent / "sweep.yaml").read_text())
    assert copy["method"] == "grid" and copy["parameters"]["n_mels"] == {"values": [20, 40]}


def test_training_and_a_report_leave_no_temporary_files(work, kws_process):
    with tempfile.TemporaryDirectory(prefix="kws-") as folder:
        for command in (("train", *TINY), ("report",)):
            assert kws_process(*command, env={"TMPDIR": folder}).status == 0
            assert os.listdir(folder) == [], command


def test_a_run_record_that_wandb_puts_among_temporary_files_is_kept(work):
    path = write_sweep(work, {"seed": {"value": 0}})
    with tempfile.TemporaryDirectory(prefix="kws-") as folder:
        environment = {"TMPDIR": folder, "WANDB_DIR": "/proc/nowhere"}  # nobody can make folders in /proc
        assert finish(start("sweep", path, env=environment)).status == 0
        [(_, summary)] = runs_of("runs").values()
        assert list(Path(summary["wandb/sync_dir"]).glob("*.wandb"))


def test_a_tilde_is_the_home_in_every_path(work, kws, kws_process, tmp_path, monkeypatch):
    for name, value in {"HOME": tmp_path, "KWS_CACHE": "~/cache", "WANDB_DIR": "~/wandb"}.items():
        monkeypatch.setenv(name, str(value))
    write_sweep(tmp_path, {"seed": {"value": 0}, "run_dir": {"value": "~/kept"}})
    assert kws_process("sweep", "~/sweep.yaml", "--storage=~/shared.log").status == 0
    assert kws("report", "~/kept", "--out=~/report").status == 0
    [model, *_] = runs_of(tmp_path / "kept")
    assert kws("predict", "~/no.wav", f"--model=~/kept/{model.name}").err.startswith(f"kws: {tmp_path}/no.wav: ")
    assert kws("train", "--config=~/no.yaml").err.startswith(f"kws: {tmp_path}/no.yaml: cannot be read")
    assert {"cache", "wandb", "kept", "shared.log", "report"} <= {path.name for path in tmp_path.iterdir()}
    assert list(work.iterdir()) == []


def test_trials_that_fall_back_to_offline_are_named_once_by_the_sweep_and_its_status(work):
    path = write_sweep(work, {"seed": {"values": [0, 1, 2]}})
    with WandbServer() as server:
        environment = server.environment(work, WANDB_MODE="online", WANDB_INIT_TIMEOUT="1")
        server.stop()
        done = finish(start("sweep", path, "--jobs=3", env=environment))
        assert done.status == 0, done
        lines = [line for line in done.out.splitlines() if "offline" in line]
        assert (
            len(lines) == 1
            and lines[0].startswith("W&B is unreachable (")
            and lines[0].endswith("): trials continue offline; upload them later with: wandb sync")
        )
        status = finish(start("sweep", path, "--status", env=environment)).out
        assert "finished trials that are offline: 3 (W&B is unreachable (" in status
        server.start()
        logs = glob.glob("wandb/offline-run-*")
        forked.run("-m", "wandb", "sync", *logs, env=environment).check_returncode()
        assert "offline" not in finish(start("sweep", path, "--status", env=environment)).out
        assert [run.state for run in server.runs.values()] == ["finished"] * 3


def test_an_invalid_wandb_mode_is_reported_before_anything_runs(work):
    path = write_sweep(work, {"seed": {"values": [0, 1]}})
    outcome = finish(start("sweep", path, env={"WANDB_MODE": "of"}))
    assert (outcome.status, outcome.out) == (2, "") and "WANDB_MODE is 'of'" in outcome.err
    assert not (work / "runs").exists()


def test_a_temporary_folder_too_long_for_a_socket_is_reported(work):
    path = write_sweep(work, {"seed": {"values": [0, 1]}})
    deep = work / ("deep" * 20)
    deep.mkdir()
    outcome = finish(start("sweep", path, env={"TMPDIR": str(deep)}))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        f"kws: TMPDIR: {deep} is too long a path for a sweep's socket (at most 71 bytes); set TMPDIR to a shorter one, "
        "such as /tmp\n"
    )


def test_a_finished_sweep_is_not_run_again(work, kws):
    path = write_sweep(work, {"seed": {"values": [0, 1]}})
    assert kws("sweep", path).status == 0
    before = {folder: (folder / "metrics.csv").stat().st_mtime_ns for folder in runs_of("runs")}
    again = kws("sweep", path)
    assert again.status == 0 and "2 of 2 trials finished" in again.out
    assert {folder: (folder / "metrics.csv").stat().st_mtime_ns for folder in runs_of("runs")} == before
    other = kws("sweep", path, "--set", "seed=0")  # another set is another sweep, but its run is there
    assert other.status == 0 and "1 of 1 trials finished" in other.out
    assert len(runs_of("runs")) == 2 and len(list((work / "runs" / "sweeps").iterdir())) == 2


def test_random_and_bayes_end_at_run_cap_and_continue_with_count(work, kws):
    specs = {"lr": {"distribution": "log_uniform_values", "min": 0.0005, "max": 0.05},
             "channels": {"values": [4, 8]}, "epochs": {"value": 1}}  # fmt: skip
    for method in ("random", "bayes"):
        path = write_sweep(work, specs, method=method, run_cap=3)
        assert kws("sweep", path, "--jobs=1", "--set", f"run_dir={method}").status == 0
        more = kws("sweep", path, "--jobs=1", "--set", f"run_dir={method}", "--count", 4)
        assert more.status == 0 and "4 of 4 trials finished" in more.out
        configs = [config for config, _ in runs_of(method).values()]
        assert len(configs) == len({config["lr"] for config in configs}) == 4
        assert all(0.0005 <= config["lr"] <= 0.05 and config["channels"] in (4, 8) for config in configs)
        moved = kws("sweep", path, "--jobs=1", "--set", f"run_dir={method}", "--count", 4, f"--storage={method}.log")
        assert moved.status == 0 and moved.out.count(" had finished before: ") == 4  # the same draws, in order


# Deaths


def test_a_killed_sweep_resumes_and_leaves_no_process(work, kws):
    path = write_sweep(work, SEEDS | {"epochs": {"value": 30}})
    process = start("sweep", path, "--jobs", 2)
    wait_until(lambda: len(list(work.glob("runs/*/last.pt"))) == 2, "two runs have a checkpoint")
    servers = children(process.pid)
    orphans = [*servers, *running_trials(process.pid), *(g for c in running_trials(process.pid) for g in children(c))]
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_alive, orphans)), "all its processes have ended")
    status = kws("sweep", path, "--status")
    assert "4 trials expected, 0 finished, 0 running, 0 failed, 4 missing" in status.out
    begun = {folder.name for folder in runs_of("runs")}
    outcome = kws("sweep", path, "--jobs", 2)
    assert outcome.status == 0, outcome.err
    assert begun < {folder.name for folder in runs_of("runs")}  # the same runs, resumed
    assert set(results("runs", "seed")) == {(seed,) for seed in range(4)} and each_finished_once(work, 4)
    alone = kws("train", "--seed=0", "--run_dir=alone", "--channels=8", "--batch_size=16", "--epochs=30")
    assert alone.status == 0
    assert results("alone", "seed")[(0,)] == results("runs", "seed")[(0,)]


def test_a_run_that_finished_before_the_sweep_recorded_it_is_not_run_again(work, kws):
    path = write_sweep(work, {"seed": {"values": [0]}})
    assert kws("sweep", path).status == 0
    [folder] = runs_of("runs")
    written = (folder / "metrics.csv").stat().st_mtime_ns
    lines = journal(work).read_text().splitlines(keepends=True)
    while '"ended"' not in lines.pop():
        pass
    journal(work).write_text("".join(lines))

    def end(entry):
        if "started" in entry.get("user_attrs", {}):
            entry["user_attrs"]["started"] = "long ago"  # as if its process had ended

    edit_journal(journal(work), end)
    outcome = kws("sweep", path)
    assert outcome.status == 0 and "1 of 1 trials finished" in outcome.out
    assert list(runs_of("runs")) == [folder] and (folder / "metrics.csv").stat().st_mtime_ns == written


def test_a_sweep_under_nohup_outlives_its_terminal_and_stops_and_kills_of_its_trials(work):
    path = write_sweep(work, {"seed": {"values": [0, 1]}, "epochs": {"value": 250}})
    process = start("sweep", path, "--jobs", 1, before=("nohup",), start_new_session=True)
    wait_until(lambda: list(work.glob("runs/*/last.pt")), "the run has a checkpoint")
    os.killpg(process.pid, signal.SIGHUP)
    [trial] = running_trials(process.pid)
    [rows] = work.glob("runs/*/metrics.csv")
    os.kill(trial, signal.SIGSTOP)
    wait_until(lambda: state_of(trial) == "T", "the trial is stopped")
    os.kill(trial, signal.SIGCONT)
    os.kill(process.pid, signal.SIGSTOP)
    seen = len(rows.read_text().splitlines())
    wait_until(lambda: len(rows.read_text().splitlines()) > seen + 5, "the trial has completed more epochs")
    os.kill(process.pid, signal.SIGCONT)
    for number, runs in ((signal.SIGKILL, 1), (signal.SIGTERM, 2)):
        wait_until(lambda runs=runs: len(list(work.glob("runs/*/last.pt"))) == runs, "the run has a checkpoint")
        [victim] = running_trials(process.pid)
        kill(victim, number)
    outcome = finish(process)
    assert outcome.status == 0, outcome.out
    assert set(results("runs", "seed")) == {(0,), (1,)}
    ends = [(0, "died"), (0, "finished"), (1, "preempted"), (1, "finished")]
    assert attempts(journal(work)) == ends


def test_a_killed_fork_server_is_replaced(work):
    path = write_sweep(work, {"seed": {"values": [0, 1]}, "epochs": {"value": 40}})
    process = start("sweep", path, "--jobs", 2)
    wait_until(lambda: len(list(work.glob("runs/*/last.pt"))) == 2, "two runs have a checkpoint")
    [server] = fork_servers(process.pid)
    kill(server)
    outcome = finish(process)
    assert outcome.status == 0 and outcome.err == "", outcome
    assert set(results("runs", "seed")) == {(0,), (1,)} and each_finished_once(work, 2)


def test_ctrl_c_stops_cleanly_and_the_command_resumes(work, kws):
    path = write_sweep(work, {"seed": {"values": [0, 1, 2]}, "epochs": {"value": 80}})
    status = kws("sweep", path, "--status")
    assert status.status == 0 and not (work / "runs").exists()  # it creates nothing
    assert "3 trials expected, 0 finished, 0 running, 0 failed, 3 missing" in status.out
    process = start("sweep", path, "--jobs", 2)
    wait_until(lambda: len(list(work.glob("runs/*/last.pt"))) == 2, "two runs have a checkpoint")
    assert "0 finished, 2 running, 0 failed, 1 missing" in kws("sweep", path, "--status").out
    trials = running_trials(process.pid)
    process.send_signal(signal.SIGINT)
    outcome = finish(process)
    assert outcome.status == 130 and outcome.err == "", outcome
    assert "re-run the command to resume" in outcome.out
    assert not any(map(is_alive, trials))
    assert {summary["state"] for _, summary in runs_of("runs").values()} == {"preempted"}
    assert kws("sweep", path).status == 0
    assert set(results("runs", "seed")) == {(0,), (1,), (2,)} and each_finished_once(work, 3)


# Failures


def test_a_failed_trial_is_reported_and_the_others_are_run(work, kws):
    path = write_sweep(work, {"channels": {"values": [8, 12]}, "groups": {"values": [1, 8]}})
    outcome = kws("sweep", path, "--jobs", 1)
    assert outcome.status == 1 and outcome.err == ""
    assert "groups: 8 does not divide the 12 channels" in outcome.out
    assert "3 of 4 trials finished, 1 failed (retry them with --retry-failed)" in outcome.out
    assert set(results("runs", "channels", "groups")) == {(8, 1), (8, 8), (12, 1)}
    assert "3 finished, 0 running, 1 failed, 0 missing" in kws("sweep", path, "--status").out


def damaged_clip(root, data_dir):
    """Copy the data to `root`, with one damaged clip, which only a run detects. Returns (clip, its original bytes)."""
    shutil.copytree(data_dir, root)
    clip = next(root.glob("SpeechCommands/*/yes/*.wav"))
    whole = clip.read_bytes()
    clip.write_bytes(b"no sound" * 100)
    return clip, whole


def test_failures_are_shown_with_their_last_lines_and_retried_on_demand(work, kws, data_dir):
    path = write_sweep(work, {"seed": {"values": [0, 1]}})
    clip, whole = damaged_clip(work / "data", data_dir)
    values = ["--set", f"data_dir={work}/data"]
    failed = kws("sweep", path, *values)
    assert failed.status == 1 and "0 of 2 trials finished, 2 failed" in failed.out
    assert failed.out.count(clip.name) > 2 and "logs/" in failed.out
    clip.write_bytes(whole)
    again = kws("sweep", path, *values)
    assert again.status == 1 and "0 of 2 trials finished, 2 failed" in again.out
    retried = kws("sweep", path, *values, "--retry-failed")
    assert retried.status == 0 and "2 of 2 trials finished" in retried.out
    assert [ended for _, ended in attempts(journal(work))] == ["failed", "failed", "finished", "finished"]


def test_a_trial_with_a_damaged_checkpoint_starts_a_new_run_with_retry_failed(work, kws):
    path = write_sweep(work, {"seed": {"value": 0}, "epochs": {"value": 100}})

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(lambda: list(Path("runs").glob("*/last.pt")), "the run has a checkpoint", interrupt):
        assert kws("sweep", path).status == 130
    [last] = Path("runs").glob("*/last.pt")
    last.write_bytes(last.read_bytes()[:-1000])
    failed = kws("sweep", path)
    assert failed.status == 1
    assert "is not a complete checkpoint of kws; choose another run (with --retry-failed)" in failed.out
    assert kws("sweep", path, "--retry-failed").status == 0
    assert [summary["state"] for _, summary in runs_of("runs").values()].count("finished") == 1
    assert len(runs_of("runs")) == 2


def test_a_sweep_stops_if_its_first_three_trials_fail(work, kws, data_dir):
    path = write_sweep(work, {"seed": {"values": list(range(20))}})
    damaged_clip(work / "data", data_dir)
    outcome = kws("sweep", path, "--jobs", 1, "--set", f"data_dir={work}/data")
    assert outcome.status == 1 and "the first 3 trials here failed" in outcome.out
    assert "0 of 20 trials finished, 3 failed (retry them with --retry-failed), 17 not yet run" in outcome.out
    assert [ended for _, ended in attempts(journal(work))] == ["failed"] * 3


# The terminal


def test_a_terminal_gets_one_live_table(work, kws):
    path = write_sweep(work, {"seed": {"values": [0, 1]}, "epochs": {"value": 8}})
    screen = subprocess.run(
        ["script", "-qec", f"{sys.executable} -m kws sweep {path}", "/dev/null"], capture_output=True, timeout=100,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    text = screen.stdout.decode()
    assert screen.returncode == 0, text
    for words in ("val accuracy", "/8", "of 2 trials finished", "running", "\x1b["):
        assert words in text
    assert without_times(next(iter(runs_of("runs"))) / "metrics.csv")


def test_missing_data_are_reported_once_before_anything_runs(kws_process, work, tmp_path):
    write_sweep(work, {"n_mels": {"values": [20, 40, 80]}, "data_dir": {"value": str(tmp_path / "nowhere")}})
    done = kws_process("sweep", "sweep.yaml")
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.startswith(
        f"kws: data: {tmp_path}/nowhere/SpeechCommands/speech_commands_v0.02 does not exist; run: kws data"
    )
    assert not (work / "runs").exists()
