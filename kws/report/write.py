"""The report's files: index.html, each figure as PNG and SVG, runs.csv and report.md."""

import csv
import io
from pathlib import Path

from kws import metrics
from kws.config import IDENTITY_SETTINGS
from kws.errors import KwsError
from kws.files import write_text
from kws.report.charts import figures
from kws.report.markdown import markdown
from kws.report.page import page
from kws.report.plots import save


def write(found, excluded, out_dir, data_dir=None):
    """Write the report of the studies `found` to `out_dir` and return the path of its index.html.

    `data_dir` (the folder that holds SpeechCommands/) is where the misclassified clips' sound is looked for; by default
    where the runs found it. Raises KwsError where there is no finished run, or where `out_dir` cannot be written.
    """
    if not found:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in excluded[:3])
        raise KwsError(f"report: none of the {len(excluded)} runs can be counted ({reasons})")
    out_dir = Path(out_dir)
    try:
        (out_dir / "figures").mkdir(parents=True, exist_ok=True)
        drawn = [(study, figures(study)) for study in found]
        for _, specs in drawn:
            for spec in specs:
                save(spec, out_dir / "figures")
        write_text(out_dir / "runs.csv", _runs_csv(found, excluded))
        counted = {study.name for study in found}
        lost = [item for item in excluded if item.study and item.study not in counted]
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
            *IDENTITY_SETTINGS,
            *metrics.SUMMARY_METRICS,
        ]
    )
    for study in found:
        for run in study.runs:
            settings = [run.config.get(name, "") for name in IDENTITY_SETTINGS]
            numbers = [run.summary.get(name, "") for name in metrics.SUMMARY_METRICS]
            data = (study.synthetic, study.data_info["fingerprint"])
            writer.writerow([study.name, run.run_id, run.name, *data, "", run.where, *settings, *numbers])
    for item in excluded:
        writer.writerow([item.study, "", item.name, "", "", item.reason, item.where])
    return text.getvalue()
