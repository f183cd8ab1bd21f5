"""Finished trials that no longer fit: made by other code or with other data, or without their run folder."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY, snapshot
from helpers.corpus import make_corpus
from helpers.sweep_runs import attempts, edit_journal, journal, runs_of, write_sweep

from kws.training.provenance import current_code

SEEDS = {"seed": {"values": [0, 1]}, "epochs": {"value": 1}}


@pytest.fixture
def path(work, kws, monkeypatch):
    """The file of a sweep with two finished trials, on a corpus in data/."""
    make_corpus(work / "data")
    monkeypatch.setenv("KWS_DATA", str(work / "data"))
    path = write_sweep(work, SEEDS)
    assert kws("sweep", path).status == 0
    return path


def made_by(work, code):
    """Change journal and runs as if the first trial had been made by `code`, and the second by the present code."""

    def change(entry):
        if "made_with" in entry.get("user_attr", {}):
            entry["user_attr"]["made_with"]["code"] = list(current_code() if entry["trial_id"] else code)

    edit_journal(journal(work), change)
    for folder, (config, _) in runs_of("runs").items():
        kws, torch, torchaudio = current_code() if config["seed"] else code
        config["versions"] |= {"torch": torch, "torchaudio": torchaudio}
        (folder / "config.json").write_text(json.dumps(config | {"code_version": kws}))


def test_a_trial_made_by_other_code_is_named_and_run_again_on_demand(work, kws, path):
    before = set(runs_of("runs"))
    made_by(work, ("0123456789ab", "1.0", "2.0"))
    line = "1 finished trial was made by other code (kws 0123456789ab, torch 1.0, torchaudio 2.0); "
    untouched = snapshot("runs")
    assert line + "--retry-stale runs it again\n" in kws("sweep", path, "--status").out
    assert snapshot("runs") == untouched
    again = kws("sweep", path)
    assert again.out.count(line + "--retry-stale runs it again\n") == 1 and "2 of 2 trials finished" in again.out
    assert again.status == 0 and set(runs_of("runs")) == before

    retried = kws("sweep", path, "--retry-stale")
    assert line + "this sweep runs it again\n" in retried.out and "2 of 2 trials finished" in retried.out
    [folder] = set(runs_of("runs")) - before
    assert runs_of("runs")[folder][0]["seed"] == 0
    assert attempts(journal(work)) == [(0, "finished"), (1, "finished"), (0, "finished")]
    made_by(work, current_code())
    assert "other code" not in kws("sweep", path, "--retry-stale").out and len(runs_of("runs")) == 3


def test_the_record_of_a_finished_trial_holds_the_code_and_data_of_its_run(work, path):
    entries = [json.loads(line) for line in journal(work).read_text().splitlines()]
    recorded = [entry["user_attr"]["made_with"] for entry in entries if "made_with" in entry.get("user_attr", {})]
    assert len(recorded) == 2
    [(config, _), _] = runs_of("runs").values()
    code = [config["code_version"], config["versions"]["torch"], config["versions"]["torchaudio"]]
    assert recorded == [{"code": code, "fingerprint": config["data_info"]["fingerprint"]}] * 2
    assert config["concurrent_jobs"] >= 1


def test_a_trial_whose_run_folder_was_deleted_is_run_again(work, kws, path):
    folders = {config["seed"]: folder for folder, (config, _) in runs_of("runs").items()}
    shutil.rmtree(folders[1])
    status = kws("sweep", path, "--status")
    assert "2 trials expected, 1 finished, 0 running, 0 failed, 1 missing" in status.out
    again = kws("sweep", path)
    line = "1 finished trial was left without a run folder; this sweep runs it again"
    assert again.status == 0 and again.out.count(line) == 1 and "2 of 2 trials finished" in again.out
    assert attempts(journal(work)) == [(0, "finished"), (1, "finished"), (1, "finished")]
    assert len(runs_of("runs")) == 2 and folders[0] in runs_of("runs") and folders[1] not in runs_of("runs")


def test_the_record_of_another_host_is_trusted(work, kws, path):
    for folder in runs_of("runs"):
        shutil.rmtree(folder)

    def change(entry):
        if "host" in entry.get("user_attrs", {}):
            entry["user_attrs"]["host"] = "another"

    edit_journal(journal(work), change)
    again = kws("sweep", path)
    assert again.status == 0 and "without a run folder" not in again.out and "2 of 2 trials finished" in again.out
    assert not runs_of("runs")


def test_a_finished_run_with_the_same_settings_code_and_data_is_recognised_wherever_it_is(work, kws, path):
    settings = ("--channels=8", "--batch_size=16", "--epochs=1", "--seed=3", "--study=single")
    assert kws("train", *settings).status == 0  # not of a sweep
    assert kws("train", *settings, "--seed=4", "--study=other").status == 0  # of another study
    grown = kws("sweep", path, "--set", "seed=0,1,2,3")
    assert grown.status == 0 and "4 of 4 trials finished" in grown.out
    assert grown.out.count(" had finished before: ") == 3
    runs = runs_of("runs")
    assert sorted(config["seed"] for config, _ in runs.values()) == [0, 1, 2, 3, 4]
    moved = kws("sweep", path, "--set", "seed=0,1,2,3", "--storage=shared.log")
    assert moved.status == 0 and moved.out.count(" had finished before: ") == 4 and runs_of("runs") == runs
    ids = {attributes["run_id"] for entry in map(json.loads, (work / "shared.log").read_text().splitlines())
           if "run_id" in (attributes := entry.get("user_attr", {}))}  # fmt: skip
    assert ids == {folder.name for folder, (config, _) in runs.items() if config["seed"] < 4}
    shutil.rmtree(work / "data")
    make_corpus(work / "data", seed=1)
    assert "had finished before" not in kws("sweep", path, "--storage=new.log").out and len(runs_of("runs")) == 7


def test_trials_made_with_other_data_are_run_again(work, kws, path):
    before = set(runs_of("runs"))
    shutil.rmtree(work / "data")
    make_corpus(work / "data", seed=1)
    untouched = snapshot("runs")
    assert "2 trials expected, 2 finished" in kws("sweep", path, "--status").out and snapshot("runs") == untouched
    again = kws("sweep", path)
    assert again.out.count("2 finished trials were made with other data; this sweep runs them again") == 1
    assert again.status == 0 and "2 of 2 trials finished" in again.out and len(runs_of("runs")) == 4
    fingerprints = [{runs_of("runs")[run][0]["data_info"]["fingerprint"] for run in runs}
                    for runs in (before, set(runs_of("runs")) - before)]  # fmt: skip
    assert len(set.union(*fingerprints)) == 2
    once_more = kws("sweep", path)
    assert "other data" not in once_more.out and len(runs_of("runs")) == 4


def test_comparing_the_data_does_not_import_torch_into_the_sweep(path):
    code = "import sys; from kws.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "sweep", str(path)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.endswith("2 of 2 trials finished\nFalse\n"), done
