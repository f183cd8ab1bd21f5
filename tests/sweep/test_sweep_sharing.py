"""One sweep, many workers: a journal file, a real PostgreSQL, machines that fall silent, storages that break."""

import collections
import glob
import os
import shutil
import socket
import subprocess
import time

import pytest
from conftest import finish, start
from helpers.sweep_runs import attempts, cells_at_work, is_alive, journal, results, wait_until, write_sweep

SEEDS = {"seed": {"values": [0, 1, 2, 3]}}


@pytest.fixture(autouse=True)
def corpus(data_dir, monkeypatch):
    monkeypatch.setenv("KWS_DATA", str(data_dir))


def test_two_processes_share_a_journal_and_run_each_cell_once(work):
    path = write_sweep(work, {"seed": {"values": list(range(6))}})
    both = [start("sweep", path, "--jobs", 1, "--storage", "shared.log") for _ in range(2)]
    outcomes = [finish(process) for process in both]
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
    assert set(results("runs", "seed")) == {(seed,) for seed in range(6)}
    assert sum(outcome.out.count(" finished: ") for outcome in outcomes) == 6
    assert all(" finished: " in outcome.out for outcome in outcomes)
    ends = collections.Counter(cell for cell, ended in attempts("shared.log") if ended == "finished")
    assert ends == collections.Counter(range(6))


@pytest.fixture
def postgresql(tmp_path):
    """URL and control of a PostgreSQL server of the test's own, on loopback; skips where its programs are not."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    found += [program] if (program := shutil.which("initdb")) else []
    if not found:
        pytest.skip("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
    programs = os.path.dirname(found[-1])
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = f"/tmp/kws-postgresql-{os.getpid()}-{port}"  # pytest's folders are closed to other users
    subprocess.run([*as_user, "mkdir", "-m", "700", folder], check=True)
    data = f"{folder}/data"
    try:
        subprocess.run(
            [*as_user, f"{programs}/initdb", "-D", data, "-U", "kws", "--auth=trust", "--no-sync"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        command = [*as_user, f"{programs}/pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-m", "immediate"]

        def control(action):
            """start or stop the server; stopping ends it in the middle of what it does."""
            subprocess.run([*command, "-o", options, action], check=True, capture_output=True, cwd="/")

        control("start")
        try:
            yield f"postgresql://kws@127.0.0.1:{port}/postgres", control
        finally:
            control("stop")
    finally:
        shutil.rmtree(folder)


def test_two_processes_share_a_postgresql_and_run_each_cell_once(work, kws, postgresql):
    url, _ = postgresql
    path = write_sweep(work, {"seed": {"values": list(range(6))}})
    both = [start("sweep", path, "--jobs", 1, "--storage", url) for _ in range(2)]  # they also race to make the tables
    wait_until(lambda: all(cells_at_work(process.pid) for process in both), "both have a cell")
    both[0].kill()  # the other takes its cell over
    both[0].communicate()
    outcome = finish(both[1])
    assert outcome.status == 0, outcome
    assert set(results("runs", "seed")) == {(seed,) for seed in range(6)}
    status = kws("sweep", path, "--storage", url, "--status")
    assert "6 cells expected, 6 finished, 0 running, 0 failed, 0 missing" in status.out


def test_a_database_that_goes_away_ends_the_sweep_with_one_line_and_it_goes_on(work, kws, postgresql):
    url, control = postgresql
    path = write_sweep(work, {"seed": {"values": [0, 1]}, "epochs": {"value": 60}})
    process = start("sweep", path, "--jobs", 2, "--storage", url)
    wait_until(lambda: len(cells_at_work(process.pid)) == 2, "two cells are at work")
    cells = cells_at_work(process.pid)
    control("stop")
    outcome = finish(process)
    assert outcome.status == 2
    [line] = outcome.err.splitlines()
    assert line.startswith("kws: --storage: the database ") and "Traceback" not in outcome.err
    wait_until(lambda: not any(map(is_alive, cells)), "its cells are gone")
    unreachable = kws("sweep", path, "--storage", url)
    assert unreachable.status == 2 and len(unreachable.err.splitlines()) == 1
    control("start")
    assert kws("sweep", path, "--storage", url).status == 0
    assert set(results("runs", "seed")) == {(0,), (1,)}


def test_a_cell_of_a_machine_that_fell_silent_is_taken_over(work):
    from kws.sweep.spec import load_sweep
    from kws.sweep.storage import SharedSweep

    sweep = load_sweep(write_sweep(work, {"seed": {"values": [0, 1]}}))
    lost = SharedSweep(sweep)
    attempt = lost.claim()
    trial = lost.states()[0].trial
    # The same attempt as another machine would have written it: its processes cannot be looked up here.
    text, machine = journal(work).read_text(), trial.user_attrs["machine"]
    journal(work).write_text(text.replace(machine, machine[::-1]))

    watcher = SharedSweep(sweep, stale_s=0.3)
    assert watcher.claim().cell == 1 and watcher.claim() is None  # cell 0 has an owner, for all that is known
    time.sleep(0.4)
    taken = watcher.claim()
    assert taken.cell == 0 and taken.drawn == attempt.drawn
    assert not lost.finish(attempt, 0.5)  # too late: the cell is no longer its own
    assert watcher.finish(taken, 0.9)
    assert watcher.states()[0].state == "finished"


def test_a_journal_with_half_a_line_is_mended(work, kws):
    path = write_sweep(work, {"seed": {"values": [0, 1]}})
    assert kws("sweep", path, "--set", "seed=0").status == 0
    with open(journal(work), "a") as file:
        file.write('{"op_code": 8, "worker')  # the machine went down in the middle of a write
    assert kws("sweep", path, "--set", "seed=0").status == 0
    assert kws("sweep", path, "--set", "seed=0", "--status").out.count("1 finished") == 1
    (work / "notes.txt").write_text("mine, without a line's end")
    refused = kws("sweep", path, "--storage", "notes.txt")
    assert refused.status == 2 and "notes.txt: is no journal of a sweep" in refused.err
    assert (work / "notes.txt").read_text() == "mine, without a line's end"


@pytest.mark.parametrize("url, message", {
    "nonsense://host/x": "--storage: ",
    "mysql://user:secret@127.0.0.1:1/x": "--storage: no driver for mysql is installed",
    "postgresql://user:secret@127.0.0.1:1/x": "--storage: the database cannot be used: ",
}.items())  # fmt: skip
def test_a_storage_that_cannot_be_used_is_refused_without_its_password(work, kws, url, message):
    outcome = kws("sweep", write_sweep(work, SEEDS), "--storage", url)
    assert outcome.status == 2 and message in outcome.err and len(outcome.err.splitlines()) == 1
    assert "secret" not in outcome.err
