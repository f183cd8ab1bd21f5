"""Reading runs from folders and, with the real client, from a test W&B server; excluded runs and their reasons."""

import json

import pytest
from doubles.wandb_server import WandbServer
from helpers.online_study import call, store
from helpers.run_folders import make_run, make_study, write_sweep

from kws.analysis.load import load
from kws.errors import KwsError
from kws.training.run_folder import read_predictions


def reasons(results):
    return {item.name: item.reason for item in results.excluded}


def test_load_reads_settings_history_summary_predictions_and_layers(tmp_path):
    make_study(tmp_path, values=(20, 40), seeds=2, epochs=6)
    seen = []
    results = load([tmp_path], progress=lambda done, total: seen.append((done, total)))
    assert len(results.runs) == 4 and results.excluded == []
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    run = next(run for run in results.runs if (run.config["n_mels"], run.seed) == (40, 1))
    assert (run.study, run.name) == ("n_mels", run.config["run_name"])
    assert run.history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert 0.9 < run.summary["test/accuracy"] <= 1
    assert len(run.predictions) == 200 and run.predictions["no/00000000_nohash_0.wav"].label == 0
    assert len(run.val_predictions) == 200 and not set(run.predictions) & set(run.val_predictions)
    assert run.layers[0]["layer"] == "conv1"


def test_predictions_of_an_earlier_version_are_of_the_test_clips(tmp_path):
    (tmp_path / "predictions.csv").write_text("clip,label,probability\nno/a_nohash_0.wav,0,0.25\n")
    assert read_predictions(tmp_path) == {"validation": {}, "test": {"no/a_nohash_0.wav": (0, (0.75, 0.25))}}


def test_a_run_folder_is_a_source_and_a_run_found_twice_counts_once(tmp_path):
    folder = make_run(tmp_path)
    assert len(load([folder, tmp_path]).runs) == 1


def test_the_sweep_file_in_the_run_directory_is_read(tmp_path):
    make_run(tmp_path, record={"sweep_id": "abc"})
    write_sweep(tmp_path, "abc", description="How many?", method="grid", parameters={})
    assert load([tmp_path]).sweeps["abc"]["description"] == "How many?"


def test_unfinished_failed_and_duplicate_runs_are_excluded_with_a_reason(tmp_path):
    make_run(tmp_path, seed=0, run_id="first")
    make_run(tmp_path, seed=0, run_id="again", record={"started": "2026-11-23T00:00:00+00:00"})
    make_run(tmp_path, seed=1, state="running")
    make_run(tmp_path, seed=2, state="failed", summary={"error": "the disk is full"})
    (make_run(tmp_path, seed=3) / "summary.json").unlink()
    results = load([tmp_path])
    assert [run.run_id for run in results.runs] == ["first"]
    assert sorted(item.reason for item in results.excluded) == [
        "duplicate: same settings, data and code as first, which started first",
        "failed: the disk is full",
        "running",
        "unfinished: it has no summary.json",
    ]
    assert {item.study for item in results.excluded} == {"single"}


def test_a_run_on_other_data_is_not_a_duplicate(tmp_path):
    make_run(tmp_path, run_id="a", fingerprint="a" * 16)
    make_run(tmp_path, run_id="b", fingerprint="b" * 16)
    assert len(load([tmp_path]).runs) == 2


OLD_CODE, NEW_CODE = {"code_version": "a" * 12}, {"code_version": "b" * 12}


def test_a_rerun_after_a_change_of_code_is_no_duplicate_and_the_newest_code_of_equally_many_runs_counts(tmp_path):
    make_run(tmp_path, run_id="old", record=OLD_CODE)
    make_run(tmp_path, run_id="new", record=NEW_CODE | {"started": "2026-11-23T00:00:00+00:00"})
    results = load([tmp_path])
    assert [run.run_id for run in results.runs] == ["new"]
    assert [item.reason for item in results.excluded] == [
        "made by other code (kws aaaaaaaaaaaa, torch 2.13.0, torchaudio 2.11.0); "
        "the study uses kws bbbbbbbbbbbb, torch 2.13.0, torchaudio 2.11.0"
    ]


