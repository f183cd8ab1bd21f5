"""A run loses no data when W&B's server is slow, failing or unreachable, or when the run itself is stopped."""

import signal
import threading
import time

import pytest
from doubles.wandb_server import WandbServer
from helpers import forked, training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return training.make_work_folder(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module", autouse=True)
def outage(folder):
    """A run whose server stops for half a minute at its third epoch; the other tests run in the meantime."""
    with WandbServer(seed=1) as server:
        process = training.start(server, folder, "--epochs=40", WANDB_RUN_ID="cut")
        training.wait_for_epochs(folder / "runs" / "cut", 3, process)
        server.down(30)
        yield server, process
        process.kill()


@pytest.fixture
def server():
    with WandbServer() as running:
        yield running
        assert running.crashes == []


def sync(server, folder, run_id):
    """Upload the offline logs of a run with `wandb sync`, or else its online one; return the path of the first."""
    logs = sorted((folder / "wandb").glob(f"offline-run-*-{run_id}")) or list(
        (folder / "wandb").glob(f"run-*-{run_id}")
    )
    command = "-m", "wandb", "sync", "--include-online", *logs
    forked.run(*command, cwd=folder, env=training.environment(server, folder)).check_returncode()
    return logs[0]


def test_wandb_variables_and_settings_files_apply_where_no_flag_is_given(server, folder):
    (folder / "wandb").mkdir(exist_ok=True)
    settings = folder / "wandb" / "settings"
    variables = {"WANDB_PROJECT": "mine", "WANDB_TAGS": "first,,second, single "}
    try:
        settings.write_text("[default]\nproject = filed\n")  # by wandb init
        training.train(server, folder, "--epochs=1", **variables, WANDB_RUN_ID="own")
        training.train(server, folder, "--epochs=1", "--project=kws", **variables, WANDB_RUN_ID="asked")
        training.train(server, folder, "--epochs=1", WANDB_TAGS="", WANDB_RUN_ID="filed")
        settings.write_text("[default]\nmode = disabled\n")  # by wandb disabled
        printed = training.train(server, folder, "--epochs=1", WANDB_RUN_ID="none")
    finally:
        settings.unlink()
    names = {"own": "mine", "asked": "kws", "filed": "filed"}
    assert {name: run.project for name, run in server.runs.items()} == names
    for name, project in names.items():
        assert training.read(folder / "runs" / name, "config.json")["project"] == project
    assert server.runs["own"].tags == ["single", "speech_commands", "first", "second"]
    assert server.runs["filed"].tags == ["single", "speech_commands"]
    assert "kws: " not in printed and not list((folder / "wandb").glob("*run*-none"))


def test_a_name_longer_than_wandb_takes_is_shortened_and_a_refusal_is_called_one(server, folder):
    flags = "--epochs=1", "--study=long", "--kernel_size=3", "--shift_ms=12.5", "--gain_db=2.5", "--lr_gamma=0.125"
    flags += "--noise_prob=0.125", "--noise_level=0.125", "--speed_perturb=0.125", "--time_mask_ms=12.5", "--seed=1234"
    training.train(server, folder, *flags, WANDB_RUN_ID="long")
    name, shown = training.read(folder / "runs" / "long", "config.json")["run_name"], server.runs["long"].display_name
    assert len(name) > 128 == len(shown) and shown.startswith(name[:80]) and shown.endswith("-s1234")
    server.state.UpsertBucket = lambda v: server.state.answer("query refused { x }", {})
    printed = training.train(server, folder, "--epochs=1", WANDB_RUN_ID="refused")
    [line] = [line for line in printed.splitlines() if line.startswith("kws: ")]
    assert line.startswith("kws: W&B refuses the run (unknown operation refused): the run continues offline")
    assert server.unknown.pop() == "refused"


def test_a_synced_offline_run_equals_an_online_run(server, folder):
    flags = "--epochs=3", "--study=sync"
    online = training.start(server, folder, *flags, WANDB_RUN_ID="online")
    training.train(server, folder, *flags, WANDB_RUN_ID="later", WANDB_MODE="offline")
    assert online.wait(timeout=100) == 0
    assert set(server.runs) == {"online"}
    sync(server, folder, "later")
    for run_id in ("online", "later"):
        training.assert_uploaded(server, folder / "runs" / run_id, epochs=3)
    one, other = server.runs["online"], server.runs["later"]
    assert [set(row) for row in one.rows] == [set(row) for row in other.rows]
    assert [training.without_times(row) for row in one.rows[:3]] == [
        training.without_times(row) for row in other.rows[:3]
    ]
    varying = {"run_id", "started"}
    assert {key: one.config[key] for key in set(one.config) - varying} == {
        key: other.config[key] for key in set(other.config) - varying
    }
    assert (one.display_name, one.group, one.tags) == (other.display_name, other.group, other.tags)
    assert set(one.summary) == set(other.summary)
    assert server.unknown == []


def test_no_data_is_lost_when_a_quarter_of_the_requests_fail(server, folder):
    server.fail(share=0.25)
    training.train(server, folder, "--epochs=5", WANDB_RUN_ID="tried")
    assert server.failed > 3
    training.assert_uploaded(server, folder / "runs" / "tried", epochs=5)


def test_a_run_continues_offline_when_the_server_is_unreachable(server, folder):
    server.stop()
    printed = training.train(server, folder, "--epochs=2", WANDB_RUN_ID="alone", WANDB_INIT_TIMEOUT="3")
    assert "W&B is unreachable" in printed and "wandb sync" in printed and "Traceback" not in printed
    assert training.read(folder / "runs" / "alone", "summary.json")["state"] == "finished"
    server.start()
    sync(server, folder, "alone")
    training.assert_uploaded(server, folder / "runs" / "alone", epochs=2)


def test_no_data_is_lost_with_a_slow_server(server, folder):
    server.delay = 0.3
    training.train(server, folder, "--epochs=2", WANDB_RUN_ID="slow")
    training.assert_uploaded(server, folder / "runs" / "slow", epochs=2)


def test_a_run_whose_server_stops_waits_once_for_all_uploads_and_is_completed_by_sync(server, folder):
    process = training.start(server, folder, "--epochs=40", WANDB_RUN_ID="ended", WANDB_FINISH_TIMEOUT="6")
    run_folder = folder / "runs" / "ended"
    training.wait_for_epochs(run_folder, 3, process)
    server.stop()
    printed = process.communicate(timeout=150)[0]
    waited = time.time() - (run_folder / "layers.csv").stat().st_mtime  # written before the first upload
    assert waited < 15, printed  # tables, model and the rest one after the other would take 44 s
    unreachable, unsent = (line for line in printed.splitlines() if line.startswith("kws: "))
    assert unreachable.startswith("kws: W&B is unreachable (") and unreachable.endswith("lack tables and its model")
    assert process.returncode == 0 and "Traceback" not in printed, printed
    assert training.read(run_folder, "summary.json")["state"] == "finished"
    assert len(training.rows(run_folder)) == 40
    server.start()
    log = sync(server, folder, "ended")
    assert unsent == f"kws: W&B has not received the whole run; upload it with: wandb sync --include-online {log}"
    run = server.runs["ended"]
    assert [row["epoch"] for row in run.rows if "train/loss" in row] == list(range(1, 41))
    assert run.state == "finished" and run.gaps == []


@pytest.mark.parametrize("signals", ("SIGINT", "SIGTERM", "SIGINT SIGINT"))
def test_a_result_is_recorded_before_it_is_uploaded_and_a_signal_ends_the_waiting(server, folder, signals):
    run_id = signals.replace(" ", "-")
    process = training.start(server, folder, "--epochs=10", WANDB_RUN_ID=run_id)
    run_folder = folder / "runs" / run_id
    training.wait_for_epochs(run_folder, 1, process)
    server.stop()  # W&B's client would wait for two minutes
    training.wait_for(lambda: training.read(run_folder, "summary.json")["state"] == "finished", process)
    for name in signals.split():
        time.sleep(0.5)  # until it waits
        process.send_signal(signal.Signals[name])
    sent = time.monotonic()
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and time.monotonic() - sent < 15 and "Traceback" not in printed, printed
    server.start()
    log = sync(server, folder, run_id)
    assert [line for line in printed.splitlines() if line.startswith("kws: ")] == [
        "kws: interrupted: the run on W&B will lack tables and its model",
        f"kws: W&B has not received the whole run; upload it with: wandb sync --include-online {log}",
    ]
    run = server.runs[run_id]
    assert (run.state, len(run.rows), run.gaps) == ("finished", 10, [])
    assert run.summary["test/accuracy"] == training.read(run_folder, "summary.json")["test/accuracy"]
    assert run.files["predictions.csv"] == (run_folder / "predictions.csv").read_bytes()


def test_a_finished_run_resumed_with_more_epochs_has_each_epoch_once_and_keeps_its_names(server, folder):
    training.train(server, folder, "--epochs=2", WANDB_RUN_ID="longer")
    run, names = server.runs["longer"], ("renamed", "a note", "regrouped", ["good"])
    run.display_name, run.notes, run.group, run.tags = names
    training.train(server, folder, "--resume=longer", "--epochs=4", WANDB_NOTES="another", WANDB_TAGS="bad")
    assert run.resumed == 1
    assert (run.display_name, run.notes, run.group, run.tags) == names
    run.display_name = training.read(folder / "runs" / "longer", "config.json")["run_name"]
    run.group, run.tags = "single", ["single", "speech_commands"]
    training.assert_uploaded(server, folder / "runs" / "longer", epochs=4)


@pytest.mark.parametrize(
    "modes", ("offline offline", "offline online", "offline sync offline", "online offline", "killed online offline")
)
def test_a_run_interrupted_and_resumed_has_one_history_on_wandb(server, folder, modes):
    first, *synced, second = modes.removeprefix("killed ").split()
    run_id = "then-" + "".join(word[1] for word in modes.split())
    settings = {"WANDB_RUN_ID": run_id, "WANDB_MODE": first, "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "0.5"}
    process = training.start(server, folder, "--epochs=3000", **settings)
    training.wait_for_epochs(folder / "runs" / run_id, 3, process)
    if modes.startswith("killed"):
        training.wait_for(lambda: len(server.runs[run_id].rows) > 3, process)
    process.kill() if modes in ("offline offline", "killed online offline") else process.terminate()
    process.communicate(timeout=60)
    epochs = len(training.rows(folder / "runs" / run_id)) + 2
    if synced:
        sync(server, folder, run_id)
    if first == "online" or synced:
        server.runs[run_id].display_name = "renamed"
    training.train(server, folder, f"--resume={run_id}", f"--epochs={epochs}", WANDB_MODE=second)
    if second == "offline":
        sync(server, folder, run_id)
    run = server.runs[run_id]
    assert [row["epoch"] for row in run.rows if "train/loss" in row] == list(range(1, epochs + 1))
    assert (run.state, run.gaps, run.rewritten) == ("finished", [], [])
    assert run.summary["test/accuracy"] == training.read(folder / "runs" / run_id, "summary.json")["test/accuracy"]
    assert (run.display_name == "renamed") == (first == "online" or bool(synced))
    assert (run.group, run.tags) == ("single", ["single", "speech_commands"])


def test_a_resume_without_the_epochs_that_wandb_has_is_an_error(server, folder):
    training.train(server, folder, "--epochs=2", WANDB_RUN_ID="old")
    run_folder, rows = folder / "runs" / "old", list(server.runs["old"].rows)
    (run_folder / "last.pt").unlink()
    process = training.start(server, folder, "--resume=old", "--epochs=4")
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 2
    assert [line for line in printed.splitlines() if line.startswith("kws: ")] == [
        "kws: run old: W&B has its epochs 1 to 2, which cannot be continued here (W&B has no last.pt of it)"
    ]
    assert server.runs["old"].rows == rows and set(server.runs) == {"old"}


def test_a_run_with_a_revoked_key_continues_offline_and_is_synced_with_a_valid_key(server, folder):
    server.reject_key()
    printed = training.train(server, folder, "--epochs=2", WANDB_RUN_ID="revoked", WANDB_INIT_TIMEOUT="20")
    assert "continues offline" in printed and "Traceback" not in printed
    assert training.environment(server, folder)["WANDB_API_KEY"] not in printed
    assert training.read(folder / "runs" / "revoked", "summary.json")["state"] == "finished"
    server.reject_key(False)
    sync(server, folder, "revoked")
    training.assert_uploaded(server, folder / "runs" / "revoked", epochs=2)


def test_a_shared_run_is_uploaded_and_a_disabled_one_is_not(server, folder):
    for mode in ("shared", "disabled"):
        training.train(server, folder, "--epochs=2", WANDB_RUN_ID=mode, WANDB_MODE=mode)
        assert training.read(folder / "runs" / mode, "summary.json")["state"] == "finished"
        assert len(training.rows(folder / "runs" / mode)) == 2
    assert set(server.runs) == {"shared"}
    shared = server.runs["shared"]
    assert [row["epoch"] for row in shared.rows if "train/loss" in row] == [1, 2]
    assert shared.summary["test/accuracy"] == training.read(folder / "runs" / "shared", "summary.json")["test/accuracy"]


def test_a_run_resumed_after_ctrl_c_equals_an_uninterrupted_one(server, folder):
    flags = "--epochs=50", "--study=stopped"
    process = training.start(server, folder, *flags, WANDB_RUN_ID="stopped")
    uninterrupted = threading.Thread(
        target=training.train,
        args=(server, folder, *flags),
        kwargs={"WANDB_MODE": "offline", "WANDB_RUN_ID": "uninterrupted"},
    )
    training.wait_for_epochs(folder / "runs" / "stopped", 3, process)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "Traceback" not in printed, printed
    run = server.runs["stopped"]
    assert (run.state, run.preempting) == ("preempted", True)
    assert training.read(folder / "runs" / "stopped", "summary.json")["state"] == "preempted"
    assert 3 <= len(training.rows(folder / "runs" / "stopped")) < 50
    uninterrupted.start()
    training.train(server, folder, "--resume=stopped")
    uninterrupted.join()
    training.assert_uploaded(server, folder / "runs" / "stopped", epochs=50)
    assert [training.without_times(row) for row in training.rows(folder / "runs" / "stopped")] == [
        training.without_times(row) for row in training.rows(folder / "runs" / "uninterrupted")
    ]


def test_a_run_that_is_stopped_on_wandb_ends_as_stopped_and_can_be_resumed(server, folder):
    process = training.start(server, folder, "--epochs=500", WANDB_RUN_ID="button")
    training.wait_for_epochs(folder / "runs" / "button", 2, process)
    server.fail(share=0.25)
    server.runs["button"].stop_requested = True
    process.send_signal(signal.SIGINT)  # so does W&B's client, within 15 s
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and "Traceback" not in printed, printed
    server.fail(share=0)
    assert (server.runs["button"].state, server.runs["button"].preempting) == ("killed", False)
    assert training.read(folder / "runs" / "button", "summary.json")["state"] == "stopped"
    epochs = len(training.rows(folder / "runs" / "button")) + 1
    training.train(server, folder, "--resume=button", f"--epochs={epochs}")
    training.assert_uploaded(server, folder / "runs" / "button", epochs)


def test_a_run_that_gets_sigterm_repeatedly_is_marked_preempted(server, folder):
    process = training.start(server, folder, "--epochs=300", WANDB_RUN_ID="urged")
    training.wait_for_epochs(folder / "runs" / "urged", 2, process)
    server.delay = 0.3  # seconds per request, so that its last uploads take some time
    while process.poll() is None:  # both Slurm and an agent that forwards signals send it
        process.terminate()
        time.sleep(0.1)
    assert process.returncode != 0
    assert (server.runs["urged"].state, server.runs["urged"].preempting) == ("preempted", True)
    assert training.read(folder / "runs" / "urged", "summary.json")["state"] == "preempted"


def test_no_data_is_lost_when_the_server_stops_for_half_a_minute(outage, folder):
    server, process = outage
    printed = process.communicate(timeout=170)[0]
    assert process.returncode == 0, printed
    training.assert_uploaded(server, folder / "runs" / "cut", epochs=40)
    assert server.crashes == []
