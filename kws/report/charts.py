"""The figures of a study."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import altair as alt
import numpy as np
import torch

from kws import metrics
from kws.analysis.records import RunRecord
from kws.analysis.statistics import Estimate
from kws.analysis.study import LAST_EPOCHS, Configuration, Study, last_epochs_spread
from kws.formatting import count, percent
from kws.report import chart_kinds as kinds
from kws.report import search_charts
from kws.report.chart_kinds import COUNT, MOST_COLOURS, NUMBER, PERCENT, SECONDS, Axis, Figure, Row
from kws.training.evaluation import Evaluation

MOST_HOVERED = 3000  # points of single runs with a tooltip: more slow the page down
BEST_SHOWN = 0.2  # share of a search's runs that its figures call the best
CURVES = {metrics.TRAIN_LOSS: "Training loss", metrics.VAL_ACCURACY: "Validation accuracy"}
EPOCH_TIME = "Median training time per epoch, without validation and without the first epoch."
STABILITY = f"Standard deviation of validation accuracy over a run's last {LAST_EPOCHS} epochs: higher is less stable."
FLOPS = "FLOPs of the network for one clip of a second (2 x multiply-accumulates), without the log-mel layer."
PARETO = (
    "Mean validation accuracy with its 95 % interval. The line is the Pareto front: no other configuration is both "
    "cheaper and as accurate. Where intervals overlap, the front is uncertain."
)


def figures(study: Study) -> list[Figure]:
    """Return the study's figures, most informative first."""
    found: list[Figure | None]
    if study.is_search:
        found = [search_charts.parallel(study), search_charts.importance_chart(study)]
    elif len(study.parameters) == 2:
        found = [
            search_charts.heat(study, "val", "Validation accuracy"),
            search_charts.heat(study, "test", "Test accuracy"),
        ]
    else:
        caption = f"{study.data_info.get('test', 0)} test clips; the smallest step is one clip."
        value = _summary(metrics.TEST_ACCURACY)
        found = [_dots(study, "Test accuracy", caption, "test accuracy", PERCENT, value, lambda item: item.test)]
    found += [_curves(study, metric) for metric in CURVES]
    if len(study.parameters) == 1 and not study.is_search:
        value, y = _summary(metrics.EPOCH_S_MEDIAN), "standard deviation"
        if not any(math.isnan(item.epoch_s.mean) for item in study.configurations):  # else they are not comparable
            label = "seconds per epoch"
            found += [_dots(study, "Epoch time", EPOCH_TIME, label, SECONDS, value, lambda item: item.epoch_s)]
        found += [
            _dots(study, "Stability", STABILITY, y, PERCENT, last_epochs_spread, lambda item: item.stability),
            _cost(study, "params", "Parameters", "Trainable parameters of the network.", "parameters"),
            _cost(study, "flops", "FLOPs", FLOPS, "FLOPs per clip"),
        ]
    return [figure for figure in (*found, _trade_off(study), *_threshold_curves(study)) if figure]


def _label(study: Study) -> str:
    return ", ".join(study.parameters) or "configuration"


def _summary(metric: str) -> Callable[[RunRecord], float]:
    return lambda run: run.summary.get(metric, math.nan)


def _dots(
    study: Study, title: str, caption: str, y_label: str, unit: tuple[Any, str],
    value: Callable[[RunRecord], float], estimate: Callable[[Configuration], Estimate],
) -> Figure | None:  # fmt: skip
    bars: list[Row] = []
    for configuration in study.configurations:
        item = estimate(configuration)
        # No quantity shown here is negative, but a t interval may reach below zero.
        interval = {"low": max(item.low, 0.0), "high": item.high}
        bars.append({"label": configuration.short_label, "n": item.n, "mean": item.mean} | interval)
    if all(math.isnan(bar["mean"]) for bar in bars):
        return None
    points = [
        {"label": item.short_label, "run": run.name, "y": value(run)}
        for item in study.configurations
        for run in item.runs
    ]
    numbers = [bar[name] for bar in bars for name in ("mean", "low", "high")] + [point["y"] for point in points]
    ns = sorted({item.val.n for item in study.configurations})
    n = str(ns[0]) if len(ns) == 1 else f"{ns[0]} to {ns[-1]}"
    caption = f"{caption} Each dot is one seed; the bar is the mean and its 95 % interval (n = {n})."
    y = Axis(y_label, unit, kinds.domain(numbers, zero=title != "Test accuracy"))
    key, title = f"{study.key}-{title.lower().replace(' ', '-')}", f"{title} by {_label(study)}"
    return kinds.dots(key, title, caption, _label(study), y, bars, points)


