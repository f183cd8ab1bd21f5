"""The page: one HTML file that contains its style, script, data, pictures and audio, and fetches nothing."""

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from kws.analysis.narrative import answer, conclusions
from kws.analysis.records import Excluded
from kws.analysis.study import Study
from kws.report import content, evidence
from kws.report.html import bullets, figure_frame, stacked, table
from kws.report.search_charts import Figure

MOST_ROWS = 20  # of a search's comparison: the best ones
BANNER = (
    '<p class="banner" role="note"><strong>Synthetic data.</strong> These runs were trained and tested on synthetic '
    "speech: they show that the pipeline works, and say little about real voices.</p>"
)


def page(
    drawn: Sequence[tuple[Study, list[Figure]]],
    without_result: Sequence[Excluded] = (),
    data_dir: str | Path | None = None,
) -> str:
    """Return the page's HTML for [(study, its figures)]. Every text that comes from runs is escaped.

    without_result: the excluded runs of studies without a finished run.
    """
    figures = {figure["id"]: figure for _, of_study in drawn for figure in of_study}
    # With "<" escaped, no run's name can end the script element.
    data = json.dumps(figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    style, script = (
        files("kws.report").joinpath("static", name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    names = ", ".join(dict.fromkeys(study.title for study, _ in drawn))
    links = "".join(f'<a href="#{study.key}">{escape(study.title)}</a>' for study, _ in drawn)
    body = "".join(_article(study, of_study, data_dir) for study, of_study in drawn)
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"""<!doctype html>
<html lang="en" data-theme="auto">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(names)}: keyword-spotting studies</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to content</a>
<header class="bar"><div class="wide"><span class="brand">kws report</span>
<nav aria-label="Studies">{links}</nav>
<button type="button" class="theme" aria-label="Change the colour theme">Theme: auto</button></div></header>
<main id="content" class="wide">
<noscript><p class="banner">The figures need JavaScript, which this browser does not run.</p></noscript>
{body}{evidence.without_result_section(without_result)}
<footer><h3>Methods</h3><p>{content.METHODS}</p><p>Made by <code>kws report</code>, {now}.</p></footer>
</main>
<div id="tip" role="status" aria-live="polite"></div>
<script type="application/json" id="figures">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def _article(study: Study, figures: list[Figure], data_dir: str | Path | None) -> str:
    curves = [figure for figure in figures if figure.get("step")]  # ROC and precision-recall belong to the model
    frames = "".join(figure_frame(figure) for figure in figures if figure not in curves)
    sections = (
        _top(study),
        _comparison(study),
        f'<h3>Figures</h3><div class="figures">{frames}</div>',
        _differences(study),
        _conclusions(study),
        evidence.model_section(study, curves),
        evidence.misclassified_section(study, data_dir),
        evidence.runs_section(study),
        evidence.excluded_section(study),
    )
    return f'<article id="{study.key}" aria-label="{escape(study.title)}">{"".join(sections)}</article>'


def _top(study: Study) -> str:
    kind = "synthetic speech" if study.synthetic else "real speech"
    sentences = "".join(f"<p>{escape(line)}</p>" for line in answer(study))
    terms = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in content.facts(study).items())
    return (
        f'<p class="kicker">{escape(study.title)} · {kind} · {len(study.runs)} runs</p>'
        f'<h2 class="question">{escape(study.question)}</h2>{BANNER if study.synthetic else ""}'
        f'<div class="answer">{sentences}</div><dl class="facts">{terms}</dl>'
    )


def _comparison(study: Study) -> str:
    shown = study.configurations
    if study.is_search:
        shown = sorted(shown, key=lambda item: -item.val.mean)[:MOST_ROWS]
    marks = [index for index, item in enumerate(shown) if content.is_marked(study, item)]
    caption = "Mean ± standard deviation over seeds, and the 95 % interval of the mean"
    caption += "; the recommended configuration is highlighted" if marks else ""
    if len(shown) < len(study.configurations):
        best = f"The {len(shown)} best of {len(study.configurations)} configurations by validation accuracy"
        caption = f"{best}. {caption}"
    rows = [map(stacked, row) for row in content.comparison_rows(shown)]
    return f"<h3>Comparison</h3>{table(caption, content.COMPARISON_HEADS, rows, marks)}"


def _differences(study: Study) -> str:
    if not study.recommends:
        return ""
    best = escape(study.best.label)
    caption = (
        f"Each configuration minus {best}, the best on validation: percentage points over equal seeds, 95 % interval, "
        "Holm-corrected p. Last column: test clips that the configuration classified correctly in more seeds, against "
        f"those that {best} did, and McNemar's exact p"
    )
    rows = [map(stacked, row) for row in content.difference_rows(study)]
    return f"<h3>Differences</h3>{table(caption, content.difference_heads(best), rows)}"


def _conclusions(study: Study) -> str:
    lines = conclusions(study)
    return f"<h3>Conclusions</h3>{bullets(map(escape, lines))}" if lines else ""
