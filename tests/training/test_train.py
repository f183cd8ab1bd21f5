"""One run from config to best checkpoint: its files, its record on W&B, and exact reproducibility."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, TINY, snapshot
from helpers import forked
from helpers.corpus import make_corpus
from torch.optim.optimizer import register_optimizer_step_post_hook

from kws.config import SETTINGS, resolve
from kws.data.corpus import load
from kws.metrics import EPOCH_METRICS
from kws.model import complexity
from kws.model.network import build
from kws.train import train
from kws.training import checkpoints
from kws.training.checkpoints import best_row
from kws.training.evaluation import evaluate, features_of

FILES = {"config.json", "metrics.csv", "summary.json", "predictions.csv", "layers.csv", "best.pt", "last.pt", ".lock"}
SUMMARY = {
    "state", "best/epoch", "best/val_accuracy", "best/val_loss", "test/accuracy", "test/loss", "test/errors",
    "time/epoch_s_median", "time/run_s", "model/params", "model/macs", "model/flops", "frontend/macs",
    "wandb/url", "wandb/sync_dir",
}  # fmt: skip


def only_run(work):
    (folder,) = (work / "runs").iterdir()
    return folder


def rows(folder, times=False):
    with open(folder / "metrics.csv") as file:
        found = list(csv.DictReader(file))
    return found if times else [{k: v for k, v in row.items() if not k.startswith("time/")} for row in found]


def read(folder, name):
    return json.loads((folder / name).read_text())


def leet(*arguments):
    """Return the output of `wandb leet inspect`."""
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


FLAGS = (*TINY, "--epochs=3", "--seed=3", "--n_mels=40", "--study=mels")


def train_in_a_process(work, data_dir):
    """Do one run in a new process; return its run folder and the completed process."""
    environment = {
        "WANDB_MODE": "offline", "HOME": str(work), "OMP_NUM_THREADS": "1", "KWS_DATA": str(data_dir),
        "PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY),
    }  # fmt: skip
    done = forked.run("-m", "kws.train", *FLAGS, cwd=work, env=environment)
    assert done.returncode == 0, done.stderr
    return only_run(work), done


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir):
    """One run for many tests: (run folder, working folder, completed process)."""
    work = tmp_path_factory.mktemp("run")
    folder, done = train_in_a_process(work, data_dir)
    return folder, work, done


# --- the run folder ---


def test_a_run_writes_its_files_and_no_others(run):
    folder, work, _ = run
    assert {path.name for path in folder.iterdir()} == FILES
    assert {path.name for path in work.iterdir() if not path.name.startswith(".")} == {"runs", "wandb"}


def test_config_json_has_all_settings_and_the_provenance(run, data_dir):
    folder, _, _ = run
    config = read(folder, "config.json")
    assert set(SETTINGS) <= set(config)
    assert (config["n_mels"], config["epochs"], config["seed"], config["study"]) == (40, 3, 3, "mels")
    assert config["run_id"] == folder.name
    assert config["run_name"] == "mels40-g1-channels8-epochs3-batch-size16-s3"
    assert config["sweep_id"] is None
    assert set(config["versions"]) == {"kws", "python", "torch", "torchaudio", "wandb", "ptflops"}
    info = config["data_info"]
    assert (info["train"], info["val"], info["test"], info["speakers"]) == (64, 16, 16, 24)
    assert info["fingerprint"] == load(data_dir).fingerprint and info["synthetic"] is False
    assert config["device_name"] and config["host"] and config["started"].endswith("+00:00")


def test_metrics_csv_has_one_row_per_epoch(run):
    found = rows(run[0], times=True)
    assert tuple(found[0]) == EPOCH_METRICS and [row["epoch"] for row in found] == ["1", "2", "3"]
    for row in found:
        assert 0 <= float(row["val/accuracy"]) <= 1 and 0 <= float(row["train/accuracy"]) <= 1
        assert float(row["lr"]) == 0.003 and float(row["time/epoch_s"]) > 0
        assert float(row["time/clips_per_s"]) == pytest.approx(64 / float(row["time/epoch_s"]))


def test_summary_json_describes_the_epoch_that_was_best_on_validation(run):
    summary, found = read(run[0], "summary.json"), rows(run[0], times=True)
    assert set(summary) == SUMMARY and summary["state"] == "finished"
    best = min(found, key=lambda row: (-float(row["val/accuracy"]), float(row["val/loss"]), int(row["epoch"])))
    assert summary["best/epoch"] == int(best["epoch"])
    assert summary["best/val_accuracy"] == float(best["val/accuracy"])
    assert summary["best/val_loss"] == float(best["val/loss"])
    times = sorted(float(row["time/epoch_s"]) for row in found[1:])
    assert summary["time/epoch_s_median"] == pytest.approx(sum(times) / 2)
    assert summary["wandb/url"] is None and Path(summary["wandb/sync_dir"]).is_dir()


def test_the_test_accuracy_agrees_with_best_pt_and_predictions_csv(run, data_dir):
    folder, _, _ = run
    checkpoint, summary = checkpoints.read(folder / "best.pt"), read(folder, "summary.json")
    model = build(resolve(("best.pt", checkpoint["config"])))
    model.load_state_dict(checkpoint["model"])
    corpus = load(data_dir)
    test = evaluate(model, corpus.testing, features_of(model, corpus.testing))
    assert (test.accuracy, test.errors) == (summary["test/accuracy"], summary["test/errors"])
    assert test.loss == pytest.approx(summary["test/loss"])
    validation = evaluate(model, corpus.validation, features_of(model, corpus.validation))
    assert validation.accuracy == summary["best/val_accuracy"]
    with open(folder / "predictions.csv") as file:
        predictions = list(csv.DictReader(file))
    for name, split, errors in (
        ("validation", corpus.validation, validation.errors),
        ("test", corpus.testing, test.errors),
    ):
        rows_of = [row for row in predictions if row["split"] == name]
        assert [row["clip"] for row in rows_of] == split.clips
        assert [float(row["label"]) for row in rows_of] == split.labels.tolist()
        assert sum((float(row["probability"]) > 0.5) != (row["label"] == "1") for row in rows_of) == errors
    assert len(predictions) == len(corpus.validation.clips) + len(corpus.testing.clips)


def test_layers_csv_adds_up_to_the_costs_in_the_summary(run):
    folder, _, _ = run
    with open(folder / "layers.csv") as file:
        layers = list(csv.DictReader(file))
    summary, config = read(folder, "summary.json"), resolve(("config.json", read(folder, "config.json")))
    costs = complexity.measure(build(config))
    assert sum(int(row["params"]) for row in layers) == summary["model/params"] == costs.params
    assert sum(int(row["macs"]) for row in layers) == summary["model/macs"] == costs.macs
    assert summary["model/flops"] == 2 * costs.macs and summary["frontend/macs"] == costs.frontend_macs


def test_the_output_names_the_result_and_the_next_steps(run):
    folder, _, done = run
    assert [line.split("  ")[1] for line in done.stdout.splitlines()[:3]] == [f"epoch {n}/3" for n in (1, 2, 3)]
    assert f"run folder   {folder}" in done.stdout
    assert "view it      wandb leet" in done.stdout
    assert f"upload it    wandb sync {read(folder, 'summary.json')['wandb/sync_dir']}" in done.stdout
    assert done.stderr == ""


@pytest.fixture
def fresh_wandb():
    """W&B reads its environment once per process: make it read it again in this test and after it."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


