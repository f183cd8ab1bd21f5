"""The page: one HTML file with its style, script, data, pictures and sounds inside, and nothing fetched."""

import base64
import hashlib
import json
import math
from datetime import datetime, timezone
from html import escape
from importlib.resources import files

from kws.claims import claims
from kws.figures import figures, summary_text
from kws.formatting import count, estimate, p_text, percent, points, seconds, value_text
from kws.misheard import misheard
from kws.sentences import answer, conclusions
from kws.statistics import clip_interval
from kws.study import FEWEST_SEEDS, LAST_EPOCHS, SIGNIFICANT, is_right

METHODS = f"""
Choices are made on validation accuracy; the test clips are only reported. A value counts as distinguishable from the best one
if the paired t-test over equal seeds, Holm-corrected over the study's comparisons, gives p below {SIGNIFICANT}; with fewer than
{FEWEST_SEEDS} shared seeds nothing is recommended. Since the best value is picked among several, its own mean is a little flattered.
Intervals of an accuracy are Student's t on the arcsine scale, with at least half a clip of spread: they say where the mean of many more
seeds would lie on the same clips, not what other speakers would do. The test on clips is McNemar's exact test, over seeds: it counts
the clips that one configuration heard right in more seeds than the other. Stability is the standard deviation of validation accuracy
over a run's last {LAST_EPOCHS} epochs. Test accuracy is that of the epoch that was best on validation. FLOPs are twice the
multiply-accumulates of the network for one clip of a second.
"""


