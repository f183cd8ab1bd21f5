"""A run's record describes that run alone: complete settings, the code that made it, the weights of its best epoch."""

import json
import shutil
import subprocess

import pytest
import torch
from conftest import TINY

from kws.config import SETTINGS, recorded, resolve
from kws.errors import KwsError
from kws.train import train
from kws.training import checkpoints, provenance
from kws.training.provenance import Code, code_of, current_code

LINE = "was recorded by another version of kws"


def read(folder, name):
    return json.loads((folder / name).read_text())


def config(data_dir, **more):
    tiny = {"channels": 8, "epochs": 3, "batch_size": 16, "data_dir": str(data_dir)}
    return resolve(("test", tiny | more))


def edit(path, change):
    """Apply `change` to the recorded settings in a config.json or a checkpoint."""
    if path.suffix == ".json":
        content = settings = json.loads(path.read_text())
    else:
        content = torch.load(path, weights_only=True)
        settings = content["config"]
    change(settings)
    path.write_text(json.dumps(content)) if path.suffix == ".json" else torch.save(content, path)


# --- settings ---


def test_a_record_with_a_missing_or_unknown_setting_is_an_error_that_names_it(data_dir):
    record = config(data_dir).as_dict() | {"schema": 1, "host": "desk", "_wandb": {}}
    assert recorded("x", record) == config(data_dir)
    for change, problem in (
        ({"normalize": True, "mask": 3}, "unknown normalize, mask"),
        ({"schema": 0}, "schema 0, not 1"),
        ({"schema": 0, "mean-norm": "clip"}, "schema 0, not 1; unknown mean-norm"),
    ):
        with pytest.raises(KwsError) as caught:
            recorded("runs/x/config.json", record | change)
        assert str(caught.value) == f"runs/x/config.json: {LINE} ({problem}); start a new run"
    for name in SETTINGS:
        with pytest.raises(KwsError, match=rf"^x: {LINE} \(no {name}\); start a new run$"):
            recorded("x", {key: value for key, value in record.items() if key != name})


@pytest.mark.parametrize("name", ("config.json", "last.pt"))
def test_a_run_whose_record_lacks_a_setting_is_not_resumed(kws, work, data_dir, name):
    folder = train(config(data_dir), "run")
    edit(folder / name, lambda settings: settings.pop("mean_norm"))
    done = kws("train", "--resume", "run")
    path = folder / name if name == "last.pt" else f"runs/run/{name}"
    assert (done.status, done.out) == (2, "")
    assert done.notices == [f"kws: {path}: {LINE} (no mean_norm); start a new run"]


def test_a_model_whose_record_lacks_a_setting_is_not_used(kws, work, data_dir):
    folder = train(config(data_dir, epochs=1), "run")
    assert checkpoints.read(folder / "best.pt")["config"]["schema"] == 1
    edit(folder / "best.pt", lambda settings: settings.pop("n_fft"))
    done = kws("predict", "yes.wav", "--model", "run")
    assert done.status == 2 and done.notices == [f"kws: runs/run/best.pt: {LINE} (no n_fft); start a new run"]


# --- best.pt ---


@pytest.mark.parametrize("damage", ("another epoch", "cut", "missing"))
def test_the_test_uses_the_epoch_that_the_rows_call_best_whatever_is_in_best_pt(kws, work, data_dir, damage):
    earlier = train(config(data_dir, epochs=1), "earlier") / "best.pt"
    folder = train(config(data_dir), "run")
    best, predictions, summary = folder / "best.pt", folder / "predictions.csv", read(folder, "summary.json")
    expected, weights = predictions.read_bytes(), checkpoints.read(best)
    assert weights["epoch"] == summary["best/epoch"] > 1
    if damage == "another epoch":
        shutil.copy(earlier, best)
    else:
        best.unlink() if damage == "missing" else best.write_bytes(best.read_bytes()[:-1000])
    predictions.unlink()
    assert kws("train", "--resume", "run").status == 0
    assert predictions.read_bytes() == expected
    assert read(folder, "summary.json")["test/loss"] == summary["test/loss"]
    again = checkpoints.read(best)
    assert again["epoch"] == weights["epoch"]
    assert all(torch.equal(again["model"][name], value) for name, value in weights["model"].items())


