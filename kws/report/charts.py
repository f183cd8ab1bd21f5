"""The figures of a study as plain data, drawn by page.js on the page and by plots.py into files.

A figure is a dict: `id`, `title`, `caption`, `kind` (lines, dots, bars, scatter, heat, parallel), `x` and `y` (axes:
`label`, `format`, and where they are set `domain` and `log`) and what the kind needs. Formats: percent (of a fraction),
seconds, count, number. A colour is the place of its configuration in the study. Not-a-number becomes None.
"""

import math

import numpy as np
import torch

from kws import metrics
from kws.analysis.study import LAST_EPOCHS, last_epochs_spread
from kws.formatting import count, percent
from kws.report.search_charts import heat, importance_bars, make_figure, parallel
from kws.training.evaluation import Evaluation

MOST_LINES = 8  # more values than that are not told apart by colour
BEST_SHOWN = 0.2  # share of a search's runs that its figures call the best


def figures(study):
    """Return the study's figures, most telling first."""
    if study.is_search:
        found = [parallel(study), importance_bars(study)]
    elif len(study.parameters) == 2:
        found = [heat(study, "val", "Validation accuracy"), heat(study, "test", "Test accuracy")]
    else:
        found = [_accuracy(study)]
    found += [_curves(study, metrics.TRAIN_LOSS), _curves(study, metrics.VAL_ACCURACY)]
    if len(study.parameters) == 1 and not study.is_search:
        found += [_epoch_time(study), _stability(study), _bars(study, "params"), _bars(study, "flops")]
    found += [_trade_off(study), *_threshold_curves(study)]
    return [_finite(figure) for figure in found if figure]


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _axis_label(study):
    return ", ".join(study.parameters) or "configuration"


def _by_seed_text(study):
    return f"Each dot is a seed; the bar is the mean and its 95 % interval (n = {_n_text(study)})."


def _n_text(study):
    fewest, most = (
        min(configuration.val.n for configuration in study.configurations),
        max(configuration.val.n for configuration in study.configurations),
    )
    return str(most) if fewest == most else f"{fewest} to {most}"


def _dots(study, name, title, caption, y, value, estimate):
    groups = [
        {
            "label": configuration.short_label,
            "color": index,
            "points": [{"name": run.name, "y": value(run)} for run in configuration.runs],
            "mean": estimate(configuration).mean,
            # No quantity shown here is negative, but a t interval may reach below zero.
            "low": estimate(configuration).low
            if math.isnan(estimate(configuration).low)
            else max(0.0, estimate(configuration).low),
            "high": estimate(configuration).high,
        }
        for index, configuration in enumerate(study.configurations)
    ]
    return make_figure(study, name, "dots", title, caption, {"label": _axis_label(study)}, y, groups=groups)


def _accuracy(study):
    caption = f"{_by_seed_text(study)} {study.data_info.get('test', 0)} test clips; one more error is one step down."
    return _dots(
        study, "test-accuracy", f"Test accuracy by {_axis_label(study)}", caption,
        {"label": "test accuracy", "format": "percent"},
        lambda run: run.summary[metrics.TEST_ACCURACY], lambda configuration: configuration.test,
    )  # fmt: skip


def _epoch_time(study):
    caption = (
        f"Median seconds of a training epoch, validation left out, the first epoch dropped. {_by_seed_text(study)}"
    )
    return _dots(
        study, "epoch-time", f"Epoch time by {_axis_label(study)}", caption,
        {"label": "seconds an epoch", "format": "seconds", "zero": True},
        lambda run: run.summary[metrics.EPOCH_S_MEDIAN], lambda configuration: configuration.epoch_s,
    )  # fmt: skip


def _stability(study):
    if all(math.isnan(configuration.stability.mean) for configuration in study.configurations):
        return None
    caption = (
        f"Standard deviation of validation accuracy over a run's last {LAST_EPOCHS} epochs: higher is less stable. "
        f"{_by_seed_text(study)}"
    )
    return _dots(
        study, "stability", f"Stability by {_axis_label(study)}", caption,
        {"label": "standard deviation, percentage points", "format": "points", "zero": True},
        last_epochs_spread, lambda configuration: configuration.stability,
    )  # fmt: skip