def test_the_code_of_most_runs_of_a_study_counts(tmp_path):
    make_study(tmp_path, values=(20, 40), seeds=2, record=OLD_CODE)
    newer = NEW_CODE | {"started": "2026-11-23T00:00:00+00:00"}
    for seed in (0, 1, 2):
        make_run(tmp_path, seed=seed, run_id=f"newer-{seed}", n_mels=20, study="n_mels", record=newer)
    make_run(tmp_path, seed=0, study="another", record=newer)
    results = load([tmp_path])
    assert {(run.study, run.code.kws[0]) for run in results.runs} == {("n_mels", "a"), ("another", "b")}
    assert [item.study for item in results.excluded] == ["n_mels"] * 3


@pytest.mark.parametrize("library", ["torch", "torchaudio"])
def test_runs_with_other_versions_of_torch_or_torchaudio_are_made_by_other_code(tmp_path, library):
    versions = {"torch": "2.13.0", "torchaudio": "2.11.0"}
    for seed in range(3):
        version = {library: "2.0.0"} if seed == 2 else {}
        make_run(tmp_path, seed=seed, record={"versions": versions | version})
    results = load([tmp_path])
    assert [run.seed for run in results.runs] == [0, 1]
    assert f"{library} 2.0.0" in results.excluded[0].reason


@pytest.mark.parametrize("versions", [None, "2.13.0", ["2.13.0"]])
def test_a_run_whose_versions_are_not_recorded_has_unknown_ones(tmp_path, versions):
    make_run(tmp_path, record={"versions": versions})
    [run] = load([tmp_path]).runs
    assert str(run.code) == "kws 000000000000, torch unknown, torchaudio unknown"


def test_sweep_files_that_fix_other_settings_may_have_been_run_with_other_code(tmp_path):
    for epochs, code in ((8, OLD_CODE), (2, NEW_CODE)):
        write_sweep(tmp_path, f"s{epochs}", method="grid", parameters={"epochs": {"value": epochs}})
        make_study(tmp_path, values=(20,), seeds=epochs, epochs=epochs, record=code | {"sweep_id": f"s{epochs}"})
    results = load([tmp_path])
    assert len(results.runs) == 10 and results.excluded == []


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("config.json", "{", "config.json: is not JSON"),
        ("config.json", "[]", "config.json: is not a JSON object"),
        ("summary.json", '{"state": "finished"}', "no best/val_accuracy between 0 and 1"),
        ("metrics.csv", "", "metrics.csv: is truncated"),
        ("metrics.csv", "epoch,train/loss,val/accuracy\n", "it has no metrics"),
        ("metrics.csv", "epoch,train/loss,val/accuracy\n1,,0.9\n", "metrics.csv: is damaged"),
        ("metrics.csv", "train/loss,val/accuracy\n0.1,0.9\n", "metrics.csv: has no column epoch"),
        ("metrics.csv", "epoch,train/loss,val/accuracy\n1,0.1,0.9\n", "its metrics are not those of the epochs 1 to 8"),
        ("predictions.csv", "split,clip,label,probability\ntest,a,0,0.5\n", "csv has 0 of 200 validation clips"),
        ("layers.csv", "layer,output_shape,params,macs\nconv1,1,many,1\n", "layers.csv: is damaged"),
        ("predictions.csv", "clip,label,probability\na,7,0.5\n", "a label without a probability"),
        ("predictions.csv", "split,clip,label,probability\ntest,a,0,1.5\n", "a probability outside 0 to 1"),
        ("predictions.csv", "split,clip,label,probability\ntrain,a,0,0.5\n", "is damaged ('train')"),
        ("predictions.csv", "clip\na\n", "cannot be read"),
    ],
)
def test_a_damaged_run_is_excluded_with_a_reason(tmp_path, name, text, reason):
    make_run(tmp_path, seed=0)
    (make_run(tmp_path, seed=1) / name).write_text(text)
    results = load([tmp_path])
    assert len(results.runs) == 1
    assert reason in results.excluded[0].reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"n_mels": None}, "config: was recorded by another version of kws (no n_mels)"),
        ({"schema": None}, "(schema None, not 1)"),
        ({"schema": 2}, "(schema 2, not 1)"),
        ({"pooling": "max"}, "(unknown pooling)"),
        ({"n_mels": "many"}, "config: n_mels is 'many', but must be a whole number"),
        ({"n_mels": [20]}, "config: n_mels is '[20]', but must be a whole number"),
        ({"groups": 3, "channels": 64}, "groups: 3 does not divide the 64 channels"),
        ({"data_info": {}}, "its config has no data_info"),
        (
            {"data_info": {"fingerprint": "f", "train": 1, "val": "x", "test": 1}},
            "its data_info does not give the number",
        ),
    ],
)
def test_a_run_with_an_invalid_config_is_excluded_with_a_reason(tmp_path, config, reason):
    make_run(tmp_path, record=config)
    results = load([tmp_path])
    assert results.runs == [] and reason in results.excluded[0].reason