# --- W&B's own log ---


def records(folder, kind):
    """Return the records of one kind in an offline run's log, as W&B's own reader returns them."""
    lines = leet("--json", read(folder, "summary.json")["wandb/sync_dir"]).splitlines()
    found = [record for record in map(json.loads, lines) if record["type"] == kind]
    return [record[kind] for record in found]


def test_the_log_has_name_group_tags_and_config(run):
    folder, _, _ = run
    (record,) = records(folder, "run")
    config = read(folder, "config.json")
    assert (record["run_id"], record["display_name"]) == (folder.name, config["run_name"])
    assert (record["project"], record["run_group"]) == ("kws", "mels")
    assert sorted(record["tags"]) == ["mels", "speech_commands"]
    logged = record["config"]["update"]
    logged.pop("_wandb")
    assert logged == config


def test_the_log_has_the_rows_of_metrics_csv(run):
    folder, _, _ = run
    history = [record["item"] for record in records(folder, "history")]
    epochs = [{name: item[name] for name in EPOCH_METRICS} for item in history if "train/loss" in item]
    assert epochs == [{name: float(value) for name, value in row.items()} for row in rows(folder, times=True)]
    steps = [record.get("step_metric") for record in records(folder, "metric") if record.get("glob_name") == "*"]
    assert steps == ["epoch"]