def page(studies, data_dir=None):
    """Return the HTML text of the studies' page. Every text that comes from runs is escaped."""
    drawn = {study.key: figures(study) for study in studies}
    data = {
        figure["id"]: figure | {"summary": summary_text(figure)}
        for found in drawn.values()
        for figure in found
    }
    # "<" is spelled out, so that no run's name can end the script element.
    data = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    style, script = (
        files("kws").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    links = "".join(f'<a href="#{study.key}">{escape(study.name)}</a>' for study in studies)
    body = "".join(_article(study, drawn[study.key], data_dir) for study in studies)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"""<!doctype html>
<html lang="en" data-theme="auto">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(", ".join(study.name for study in studies))}: keyword spotting studies</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the answers</a>
<header class="bar"><div class="wide"><span class="brand">kws report</span>
<nav aria-label="Studies">{links}</nav>
<button type="button" class="theme" aria-label="Change the colour theme">Theme: auto</button></div></header>
<main id="content" class="wide">
<noscript><p class="banner">The figures are drawn by a script that this browser does not run; all tables are below.</p></noscript>
{body}
<footer><h3>How this was computed</h3><p>{METHODS}</p><p>Made by <code>kws report</code>, {now}.</p></footer>
</main>
<div id="tip" role="status" aria-live="polite"></div>
<script type="application/json" id="figures">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def _article(study, drawn, data_dir):
    chosen = [figure for figure in drawn if figure["id"].endswith(("-roc", "-precision-recall"))]
    main = [figure for figure in drawn if figure not in chosen]
    sections = [
        _top(study), _comparison(study), _figure_grid("Figures", main), _differences(study), _conclusions(study),
        _model(study, chosen), _misheard(study, data_dir), _runs(study), _left_out(study),
    ]  # fmt: skip
    return f'<article id="{study.key}" aria-label="{escape(study.name)}">{"".join(sections)}</article>'


def _top(study):
    info, config = study.data_info, study.runs[0].config
    corpus = "synthetic speech (espeak-ng)" if study.synthetic else "Speech Commands v0.02, real recordings"
    words = " and ".join(f"“{escape(str(word))}”" for word in config.get("words") or [])
    banner = (
        '<p class="banner" role="note"><strong>Synthetic data.</strong> These runs learned and were tested on synthetic speech: '
        "they show that the pipeline works, and say little about real voices.</p>"
        if study.synthetic
        else ""
    )
    versions = config.get("versions") or {}
    seed_text = f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''}"
    facts = {
        "Data": f"{corpus}: {words}",
        "Clips": " / ".join(f"{info.get(key, 0):,}" for key in ("train", "val", "test"))
        + " train / validation / test",
        "Runs": f"{len(study.runs)} finished, {len(study.cells)} configuration{'s' if len(study.cells) > 1 else ''}, {seed_text}",
        "Machine": escape(", ".join(_kinds(study, "device_name", "host"))),
        "Software": escape(
            ", ".join(f"{k} {versions[k]}" for k in ("kws", "torch", "python") if k in versions)
            or "not recorded"
        ),
        "Data fingerprint": f"<code>{escape(str(info.get('fingerprint'))[:16])}</code>",
    }
    facts = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in facts.items())
    sentences = "".join(f"<p>{escape(line)}</p>" for line in answer(study))
    kicker = (
        f"{escape(study.name)} · {'synthetic' if study.synthetic else 'real speech'} · {len(study.runs)} runs"
    )
    return f"""<p class="kicker">{kicker}</p>
<h2 class="question">{escape(study.question)}</h2>{banner}
<div class="answer">{sentences}</div><dl class="facts">{facts}</dl>"""


def _kinds(study, *keys):
    return [
        ", ".join(sorted({str(run.config.get(key)) for run in study.runs if run.config.get(key)})) or "?"
        for key in keys
    ]


def _table(caption, heads, rows, classes="cards", marks=()):
    """Return an HTML table; a head ending in # is of numbers; cells are HTML. The row numbers in `marks` stand out."""
    names = [head.rstrip("#") for head in heads]
    kinds = [' class="n"' if head.endswith("#") else "" for head in heads]
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, names))
    body = []
    for index, (first, *rest) in enumerate(rows):
        cells = "".join(
            f'<td{kind} data-head="{name}">{cell}</td>'
            for kind, name, cell in zip(kinds[1:], names[1:], rest)
        )
        body.append(f'<tr{" class=taken" if index in marks else ""}><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="{classes}"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _comparison(study):
    cells = sorted(study.cells, key=lambda cell: -cell.val.mean)[:20] if study.is_search else study.cells
    rows = [
        (
            escape(cell.label), cell.val.n, _stacked(cell.val), _stacked(cell.test), count(cell.params), count(cell.flops),
            seconds(cell.epoch_s.mean),
        )
        for cell in cells
    ]  # fmt: skip
    marks = [index for index, cell in enumerate(cells) if cell is study.recommended and study.recommends]
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
    caption += "; the recommended value is marked." if marks else "."
    if len(cells) < len(study.cells):
        caption = (
            f"The {len(cells)} best of {len(study.cells)} configurations by validation accuracy. {caption}"
        )
    return f"<h3>Comparison</h3>{_table(caption, heads, rows, marks=marks)}"


def _stacked(item):
    if math.isnan(item.sd):
        return percent(item.mean)
    return f'<span>{points(item.mean)} ± {points(item.sd)} %<span class="sub">{points(item.low)} to {points(item.high)}</span></span>'


def _figure_grid(title, drawn):
    return f'<h3>{title}</h3><div class="figures">{"".join(map(_figure, drawn))}</div>' if drawn else ""


def _figure(figure):
    legend = (
        '<div class="legend" role="group" aria-label="Lines to show"></div>'
        if figure["kind"] == "lines" and not figure.get("step")
        else ""
    )
    tall = figure["kind"] in ("heat", "parallel")
    return f"""<figure{' class="whole"' if figure["kind"] == "parallel" else ""}><h4>{escape(figure["title"])}</h4>{legend}
<div class="plot{" tallplot" if tall else ""}" data-figure="{figure["id"]}"></div>
<figcaption>{escape(figure["caption"])}</figcaption>
<details class="numbers" data-figure="{figure["id"]}"><summary>Numbers</summary><div class="scroll"></div></details></figure>"""


def _differences(study):
    if not study.recommends:
        return ""
    rows = []
    for item in study.comparisons:
        clips = (
            "no predictions"
            if item.clips is None
            else f"{item.clips[0]} against {item.clips[1]}, {p_text(item.clips[2])}"
        )
        rows.append(
            (escape(item.cell.label), item.val.n, _difference(item.val), _difference(item.test), clips)
        )
    heads = ("configuration", "pairs#", "validation#", "test#", "clips heard better#")
    best = escape(study.best.label)
    caption = (
        f"Each value minus {best}, the best on validation: percentage points over equal seeds, 95 % interval, Holm-corrected p. "
        f"Last column: test clips that the value heard right in more seeds, against those that {best} did, with McNemar's exact p."
    )
    return f"<h3>Differences</h3>{_table(caption, heads, rows)}"


def _difference(item):
    return f'<span>{100 * item.mean:+.2f}<span class="sub">{points(item.low)} to {points(item.high)}, {p_text(item.p_holm)}</span></span>'


def _conclusions(study):
    lines = "".join(f"<li>{escape(line)}</li>" for line in [*answer(study), *conclusions(study)])
    rows = []
    for claim in claims(study):
        sign = {"confirmed": "✓", "refuted": "✗"}.get(claim.verdict, "–")
        verdict = f'<span class="verdict {claim.verdict.split()[0]}">{sign} {claim.verdict}</span>'
        rows.append((escape(claim.text), verdict, escape(claim.evidence)))
    earlier = (
        "<h3>What the earlier report said</h3><p class=lead>It had one run a value. Each of its claims about this study, against what was "
        f"measured here.</p>{_table('Claims of the earlier report', ('claim', 'verdict', 'numbers'), rows, 'cards text')}"
        if rows
        else ""
    )
    return f'<h3>Conclusions</h3><ul class="lines">{lines}</ul>{earlier}'


def _model(study, chosen):
    run = study.chosen_run
    words = [escape(str(word)) for word in run.config.get("words") or ("label 0", "label 1")]
    parts = [_confusion(run, words)] if run.predictions else []
    parts += [_figure(figure) for figure in chosen]
    table = ""
    if run.layers:
        heads = ("layer", "output shape", "parameters#", "MACs a clip#")
        rows = [
            (
                escape(str(layer.get("layer"))),
                escape(str(layer.get("output_shape"))),
                _whole(layer.get("params")),
                _whole(layer.get("macs")),
            )
            for layer in run.layers
        ]
        table = _table("Parameters and multiply-accumulates of each layer", heads, rows)
    missing = (
        ""
        if run.predictions
        else "<p>The runs that were read hold no predictions, so there is no confusion matrix and no curve.</p>"
    )
    best = run.summary["best/val_accuracy"]
    low, high = clip_interval(run.summary["test/accuracy"], max(study.data_info.get("test", 0), 1))
    lead = (
        f"Run <code>{escape(run.name)}</code> ({escape(run.run_id)}), the best on validation ({percent(best)}) of "
        f"{escape(study.recommended.label)}: {percent(run.summary['test/accuracy'])} of the test clips. For other clips of the same kind "
        f"Wilson's 95 % interval is {points(low)} to {points(high)} %."
    )
    title = "The recommended model" if study.recommends else "The model so far"
    grid = f'<div class="figures">{"".join(parts)}</div>' if parts else ""
    return (
        f'<h3>{title}</h3><p class="lead">{lead}</p>{missing}{grid}<h3>Layers</h3>{table}'
        if table
        else (f'<h3>{title}</h3><p class="lead">{lead}</p>{missing}{grid}')
    )


def _whole(text):
    try:
        return f"{int(float(text)):,}"
    except (TypeError, ValueError):
        return escape(str(text))


def _confusion(run, words):
    counts = [[0, 0], [0, 0]]
    for prediction in run.predictions.values():
        label = int(prediction[0])
        counts[label][label if is_right(prediction) else 1 - label] += 1
    rows = ""
    for label in (0, 1):
        cells = ""
        for heard in (0, 1):
            share = counts[label][heard] / max(sum(counts[label]), 1)
            cells += f'<td class="{"dense" if share > 0.5 else ""}" style="--share: {8 + 92 * share:.0f}%">{counts[label][heard]}</td>'
        rows += f'<tr><th scope="row">spoken “{words[label]}”</th>{cells}</tr>'
    return f"""<figure><h4>Confusion matrix of {escape(run.name)}</h4><table class="confusion"><caption>Test clips by word and by what was heard</caption>
<thead><tr><td style="background: none"></td><th scope="col">heard “{words[0]}”</th><th scope="col">heard “{words[1]}”</th></tr></thead><tbody>{rows}</tbody></table></figure>"""


def _misheard(study, data_dir):
    with_predictions = sum(bool(run.predictions) for run in study.runs)
    if not with_predictions:
        return ""
    clips, total = misheard(study, data_dir)
    if not clips:
        return f"<h3>Misheard clips</h3><p>No run misheard any test clip ({with_predictions} runs).</p>"
    items = []
    for clip in clips:
        sound = (
            f'<img src="data:image/png;base64,{clip.picture}" width="101" height="64" alt="Log-mel picture of the clip">'
            f'<audio controls preload="metadata" src="data:audio/wav;base64,{clip.wav}" aria-label="{escape(clip.path)}"></audio>'
            if clip.wav
            else ""
        )
        items.append(
            f"<li><p><strong>“{escape(clip.word)}”</strong> heard as “{escape(clip.heard)}” by {clip.wrong} of {clip.runs} runs</p>{sound}"
            f'<span class="sub">{escape(clip.path)}; mean probability of the right word {percent(clip.probability, 0)}</span></li>'
        )
    lead = f"{total} of {study.data_info.get('test', 0)} test clips were misheard by at least one of {with_predictions} runs."
    lead += (
        f" The {len(clips)} most often misheard:" if total > len(clips) else " All of them, the worst first:"
    )
    lead += (
        " a second of sound each, its log-mel picture from 0 to 8 kHz, low at the bottom."
        if clips[0].wav
        else ""
    )
    if not all(clip.wav for clip in clips):
        lead += " The data set is not at hand here, so clips without a player are only named; --data_dir says where it is."
    return f'<h3>Misheard clips</h3><p class="lead">{lead}</p><ul class="clips">{"".join(items)}</ul>'


def _runs(study):
    names = [name for name in (*study.parameters, "seed")]
    heads = ["run", *names, "best epoch", "validation", "test", "test errors", "epoch time", "where"]
    body = []
    for run in study.runs:
        summary = run.summary
        cells = [(value_text(run.config.get(name)), run.config.get(name)) for name in names]
        cells += [
            (str(summary.get("best/epoch", "")), summary.get("best/epoch", "")),
            (percent(summary["best/val_accuracy"]), summary["best/val_accuracy"]),
            (percent(summary["test/accuracy"]), summary["test/accuracy"]),
            (str(summary.get("test/errors", "")), summary.get("test/errors", "")),
            (seconds(summary["time/epoch_s_median"]), summary["time/epoch_s_median"]),
        ]
        numbers = "".join(
            f'<td class="n" data-value="{escape(str(value))}">{escape(text)}</td>' for text, value in cells
        )
        body.append(
            f'<tr><th scope="row">{escape(run.name)}</th>{numbers}<td><code>{escape(run.where)}</code></td></tr>'
        )
    head = "".join(
        f'<th scope="col"{"" if name in ("run", "where") else " class=n"}><button type="button">{escape(name)}</button></th>'
        for name in heads
    )
    return f"""<h3>All runs</h3><div class="tall" tabindex="0" role="region" aria-label="All runs of {escape(study.name)}">
<table class="runs"><caption>{len(study.runs)} runs; a click on a head sorts.</caption><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>"""


def _left_out(study):
    if not study.excluded and not study.missing:
        return "<p class=lead>No run was left out.</p>"
    lines = [
        f"<strong>{escape(item.name)}</strong> (<code>{escape(item.where)}</code>): {escape(item.reason)}"
        for item in study.excluded
    ]
    lines += [
        f"<strong>{escape(name)}</strong>: in the sweep file, but no finished run" for name in study.missing
    ]
    return f'<h3>Left out</h3><p class="lead">These count in no figure and no number.</p><ul class="lines">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'