def test_a_run_of_a_newer_version_is_no_duplicate_of_one_without_its_settings(tmp_path):
    make_run(tmp_path, run_id="known")
    for pooling in ("max", "mean"):
        make_run(tmp_path, run_id=pooling, record={"pooling": pooling, "started": "2026-11-23T00:00:00+00:00"})
    results = load([tmp_path])
    assert [run.run_id for run in results.runs] == ["known"] and len(results.excluded) == 2
    assert {item.reason for item in results.excluded} == {
        "config: was recorded by another version of kws (unknown pooling); start a new run"
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing", "missing: is neither a folder nor ENTITY/PROJECT on W&B; run kws sweep or kws train first"),
        ("./missing/runs", "./missing/runs: is neither a folder nor ENTITY/PROJECT on W&B; run kws sweep or kws train"),
        ("", "is neither a folder"),
        ("a/b/c/d/e", "a/b/c/d/e: is neither a folder"),
    ],
)
def test_a_source_that_is_neither_a_folder_nor_a_wandb_path_is_rejected(work, source, message):
    with pytest.raises(KwsError, match="is neither a folder") as rejected:
        load([source])
    assert message in str(rejected.value) and "\n" not in str(rejected.value)


def test_a_folder_without_runs_is_rejected(tmp_path):
    with pytest.raises(KwsError, match="contains no run; run kws sweep or kws train first"):
        load([tmp_path])


READ = """
import json, sys
from kws.analysis.load import load
from kws.errors import KwsError
seen = []
try:
    found = load(sys.argv[1:], lambda done, total: seen.append([done, total]))
except KwsError as error:
    print("GOT " + json.dumps(str(error)))
else:
    print("GOT " + json.dumps({
        "seen": seen, "excluded": [[item.name, item.reason] for item in found.excluded], "sweeps": found.sweeps,
        "runs": {run.run_id: [run.name, run.config["n_mels"], run.seed, run.summary, run.history, run.predictions,
                              run.val_predictions, run.layers] for run in found.runs}}))
"""


def test_runs_read_from_wandb_equal_the_run_folders(online):
    server, folder = online
    there, here = call(server, folder, READ, "tester/words"), call(server, folder, READ, "runs")
    assert there["seen"][-1] == [6, 6] and there["excluded"] == []
    assert there["runs"].keys() == here["runs"].keys() and len(there["runs"]) == 6
    for run_id, (name, n_mels, seed, summary, history, *predictions, layers) in here["runs"].items():
        remote = there["runs"][run_id]
        assert remote[:3] == [name, n_mels, seed]
        for key in ("test/accuracy", "best/val_accuracy", "model/flops", "time/epoch_s_median"):
            assert remote[3][key] == pytest.approx(summary[key])
        for key in ("epoch", "train/loss", "val/accuracy"):
            assert remote[4][key] == pytest.approx(history[key])
        assert remote[5:] == [*predictions, layers] and [len(split) for split in predictions] == [16, 16]


def test_a_sweep_path_selects_the_runs_of_that_sweep(online):
    server, folder = online
    sweep_id = next(iter(server.sweeps))
    for path in (f"tester/words/{sweep_id}", f"tester/words/sweeps/{sweep_id}"):
        got = call(server, folder, READ, path)
        assert len(got["runs"]) == 6
        assert got["sweeps"][sweep_id]["description"] == "Question: how many bands?"


def test_a_run_in_a_folder_and_on_wandb_counts_once(online):
    server, folder = online
    both = call(server, folder, READ, "runs", "tester/words")
    assert len(both["runs"]) == 6 and both["excluded"] == []


def test_no_run_is_lost_when_a_tenth_of_the_requests_fail(online):
    server, folder = online
    server.fail(0.1)
    try:
        got = call(server, folder, READ, "tester/words")
    finally:
        server.fail(0.0)
    assert server.failed > 0 and len(got["runs"]) == 6


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tester/nothing", "W&B tester/nothing: "),
        ("tester/words/sweeps/nosuch", "W&B tester/words/nosuch: not found"),
    ],
)
def test_an_unknown_wandb_path_is_reported_in_one_line(online, source, message):
    server, folder = online
    got = call(server, folder, READ, source)
    assert isinstance(got, str) and got.startswith(message) and "\n" not in got