def test_the_log_has_the_tables_and_charts_of_the_test_once(run):
    folder, _, _ = run
    (item,) = (record["item"] for record in records(folder, "history") if "train/loss" not in record["item"])
    names = {name.split(".")[0] for name in item if not name.startswith("_")}
    assert names == {
        "epoch", "model/layers", "test/misclassified", "test/confusion_matrix_table", "test/roc_table",
        "test/precision_recall_table",
    }  # fmt: skip
    assert item["test/misclassified.nrows"] == read(folder, "summary.json")["test/errors"]


def test_the_log_has_best_pt_as_the_artifact_of_the_run(run):
    folder, _, _ = run
    (artifact,) = (record for record in records(folder, "artifact") if record["type"] == "model")
    (content,) = artifact["manifest"]["contents"]
    assert artifact["name"] == f"kws-{folder.name}"
    assert (content["path"], int(content["size"])) == ("best.pt", (folder / "best.pt").stat().st_size)


def test_leet_shows_the_summary_of_the_run(run):
    folder, _, _ = run
    shown = json.loads(leet("--summary", "--json", read(folder, "summary.json")["wandb/sync_dir"]))
    ours = read(folder, "summary.json")
    for name in ("state", "wandb/url", "wandb/sync_dir"):
        ours.pop(name)
    assert shown["state"] == "finished" and shown["exit_code"] == 0 and shown["run_id"] == folder.name
    assert {name: shown["summary"][name] for name in ours} == ours


# --- reproducibility ---


def test_the_same_seed_gives_the_same_run_in_another_process(run, tmp_path, data_dir):
    again, _ = train_in_a_process(tmp_path, data_dir)
    assert rows(again) == rows(run[0])
    assert (again / "predictions.csv").read_bytes() == (run[0] / "predictions.csv").read_bytes()
    for name in ("best.pt", "last.pt"):
        first, second = (checkpoints.read(folder / name)["model"] for folder in (run[0], again))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_another_seed_gives_another_run(kws, run, work, data_dir):
    assert kws("train", *FLAGS, "--seed=4", f"--data_dir={data_dir}").status == 0
    assert [row["train/loss"] for row in rows(only_run(work))] != [row["train/loss"] for row in rows(run[0])]


def test_it_learns(kws, work, data_dir):
    assert kws("train", "--channels=16", "--epochs=6", "--batch_size=16", f"--data_dir={data_dir}").status == 0
    assert read(only_run(work), "summary.json")["test/accuracy"] >= 0.9


# --- W&B's modes ---


