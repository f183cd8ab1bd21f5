"""Disks of a sweep that are full, removed or cannot be written, and file systems without locks."""

import contextlib
import errno
import fcntl
import os
import shutil

import pytest
from conftest import TINY, finish, start
from helpers.disks import small_disk
from helpers.sweep_runs import attempts, meanwhile, results, wait_until, write_sweep

from kws.sweep import engine

SEEDS = {"seed": {"values": [0, 1]}, "epochs": {"value": 80}}


@pytest.fixture(autouse=True)
def corpus(data_dir, monkeypatch):
    monkeypatch.setenv("KWS_DATA", str(data_dir))


def fill(disk):
    """Fill a disk and return the file that does."""
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return disk / "filler"


def remove(disk):
    """Remove the run folders, with the sweep's own files."""
    with contextlib.suppress(OSError):  # a run may be writing into it
        while (disk / "runs").exists():
            shutil.rmtree(disk / "runs", ignore_errors=True)


def test_a_full_disk_uses_up_no_trial_and_the_sweep_goes_on_when_there_is_room(work, monkeypatch):
    with small_disk(work / "disk", "16m") as disk:
        monkeypatch.chdir(disk)  # W&B's files are on it, too
        process = start("sweep", write_sweep(work, SEEDS), "--jobs", 1, "--storage", work / "shared.log")
        wait_until(lambda: list(disk.glob("runs/*/last.pt")), "a run has a checkpoint")
        filler, said = fill(disk), ""
        while "waiting for at most 60 s" not in said:
            assert (said := process.stdout.readline()), process.communicate()
        assert "cannot be written (No space left on device)" in said
        filler.unlink()
        outcome = finish(process)
        assert outcome.status == 0 and outcome.err == "" and "2 of 2 trials finished" in outcome.out, outcome
        assert set(results("runs", "seed")) == {(0,), (1,)} and "failed" not in dict(attempts(work / "shared.log"))


@pytest.mark.parametrize("fault, reason", ((fill, "No space left on device"), (remove, "No such file or directory")))
def test_a_journal_that_cannot_be_written_ends_the_sweep_with_one_line(work, kws, monkeypatch, fault, reason):
    with small_disk(work / "disk", "16m") as disk:
        command = "sweep", write_sweep(work, SEEDS), "--jobs", 1, "--set", f"run_dir={disk}/runs"
        monkeypatch.setattr(engine, "HOLD_S", 1)

        with meanwhile(lambda: list(disk.glob("runs/*/last.pt")), "a run has a checkpoint", lambda: fault(disk)):
            outcome = kws(*command)
        [line] = outcome.err.splitlines()
        assert outcome.status == 2 and f"{disk}/runs/" in line
        assert line.endswith(f"({reason}); fix that, then re-run the command to resume")
        assert "0 finished, 0 running, 0 failed, 2 missing" in kws(*command, "--status").out


def test_a_run_dir_that_cannot_be_written_is_reported_before_anything_runs(work, kws):
    (work / "runs").write_text("mine")
    path = write_sweep(work, SEEDS)
    [line] = kws("sweep", path).err.splitlines()
    reason = "the sweep's journal cannot be used (Not a directory); choose another place with --storage"
    assert line.endswith(f"/journal.log: {reason}")
    outcome = kws("sweep", path, "--storage=shared.log")
    [line] = outcome.err.splitlines()
    assert outcome.status == 2 and line.startswith("kws: run_dir: runs/sweeps/")
    assert line.endswith(" cannot be written (Not a directory); choose another with --set run_dir=DIR")


def test_a_file_system_without_locks_is_named_with_a_way_on(work, kws, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    problem = "its file system has no file locks (Function not implemented); choose a folder on another one with"
    mount = "or mount it with locks (Lustre: -o flock)"
    outcome = kws("train", *TINY)
    assert outcome.status == 2 and f"/.lock: {problem} --run_dir, {mount}\n" in outcome.err, outcome.err
    outcome = kws("sweep", write_sweep(work, SEEDS))
    assert outcome.status == 2
    assert outcome.err.endswith(f"/journal.log.lock: {problem} --storage (a path or a database), {mount}\n")