def test_a_checkpoint_whose_best_weights_are_not_those_of_its_rows_is_not_resumed(kws, work, data_dir):
    path = train(config(data_dir), "run") / "last.pt"
    content = torch.load(path, weights_only=True)
    content["best"]["epoch"] = 1
    torch.save(content, path)
    done = kws("train", "--resume", "run", "--epochs=4")
    assert done.notices == [f"kws: {path}: its best weights are of epoch 1, unlike its rows; start a new run"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("file", ("best.pt", "last.pt"))
def test_a_kill_at_the_writing_of_a_checkpoint_does_not_change_the_result(kws, work, data_dir, monkeypatch, file):
    uninterrupted = train(config(data_dir), "uninterrupted")
    write, times = checkpoints.write, []

    def killed(path, checkpoint):
        times.append(path.name)
        if times.count(file) == 2:
            raise Killed
        write(path, checkpoint)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoints, "write", killed)
        train(config(data_dir), "run")
    assert kws("train", "--resume", "run").status == 0
    folder = work / "runs" / "run"
    assert (folder / "predictions.csv").read_bytes() == (uninterrupted / "predictions.csv").read_bytes()
    assert checkpoints.read(folder / "best.pt")["epoch"] == read(folder, "summary.json")["best/epoch"]


# --- provenance ---


def test_a_run_records_the_code_that_made_it_and_its_concurrent_jobs(work, data_dir):
    record = read(train(config(data_dir, epochs=1), "one"), "config.json")
    assert record["schema"] == 1 and record["concurrent_jobs"] == 1
    assert code_of(record) == current_code()
    assert str(current_code()).startswith(f"kws {record['code_version']}, torch {record['versions']['torch']}, ")
    assert read(train(config(data_dir, epochs=1), "two", concurrent_jobs=3), "config.json")["concurrent_jobs"] == 3


@pytest.mark.parametrize("record", ({}, {"versions": None}, {"versions": [1]}))
def test_code_that_was_not_recorded_is_unknown(record):
    assert code_of(record) == Code("unknown", "unknown", "unknown")


def test_the_code_version_is_the_last_commit_of_the_package_and_a_hash_of_its_changes(tmp_path, monkeypatch):
    package = tmp_path / "repository" / "kws"
    (package / "training").mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "training" / "provenance.py"))
    version = provenance.code_version.__wrapped__
    assert version() == "kws-0.1.0"  # not a checkout

    def git(*arguments):
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments]
        return subprocess.run(command, cwd=package.parent, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (package.parent / "README").write_text("1")
    git("add", "README")
    git("commit", "-qm", "readme")
    (package / "a.py").write_text("1")
    assert version() == "kws-0.1.0"  # a checkout that does not contain the package
    git("add", "kws")
    git("commit", "-qm", "package")
    commit = git("rev-parse", "HEAD")[:12]
    (package.parent / "README").write_text("2")
    assert version() == commit
    git("commit", "-qam", "readme")
    assert version() == commit  # the package has not changed
    edited = []
    for text in ("2", "3"):
        (package / "a.py").write_text(text)
        edited.append(version())
    assert all(one.startswith(f"{commit}-dirty-") and len(one) == 27 for one in edited) and edited[0] != edited[1]


# --- a failed start ---


def test_a_failed_start_leaves_no_run_folder(kws, work, data_dir, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "failed")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "soon")
    done = kws("train", *TINY, f"--data_dir={data_dir}")
    assert (done.status, done.notices) == (
        2, ["kws: WANDB_FINISH_TIMEOUT is 'soon', but must be a number of seconds above 0"],
    )  # fmt: skip
    assert list((work / "runs").iterdir()) == []
