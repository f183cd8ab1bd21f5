"""One sweep with several workers: a journal file, a real PostgreSQL, unreachable machines, broken storages."""

import collections
import glob
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY, finish, snapshot, start
from helpers.sweep_runs import (
    attempts,
    is_alive,
    journal,
    meanwhile,
    results,
    running_trials,
    wait_until,
    write_sweep,
)

from kws.sweep.spec import load_sweep
from kws.sweep.storage import SharedSweep
from kws.training.provenance import Code

CODE = Code("0", "0", "0")
SEEDS = {"seed": {"values": [0, 1, 2, 3]}}


@pytest.fixture(autouse=True)
def corpus(data_dir, monkeypatch):
    monkeypatch.setenv("KWS_DATA", str(data_dir))


def test_two_processes_share_a_journal_and_run_each_trial_once(work, kws):
    command = "sweep", write_sweep(work, {"seed": {"values": list(range(6))}}), "--jobs", 1, "--storage", "shared.log"
    other = start(*command)
    wait_until(lambda: running_trials(other.pid), "the other runs a trial")
    outcomes = [kws(*command), finish(other)]
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
    assert set(results("runs", "seed")) == {(seed,) for seed in range(6)}
    assert sum(outcome.out.count(" finished: ") for outcome in outcomes) == 6
    assert all(" finished: " in outcome.out for outcome in outcomes)
    ends = collections.Counter(trial for trial, ended in attempts("shared.log") if ended == "finished")
    assert ends == collections.Counter(range(6))


OPEN = """
import multiprocessing, sys
from kws.sweep.spec import load_sweep
from kws.sweep.storage import SharedSweep

def open_storage(barrier):
    barrier.wait()
    SharedSweep(load_sweep(sys.argv[1]), sys.argv[2])

context = multiprocessing.get_context("fork")
barrier = context.Barrier(8)
processes = [context.Process(target=open_storage, args=(barrier,)) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(sum(process.exitcode for process in processes))
"""


def open_at_once(path, url):
    """Let eight processes open the storage `url` of a sweep at once; return what they print and the failures."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", OPEN, path, url], capture_output=True, text=True, env=environment)
    return done.stderr, done.returncode


def test_eight_workers_start_together_on_a_new_sqlite_file(work, kws):
    path = write_sweep(work, SEEDS)
    status = "sweep", path, "--status", "--storage=sqlite:///s.db"
    assert "0 finished, 0 running, 0 failed, 4 missing" in kws(*status).out
    assert not (work / "s.db").exists()
    assert open_at_once(path, "sqlite:///s.db") == ("", 0)
    assert "0 finished, 0 running, 0 failed, 4 missing" in kws(*status).out


@pytest.fixture(scope="module")
def postgresql():
    """URL and control of a PostgreSQL server of the tests' own, on loopback; skips if its programs are missing."""
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
            """Start or stop the server; stopping interrupts whatever it does."""
            subprocess.run([*command, "-o", options, action], check=True, capture_output=True, cwd="/")

        control("start")
        try:
            yield f"postgresql://kws@127.0.0.1:{port}/postgres", control
        finally:
            control("stop")
    finally:
        shutil.rmtree(folder)


def test_two_processes_share_a_postgresql_and_run_each_trial_once(work, kws, postgresql):
    url, _ = postgresql
    path = write_sweep(work, {"seed": {"values": list(range(4))}, "epochs": {"value": 20}})
    assert "0 finished, 0 running, 0 failed, 4 missing" in kws("sweep", path, "--status", "--storage", url).out
    assert open_at_once(path, url) == ("", 0)
    other = start("sweep", path, "--jobs", 1, "--storage", url)
    wait_until(lambda: running_trials(other.pid), "the other runs a trial")
    # This process takes over the trial of the other, which is killed.
    with meanwhile(lambda: running_trials(os.getpid()), "both run a trial", other.kill):
        outcome = kws("sweep", path, "--jobs", 1, "--storage", url)
    other.communicate()
    assert outcome.status == 0, outcome
    assert set(results("runs", "seed")) == {(seed,) for seed in range(4)}
    status = kws("sweep", path, "--storage", url, "--status")
    assert "4 trials expected, 4 finished, 0 running, 0 failed, 0 missing" in status.out


def test_a_lost_database_ends_the_sweep_with_one_line_and_the_sweep_resumes(work, kws, postgresql):
    url, control = postgresql
    path = write_sweep(work, {"seed": {"values": [0, 1]}, "epochs": {"value": 60}}, name="lost")
    process = start("sweep", path, "--jobs", 2, "--storage", url)
    wait_until(lambda: len(running_trials(process.pid)) == 2, "two trials are running")
    trials = running_trials(process.pid)
    control("stop")
    outcome = finish(process)
    assert outcome.status == 2
    [line] = outcome.err.splitlines()
    assert line.startswith("kws: --storage: the database ") and "Traceback" not in outcome.err
    wait_until(lambda: not any(map(is_alive, trials)), "its trials have ended")
    unreachable = kws("sweep", path, "--storage", url)
    assert unreachable.status == 2 and len(unreachable.err.splitlines()) == 1
    control("start")
    assert kws("sweep", path, "--storage", url).status == 0
    assert set(results("runs", "seed")) == {(0,), (1,)}


