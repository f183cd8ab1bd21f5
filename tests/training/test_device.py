"""A run on another device than the CPU: everything moves there, and the epoch does not wait for it step by step."""

import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY, TINY
from helpers.training import read, rows

SCRIPT = REPOSITORY / "tests" / "doubles" / "pretend_device.py"


def train(work, data_dir, *flags):
    """What each training epoch fetched from the pretend device."""
    process = subprocess.run(
        [sys.executable, SCRIPT, *TINY, f"--data_dir={data_dir}", *flags],
        cwd=work, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def only_run(work):
    (folder,) = (work / "runs").iterdir()
    return folder


@pytest.mark.parametrize(
    "flags", ((), ("--speed_perturb=0.1", "--mean_norm=clip"), ("--augment=False", "--groups=2")), ids=str
)
def test_a_run_on_another_device_gives_what_the_cpu_gives(kws, work, data_dir, flags):
    train(work, data_dir, *flags)
    there = only_run(work)
    config = read(there, "config.json")
    assert (config["device_name"], config["features_prefetched"]) == ("pretend:0", False)
    assert read(there, "summary.json")["state"] == "finished"
    there.rename(work / "there")
    assert kws("train", *TINY, f"--data_dir={data_dir}", "--device=cpu", *flags).status == 0
    here = rows(only_run(work))
    # The CPU squares the spectrum its own way: the numbers part in the last digits, and training widens that.
    assert [row["train/loss"] for row in rows(work / "there")] == pytest.approx([r["train/loss"] for r in here], 0.02)
    assert {path.name for path in (work / "there").iterdir()} == {path.name for path in only_run(work).iterdir()}


def test_a_run_goes_on_from_its_checkpoint_on_the_device(work, data_dir):
    train(work, data_dir, "--epochs=1")
    whole = only_run(work)
    assert train(work, data_dir, "--resume", whole.name, "--epochs=3")
    assert len(rows(whole)) == 3 and read(whole, "summary.json")["state"] == "finished"


def test_an_epoch_reads_from_the_device_only_at_its_end(work, data_dir):
    few = train(work, data_dir, "--batch_size=16")
    many = train(work, data_dir, "--batch_size=2")
    assert few == many and max(many) <= 3
