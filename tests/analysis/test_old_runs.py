"""Runs of earlier versions are excluded, because no default may stand in for a setting; sweep files are still read.

tests/fixtures/run-folder-0 was written by `kws sweep` at commit 2d523c9: two seeds, two epochs, on the tiny corpus of
tests/helpers/corpus.py. Checkpoints are left out; the folder of the data and the host's name were replaced.
"""

from conftest import REPOSITORY

from kws.analysis.load import load
from kws.sweep.spec import load_sweep

OLD = REPOSITORY / "tests" / "fixtures" / "run-folder-0"
SWEEP_ID, RUN_IDS = "31f30d99", ("50dea7ee", "c0417acc")


def test_old_runs_are_excluded_with_a_reason_that_names_the_missing_and_the_unknown_settings():
    results = load([OLD])
    assert results.runs == [] and [item.where for item in results.excluded] == [str(OLD / name) for name in RUN_IDS]
    for item in results.excluded:
        assert item.study == "old"
        assert "schema None, not 1; no unknown, unknown_share" in item.reason
        assert "time_mask_ms; unknown normalize, speed" in item.reason


def test_the_sweep_of_old_runs_is_read():
    assert load([OLD]).sweeps[SWEEP_ID]["description"].startswith("Question: ")
    sweep = load_sweep(OLD / "sweeps" / SWEEP_ID / "sweep.yaml")
    assert (sweep.method, sweep.metric, sweep.goal, sweep.expected) == ("grid", "best/val_accuracy", "maximize", 2)
    assert sweep.parameters["seed"].values == (0, 1) and sweep.parameters["channels"].values == (8,)
