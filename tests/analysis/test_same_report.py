"""The report of run folders and the report of the same runs after `wandb sync` are the same."""

from doubles.wandb_server import WandbServer
from helpers import forked, training
from helpers.online_study import call
from helpers.sweep_runs import write_sweep

REPORT = """
import dataclasses, json, re, sys
from kws.analysis.load import load
from kws.analysis.study import studies
from kws.report import write
from kws.report.charts import figures
from kws.report.markdown import markdown
from kws.report.page import page
results = load(sys.argv[1:])
for run in results.runs:
    run.where = ""
results.excluded[:] = left_out = [dataclasses.replace(item, where="") for item in results.excluded]
found = studies(results)
drawn = [(study, figures(study)) for study in found]
print("GOT " + json.dumps({
    "titles": [study.title for study in found],
    "questions": [study.question for study in found],
    "missing": [study.missing for study in found],
    "excluded": [item.reason for item in left_out],
    "markdown": markdown(drawn, left_out),
    "page": re.sub("[0-9-]+ ..:.. UTC", "", page(drawn, left_out)),
    "rows": [list(map(str, row)) for row in write._rows(found, left_out)],
}))
"""


def test_the_report_of_synced_runs_equals_that_of_their_folders(tmp_path):
    folder = training.make_work_folder(tmp_path)
    parameters = {"channels": {"values": [8, 16]}, "groups": {"values": [1, 16]}, "study": {"value": "bands"}}
    write_sweep(folder, parameters, "bands.yaml", description="Question: how many groups? Scientific: groups.")
    with WandbServer() as server:
        environment = training.environment(server, folder, WANDB_MODE="offline")

        def run(*command):
            return forked.run("-m", *command, cwd=folder, env=environment).returncode

        assert run("kws", "sweep", "bands.yaml") == 1  # 16 groups of 8 channels fail
        assert run("kws", "sweep", "bands.yaml", "--set", "epochs=1", "groups=1") == 0
        assert run("wandb", "sync", *(folder / "wandb").glob("offline-run-*")) == 0
        (folder / "runs" / "sweeps").rename(folder / "elsewhere")  # what a report needs is in the runs' own records
        here, there = (call(server, folder, REPORT, source) for source in ("runs", "tester/kws"))
    assert sorted(here["titles"]) == ["bands, epochs 1", "bands, epochs 2"]
    assert here["questions"] == ["How many groups?"] * 2
    assert sorted(here["missing"]) == [[], ["channels 8, groups 16"]]
    for key in here:
        assert here[key] == there[key], key
