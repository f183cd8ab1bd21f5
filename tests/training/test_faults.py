"""Faults around a run: kills, signals, disks, changed data, closed pipes. No result is lost, each fault is reported."""

import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPOSITORY, TINY, finish, snapshot, start
from helpers.corpus import make_corpus
from helpers.disks import small_disk

from kws.config import resolve
from kws.data.corpus import cache_folder
from kws.errors import KwsError
from kws.train import train
from kws.training import checkpoints
from kws.training.run import Diverged

KILLS = int(os.environ.get("KWS_KILLS", 3))  # set it higher for a long test by hand
LONG = (*TINY, "--epochs=40")  # long enough to be killed during training


@pytest.fixture
def root(tmp_path):
    """A data_dir that the test may damage."""
    make_corpus(tmp_path / "data", speakers=12)
    return tmp_path / "data"


def rows(folder):
    with open(folder / "metrics.csv") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def weights(path):
    return checkpoints.read(path)["model"]


def assert_same_run(one, other):
    """Equal bit for bit, except times and names."""
    assert rows(one) == rows(other)
    for name in ("best.pt", "last.pt"):
        first, second = weights(one / name), weights(other / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    assert summary(one)["state"] == summary(other)["state"] == "finished"
    assert summary(one)["best/epoch"] == summary(other)["best/epoch"]


def assert_complete(folder):
    """Every file of a run folder can be read; unfinished files have temporary names."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.suffix == ".pt":
            checkpoints.read(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.read_text().endswith("\n")
            assert len({len(row) for row in csv.reader(path.read_text().splitlines())}) == 1


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def wait_for_start(folder, process):
    """Wait until a process has started or resumed its run: it writes config.json then."""
    path = folder / "config.json"
    before = path.stat().st_mtime_ns if path.exists() else None
    wait_for(lambda: path.exists() and path.stat().st_mtime_ns != before, process)


# --- kills and signals ---


def test_a_killed_run_resumes_and_ends_like_an_uninterrupted_one(kws, work, data_dir, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    settings = (*LONG, f"--data_dir={data_dir}")
    assert kws("train", *settings, "--run_dir=uninterrupted").status == 0
    (uninterrupted,) = (work / "uninterrupted").iterdir()
    lasted = summary(uninterrupted)["time/epoch_s_median"] * 40
    killed = completed = 0
    while killed < KILLS or not completed:
        folder = work / "runs" / f"run{completed}"
        arguments = ("--resume", folder.name) if (folder / "config.json").exists() else settings
        process = start("train", *arguments, env={"WANDB_RUN_ID": folder.name})
        if killed < KILLS:
            wait_for_start(folder, process)
            time.sleep(random.uniform(0, lasted))
            killed += process.poll() is None
            process.kill()
        done = finish(process)
        assert_complete(folder)
        assert done.status in (0, -signal.SIGKILL), done.err
        if done.status == 0:
            assert_same_run(folder, uninterrupted)
            assert not list(folder.glob(".*.*"))  # unfinished files are removed
            completed += 1


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_a_stopped_run_is_preempted_and_resumes_with_the_same_results(kws, work, data_dir, number):
    settings = (*LONG, f"--data_dir={data_dir}", "--seed=2")
    other = {signal.SIGTERM: signal.SIGINT, signal.SIGINT: signal.SIGTERM}[number]
    ignoring = ("sh", "-c", f"""trap "" {other.name[3:]}; exec "$@" """, "sh")  # as nohup and & start a command
    process = start("train", *settings, env={"WANDB_RUN_ID": "stopped"}, before=ignoring)
    wait_for((work / "runs" / "stopped" / "metrics.csv").exists, process)
    process.send_signal(other)
    process.send_signal(number)
    done = finish(process)
    assert done.status == 128 + number
    assert done.notices == [
        "kws: run stopped: stopped after writing its checkpoint; resume it with: kws train --resume stopped"
    ]
    folder = work / "runs" / "stopped"
    assert summary(folder)["state"] == "preempted" and 1 <= len(rows(folder)) < 40
    assert_complete(folder)
    if number == signal.SIGINT:
        return  # resuming is the same as after SIGTERM
    assert kws("train", "--resume", "stopped").status == 0
    assert kws("train", *settings, "--run_dir=uninterrupted").status == 0
    assert_same_run(folder, next((work / "uninterrupted").iterdir()))


@pytest.mark.parametrize("words", ("no,yes", "no,yes,bed"))
def test_a_finished_run_resumed_with_more_epochs_equals_a_longer_run(kws, work, tmp_path, monkeypatch, words):
    make_corpus(tmp_path / "data", words=words.split(","), speakers=12)
    settings = ("--channels=8", "--batch_size=16", "--lr_step=2", f"--words={words}", f"--data_dir={tmp_path / 'data'}")
    monkeypatch.setenv("WANDB_RUN_ID", "short")
    assert kws("train", *settings, "--epochs=3").status == 0
    assert kws("train", "--resume", "short", "--epochs=5").status == 0
    monkeypatch.setenv("WANDB_RUN_ID", "long")
    assert kws("train", *settings, "--epochs=5").status == 0
    assert_same_run(work / "runs" / "short", work / "runs" / "long")
    assert json.loads((work / "runs" / "short" / "config.json").read_text())["epochs"] == 5
    last = torch.load(work / "runs" / "short" / "last.pt", weights_only=True)
    del last["average"]  # as written before there were averages; with two labels the weights are enough
    torch.save(last, work / "runs" / "short" / "last.pt")
    resumed = kws("train", "--resume", "short", "--epochs=6")
    assert resumed.status == (0 if words == "no,yes" else 2)
    assert words == "no,yes" or "last.pt: cannot be resumed; start a new run" in resumed.err


def test_a_run_killed_between_two_writes_restores_its_row_and_removes_the_file(kws, work, data_dir, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "cut")
    assert kws("train", *TINY, f"--data_dir={data_dir}").status == 0
    folder = work / "runs" / "cut"
    before = rows(folder)
    lines = (folder / "metrics.csv").read_text().splitlines(keepends=True)
    (folder / "metrics.csv").write_text("".join(lines[:-1]))
    (folder / ".last.pt.abcd1234").write_bytes(b"half")
    assert kws("train", "--resume", "cut").status == 0
    assert rows(folder) == before and not list(folder.glob(".*.*"))


def test_a_run_whose_folder_was_moved_resumes_there(kws, work, data_dir, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "moved")
    assert kws("train", *TINY, f"--data_dir={data_dir}", "--run_dir=first").status == 0
    (work / "first").rename(work / "second")
    assert kws("train", "--resume", "moved", "--run_dir=second", "--epochs=3").status == 0
    assert len(rows(work / "second" / "moved")) == 3 and not (work / "first").exists()


# --- a run in use by another process; runs that cannot be resumed ---


def config(data_dir, **more):
    tiny = {"channels": 8, "epochs": 3, "batch_size": 16, "data_dir": str(data_dir)}
    return resolve(("test", tiny | more))


def test_a_second_process_with_the_same_run_id_is_rejected(work, data_dir, kws_process):
    seen = []

    def second(row):
        if row["epoch"] == 1:
            seen.append(kws_process("train", *TINY, f"--data_dir={data_dir}", env={"WANDB_RUN_ID": "one"}))

    folder = train(config(data_dir), "one", on_epoch=second)
    (done,) = seen
    assert (done.status, done.out) == (2, "")
    assert done.notices == [f"kws: run one: another process is using {folder}; wait until it ends, or stop it"]
    assert summary(folder)["state"] == "finished" and len(rows(folder)) == 3


def changed(before, after):
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def rejected_resume(kws, folder, *flags):
    """Try to resume a run that cannot be resumed and return the message. The run folder must not change."""
    before = snapshot(folder.parent.parent)
    done = kws("train", "--resume", folder.name, *flags)
    after = snapshot(folder.parent.parent)
    assert (done.status, done.out, len(done.notices)) == (2, "", 1), done
    assert changed(before, after) <= {f"runs/{folder.name}/.lock", "runs", f"runs/{folder.name}"}
    return done.notices[0]


def test_runs_with_changed_data_or_settings_or_damaged_checkpoints_cannot_be_resumed(kws, work, root):
    folder = train(config(root), "run")
    line = "kws: run run: was started with another"
    assert rejected_resume(kws, folder, "--epochs=4", "--lr=0.1") == f"{line} lr; start a new run"
    assert rejected_resume(kws, folder, "--n_mels=40", "--seed=9") == f"{line} n_mels, seed; start a new run"
    assert rejected_resume(kws, folder, "--words=yes,no") == f"{line} words; start a new run"
    assert rejected_resume(kws, folder, "--epochs=2") == (
        "kws: run run: has completed 3 epochs; set epochs to 3 or more"
    )
    clip = next((root / "SpeechCommands" / "speech_commands_v0.02" / "no").iterdir())
    sound = clip.read_bytes()
    soundfile.write(clip, np.zeros(16000), 16000, subtype="PCM_16")
    assert rejected_resume(kws, folder, "--epochs=4") == (
        "kws: run run: the data changed since it was started; start a new run"
    )
    clip.write_bytes(sound)
    last = folder / "last.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    assert rejected_resume(kws, folder) == f"kws: {last}: is not a complete checkpoint of kws; choose another run"
    shutil.copy(folder / "best.pt", last)
    assert rejected_resume(kws, folder) == f"kws: {last}: cannot be resumed; start a new run"


# --- cache and data removed during a run ---


@pytest.mark.parametrize("damage", ("delete", "truncate", "data"))
def test_a_run_is_not_affected_when_cache_or_data_disappear(work, root, damage):
    def disturb(row):
        if damage == "data":
            shutil.rmtree(root)
        elif row["epoch"] == 1:
            for cache in cache_folder().iterdir():
                cache.unlink() if damage == "delete" else cache.write_bytes(cache.read_bytes()[:5000])
        else:
            return
        disturbed.append(row)
        if damage == "data":
            root.mkdir()

    disturbed = []
    uninterrupted = train(config(root), "uninterrupted")
    folder = train(config(root), "disturbed", on_epoch=disturb)
    assert disturbed
    assert_same_run(folder, uninterrupted)


# --- a loss that is not finite ---


def edit_checkpoint(folder, edit):
    content = torch.load(folder / "last.pt", weights_only=True)
    edit(content)
    torch.save(content, folder / "last.pt")


@pytest.mark.parametrize("batch_size,edit,line", (
    (
        16, lambda content: content["model"]["network.linear.weight"].fill_(3e38),
        "the training loss is not finite from epoch 3, step 1 on; lower lr",
    ),
    (
        64, lambda content: content["optimizer"]["param_groups"][0].update(lr=1e38),
        "the validation loss is not finite after epoch 3; lower lr",
    ),
), ids=("training", "validation"))  # fmt: skip
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(
    kws, work, data_dir, monkeypatch, batch_size, edit, line
):
    folder = train(config(data_dir, batch_size=batch_size, epochs=2), "wild")
    edit_checkpoint(folder, edit)
    kept = {name: (folder / name).read_bytes() for name in ("best.pt", "last.pt")}
    done = kws("train", "--resume", "wild", "--epochs=4")
    assert (done.status, done.out) == (1, "")
    assert done.notices == [f"kws: {line}"]
    assert summary(folder)["state"] == "failed" and summary(folder)["error"] == f"Diverged: {line}"
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert len(rows(folder)) == 2
    with pytest.raises(Diverged, match="lower lr"):
        train(config(data_dir, batch_size=batch_size, epochs=4), "wild", resume=True)


# --- disks ---


def test_a_disk_that_fills_during_the_run_is_reported_and_the_run_resumes_later(kws, work, data_dir):
    with small_disk(work / "disk", "400k") as disk:
        filler = disk / "filler"

        def fill(row):
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while row["epoch"] == 2:
                    file.write(bytes(1024))

        run_dir = str(disk / "runs")
        with pytest.raises(KwsError) as caught:
            train(config(data_dir, run_dir=run_dir), "full", on_epoch=fill)
        folder = disk / "runs" / "full"
        assert str(caught.value) == (
            f"run full: {folder} cannot be written (No space left on device); fix that, "
            f"then resume it with: kws train --resume full --run_dir {run_dir}"
        )
        assert_complete(folder)
        assert len(rows(folder)) == 2
        filler.unlink()
        assert kws("train", "--resume", "full", "--run_dir", run_dir).status == 0
        assert_same_run(folder, train(config(data_dir), "uninterrupted"))


def test_a_disk_that_is_too_small_from_the_start_is_reported(kws, work, data_dir):
    with small_disk(work / "disk", "16k") as disk:
        done = kws("train", *TINY, f"--data_dir={data_dir}", f"--run_dir={disk}")
        assert (done.status, done.out) == (2, "") and len(done.notices) == 1
        assert "cannot be written (No space left on device)" in done.err
        (folder,) = disk.iterdir()
        assert_complete(folder)


def test_a_read_only_disk_is_reported_before_anything_is_tracked(kws, work, data_dir):
    with small_disk(work / "disk", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = kws("train", *TINY, f"--data_dir={data_dir}", "--run_dir=disk")
        assert (done.status, done.out) == (2, "")
        assert done.notices[0].startswith(f"kws: run_dir: {disk}/")
        assert done.notices[0].endswith(" cannot be written (Read-only file system); choose another --run_dir")
        assert not (work / "wandb").exists()


def test_a_run_folder_removed_during_the_run_is_reported(work, data_dir):
    with pytest.raises(KwsError) as caught:
        train(config(data_dir), "gone", on_epoch=lambda row: shutil.rmtree(work / "runs"))
    assert str(caught.value).startswith(f"run gone: {work}/runs/gone cannot be written (No such file or directory)")


def test_a_full_disk_for_the_cache_disables_only_the_cache(kws, work, data_dir, monkeypatch):
    with small_disk(work / "disk", "64k") as disk:
        monkeypatch.setenv("KWS_CACHE", str(disk))
        done = kws("train", *TINY, f"--data_dir={data_dir}")
        assert done.status == 0 and len(done.notices) == 1
        assert done.notices[0].startswith(f"kws: cannot write the cache {disk}/speech_commands_v0.02-no-yes-")
        assert "(No space left on device); set KWS_CACHE to a writable folder" in done.notices[0]
        assert list(disk.iterdir()) == []


# --- environment ---


def without_root_rights():
    """Return a command prefix that makes file permissions apply to root, too."""
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def test_a_read_only_working_folder_is_reported_before_anything_is_tracked(work, data_dir):
    work.chmod(0o555)
    done = finish(start("train", *TINY, f"--data_dir={data_dir}", before=without_root_rights()))
    assert (done.status, done.out) == (2, "")
    assert done.notices[0].startswith(f"kws: run_dir: {work}/runs/")
    assert done.notices[0].endswith(" cannot be written (Permission denied); choose another --run_dir")
    assert list(work.iterdir()) == []


def test_a_run_works_without_home_and_with_a_read_only_working_folder(work, data_dir, tmp_path):
    work.chmod(0o555)
    environment = {"HOME": "/proc/nowhere", "TMPDIR": str(tmp_path)}  # no user can create files in /proc
    flags = (*TINY, f"--data_dir={data_dir}", f"--run_dir={tmp_path}/runs")
    done = finish(start("train", *flags, env=environment, before=without_root_rights()))
    assert done.status == 0, done.err
    assert "Traceback" not in done.err and "cannot write the cache /proc/nowhere/.cache/kws/" in done.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert summary(folder)["state"] == "finished"
    assert summary(folder)["wandb/sync_dir"].startswith(f"{tmp_path}/wandb/offline-run-")  # W&B's own fallback


def test_a_folder_that_wandb_cannot_write_is_reported(work, data_dir, kws_process):
    done = kws_process("train", *TINY, f"--data_dir={data_dir}", f"--run_dir={work}/runs", cwd="/proc")
    assert (done.status, done.out) == (2, "")
    assert done.notices == [
        "kws: W&B cannot write its log ([Errno 2] No such file or directory: '/proc/wandb'); "
        "set WANDB_DIR to a writable folder"
    ]


def test_spaces_and_other_alphabets_in_every_path(kws, work, data_dir, monkeypatch):
    place = work / "mé moire 日本 😀 'x' %s [a-z]"
    place.mkdir()
    make_corpus(place / "my data", speakers=12)
    monkeypatch.chdir(place)
    monkeypatch.setenv("KWS_CACHE", str(place / "cache"))
    monkeypatch.setenv("WANDB_RUN_ID", "far")
    assert kws("train", *TINY, "--data_dir=my data", "--run_dir=läufe 😀", "--study=日本").status == 0
    assert kws("train", "--resume=far", "--run_dir=läufe 😀", "--epochs=3").status == 0
    folder = place / "läufe 😀" / "far"
    assert len(rows(folder)) == 3 and summary(folder)["state"] == "finished"
    assert json.loads((folder / "config.json").read_text())["study"] == "日本"


def test_a_relative_data_dir_is_relative_to_the_working_folder(kws, work, root, monkeypatch):
    (work / "deep").mkdir()
    monkeypatch.chdir(work / "deep")
    assert kws("train", *TINY, "--data_dir=../../data", "--run_dir=../there").status == 0
    assert len(list((work / "there").iterdir())) == 1
    monkeypatch.chdir(work)
    done = kws("train", *TINY, "--data_dir=../../data")
    assert done.status == 2 and f"data: {os.path.abspath('../../data')}/SpeechCommands/" in done.err


def test_a_closed_pipe_ends_the_run_without_a_message_and_it_can_be_resumed(kws, work, data_dir):
    process = start("train", *LONG, f"--data_dir={data_dir}", env={"WANDB_RUN_ID": "piped", "WANDB_MODE": "disabled"})
    assert "epoch 1/40" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
    folder = work / "runs" / "piped"
    assert_complete(folder)
    assert len(rows(folder)) >= 1 and summary(folder)["state"] == "failed"
    assert kws("train", "--resume=piped").status == 0
    assert len(rows(folder)) == 40


CLOCK_THAT_JUMPS = """
import itertools, time
true_time, calls = time.time, itertools.count()
time.time = lambda: true_time() + (-86400 * 30, 0, 86400 * 30)[next(calls) // 5 % 3]  # by a month, often
"""


def test_a_clock_that_jumps_does_not_change_the_run(work, data_dir, kws_process, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(CLOCK_THAT_JUMPS)
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    command = "train", *TINY, "--data_dir", data_dir
    assert kws_process(*command, env={"WANDB_RUN_ID": "steady"}).status == 0
    outcome = finish(start(*command, env={"WANDB_RUN_ID": "jumping", "PYTHONPATH": path}))
    assert outcome.status == 0, outcome.err
    steady, jumping = work / "runs" / "steady", work / "runs" / "jumping"
    assert_same_run(steady, jumping)
    with open(jumping / "metrics.csv") as file:
        assert all(0 < float(row["time/epoch_s"]) < 600 for row in csv.DictReader(file))
    assert 0 < summary(jumping)["time/run_s"] < 600
