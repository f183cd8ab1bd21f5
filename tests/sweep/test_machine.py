"""How processes are recognised, with and without /proc (macOS has none)."""

import os
import subprocess
import sys

import pytest

from kws import machine


@pytest.fixture(params=("with /proc", "without /proc"), autouse=True)
def proc(request, tmp_path, monkeypatch):
    if request.param == "without /proc":
        monkeypatch.setattr(machine, "PROC", tmp_path / "none")


def in_another_process(expression):
    code = f"import pathlib; from kws import machine; machine.PROC = pathlib.Path({str(machine.PROC)!r}); {expression}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_all_processes_of_a_machine_are_in_one_scope():
    assert machine.process_scope() == machine.process_scope() == in_another_process("print(machine.process_scope())")


def test_a_process_is_recognised_by_its_start():
    started = machine.process_started(os.getpid())
    assert started and started == in_another_process(f"print(machine.process_started({os.getpid()}))")


def test_a_process_that_ended_has_no_start():
    process = subprocess.Popen(["true"])
    if hasattr(os, "waitid"):  # not on macOS before Python 3.13
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, but its entry is still there
        assert machine.process_started(process.pid) is None
    process.wait()
    assert machine.process_started(process.pid) is None


@pytest.mark.parametrize("group, quotas, cpus", (
    ("/", {"": "max 100000"}, 64),
    ("/", {"": "250000 100000"}, 2),
    ("/jobs/a", {"jobs": "800000 100000", "jobs/a": "300000 100000"}, 3),
    ("/jobs/a", {"jobs": "50000 100000", "jobs/a": "max 100000"}, 1),
    ("/of/the/host", {"": "400000 100000"}, 4),  # in a container that sees its path on the host
))  # fmt: skip
def test_the_cpu_quota_of_a_container_counts(tmp_path, monkeypatch, group, quotas, cpus):
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(f"4:memory:/jobs\n0::{group}\n")
    for folder, quota in quotas.items():
        (tmp_path / "cgroup" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / folder / "cpu.max").write_text(quota + "\n")
    assert machine.usable_cpus() == cpus
