"""A run on a device other than the CPU: all tensors move there, and an epoch does not synchronise at every step."""

import json

import pytest
from conftest import REPOSITORY, TINY
from helpers import forked
from helpers.training import read, rows

SCRIPT = REPOSITORY / "tests" / "doubles" / "pretend_device.py"


def train(work, data_dir, *flags):
    """Return the number of reads from the pretend device in each training epoch."""
    process = forked.run(SCRIPT, *TINY, f"--data_dir={data_dir}", *flags, cwd=work)
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def only_run(work):
    (folder,) = (work / "runs").iterdir()
    return folder


@pytest.mark.parametrize(
    "flags", ((), ("--speed_perturb=0.1", "--mean_norm=clip"), ("--augment=False", "--groups=2")), ids=str
)
def test_a_run_on_another_device_gives_the_results_of_the_cpu(kws, work, data_dir, flags):
    train(work, data_dir, *flags)
    on_device = only_run(work)
    config = read(on_device, "config.json")
    assert config["device_name"] == "pretend:0"
    assert read(on_device, "summary.json")["state"] == "finished"
    on_device.rename(work / "device")
    assert kws("train", *TINY, f"--data_dir={data_dir}", "--device=cpu", *flags).status == 0
    on_cpu = [row["train/loss"] for row in rows(only_run(work))]
    # The CPU squares the spectrum differently: a difference in the last digits, which training amplifies.
    assert [row["train/loss"] for row in rows(work / "device")] == pytest.approx(on_cpu, 0.02)
    assert {path.name for path in (work / "device").iterdir()} == {path.name for path in only_run(work).iterdir()}


def test_a_run_on_the_device_resumes_from_its_checkpoint(work, data_dir):
    train(work, data_dir, "--epochs=1")
    folder = only_run(work)
    assert train(work, data_dir, "--resume", folder.name, "--epochs=3")
    assert len(rows(folder)) == 3 and read(folder, "summary.json")["state"] == "finished"


def test_an_epoch_reads_from_the_device_only_at_its_end(work, data_dir):
    few = train(work, data_dir, "--batch_size=16")
    many = train(work, data_dir, "--batch_size=2")
    assert few == many and max(many) <= 3
