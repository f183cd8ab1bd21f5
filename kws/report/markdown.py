"""The report as Markdown: report.md, and the tables that the W&B report shows."""

import re
from html import escape

from kws.analysis.narrative import answer, conclusions
from kws.formatting import count, estimate, p_text, percentage_points, seconds
from kws.report.page import clips_text, facts_of


def markdown(drawn, lost=()):
    """Return report.md for [(study, its figures)], with the figures as links to figures/ID.png.

    lost: the runs left out whose study has no run that counts.
    """
    lines = ["# Keyword-spotting studies", ""]
    for study, specs in drawn:
        lines += [f"## {plain(study.question)}", "", " ".join(plain(line) for line in answer(study)), ""]
        lines += [f"- {name}: {plain(text)}" for name, text in facts_of(study).items()]
        lines += ["", comparison_table(study), ""]
        if study.recommends:
            lines += [differences_table(study), ""]
        lines += [f"- {plain(line)}" for line in conclusions(study)] + [""]
        for spec in specs:
            lines += [f"![{plain(spec['title'])}](figures/{spec['id']}.png)", "", plain(spec["caption"]), ""]
        lines += [f"- left out: {plain(item.name)}: {plain(item.reason)}" for item in study.excluded]
        lines += [f"- missing: {plain(name)}" for name in study.missing] + [""]
    if lost:
        lines += [
            "## Studies without a result",
            "",
            *(f"- {plain(item.study)}: {plain(item.name)}: {plain(item.reason)}" for item in lost),
            "",
        ]
    return "\n".join(lines)


def comparison_table(study):
    """Return the values of the scientific parameter with their accuracies and costs."""
    lines = [
        "| configuration | seeds | validation accuracy | test accuracy | parameters | FLOPs a clip | epoch |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for configuration in study.configurations:
        mark = " (recommended)" if configuration is study.recommended and study.recommends else ""
        lines.append(
            f"| {plain(configuration.label)}{mark} | {configuration.val.n} | {estimate(configuration.val)} | {estimate(configuration.test)} | "
            f"{count(configuration.params)} | {count(configuration.flops)} | {seconds(configuration.epoch_s.mean)} |"
        )
    return "\n".join([*lines, "", "Mean ± standard deviation over seeds (95 % interval of the mean)."])


def differences_table(study):
    """Return every other value minus the one that is best on validation."""
    lines = [
        f"| minus {plain(study.best.label)} | pairs | validation, points | test, points | test clips heard better |",
        "|---|---:|---:|---:|---:|",
    ]
    for item in study.comparisons:
        differences = " | ".join(
            f"{percentage_points(d.mean)} ({percentage_points(d.low)} to {percentage_points(d.high)}), {p_text(d.p_holm)}"
            for d in (item.val, item.test)
        )
        lines.append(f"| {plain(item.configuration.label)} | {item.val.n} | {differences} | {clips_text(item)} |")
    return "\n".join(lines)


def plain(text):
    """Return text that Markdown shows as it is: no markup, no table bars, one line."""
    text = escape(" ".join(str(text).split()), quote=False)
    text = "".join(f"\\{c}" if c in "\\`*[]|" else c for c in text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # within a word, as n_mels, it marks nothing