def _cost(study: Study, name: str, title: str, caption: str, y_label: str) -> Figure:
    values = {item.short_label: getattr(item, name) for item in study.configurations}
    title = f"{title} by {_label(study)}"
    return kinds.bars(f"{study.key}-{name}", title, caption, _label(study), y_label, COUNT, values)


def _curves(study: Study, metric: str) -> Figure | None:
    columns = [run.history.get(metric, []) for run in study.runs]
    if not any(value > 0 for column in columns for value in column):
        return None  # not recorded, or NaN in every epoch
    is_loss, title = metric == metrics.TRAIN_LOSS, CURVES[metric]
    if study.is_search or len(study.configurations) > MOST_COLOURS:
        groups = _best_and_rest(study)
        caption = "Mean and range of the best runs by validation accuracy and of the others. Thin lines: single runs."
    else:
        groups = [(item.label, item.runs) for item in study.configurations]
        caption = "Line: mean over seeds. Band: lowest to highest seed. Thin lines: single runs."
        if not is_loss:
            caption += " The first fifth of the epochs does not affect the scale."
    values = [value for column in columns for value in column[0 if is_loss else len(column) // 5 :]]
    y = Axis(title.lower(), NUMBER if is_loss else PERCENT, kinds.domain(values, log=is_loss), log=is_loss)
    epochs = range(1, 1 + max(len(run.history[metrics.EPOCH]) for run in study.runs))
    x = Axis("epoch", NUMBER, [1, len(epochs)] if len(epochs) > 1 else [0, 2], whole=True)
    few = sum(map(len, columns)) <= MOST_HOVERED
    curves = [curve for label, runs in groups for curve in _series(label, runs, metric, epochs, few)]
    return kinds.lines(f"{study.key}-{metric.replace('/', '-')}", f"{title} by epoch", caption, x, y, curves)


def _best_and_rest(study: Study) -> list[tuple[str, list[RunRecord]]]:
    ranked = sorted(study.runs, key=lambda run: -run.summary[metrics.BEST_VAL_ACCURACY])
    cut = max(1, round(BEST_SHOWN * len(ranked)))
    return [group for group in ((f"best {cut}", ranked[:cut]), ("others", ranked[cut:])) if group[1]]


def _series(label: str, runs: Sequence[RunRecord], metric: str, epochs: Iterable[int], named: bool) -> list[Row]:
    """Return the mean and range over the runs, and the runs if there are several: see `chart_kinds.lines`."""
    columns = [run.history.get(metric, []) for run in runs]
    by_epoch = [[c[i - 1] for c in columns if i <= len(c) and math.isfinite(c[i - 1])] or [math.nan] for i in epochs]
    values = {"y": [sum(v) / len(v) for v in by_epoch], "low": [*map(min, by_epoch)], "high": [*map(max, by_epoch)]}
    name = f"{label}, mean" if len(runs) > 1 else label
    mean: Row = {"series": label, "x": list(epochs), "line": [name] * len(by_epoch)} | values
    single: Row = {"series": label, "single": True, "x": [], "y": []}
    for column in columns:
        single["x"] += range(1, len(column) + 2)
        single["y"] += [*column, math.nan]
    if named:
        single["line"] = [run.name for run, column in zip(runs, columns, strict=True) for _ in range(len(column) + 1)]
    return [mean, single] if len(runs) > 1 else [mean]


def _trade_off(study: Study) -> Figure | None:
    if len({item.flops for item in study.configurations}) < 2:
        return None
    front = pareto([(item.flops, item.val.mean) for item in study.configurations])
    points: list[Row] = [
        {"label": item.label, "x": item.flops, "y": item.val.mean, "low": item.val.low, "high": item.val.high}
        | {"front": index in front}
        for index, item in enumerate(study.configurations)
    ]
    few = len(points) <= MOST_COLOURS
    x = Axis("FLOPs per clip", COUNT, kinds.domain([point["x"] for point in points], log=True), log=True)
    shown = [point[name] for point in points for name in (("y", "low", "high") if few else ("y",))]
    y = Axis("validation accuracy", PERCENT, kinds.domain(shown))
    place, color = [x(alt.X, "x"), y(alt.Y, "y")], kinds.colour([point["label"] for point in points])
    interval = [y.tooltip("low", "95 % interval from"), y.tooltip("high", "to")]
    base = kinds.layer("points").encode(*place, tooltip=["label:N", x.tooltip("x"), y.tooltip("y"), *interval])
    on_front, behind = base.transform_filter("datum.front"), base.transform_filter("!datum.front")
    layers = [
        on_front.mark_line(style="soft", strokeDash=[4, 4], strokeWidth=1, interpolate="step-after"),
        on_front.mark_point(filled=True, opacity=1, size=110).encode(color=color),
        behind.mark_point(style="hollow", size=90).encode(color=color),
    ]
    if few:
        rule = base.mark_rule(strokeWidth=2, opacity=0.6).encode(y(alt.Y, "low"), alt.Y2("high"), color=color)
        _name_points(points, x, y)
        text = base.encode(text="label:N")
        layers += [
            text.transform_filter("datum.align == 'left'").mark_text(align="left", dx=9, dy=-12),
            text.transform_filter("datum.align == 'right'").mark_text(align="right", dx=-9, dy=-12),
        ]
        layers.insert(1, rule)
    heads = ("configuration", "FLOPs per clip#", "validation accuracy#", "Pareto front")
    rows = [[p["label"], count(p["x"]), percent(p["y"]), "yes" if p["front"] else "no"] for p in points]
    key, title = f"{study.key}-trade-off", "Accuracy against FLOPs"
    return kinds.figure(key, "scatter", title, PARETO, layers, {"points": points}, heads, rows)


def _name_points(points: Sequence[Row], x: Axis, y: Axis) -> None:
    """Give the points an `align` for their names, but not where a name would cover another one."""
    taken: list[tuple[float, float]] = []
    for point in points:
        across = math.log(point["x"] / x.domain[0]) / math.log(x.domain[1] / x.domain[0])
        up = (point["y"] - y.domain[0]) / (y.domain[1] - y.domain[0])
        if all(abs(across - a) > 0.35 or abs(up - u) > 0.07 for a, u in taken):
            point["align"] = "left" if across < 0.5 else "right"
            taken.append((across, up))


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the (cost, accuracy) points that no other point dominates, cheapest first."""
    front, highest = [], -math.inf
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        accuracy = round(points[index][1], 9)  # equal error counts, added in another order, give the same mean
        if accuracy > highest:
            front.append(index)
            highest = accuracy
    return front


def _threshold_curves(study: Study) -> list[Figure]:
    run = study.chosen_run
    if not run.predictions:
        return []
    labels, probabilities = (torch.tensor(column) for column in zip(*run.predictions.values(), strict=True))
    evaluation = Evaluation(list(run.predictions), labels, probabilities, math.nan)
    false_rate, true_rate = zip(*evaluation.roc(), strict=True)
    recall, precision = zip(*evaluation.precision_recall(), strict=True)
    area = float(np.trapezoid(true_rate, false_rate))
    average = float(np.sum(np.diff(recall) * precision[1:]))
    zoom = area > 0.99  # the whole square would show a corner
    note = " Only the corner near the ideal is shown." if zoom else ""
    near_one, near_zero = ([0.9, 1.0], [0.0, 0.1]) if zoom else ([0.0, 1.0], [0.0, 1.0])

    def curve(title: str, caption: str, x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float]) -> Figure:
        nothing = [math.nan] * len(xs)
        points: Row = {
            "series": y.label,
            "line": [y.label] * len(xs),
            "x": xs,
            "y": ys,
            "low": nothing,
            "high": nothing,
        }
        key = f"{study.key}-{title.lower().replace(' and ', '-')}"
        return kinds.lines(key, f"{title} of {run.name}", caption + note, x, y, [points], of_model=True)

    false_axis, true_axis, recall_axis, precision_axis = (
        Axis(label, PERCENT, near_zero if label == "false positive rate" else near_one)
        for label in ("false positive rate", "true positive rate", "recall", "precision")
    )
    caption = f"Area under the curve {area:.5f}; {run.config['words'][1]!r} is the positive word."
    return [
        curve("ROC", caption, false_axis, true_axis, false_rate, true_rate),
        curve(
            "Precision and recall", f"Average precision {average:.5f}.", recall_axis, precision_axis, recall, precision
        ),
    ]
