"""The page's evidence: the recommended model, the misclassified clips, every run, and what was left out."""

from html import escape

from kws import metrics
from kws.analysis.statistics import clip_interval
from kws.analysis.study import is_right
from kws.formatting import percent, percentage_points, seconds, value_text
from kws.report.html import bullets, figure, table
from kws.report.misclassified import misclassified


def model_section(study, curves):
    """Return the recommended model: confusion matrix, ROC and precision-recall (`curves`), and its layers."""
    run = study.chosen_run
    accuracy = run.summary[metrics.TEST_ACCURACY]
    low, high = clip_interval(accuracy, max(study.data_info["test"], 1))
    lead = (
        f"Run <code>{escape(run.name)}</code> ({escape(run.run_id)}) is the best on validation "
        f"({percent(run.summary['best/val_accuracy'])}) of {escape(study.recommended.label)}. It hears "
        f"{percent(accuracy)} of the test clips right; for other clips of the same kind Wilson's 95 % interval is "
        f"{percentage_points(low)} to {percentage_points(high)} %."
    )
    if run.predictions:
        parts = [_confusion(run), *map(figure, curves)]
        shown = f'<div class="figures three">{"".join(parts)}</div>'
    else:
        shown = "<p>This run holds no predictions, so there is no confusion matrix and no curve.</p>"
    title = "The recommended model" if study.recommends else "The model so far"
    return f'<h3>{title}</h3><p class="lead">{lead}</p>{shown}{_layers(run)}'


def _layers(run):
    if not run.layers:
        return ""
    rows = [
        [escape(layer.get("layer") or ""), escape(layer.get("output_shape") or "1")]
        + [_whole(layer.get(name)) for name in ("params", "macs")]
        for layer in run.layers
    ]
    heads = ("layer", "output shape#", "parameters#", "MACs a clip#")
    return "<h3>Layers</h3>" + table("Parameters and multiply-accumulates of each layer of the network", heads, rows)


def _whole(text):
    try:
        return f"{int(float(text)):,}"
    except (TypeError, ValueError, OverflowError):
        return escape(str(text))


def _confusion(run):
    words = [escape(str(word)) for word in run.config["words"]]
    counts = [[0, 0], [0, 0]]
    for label, probability in run.predictions.values():
        counts[label][label if is_right((label, probability)) else 1 - label] += 1
    rows = []
    for label, word in enumerate(words):
        shares = [number / max(sum(counts[label]), 1) for number in counts[label]]
        cells = "".join(
            f'<td class="{"dense" if share > 0.5 else "thin"}" style="--share: {8 + 92 * share:.0f}%">{number}</td>'
            for share, number in zip(shares, counts[label], strict=True)
        )
        rows.append(f'<tr><th scope="row">spoken “{word}”</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">heard “{word}”</th>' for word in words)
    return (
        f"<figure><h4>Confusion matrix of {escape(run.name)}</h4>"
        '<table class="confusion"><caption>Test clips by what was spoken and what was heard</caption>'
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></figure>"
    )


def misclassified_section(study, data_dir):
    """Return the clips misclassified most often, with player and picture where the data are at hand."""
    runs = sum(bool(run.predictions) for run in study.runs)
    if not runs:
        return ""
    clips, total, tested = misclassified(study, data_dir)
    if not clips:
        return f"<h3>Misclassified clips</h3><p>No test clip was misclassified by any of the {runs} runs.</p>"
    lead = f"{total:,} of {tested:,} test clips were misclassified by at least one of {runs} runs."
    lead += (
        f" The {len(clips)} most often misclassified:" if total > len(clips) else " The most often misclassified first:"
    )
    if any(clip.wav for clip in clips):
        lead += " each with its sound and its log-mel picture, a second wide, 0 to 8 kHz from bottom to top."
    if not all(clip.wav for clip in clips):
        lead += " Clips without a player were not found; <code>--data_dir</code> says where the data are."
    items = "".join(map(_clip, clips))
    return f'<h3>Misclassified clips</h3><p class="lead">{lead}</p><ul class="clips">{items}</ul>'


def _clip(clip):
    name = escape(clip.path)
    media = ""
    if clip.wav:
        media = (
            f'<img src="data:image/png;base64,{clip.picture}" width="101" height="64" alt="Log-mel picture of {name}">'
            f'<audio controls preload="metadata" src="data:audio/wav;base64,{clip.wav}" aria-label="{name}"></audio>'
        )
    return (
        f"<li><p><strong>“{escape(clip.word)}”</strong> heard as “{escape(clip.heard)}”<br>"
        f"by {clip.wrong} of {clip.runs} runs</p>{media}"
        f'<span class="sub">{name}<br>'
        f"mean probability of “{escape(clip.word)}” {percent(clip.probability, 0)}</span></li>"
    )


def runs_section(study):
    """Return all runs as a table that sorts."""
    settings = [*study.parameters, "seed"]
    heads = ["run", *settings, "best epoch", "validation", "test", "test errors", "epoch time", "where"]
    body = []
    for run in study.runs:
        cells = [(run.config[name], value_text(run.config[name])) for name in settings]
        for key, text in (
            (metrics.BEST_EPOCH, value_text),
            (metrics.BEST_VAL_ACCURACY, percent),
            (metrics.TEST_ACCURACY, percent),
            (metrics.TEST_ERRORS, value_text),
            (metrics.EPOCH_S_MEDIAN, seconds),
        ):
            value = run.summary.get(key, "")
            cells.append((value, text(value) if value != "" else ""))
        cells = "".join(f'<td class="n" data-value="{escape(str(v))}">{escape(text)}</td>' for v, text in cells)
        where = f"<td><code>{escape(run.where)}</code></td>"
        body.append(f'<tr><th scope="row">{escape(run.name)}</th>{cells}{where}</tr>')
    head = "".join(
        f'<th scope="col"{"" if name in ("run", "where") else " class=n"}><button type="button">{name}</button></th>'
        for name in heads
    )
    return (
        f'<h3>All runs</h3><div class="tall" tabindex="0" role="region" aria-label="All runs of {escape(study.title)}">'
        f'<table class="runs"><caption>{len(study.runs)} runs; press a column head to sort by it</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def left_out_section(study):
    """Return the runs that no number counts, with the reason, and the sweep file's cells that have no finished run."""
    if not study.excluded and not study.missing:
        return '<p class="lead">No run was left out.</p>'
    lines = _left_out(study.excluded)
    lines += [f"<strong>{escape(name)}</strong>: in the sweep file, but no finished run" for name in study.missing]
    return f'<h3>Left out</h3><p class="lead">These count in no figure and no number.</p>{bullets(lines)}'


def lost_section(excluded):
    """Return the runs of studies that have no finished run; "" where there are none."""
    if not excluded:
        return ""
    lines = [f"{escape(item.study)}: {line}" for item, line in zip(excluded, _left_out(excluded), strict=True)]
    lead = '<h3>Studies without a result</h3><p class="lead">None of their runs can be counted.</p>'
    return f'<article aria-label="Studies without a result">{lead}{bullets(lines)}</article>'


def _left_out(excluded):
    return [
        f"<strong>{escape(item.name)}</strong> (<code>{escape(item.where)}</code>): {escape(item.reason)}"
        for item in excluded
    ]
