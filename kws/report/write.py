"""The report's files: index.html, each figure as PNG and SVG, runs.csv and report.md."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kws import metrics
from kws.analysis.records import Excluded
from kws.analysis.study import Study
from kws.config import IDENTITY_SETTINGS
from kws.errors import KwsError
from kws.files import write_atomically, write_text
from kws.formatting import value_text
from kws.inference.demo import demo_page
from kws.report.charts import figures
from kws.report.markdown import markdown
from kws.report.page import page
from kws.report.vega import save

RUN_COLUMNS = ("study", "run_id", "run_name", "synthetic", "data_fingerprint", "excluded", "where")


def write(
    found: Sequence[Study], excluded: Sequence[Excluded], out_dir: str | Path, data_dir: str | Path | None = None
) -> Path:
    """Write the report of the studies `found` to `out_dir` and return the path of its index.html.

    `data_dir` (the folder that holds SpeechCommands/) has the audio of misclassified clips; by default it is the
    configured one, if it has the runs' data. Raises KwsError without a finished run, if `out_dir` is anything else
    than new, empty or an earlier report, or if it cannot be written.
    """
    if not found:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in excluded[:3])
        raise KwsError(f"report: none of the {len(excluded)} runs can be used ({reasons})")
    out_dir = Path(out_dir)
    check_out(out_dir)
    names = {study.name for study in found}
    without_result = [item for item in excluded if item.study and item.study not in names]
    try:
        (out_dir / "figures").mkdir(parents=True, exist_ok=True)
        # First runs.csv, by which check_out recognizes a report, also one that was interrupted.
        with write_atomically(out_dir / "runs.csv") as path, open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_rows(found, excluded))
        drawn = [(study, figures(study)) for study in found]
        shown = {figure.id: figure for _, of_study in drawn for figure in of_study}
        for figure in shown.values():
            save(figure, out_dir / "figures" / figure.id)
        write_text(out_dir / "report.md", markdown(drawn, without_result))
        demos = {study.key: demo for study in found if (demo := _write_demo(study, out_dir))}
        write_text(out_dir / "index.html", page(drawn, without_result, data_dir, demos))
        kept = {*shown, *demos}  # the other files are of an earlier report
        for path in (*(out_dir / "figures").iterdir(), *(out_dir / "demo").glob("*.html")):
            if path.suffix in (".png", ".svg", ".html") and path.stem not in kept:
                path.unlink()
    except OSError as error:
        raise KwsError(f"{out_dir}: the report cannot be written ({error.strerror}); choose another --out") from error
    return out_dir / "index.html"


def _write_demo(study: Study, out_dir: Path) -> str:
    """Write the demo of the study's chosen run; return its path in `out_dir`, "" if there is no model of it here."""
    try:
        content = demo_page(study.chosen_run.where, "")
    except KwsError:  # a run from W&B, or one whose best.pt was removed
        return ""
    (out_dir / "demo").mkdir(exist_ok=True)
    write_text(out_dir / "demo" / f"{study.key}.html", content)
    return f"demo/{study.key}.html"


def check_out(out_dir: Path) -> None:
    """Raise KwsError unless `out_dir` is new, empty or an earlier report: nothing else is overwritten."""
    first = ""
    with suppress(OSError, ValueError):
        if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
            return
        with open(out_dir / "runs.csv", encoding="utf-8") as file:
            first = file.readline()
    if not first.startswith(",".join(RUN_COLUMNS[:3])):
        raise KwsError(f"{out_dir}: is neither empty nor an earlier report; choose another --out")


def _rows(found: Sequence[Study], excluded: Sequence[Excluded]) -> Iterator[list[Any]]:
    """Yield the rows of runs.csv: the header, usable runs with their numbers, excluded ones with the reason."""
    labels = dict.fromkeys(
        label for study in found for run in study.runs for label in run.labels if len(run.labels) > 2
    )
    names = [*metrics.SUMMARY_METRICS, *([metrics.TEST_F1] if labels else []), *map(metrics.recall, labels)]
    yield [*RUN_COLUMNS, *IDENTITY_SETTINGS, *names]
    for study in found:
        for run in study.runs:
            data = (study.synthetic, study.data_info["fingerprint"])
            values = (run.config[name] for name in IDENTITY_SETTINGS)
            settings = (value_text(value) if isinstance(value, tuple) else value for value in values)
            numbers = (run.summary.get(name, "") for name in names)
            yield [study.name, run.run_id, run.name, *data, "", run.where, *settings, *numbers]
    for item in excluded:
        yield [item.study, "", item.name, "", "", item.reason, item.where]