def _bars(study, what):
    title, label = {"params": ("Parameters", "parameters"), "flops": ("FLOPs", "FLOPs a clip")}[what]
    caption = {
        "params": "Trained numbers of the network.",
        "flops": "Arithmetic of the network for a second (2 x multiply-accumulates), the log-mel layer left out.",
    }[what]
    bars = [
        {"label": configuration.short_label, "color": index, "y": getattr(configuration, what)}
        for index, configuration in enumerate(study.configurations)
    ]
    return make_figure(
        study, what, "bars", f"{title} by {_axis_label(study)}", caption,
        {"label": _axis_label(study)}, {"label": label, "format": "count", "zero": True}, bars=bars,
    )  # fmt: skip


def _curves(study, column):
    if not any(value > 0 for run in study.runs for value in run.history.get(column, [])):
        return None  # not recorded, or not a number throughout
    titles = {metrics.TRAIN_LOSS: "Training loss", metrics.VAL_ACCURACY: "Validation accuracy"}
    y = {"label": titles[column].lower(), "format": "percent" if column == metrics.VAL_ACCURACY else "number"}
    if column == metrics.TRAIN_LOSS:
        y["log"] = True
    else:
        y["domain"] = _after_the_start(study.runs, column)
    if study.is_search or len(study.configurations) > MOST_LINES:
        groups = _best_and_rest(study)
        caption = "Mean and range of the best runs by validation and of the rest; each run faint."
    else:
        groups = [
            (configuration.label, index, configuration.runs) for index, configuration in enumerate(study.configurations)
        ]
        caption = "Line: mean over seeds. Band: lowest to highest seed. Faint: each run."
        if column == metrics.VAL_ACCURACY:
            caption += " The scale is that after the first fifth of the epochs."
    series = [_series(label, color, runs, column) for label, color, runs in groups]
    name = column.replace("/", "-")
    x = {"label": "epoch", "format": "whole"}
    return make_figure(study, name, "lines", f"{titles[column]} by epoch", caption, x, y, series=series)


