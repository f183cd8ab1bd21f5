"""The page's evidence: the recommended model, the misclassified clips, every run, and the excluded runs."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from kws import metrics
from kws.analysis.records import Excluded, RunRecord
from kws.analysis.statistics import clip_interval
from kws.analysis.study import Study, is_right
from kws.formatting import percent, percentage_points, seconds, value_text
from kws.report.html import bullets, figure_frame, table
from kws.report.misclassified import Clip, misclassified
from kws.report.search_charts import Figure

RUN_METRICS = (
    ("best epoch", metrics.BEST_EPOCH, value_text),
    ("validation", metrics.BEST_VAL_ACCURACY, percent),
    ("test", metrics.TEST_ACCURACY, percent),
    ("test errors", metrics.TEST_ERRORS, value_text),
    ("epoch time", metrics.EPOCH_S_MEDIAN, seconds),
)


def model_section(study: Study, curves: Sequence[Figure]) -> str:
    """Return the recommended model: confusion matrix, ROC and precision-recall (`curves`), and its layers."""
    run = study.chosen_run
    accuracy = run.summary[metrics.TEST_ACCURACY]
    low, high = clip_interval(accuracy, max(study.data_info["test"], 1))
    lead = (
        f"Run <code>{escape(run.name)}</code> ({escape(run.run_id)}) has the best validation accuracy "
        f"({percent(run.summary[metrics.BEST_VAL_ACCURACY])}) of {escape(study.recommended.label)}. It classifies "
        f"{percent(accuracy)} of the test clips correctly; for other clips of the same kind Wilson's 95 % interval is "
        f"{percentage_points(low)} to {percentage_points(high)} %."
    )
    if run.predictions:
        shown = f'<div class="figures three">{"".join([_confusion(run), *map(figure_frame, curves)])}</div>'
    else:
        shown = "<p>This run has no predictions, so there is no confusion matrix and no curve.</p>"
    title = "The recommended model" if study.recommends else "The best model so far"
    return f'<h3>{title}</h3><p class="lead">{lead}</p>{shown}{_layers(run)}'


def _layers(run: RunRecord) -> str:
    if not run.layers:
        return ""
    rows = [
        [escape(layer.get("layer") or ""), escape(layer.get("output_shape") or "1")]
        + [_whole(layer.get(name)) for name in ("params", "macs")]
        for layer in run.layers
    ]
    heads = ("layer", "output shape#", "parameters#", "MACs per clip#")
    return "<h3>Layers</h3>" + table("Parameters and multiply-accumulates of each layer of the network", heads, rows)


def _whole(text: str | None) -> str:
    try:
        return f"{int(float(text or '')):,}"
    except (ValueError, OverflowError):
        return escape(str(text))


def _confusion(run: RunRecord) -> str:
    words = [escape(str(word)) for word in run.config["words"]]
    counts = [[0, 0], [0, 0]]
    for label, probability in run.predictions.values():
        counts[label][label if is_right((label, probability)) else 1 - label] += 1
    rows = []
    for word, row in zip(words, counts, strict=True):
        shares = [number / max(sum(row), 1) for number in row]
        cells = "".join(
            f'<td class="{"dense" if share > 0.5 else ""}" style="--share: {8 + 92 * share:.0f}%">{number}</td>'
            for share, number in zip(shares, row, strict=True)
        )
        rows.append(f'<tr><th scope="row">spoken “{word}”</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">predicted “{word}”</th>' for word in words)
    return (
        f"<figure><h4>Confusion matrix of {escape(run.name)}</h4>"
        '<table class="confusion"><caption>Test clips by spoken and predicted word</caption>'
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></figure>"
    )


def misclassified_section(study: Study, data_dir: str | Path | None) -> str:
    """Return the most frequently misclassified clips, with audio and picture where the data set is available."""
    runs = sum(bool(run.predictions) for run in study.runs)
    if not runs:
        return ""
    clips, total, tested = misclassified(study, data_dir)
    if not clips:
        return f"<h3>Misclassified clips</h3><p>No test clip was misclassified by any of the {runs} runs.</p>"
    order = f"The {len(clips)} most frequent are shown." if total > len(clips) else "Most frequent first."
    lead = f"{total:,} of {tested:,} test clips were misclassified by at least one of {runs} runs. {order}"
    if any(clip.wav for clip in clips):
        lead += " Pictures show the log-mel over one second, 0 to 8 kHz from bottom to top."
    if not all(clip.wav for clip in clips):
        lead += " Clips without a player were not found: <code>--data_dir</code> sets where SpeechCommands/ is."
    items = "".join(map(_clip, clips))
    return f'<h3>Misclassified clips</h3><p class="lead">{lead}</p><ul class="clips">{items}</ul>'


def _clip(clip: Clip) -> str:
    name, word = escape(clip.path), escape(clip.word)
    media = (
        f'<img src="data:image/png;base64,{clip.picture}" width="101" height="64" alt="Log-mel picture of {name}">'
        f'<audio controls preload="metadata" src="data:audio/wav;base64,{clip.wav}" aria-label="{name}"></audio>'
    )
    return (
        f"<li><p><strong>“{word}”</strong> classified as “{escape(clip.predicted)}”<br>"
        f"by {clip.wrong} of {clip.runs} runs</p>{media if clip.wav else ''}"
        f'<span class="sub">{name}<br>mean probability of “{word}” {percent(clip.probability, 0)}</span></li>'
    )


def runs_section(study: Study) -> str:
    """Return all runs as a sortable table."""
    settings = [*study.parameters, "seed"]
    rows = []
    for run in study.runs:
        values = (escape(value_text(run.config[name])) for name in settings)
        numbers = (text(run.summary[key]) if key in run.summary else "" for _, key, text in RUN_METRICS)
        rows.append([escape(run.name), *values, *numbers, f"<code>{escape(run.where)}</code>"])
    heads = ["run", *(f"{name}#" for name in (*settings, *(name for name, _, _ in RUN_METRICS))), "where"]
    caption = f"{len(rows)} runs of {escape(study.title)}; click a column head to sort"
    return f"<h3>All runs</h3>{table(caption, heads, rows, sortable=True)}"


def excluded_section(study: Study) -> str:
    """Return the excluded runs with the reason, and the sweep file's configurations without a finished run."""
    if not study.excluded and not study.missing:
        return '<p class="lead">No run was excluded.</p>'
    lines = _reasons(study.excluded)
    lines += [f"<strong>{escape(name)}</strong>: in the sweep file, but no finished run" for name in study.missing]
    return f'<h3>Excluded</h3><p class="lead">These are in no figure and in no number.</p>{bullets(lines)}'


def without_result_section(excluded: Sequence[Excluded]) -> str:
    """Return the runs of studies without a finished run; "" if there are none."""
    if not excluded:
        return ""
    lines = [f"{escape(item.study)}: {line}" for item, line in zip(excluded, _reasons(excluded), strict=True)]
    lead = '<h3>Studies without a result</h3><p class="lead">None of their runs can be used.</p>'
    return f'<article aria-label="Studies without a result">{lead}{bullets(lines)}</article>'


def _reasons(excluded: Iterable[Excluded]) -> list[str]:
    return [
        f"<strong>{escape(item.name)}</strong> (<code>{escape(item.where)}</code>): {escape(item.reason)}"
        for item in excluded
    ]
