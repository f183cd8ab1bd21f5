"""A sweep that is killed repeatedly at random moments gives the same results as an undisturbed one, each trial once.

KWS_KILLS=50 pytest -n 0 -s tests/sweep/test_sweep_kills.py     the long version, with figures
"""

import collections
import os
import random
import signal
import time

from conftest import start
from helpers.sweep_runs import attempts, fork_servers, is_alive, kill, results, running_trials, wait_until, write_sweep

KILLS = int(os.environ.get("KWS_KILLS", 5))
SEEDS, EPOCHS = max(2, KILLS // 3), 40


def test_a_repeatedly_killed_sweep_gives_the_results_of_an_undisturbed_one(work, kws, data_dir, monkeypatch):
    monkeypatch.setenv("KWS_DATA", str(data_dir))
    path = write_sweep(work, {
        "n_mels": {"values": [20, 40]}, "seed": {"values": list(range(SEEDS))}, "epochs": {"value": EPOCHS},
    })  # fmt: skip
    trials = 2 * SEEDS
    began = time.monotonic()
    quiet = kws("sweep", path, "--set", "run_dir=quiet", "--jobs", 2)
    assert quiet.status == 0, quiet.err + quiet.out
    undisturbed_s = time.monotonic() - began

    chance = random.Random(1)
    longest_wait_s = min(1, undisturbed_s / KILLS)  # so that the sweep is still running at the last kill
    done, began = collections.Counter(), time.monotonic()
    process = None
    while done.total() < KILLS:
        if process is None or process.poll() is not None:
            if process is not None:
                assert process.poll() != 0, f"the sweep was finished after {done.total()} of {KILLS} kills"
            process = start("sweep", path, "--jobs", 2, stdout=open("sweep.log", "a"), stderr=open("errors.log", "a"))
        number = chance.choice((signal.SIGKILL, signal.SIGTERM))
        target = chance.choices(("trial", "fork server", "sweep"), (5, 1, 4))[0]
        if target != "sweep" or chance.random() < 0.7:  # else it may still be importing
            wait_until(
                lambda sweep=process: running_trials(sweep.pid) or sweep.poll() is not None, "trials are running"
            )
        time.sleep(chance.uniform(0, longest_wait_s))
        trials_left = running_trials(process.pid)
        victims = trials_left if target == "trial" else fork_servers(process.pid)
        if target != "sweep":
            done[target, number.name] += bool(victims) and kill(chance.choice(victims), number)
        elif kill(process.pid, number):
            done["sweep", number.name] += 1
            process.wait(timeout=120)
            # No trial keeps running without its sweep.
            wait_until(lambda left=trials_left: not any(map(is_alive, left)), "the killed sweep's trials have ended")
    process.wait(timeout=600)
    last = kws("sweep", path, "--jobs", 2)
    assert last.status == 0, last.err + last.out
    assert f"{trials} of {trials} trials finished" in last.out
    disturbed_s = time.monotonic() - began

    assert open("errors.log").read() == ""
    assert results("runs", "n_mels", "seed") == results("quiet", "n_mels", "seed")
    tried = attempts(next((work / "runs" / "sweeps").glob("*/journal.log")))
    finished = collections.Counter(trial for trial, ended in tried if ended == "finished")
    assert finished == collections.Counter(range(trials))
    how = ", ".join(f"{count} {name} of a {who}" for (who, name), count in sorted(done.items()))
    ends = dict(collections.Counter(ended for _, ended in tried))
    print(
        f"\n{done.total()} kills ({how}) of a sweep of {trials} trials x {EPOCHS} epochs: {len(tried)} attempts"
        f" ({ends})"
    )
    print(f"{disturbed_s:.0f} s; undisturbed {undisturbed_s:.0f} s")
