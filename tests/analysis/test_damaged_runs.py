"""Whatever is wrong with one file of one run, the report has all other runs, and names this one with a reason."""

import copy
import json
import shutil

import pytest
from helpers.run_folders import make_run, write_sweep
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.analysis.load import load
from kws.analysis.study import studies
from kws.report.markdown import markdown

CLIPS = [f"{word}/{speaker:08x}_nohash_0.wav" for speaker in range(10) for word in ("no", "yes")]
SWEEP = {
    "description": "How many?",
    "method": "grid",
    "metric": {"name": "best/val_accuracy", "goal": "maximize"},
    "parameters": {"n_mels": {"values": [20, 40]}, "seed": {"values": [0, 1]}},
    "run_cap": 4,
}
FILES = ("config.json", "summary.json", "metrics.csv", "predictions.csv", "layers.csv")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Four runs of a sweep; `last` has no sweep in its config, and takes that of sweep.yaml."""
    folder = tmp_path_factory.mktemp("damaged") / "runs"
    for name, (n_mels, seed) in {"a": (20, 0), "b": (20, 1), "c": (40, 0), "last": (40, 1)}.items():
        record = {"sweep_id": "s", "sweep": SWEEP if name != "last" else None}
        make_run(folder, seed, n_mels=n_mels, study="n_mels", run_id=name, epochs=3, clips=CLIPS, record=record)
    write_sweep(folder, "s", **SWEEP)
    return folder


def damage(runs, file, change):
    """Return the Results after change(bytes of the file), a file of the last run or sweep.yaml, and restore it."""
    path = runs / "sweeps" / "s" / file if file == "sweep.yaml" else runs / "last" / file
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        results = load([runs])
        text = markdown([(study, []) for study in studies(results)])
        "".join(map(str, [text, *results.excluded])).encode()  # can be written
        assert {"a", "b", "c"} <= {run.run_id for run in results.runs}
        assert len(results.runs) + len(results.excluded) == 4
        for item in results.excluded:
            assert item.reason.isprintable() and item.where == str(runs / "last")
        return results
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("file", [*FILES, "sweep.yaml"])
def test_a_file_cut_anywhere_or_of_something_else_excludes_its_run(runs, file):
    data = (runs / "sweeps" / "s" / file if file == "sweep.yaml" else runs / "last" / file).read_bytes()
    ends = {*range(0, len(data), len(data) // 20), len(data) - 1}
    if file == "layers.csv":  # without whole lines at its end, nothing shows that it is not complete
        ends = {end for end in ends if not data[:end].endswith(b"\n")}
    for changed in [*(data[:end] for end in sorted(ends)), data + b"\xff\n", b"\0\n", b"[1]\n"]:
        [item] = damage(runs, file, lambda _, changed=changed: changed).excluded
        assert item.reason.startswith(("cannot be read: ", "its predictions.csv has", "its metrics are not those"))


@pytest.mark.parametrize("file", FILES)
def test_a_folder_in_place_of_a_file_excludes_the_run(runs, tmp_path, file):
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "runs" / "last" / file).unlink()
    (tmp_path / "runs" / "last" / file).mkdir()
    [item] = load([tmp_path / "runs"]).excluded
    assert item.reason == f"cannot be read: {tmp_path}/runs/last/{file}: cannot be read (Is a directory)"


ODD = st.sampled_from([
    None, True, -1, 0, 0.5, 1e300, float("nan"), float("inf"), 10**400, "", "x", "\ud800", "\0\n\x1b[31m", "9" * 5000,
    [], [1], [[]], [None, "a"], {}, {"a": 1}, {"value": 20}, {"values": []}, {"distribution": "uniform", "min": "a"},
    {"parameters": {}}, "../../x",
])  # fmt: skip


def places(value, path=()):
    """Yield the path of every value in a JSON value, itself included."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


@settings(max_examples=150)
@given(data=st.data(), odd=ODD)
def test_any_value_of_any_type_in_a_json_file_leaves_a_report_of_the_other_runs(runs, data, odd):
    def change(content):
        value = json.loads(content)
        *path, last = data.draw(st.sampled_from([path for path in places(value) if path]))
        inner = value
        for key in path:
            inner = inner[key]
        inner[last] = copy.copy(odd)
        return json.dumps(value).encode()

    damage(runs, data.draw(st.sampled_from(["config.json", "summary.json", "sweep.yaml"])), change)


@pytest.mark.parametrize("sweep_id", ["9" * 400, "\0", "s" * 300 + "/" + "t" * 300, "../" * 2000])
def test_a_sweep_id_that_no_file_can_have_is_a_sweep_without_a_file(runs, sweep_id):
    def change(content):
        return json.dumps(json.loads(content) | {"sweep_id": sweep_id}).encode()

    assert damage(runs, "config.json", change).excluded == []


def test_the_sweep_is_that_of_the_newest_run_and_no_file_of_another_place(tmp_path):
    for seed, question in enumerate(("Old?", "New?")):
        record = {"sweep_id": "s", "sweep": SWEEP | {"description": question}}
        make_run(tmp_path / "runs", seed=seed, run_id=f"run-{1 - seed}", record=record)
    write_sweep(tmp_path / "runs", "s", description="In a file?")
    assert load([tmp_path / "runs"]).sweeps["s"]["description"] == "New?"
    write_sweep(tmp_path / "other", "s", description="Private?")
    make_run(tmp_path / "hostile", record={"sweep_id": "../../other/sweeps/s"})
    assert load([tmp_path / "hostile"]).sweeps == {}
