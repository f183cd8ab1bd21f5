"""The page: one HTML file with its style, script, data, pictures and sounds inside, and nothing fetched."""

import base64
import hashlib
import json
import time
from html import escape
from importlib.resources import files

from kws.analysis.narrative import answer, conclusions, split_sizes
from kws.analysis.study import FEWEST_SEEDS, LAST_EPOCHS, SIGNIFICANT
from kws.formatting import count, p_text, seconds
from kws.report.charts import summary_text
from kws.report.evidence import left_out_section, lost_section, misclassified_section, model_section, runs_section
from kws.report.html import bullets, difference, figure, stacked, table

MOST_ROWS = 20  # of a search's comparison: the best ones
METHODS = f"""
Choices are made on validation accuracy; the test clips are only reported. A value counts as distinguishable from
the best one if the paired t-test over the seeds that all share, Holm-corrected over the study's comparisons, gives
p below {SIGNIFICANT}; with fewer than {FEWEST_SEEDS} shared seeds nothing is recommended. Since the best value is
picked among several, its own mean is a little flattered. Intervals of an accuracy are Student's t on the arcsine scale,
with at least half a clip of spread: they say where the mean of many more seeds would lie on the same clips, not
what other speakers would do. The test on clips is McNemar's exact test, over seeds: it counts the clips that one
configuration heard right in more seeds than the other. Stability is the standard deviation of validation accuracy
over a run's last {LAST_EPOCHS} epochs. Test accuracy is that of the epoch that was best on validation. FLOPs are
twice the multiply-accumulates of the network for one clip of a second, the log-mel layer left out.
"""


