"""The report's files: index.html, each figure as PNG and SVG, runs.csv and report.md."""

import csv
import io
from pathlib import Path

from kws.errors import KwsError
from kws.figures import figures
from kws.files import write_text
from kws.plots import save
from kws.report_markdown import markdown
from kws.report_page import page
from kws.results import CELL_SETTINGS
from kws.study import studies

SUMMARY = (
    "best/epoch", "best/val_accuracy", "best/val_loss", "test/accuracy", "test/loss", "test/errors",
    "time/epoch_s_median", "model/params", "model/macs", "model/flops", "frontend/macs", "time/run_s",
)  # fmt: skip


def write(results, out_dir, data_dir=None):
    """Write the report of a Results to `out_dir` and return the path of its index.html.

    `data_dir` (the folder that holds SpeechCommands/) is where the misheard clips' sound is looked for; by default
    where the runs found it. Raises KwsError where there is no finished run, or where `out_dir` cannot be written.
    """
    found = studies(results)
    if not found:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in results.excluded[:3])
        raise KwsError(f"report: none of the {len(results.excluded)} runs can be counted ({reasons})")
    out_dir = Path(out_dir)
    try:
        (out_dir / "figures").mkdir(parents=True, exist_ok=True)
        drawn = [(study, figures(study)) for study in found]
        for _, specs in drawn:
            for spec in specs:
                save(spec, out_dir / "figures")
        write_text(out_dir / "runs.csv", _runs_csv(found, results.excluded))
        counted = {study.name for study in found}
        lost = [item for item in results.excluded if item.study and item.study not in counted]
        write_text(out_dir / "report.md", markdown(drawn, lost))
        write_text(out_dir / "index.html", page(drawn, lost, data_dir))
    except OSError as error:
        raise KwsError(f"{out_dir}: the report cannot be written ({error.strerror}); choose another --out") from error
    return out_dir / "index.html"


def _runs_csv(found, excluded):
    """Return every run as a row of CSV: the counted ones with their numbers, the others with the reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "study",
            "run_id",
            "run_name",
            "synthetic",
            "data_fingerprint",
            "left_out",
            "where",
            *CELL_SETTINGS,
            *SUMMARY,
        ]
    )
    for study in found:
        for run in study.runs:
            settings = [run.config.get(name, "") for name in CELL_SETTINGS]
            numbers = [run.summary.get(name, "") for name in SUMMARY]
            data = (study.synthetic, study.data_info["fingerprint"])
            writer.writerow([study.name, run.run_id, run.name, *data, "", run.where, *settings, *numbers])
    for item in excluded:
        writer.writerow([item.study, "", item.name, "", "", item.reason, item.where])
    return text.getvalue()
