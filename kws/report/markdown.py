"""The report as Markdown: report.md, and the tables that the W&B report shows."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from kws.analysis.narrative import answer, conclusions
from kws.analysis.records import Excluded
from kws.analysis.study import Study
from kws.report import content
from kws.report.vega import Figure


def markdown(drawn: Iterable[tuple[Study, list[Figure]]], without_result: Sequence[Excluded] = ()) -> str:
    """Return report.md for [(study, its figures)], with the figures as links to figures/ID.png.

    without_result: the excluded runs of studies without a finished run.
    """
    lines = ["# Keyword-spotting studies", ""]
    for study, figures in drawn:
        lines += [f"## {plain(study.question)}", "", " ".join(plain(line) for line in answer(study)), ""]
        lines += [f"- {name}: {plain(text)}" for name, text in content.facts(study).items()]
        lines += ["", comparison_table(study), ""]
        if study.comparisons:
            lines += [differences_table(study), ""]
        lines += [f"- {plain(line)}" for line in conclusions(study)] + [""]
        for figure in figures:
            lines += [f"![{plain(figure.title)}](figures/{figure.id}.png)", "", plain(figure.caption), ""]
        lines += [f"- excluded: {plain(item.name)}: {plain(item.reason)}" for item in study.excluded]
        lines += [f"- missing: {plain(name)}" for name in study.missing] + [""]
    if without_result:
        lines += ["## Studies without a result", ""]
        lines += [f"- {plain(item.study)}: {plain(item.name)}: {plain(item.reason)}" for item in without_result] + [""]
    return "\n".join(lines)


def comparison_table(study: Study) -> str:
    """Return the accuracies and costs of every configuration."""
    rows = content.comparison_rows(study.configurations)
    for row, configuration in zip(rows, study.configurations, strict=True):
        if content.is_marked(study, configuration):
            row[0] = (configuration.label, "recommended")
    note = "Mean ± standard deviation over seeds (95 % interval of the mean)."
    return f"{_table(content.comparison_heads(study), rows)}\n\n{note}"


def differences_table(study: Study) -> str:
    """Return every other configuration minus the recommended (or best) one."""
    return _table([plain(head) for head in content.difference_heads(study)], content.difference_rows(study))


def _table(heads: Sequence[str], rows: Iterable[Sequence[content.Cell]]) -> str:
    names, rules = [head.rstrip("#") for head in heads], ["---:" if head.endswith("#") else "---" for head in heads]
    body = [[plain(cell if isinstance(cell, str) else "{} ({})".format(*cell)) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, rules, *body))


def plain(text: str) -> str:
    """Return text that Markdown shows unchanged: no markup, no table bars, one line."""
    text = escape(" ".join(text.split()), quote=False)
    text = "".join(f"\\{c}" if c in "\\`*[]|" else c for c in text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # inside a word, as in n_mels, it is no markup