def test_a_trial_of_an_unreachable_machine_is_taken_over(work, kws, monkeypatch):
    path = write_sweep(work, {"seed": {"values": [0, 1]}})
    sweep = load_sweep(path)
    lost = SharedSweep(sweep)
    lost.heartbeat()
    attempt = lost.claim()
    optuna_trial = lost.states()[0].last
    # The same attempt as if another machine had written it: its processes cannot be looked up here.
    text, machine = journal(work).read_text(), optuna_trial.user_attrs["scope"]
    journal(work).write_text(text.replace(machine, machine[::-1]))
    assert "0 finished, 1 running, 0 failed, 1 missing" in kws("sweep", path, "--status").out
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    before = snapshot(work)
    assert "0 finished, 0 running, 0 failed, 2 missing" in kws("sweep", path, "--status").out
    assert snapshot(work) == before

    watcher = SharedSweep(sweep, stale_s=0.3)
    assert watcher.claim().trial == 1 and watcher.claim() is None  # trial 0 is not known to be stale yet
    time.sleep(0.4)
    taken = watcher.claim()
    assert taken.trial == 0 and taken.overrides == attempt.overrides
    assert not lost.finish(attempt, 0.5, CODE, "data")  # too late: it no longer owns the trial
    assert watcher.finish(taken, 0.9, CODE, "data")
    assert watcher.states()[0].state == "finished"


def interleaved(monkeypatch, one, other, other_first):
    """Attempts of two claimants: all of `other`'s claim happens within `one`'s, before or after `one` adds its own."""
    create, others = one._storage.create_new_trial, []

    def create_new_trial(*arguments):
        if other_first:
            others.append(other.claim())
        created = create(*arguments)
        if not other_first:
            others.append(other.claim())
        return created

    monkeypatch.setattr(one._storage, "create_new_trial", create_new_trial)
    return one.claim(), *others


@pytest.mark.parametrize("other_first", (True, False))
def test_a_claim_gives_way_to_an_earlier_claimant_that_is_still_running(work, monkeypatch, other_first):
    sweep = load_sweep(write_sweep(work, {"seed": {"value": 0}}))
    one, other = SharedSweep(sweep), SharedSweep(sweep)
    mine, theirs = interleaved(monkeypatch, one, other, other_first)
    winner, loser = (other, one) if other_first else (one, other)
    assert (mine is None, theirs is None) == (other_first, not other_first)
    assert loser.claim() is None  # the winner is running it
    assert winner.finish(mine or theirs, 0.5, CODE, "data")
    assert [status.states()[0].state for status in (one, other)] == ["finished"] * 2
    assert attempts(journal(work)) == [(0, "finished")]


def calls(function):
    """How many Python and C functions `function` calls: a cost that does not depend on the machine's load."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_trial_costs_the_same_however_many_there_are(work, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    shared = SharedSweep(load_sweep(write_sweep(work, {"seed": {"values": list(range(300))}})))

    def one_trial():
        shared.finish(shared.claim(), 0.5, CODE, "data")

    costs = [calls(one_trial) for _ in range(300)]
    assert shared.states() and shared.counts == {"finished": 300, "waiting": 0, "running": 0}
    assert max(costs[-50:]) < 1.2 * max(costs[5:50])


def test_an_incomplete_last_line_of_a_journal_is_removed(work, kws):
    path = write_sweep(work, {"seed": {"values": [0, 1]}})
    assert kws("sweep", path, "--set", "seed=0").status == 0
    with open(journal(work), "a") as file:
        file.write('{"op_code": 8, "worker')  # the machine went down in the middle of a write
    assert kws("sweep", path, "--set", "seed=0").status == 0
    assert kws("sweep", path, "--set", "seed=0", "--status").out.count("1 finished") == 1
    (work / "notes.txt").write_text("not a journal, without a newline")
    refused = kws("sweep", path, "--storage", "notes.txt")
    assert refused.status == 2 and "notes.txt: is not a sweep journal" in refused.err
    assert (work / "notes.txt").read_text() == "not a journal, without a newline"


@pytest.mark.parametrize("url, message", {
    "nonsense://host/x": "--storage: ",
    "mysql://user:secret@127.0.0.1:1/x": "--storage: no driver for mysql is installed",
    "postgresql://user:secret@127.0.0.1:1/x": "--storage: the database cannot be used: ",
}.items())  # fmt: skip
def test_a_storage_that_cannot_be_used_is_refused_without_its_password(work, kws, url, message):
    outcome = kws("sweep", write_sweep(work, SEEDS), "--storage", url)
    assert outcome.status == 2 and message in outcome.err and len(outcome.err.splitlines()) == 1
    assert "secret" not in outcome.err
