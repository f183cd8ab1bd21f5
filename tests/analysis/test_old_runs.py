"""Run folders and sweep files of earlier versions are still read.

tests/fixtures/run-folder-0 was written by `kws sweep` at commit 2d523c9: two seeds, two epochs, on the tiny corpus of
tests/helpers/corpus.py. Checkpoints are left out; the folder of the data and the host's name were replaced.
"""

import csv
import json

import pytest
from conftest import REPOSITORY

from kws.analysis.load import load
from kws.analysis.study import studies
from kws.config import SETTINGS, Config
from kws.metrics import EPOCH_METRICS, SUMMARY_METRICS
from kws.sweep.spec import load_sweep

OLD = REPOSITORY / "tests" / "fixtures" / "run-folder-0"
SWEEP_ID, RUN_IDS = "31f30d99", ("50dea7ee", "c0417acc")
RENAMED = {"mean_norm", "speed_perturb", "time_mask_ms"}  # were normalize, speed and mask_ms


@pytest.fixture(scope="module")
def results():
    return load([OLD])


def table(run_id, name):
    with open(OLD / run_id / name, newline="") as file:
        return list(csv.DictReader(file))


def test_old_runs_count_with_their_sweep_and_study(results):
    assert [run.run_id for run in results.runs] == list(RUN_IDS) and results.excluded == []
    assert results.sweeps[SWEEP_ID]["description"].startswith("Question: ")
    [study] = studies(results)
    assert study.name == "old"


@pytest.mark.parametrize("seed,run_id", list(enumerate(RUN_IDS)))
def test_the_numbers_of_an_old_run_are_those_in_its_files(results, seed, run_id):
    run = results.runs[seed]
    summary = json.loads((OLD / run_id / "summary.json").read_text())
    assert run.summary == {name: summary[name] for name in SUMMARY_METRICS}
    rows = table(run_id, "metrics.csv")
    assert run.history == {name: [float(row[name]) for row in rows] for name in EPOCH_METRICS} and len(rows) == 2
    rows = table(run_id, "predictions.csv")
    assert run.predictions == {row["clip"]: (int(row["label"]), float(row["probability"])) for row in rows}
    assert sum((p > 0.5) != label for label, p in run.predictions.values()) == run.summary["test/errors"]
    assert run.layers == table(run_id, "layers.csv") and len(run.layers) == 9


@pytest.mark.parametrize("seed,run_id", list(enumerate(RUN_IDS)))
def test_the_settings_of_an_old_run_are_read_and_renamed_ones_take_defaults(results, seed, run_id):
    run = results.runs[seed]
    recorded = json.loads((OLD / run_id / "config.json").read_text())
    assert SETTINGS.keys() - recorded.keys() == RENAMED
    assert (run.seed, run.config["channels"], run.config["epochs"], run.sweep_id) == (seed, 8, 2, SWEEP_ID)
    assert {name: run.config[name] for name in SETTINGS} == {
        name: recorded.get(name, run.config[name]) for name in SETTINGS
    }
    assert {name: run.config[name] for name in RENAMED} == {name: getattr(Config(), name) for name in RENAMED}


def test_an_old_sweep_file_is_read():
    sweep = load_sweep(OLD / "sweeps" / SWEEP_ID / "sweep.yaml")
    assert (sweep.method, sweep.metric, sweep.goal, sweep.expected) == ("grid", "best/val_accuracy", "maximize", 2)
    assert sweep.parameters["seed"].values == (0, 1) and sweep.parameters["channels"].values == (8,)
