"""The report's files: index.html, each figure as PNG and SVG, runs.csv and report.md."""

import csv
import io
from html import escape
from pathlib import Path

from kws.claims import claims
from kws.errors import KwsError
from kws.figures import figures
from kws.files import write_text
from kws.formatting import count, estimate, p_text, points, seconds
from kws.plots import save
from kws.report_page import clips_text, facts_of, page
from kws.results import CELL_SETTINGS
from kws.sentences import answer, conclusions
from kws.study import studies

COLUMNS = ("study", "run_id", "run_name", "synthetic", "data_fingerprint", "left_out", "where")
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
        write_text(out_dir / "report.md", _markdown(drawn))
        write_text(out_dir / "index.html", page(drawn, data_dir))
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


def _markdown(drawn):
    lines = ["# Keyword-spotting studies", ""]
    for study, specs in drawn:
        lines += [f"## {_md(study.question)}", "", " ".join(_md(line) for line in answer(study)), ""]
        lines += [f"- {name}: {_md(text)}" for name, text in facts_of(study).items()]
        lines += [
            "",
            "| configuration | seeds | validation accuracy | test accuracy | parameters | FLOPs a clip | epoch |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for cell in study.cells:
            mark = " (recommended)" if cell is study.recommended and study.recommends else ""
            lines.append(
                f"| {_md(cell.label)}{mark} | {cell.val.n} | {estimate(cell.val)} | {estimate(cell.test)} | "
                f"{count(cell.params)} | {count(cell.flops)} | {seconds(cell.epoch_s.mean)} |"
            )
        lines += ["", "Mean ± standard deviation over seeds (95 % interval of the mean).", ""]
        if study.recommends:
            lines += _markdown_differences(study)
        lines += [f"- {_md(line)}" for line in conclusions(study)] + [""]
        if judged := claims(study):
            lines += ["| claim of the earlier report | verdict | numbers |", "|---|---|---|"]
            lines += [f"| {_md(item.text)} | {item.verdict} | {_md(item.evidence)} |" for item in judged] + [""]
        for spec in specs:
            lines += [
                f"![{_md(spec['title'])}](figures/{spec['id']}.png)",
                "",
                f"{_md(spec['caption'])}",
                "",
            ]
        lines += [f"- left out: {_md(item.name)}: {_md(item.reason)}" for item in study.excluded]
        lines += [f"- missing: {_md(name)}" for name in study.missing] + [""]
    return "\n".join(lines)


def _markdown_differences(study):
    lines = [
        f"| minus {_md(study.best.label)} | pairs | validation, points | test, points | test clips heard better |",
        "|---|---:|---:|---:|---:|",
    ]
    for item in study.comparisons:
        differences = " | ".join(
            f"{points(d.mean)} ({points(d.low)} to {points(d.high)}), {p_text(d.p_holm)}" for d in (item.val, item.test)
        )
        lines.append(f"| {_md(item.cell.label)} | {item.val.n} | {differences} | {clips_text(item)} |")
    return [*lines, ""]


def _md(text):
    """Return text that Markdown shows as it is: no markup, no table bars, one line."""
    text = escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|" else c for c in text)
