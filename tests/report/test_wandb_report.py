"""Publishing: the real library saves report and workspace to the stand-in server and reads them back."""

import csv
import json

from doubles.wandb_server import WandbServer
from helpers.online_study import call

PUBLISH = """
import json
from kws.analysis import load, study
from kws.report import wandb_report
import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces
found = study.studies(load.load(["tester/words"]))
urls = [wandb_report.publish(found, "tester", "words") for _ in range(2)]
report = reports.Report.from_url(urls[1]["report"])
workspace = workspaces.Workspace.from_url(urls[1]["workspace"])
grid = next(block for block in report.blocks if isinstance(block, reports.PanelGrid))
print("GOT " + json.dumps({
    "urls": urls,
    "blocks": [type(block).__name__ for block in report.blocks],
    "question": next(block for block in report.blocks if isinstance(block, reports.H1)).text,
    "panels": [[type(panel).__name__, panel.title] for panel in grid.panels],
    "x": sorted({getattr(panel.x, "name", panel.x) for panel in grid.panels if isinstance(panel, reports.LinePlot)}),
    "groupby": sorted({str(panel.groupby) for panel in grid.panels
                       if isinstance(panel, (reports.LinePlot, reports.BarPlot))}),
    "runset": [grid.runsets[0].name, str(grid.runsets[0].filters)],
    "table": next(block for block in report.blocks if isinstance(block, reports.MarkdownBlock)).text,
    "sections": [[section.name, len(section.panels)] for section in workspace.sections],
}))
"""


def test_publishing_twice_updates_one_report_and_one_workspace(online, tmp_path):
    server, folder = online
    got = call(server, folder, PUBLISH)
    assert got["urls"][0] == got["urls"][1]
    assert sorted(view["type"] for view in server.views.values()) == ["project-view", "runs"]
    assert got["question"] == "How many bands?"
    assert {"H1", "P", "MarkdownBlock", "PanelGrid"} <= set(got["blocks"])
    assert {kind for kind, _ in got["panels"]} == {"LinePlot", "BarPlot", "ScatterPlot", "ParallelCoordinatesPlot"}
    assert got["x"] == ["epoch"]
    assert len(got["groupby"]) == 1 and "n_mels" in got["groupby"][0]
    assert got["runset"][0] == "n_mels (real speech)"
    assert all(word in got["runset"][1] for word in ("study", "n_mels", "speech_commands", "finished"))
    assert "| n_mels 20" in got["table"] and "| n_mels 40" in got["table"]
    assert got["sections"] == [["n_mels (real speech)", len(got["panels"])]]


def test_kws_report_publishes_a_folder_to_the_project_in_its_runs_configs(online, tmp_path):
    server, folder = online
    out = call(server, folder, "from kws.cli import main; main()", "report", "--publish", "--out", tmp_path / "page")
    assert "report       http" in out and "workspace    http" in out and "/tester/words" in out
    assert (tmp_path / "page" / "index.html").is_file()
    assert sorted(view["type"] for view in server.views.values()) == ["project-view", "runs"]


REFUSED = """
import json
from kws.analysis import load, study
from kws.report import wandb_report
from kws.errors import KwsError
found = study.studies(load.load(["runs"]))
try:
    wandb_report.publish(found, "tester", "words")
except KwsError as error:
    print("GOT " + json.dumps(str(error)))
"""


def test_a_missing_account_is_a_one_line_error(online, tmp_path):
    server, folder = online
    assert call(server, folder, REFUSED, HOME=str(tmp_path), WANDB_API_KEY="") == (
        "W&B tester/words: no account is configured; run wandb login or set WANDB_API_KEY"
    )


def test_a_rejected_key_is_a_one_line_error(online, tmp_path):
    server, folder = online
    server.reject_key()
    try:
        message = call(server, folder, REFUSED, HOME=str(tmp_path))
    finally:
        server.reject_key(False)
    assert message.startswith("W&B tester/words: ") and "wandb login --relogin" in message
    assert "\n" not in message and json.dumps(message)


AWKWARD = 'it\'s "q" a=b <c> & 😀 |*_`$ {x} ü, (y) [z] ~^+@!' + "x" * 100
FLAGS = "--channels=8", "--epochs=2", "--batch_size=16"


def test_awkward_names_survive_from_training_to_the_published_report(tmp_path, data_dir):
    """Quotes, backslashes, line breaks, emoji and the longest names that W&B takes."""
    study, project, name = f"back\\slash {AWKWARD}"[:64], AWKWARD[:128], f"line\n\\{AWKWARD}"[:128]
    variables = {"HOME": str(tmp_path), "WANDB_NAME": name, "WANDB_NOTES": f"{name}\n\\n", "KWS_DATA": str(data_dir)}
    main = "from kws.cli import main; assert main() == 0"
    with WandbServer() as server:
        flags = *FLAGS, f"--study={study}", f"--project={project}"
        call(server, tmp_path, main, "train", *flags, **variables, WANDB_MODE="offline")
        [log] = (tmp_path / "wandb").glob("offline-run-*")
        call(server, tmp_path, "import runpy; runpy.run_module('wandb', run_name='__main__')", "sync", log)
        [run] = server.runs.values()
        assert (run.project, run.display_name, run.notes) == (project, name, variables["WANDB_NOTES"])
        assert (run.group, run.tags, run.config["study"]) == (study, [study, "speech_commands"], study)
        for _ in range(2):
            out = call(server, tmp_path, main, "report", f"tester/{project}", "--publish", **variables)
        assert sorted(view["type"] for view in server.views.values()) == ["project-view", "runs"]
        assert server.unknown == [] and server.crashes == []
    [spec] = [json.loads(view["spec"]) for view in server.views.values() if view["type"] == "runs"]
    [grid] = [block for block in spec["blocks"] if block["type"] == "panel-grid"]
    filters = {item["key"]["name"]: item["value"] for item in grid["metadata"]["runSets"][0]["filters"]["filters"]}
    assert (filters["study"], filters["state"]) == (study, "finished")
    with open(tmp_path / "report" / "runs.csv", newline="") as file:
        assert [row["study"] for row in csv.DictReader(file)] == [study]
    for line in ("report", "workspace"):
        [address] = [shown.split(maxsplit=1)[1] for shown in out.splitlines() if shown.startswith(f"{line}  ")][-1:]
        assert address.startswith("http") and " " not in address and '"' not in address