def test_more_than_two_labels_evaluate_and_keep_averages_of_the_weights(tmp_path, fresh_wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    make_corpus(tmp_path / "data", words=("no", "yes", "bed"), speakers=12)
    settings = {"words": "no,yes,bed", "channels": 8, "epochs": 1, "batch_size": 4, "data_dir": str(tmp_path / "data")}
    steps = []

    def after_step(optimizer, *_):
        steps.append([item.detach().clone() for item in optimizer.param_groups[0]["params"]])

    hook = register_optimizer_step_post_hook(after_step)
    folder = train(resolve(("test", settings | {"run_dir": str(tmp_path / "runs")})))
    hook.remove()
    best, last = checkpoints.read(folder / "best.pt"), checkpoints.read(folder / "last.pt")
    names = [name for name, _ in build(resolve(("test", settings))).named_parameters()]
    for name, *values in zip(names, *steps, strict=True):
        expected = values[0]
        for step, value in enumerate(values[1:], 1):
            expected = expected + 10 / (10 + step) * (value - expected)
        assert torch.equal(last["model"][name], values[-1]) and len(values) > 4
        assert torch.allclose(best["model"][name], expected, atol=1e-6)
        assert not torch.allclose(best["model"][name], values[-1], atol=1e-4)
    assert best["model"].keys() == last["average"].keys() == last["model"].keys()


def test_a_label_without_test_clips_has_no_recall(kws, work, tmp_path, monkeypatch, fresh_wandb):
    """As with synthetic unknown words, recordings of the keywords alone, and no official test set."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    make_corpus(tmp_path / "data")
    synthetic = make_corpus(tmp_path / "data", "speech_commands_synthetic_unknown", words=("note", "yet"))
    (synthetic / ".kws-complete").write_text('{"words": ["note", "yet"], "clips": {"note": 48, "yet": 48}}')
    done = kws("train", *TINY, "--epochs=1", "--unknown", "--unknown_synthetic", f"--data_dir={tmp_path / 'data'}")
    assert (done.status, len(done.notices)) == (0, 1) and "no test clip is of another word" in done.notices[0]
    summary = read(only_run(work), "summary.json")
    assert {name for name in summary if "recall" in name} == {"test/recall/no", "test/recall/yes"}
    assert 0 <= summary["test/f1_macro"] <= 1


def test_disabled_mode_writes_no_log_but_the_same_run_folder(kws, work, data_dir, monkeypatch, fresh_wandb):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    done = kws("train", *TINY, f"--data_dir={data_dir}")
    assert (done.status, done.err) == (0, "")
    folder = only_run(work)
    assert {path.name for path in folder.iterdir()} == FILES and not (work / "wandb").exists()
    summary = read(folder, "summary.json")
    assert set(summary) == SUMMARY and summary["wandb/url"] is None and summary["wandb/sync_dir"] is None
    assert "wandb" not in done.out


def test_without_an_account_the_run_is_offline_with_a_notice(kws_process, work, data_dir, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    done = kws_process("train", *TINY, f"--data_dir={data_dir}")
    assert done.status == 0
    assert done.notices == [
        "kws: W&B: no account is configured; run wandb login or set WANDB_API_KEY; the run is recorded offline"
    ]
    assert read(only_run(work), "summary.json")["state"] == "finished"
    assert len(list((work / "wandb").glob("offline-run-*"))) == 1


# --- layers of settings ---


def test_flags_take_precedence_over_the_file_and_the_file_over_defaults(kws, work, data_dir):
    (work / "run.yaml").write_text(f"n_mels: 40\nchannels: 8\nepochs: 2\ndata_dir: {data_dir}\nlr: 1e-3\n")
    assert kws("train", "--config", "run.yaml", "--epochs", "1", "--n-mels=80").status == 0
    config = read(only_run(work), "config.json")
    assert [config[name] for name in ("n_mels", "channels", "epochs", "lr", "batch_size")] == [80, 8, 1, 0.001, 64]


def test_run_config_takes_precedence_over_flags(kws, work, data_dir, monkeypatch, fresh_wandb):
    # As an agent does: its parameters reach wandb.init through this file.
    (work / "parameters.yaml").write_text("n_mels:\n  value: 40\nseed:\n  value: 5\n")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(work / "parameters.yaml"))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    assert kws("train", *TINY, f"--data_dir={data_dir}", "--n_mels=20").status == 0
    folder = only_run(work)
    config = read(folder, "config.json")
    assert (config["n_mels"], config["seed"], config["sweep_id"]) == (40, 5, "sweep1")
    assert config["run_name"].startswith("mels40-g1-") and config["run_name"].endswith("-s5")
    assert checkpoints.read(folder / "best.pt")["config"]["n_mels"] == 40


def test_an_invalid_run_config_ends_the_run_before_training(kws, work, data_dir, monkeypatch, fresh_wandb):
    (work / "parameters.yaml").write_text("groups:\n  value: 3\n")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(work / "parameters.yaml"))
    done = kws("train", *TINY, f"--data_dir={data_dir}")
    assert (done.status, done.out) == (2, "")
    assert done.notices == [
        "kws: groups: 3 does not divide the 8 channels of the convolutions; choose one of 1, 2, 4, 8"
    ]
    assert {path.name for path in work.iterdir()} == {"parameters.yaml"}


def test_the_run_id_is_taken_from_the_environment(kws, work, data_dir, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "my-run.1")
    assert kws("train", *TINY, f"--data_dir={data_dir}").status == 0
    assert only_run(work).name == "my-run.1"
    before = snapshot(work)
    done = kws("train", *TINY, f"--data_dir={data_dir}")
    assert (done.status, done.notices) == (2, [
        f"kws: run my-run.1: {work}/runs/my-run.1 exists; resume it with --resume my-run.1, or choose another id"
    ])  # fmt: skip
    assert {name for name, state in snapshot(work).items() if before.get(name) != state} <= {"runs/my-run.1/.lock"}


def test_the_best_epoch_is_chosen_by_accuracy_then_loss_then_the_earlier_one():
    def best(*rows):
        names = ("val/accuracy", "val/loss")
        return best_row([{"epoch": n} | dict(zip(names, row, strict=True)) for n, row in enumerate(rows, 1)])["epoch"]

    assert best((0.8, 0.1), (0.9, 0.5), (0.7, 0.05)) == 2
    assert best((0.9, 0.5), (0.9, 0.4), (0.9, 0.6)) == 2
    assert best((0.9, 0.4), (0.9, 0.4)) == 1