def _after_the_start(runs, column):
    """Return the range of values after the first fifth of the epochs, which would squeeze all that follows."""
    columns = [run.history.get(column) or [math.nan] for run in runs]
    later = [value for c in columns for value in c[len(c) // 5 :] if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(later), max(later)
    air = max(0.05 * (high - low), 0.002)
    return [max(0.0, low - air), min(1.0 + air / 2, high + air)]


def _best_and_rest(study):
    ranked = sorted(study.runs, key=lambda run: -run.summary[metrics.BEST_VAL_ACCURACY])
    cut = max(1, round(BEST_SHOWN * len(ranked)))
    return [group for group in ((f"best {cut}", 0, ranked[:cut]), ("the rest", 1, ranked[cut:])) if group[2]]


def _series(label, color, runs, column):
    length = max(len(run.history["epoch"]) for run in runs)
    columns = [run.history.get(column, []) for run in runs]
    by_epoch = [[c[i] for c in columns if i < len(c) and math.isfinite(c[i])] for i in range(length)]
    return {
        "name": label,
        "color": color,
        "x": list(range(1, length + 1)),
        "mean": [sum(values) / len(values) if values else None for values in by_epoch],
        "low": [min(values, default=None) for values in by_epoch],
        "high": [max(values, default=None) for values in by_epoch],
        "runs": [{"name": run.name, "y": values} for run, values in zip(runs, columns, strict=True)]
        if len(runs) > 1
        else [],
    }


def _trade_off(study):
    if len({configuration.flops for configuration in study.configurations}) < 2:
        return None
    front = pareto([(configuration.flops, configuration.val.mean) for configuration in study.configurations])
    configurations = [
        {
            "label": configuration.label,
            "color": 0 if len(study.configurations) > MOST_LINES else index,
            "x": configuration.flops,
            "y": configuration.val.mean,
            "low": configuration.val.low,
            "high": configuration.val.high,
            "front": index in front,
        }
        for index, configuration in enumerate(study.configurations)
    ]
    caption = (
        "Mean validation accuracy with its 95 % interval. The line is the Pareto front: no other value is both "
        "cheaper and as accurate. Intervals that overlap make a step of the front uncertain."
    )
    return make_figure(
        study, "trade-off", "scatter", "Accuracy against FLOPs", caption,
        {"label": "FLOPs a clip", "format": "count", "log": True},
        {"label": "validation accuracy", "format": "percent"},
        cells=configurations,
    )  # fmt: skip


def pareto(points):
    """Return the indices of the (cost, accuracy) points that no other point beats, cheapest first."""
    front, highest = [], -math.inf
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        accuracy = round(points[index][1], 9)  # as many errors, added in another order, are the same mean
        if accuracy > highest:
            front.append(index)
            highest = accuracy
    return front


def _threshold_curves(study):
    run = study.chosen_run
    if not run.predictions:
        return []
    labels, probabilities = (torch.tensor(column) for column in zip(*run.predictions.values(), strict=True))
    evaluation = Evaluation(list(run.predictions), labels, probabilities, math.nan)
    false_rate, true_rate = zip(*evaluation.roc(), strict=True)
    recall, precision = zip(*evaluation.precision_recall(), strict=True)
    area = float(np.trapezoid(true_rate, false_rate))
    average = float(np.sum(np.diff(recall) * precision[1:]))
    words = run.config["words"]
    zoom = area > 0.99  # the whole square would show a corner
    note = " Only the corner near the ideal is shown." if zoom else ""
    roc = _curve(
        study, "roc", f"ROC of {run.name}",
        f"Area under the curve {area:.5f}; {words[1]!r} is the positive word.{note}",
        ("false positive rate", false_rate, [0, 0.1] if zoom else [0, 1]), ("true positive rate", true_rate, zoom),
    )  # fmt: skip
    pr = _curve(
        study, "precision-recall", f"Precision and recall of {run.name}", f"Average precision {average:.5f}.{note}",
        ("recall", recall, [0.9, 1] if zoom else [0, 1]), ("precision", precision, zoom),
    )  # fmt: skip
    return [roc, pr]


def _curve(study, name, title, caption, x, y):
    (x_label, xs, x_domain), (y_label, ys, zoom) = x, y
    series = [{"name": y_label, "color": 0, "x": list(xs), "mean": list(ys), "low": [], "high": [], "runs": []}]
    return make_figure(
        study, name, "lines", title, caption,
        {"label": x_label, "format": "percent", "domain": x_domain},
        {"label": y_label, "format": "percent", "domain": [0.9, 1] if zoom else [0, 1]}, series=series, step=True,
    )  # fmt: skip


def summary_text(figure):
    """Return one sentence that tells a screen reader what the figure shows."""

    def show(value):
        if value is None:
            return "n/a"
        return {"percent": percent, "count": count}.get(figure["y"].get("format"), lambda v: f"{v:.3g}")(value)

    items = {
        "dots": lambda: [f"{group['label']}: {show(group['mean'])}" for group in figure["groups"]],
        "bars": lambda: [f"{bar['label']}: {show(bar['y'])}" for bar in figure["bars"]],
        "lines": lambda: [f"{s['name']} ends at {show(s['mean'][-1])}" for s in figure["series"]],
        "scatter": lambda: [
            f"{configuration['label']}: {show(configuration['y'])} at {count(configuration['x'])}"
            for configuration in figure["cells"]
        ],
        "heat": lambda: [f"{s['text']}" for s in figure["squares"]],
        "parallel": lambda: [f"{len(figure['lines'])} runs"],
    }[figure["kind"]]()
    return f"{figure['title']}. {'; '.join(items[:12])}."