def page(drawn, lost=(), data_dir=None):
    """Return the page's HTML for [(study, its figures)]. Every text that comes from runs is escaped.

    lost: the runs left out whose study has no run that counts.
    """
    data = {spec["id"]: spec | {"summary": summary_text(spec)} for _, found in drawn for spec in found}
    # "<" is spelled out, so that no run's name can end the script element.
    data = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    style, script = (
        files("kws.report").joinpath("static", name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    names = ", ".join(dict.fromkeys(study.title for study, _ in drawn))
    links = "".join(f'<a href="#{study.key}">{escape(study.title)}</a>' for study, _ in drawn)
    body = "".join(_article(study, found, data_dir) for study, found in drawn) + lost_section(lost)
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
<a class="skip" href="#content">Skip to the answers</a>
<header class="bar"><div class="wide"><span class="brand">kws report</span>
<nav aria-label="Studies">{links}</nav>
<button type="button" class="theme" aria-label="Change the colour theme">Theme: auto</button></div></header>
<main id="content" class="wide">
<noscript><p class="banner">The figures need a script, which this browser does not run.</p></noscript>
{body}
<footer><h3>How this was computed</h3><p>{METHODS}</p><p>Made by <code>kws report</code>, {now}.</p></footer>
</main>
<div id="tip" role="status" aria-live="polite"></div>
<script type="application/json" id="figures">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def _article(study, found, data_dir):
    curves = [spec for spec in found if spec.get("step")]  # ROC and precision-recall stand with their model
    figures = "".join(figure(spec) for spec in found if spec not in curves)
    sections = (
        _top(study),
        _comparison(study),
        f'<h3>Figures</h3><div class="figures">{figures}</div>',
        _differences(study),
        _conclusions(study),
        model_section(study, curves),
        misclassified_section(study, data_dir),
        runs_section(study),
        left_out_section(study),
    )
    return f'<article id="{study.key}" aria-label="{escape(study.title)}">{"".join(sections)}</article>'


def _top(study):
    kind = "synthetic speech" if study.synthetic else "real speech"
    banner = (
        '<p class="banner" role="note"><strong>Synthetic data.</strong> These runs learned from synthetic speech and '
        "were tested on it: they show that the pipeline works, and say little about real voices.</p>"
    )
    sentences = "".join(f"<p>{escape(line)}</p>" for line in answer(study))
    facts = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts_of(study).items())
    return (
        f'<p class="kicker">{escape(study.title)} · {kind} · {len(study.runs)} runs</p>'
        f'<h2 class="question">{escape(study.question)}</h2>{banner if study.synthetic else ""}'
        f'<div class="answer">{sentences}</div><dl class="facts">{facts}</dl>'
    )


def facts_of(study):
    """Return {fact: text} of the study's data, runs and machine."""
    info, config = study.data_info, study.runs[0].config
    corpus = "synthetic speech (espeak-ng)" if study.synthetic else "Speech Commands v0.02, real recordings"
    dealt = "; dealt anew by each seed, the test list left unread" if config.get("resplit") else ""
    versions = [run.config["versions"] for run in study.runs if isinstance(run.config.get("versions"), dict)]
    return {
        "Data": f"{corpus}: {' and '.join(f'“{word}”' for word in config['words'])}",
        "Clips to train, validate, test": ", ".join(split_sizes(study, key) for key in ("train", "val", "test"))
        + dealt,
        "Runs": f"{len(study.runs)} finished; configurations: {len(study.configurations)}; seeds: {len(study.seeds)}",
        "Machine": f"{_kinds(study, 'host')} ({_kinds(study, 'device_name')})",
        "Software": ", ".join(
            f"{name} {' and '.join(sorted({str(item[name]) for item in versions if name in item}))}"
            for name in ("kws", "torch", "python")
            if any(name in item for item in versions)
        ),
        "Data fingerprint": str(info["fingerprint"])[:16],
    }


def _kinds(study, key):
    return ", ".join(sorted({str(run.config[key]) for run in study.runs if run.config.get(key)})) or "not recorded"


def _comparison(study):
    configurations = (
        sorted(study.configurations, key=lambda configuration: -configuration.val.mean)[:MOST_ROWS]
        if study.is_search
        else study.configurations
    )
    rows = [
        (
            escape(configuration.label),
            configuration.val.n,
            stacked(configuration.val),
            stacked(configuration.test),
            count(configuration.params),
            count(configuration.flops),
            seconds(configuration.epoch_s.mean),
        )
        for configuration in configurations
    ]
    marks = [
        index
        for index, configuration in enumerate(configurations)
        if configuration is study.recommended and study.recommends
    ]
    heads = (
        "configuration",
        "seeds#",
        "validation accuracy#",
        "test accuracy#",
        "parameters#",
        "FLOPs a clip#",
        "epoch#",
    )
    caption = "Mean ± standard deviation over seeds, and the 95 % interval of the mean"
    caption += "; the recommended value is marked" if marks else ""
    if len(configurations) < len(study.configurations):
        caption = f"The {len(configurations)} best of {len(study.configurations)} configurations by validation accuracy. {caption}"
    return f"<h3>Comparison</h3>{table(caption, heads, rows, marks=marks)}"


def _differences(study):
    if not study.recommends:
        return ""
    rows = [
        (escape(item.configuration.label), item.val.n, difference(item.val), difference(item.test), clips_text(item))
        for item in study.comparisons
    ]
    heads = ("configuration", "pairs#", "validation#", "test#", "clips heard better#")
    best = escape(study.best.label)
    caption = (
        f"Each value minus {best}, the best on validation: percentage points over equal seeds, 95 % interval, "
        "Holm-corrected p. Last column: test clips that the value heard right in more seeds, against those that "
        f"{best} did, and McNemar's exact p"
    )
    return f"<h3>Differences</h3>{table(caption, heads, rows)}"


def clips_text(comparison):
    """Return the test on the clips of a Comparison as text."""
    if comparison.clips is None:
        return "not the same clips"
    only_cell, only_best, p = comparison.clips
    return f"{only_cell} against {only_best}, {p_text(p)}"


def _conclusions(study):
    lines = conclusions(study)
    return f"<h3>Conclusions</h3>{bullets(map(escape, lines))}" if lines else ""