def test_without_an_account_one_line_says_how_to_log_in(online, tmp_path):
    server, folder = online
    got = call(server, folder, READ, "tester/words", HOME=str(tmp_path), WANDB_API_KEY="")
    assert got == (
        "W&B tester/words: no account is configured; run wandb login or set WANDB_API_KEY "
        "(there is no folder of this name either)"
    )
    assert json.dumps(got)


def test_a_crashed_run_on_wandb_is_excluded(online):
    server, folder = online
    run = next(iter(server.runs.values()))
    run.state = "crashed"
    try:
        got = call(server, folder, READ, "tester/words")
    finally:
        run.state = "finished"
    assert len(got["runs"]) == 5 and [reason for _, reason in got["excluded"]] == ["crashed"]


def test_a_project_is_read_twice_from_one_folder_and_no_folder_of_its_name_is_left_or_preferred(online, tmp_path):
    server, _ = online
    (tmp_path / "tester" / "words" / "notes").mkdir(parents=True)  # the user's own, empty
    for _ in range(2):
        assert len(call(server, tmp_path, READ, "tester/words", WANDB_DIR=".", TMPDIR=str(tmp_path))["runs"]) == 6
    assert [path.name for path in (tmp_path / "tester").rglob("*")] == ["words", "notes"]
    (tmp_path / "tester" / "nobody" / "abc").mkdir(parents=True)
    got = call(server, tmp_path, READ, "tester/nobody", HOME=str(tmp_path), WANDB_API_KEY="")
    assert "run wandb login or set WANDB_API_KEY (the folder of this name has no run)" in got
    make_run(tmp_path / "tester" / "words", run_id="mine")
    assert list(call(server, tmp_path, READ, "tester/words")["runs"]) == ["mine"]


def damage_predictions(run):
    run.files["predictions.csv"] = b"split,clip,label,probability\ntest,a,7,0.5\n"


def drop_a_column(run):
    run.files["predictions.csv"] = b"split,clip,label\ntest,a,1\n"


def leave_a_deleted_sweep(run):
    run.sweep = "gone"


def record_another_schema(run):
    run.raw_config["schema"]["value"] = 2


def lose_the_history(run):
    run.history.clear()
    del run.files["metrics.csv"]


def make_text_of_the_config(run):
    run.raw_config = "text"


def fail(run):
    run.state, run.summary["error"] = "failed", "no disk"


BAD = {
    damage_predictions: "cannot be read: predictions.csv: is damaged (a label without a probability",
    drop_a_column: "cannot be read: predictions.csv: is damaged",
    leave_a_deleted_sweep: "W&B tester/words/gone: not found (Could not find sweep",
    record_another_schema: "config: was recorded by another version of kws (schema 2, not 1)",
    lose_the_history: "it has no metrics",
    make_text_of_the_config: "config: was recorded by another version of kws",
    fail: "failed: no disk",
}


def test_a_bad_run_on_wandb_is_excluded_with_its_reason_and_runs_are_read_at_once(tmp_path):
    with WandbServer() as server:
        runs = [store(server, make_run(tmp_path / "runs", seed=seed)) for seed in range(20)]
        old = store(server, make_run(tmp_path / "runs", seed=20), files=("predictions.csv", "layers.csv"))
        rows = [*old.rows[:2], *old.rows]  # such a version repeated epochs when it resumed a run offline
        old.history = {step: row | {"_step": step} for step, row in enumerate(rows)}
        for run, damage in zip(runs, BAD, strict=False):
            damage(run)
        server.delay = 0.1
        got = call(server, tmp_path, READ, "tester/words")
        assert len(got["runs"]) == 21 - len(BAD) and old.id in got["runs"]
        assert got["seen"] == [[done, 21] for done in range(1, 22)]
        found = dict(got["excluded"])
        assert len(found) == len(BAD)
        for run, reason in zip(runs, BAD.values(), strict=False):
            assert found[run.display_name].startswith(reason)
        assert server.most_at_once >= 5
        assert server.unknown == [] and server.crashes == []
