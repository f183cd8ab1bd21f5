"""The figures of a study."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import torch

from kws import metrics
from kws.analysis.records import RunRecord
from kws.analysis.study import LAST_EPOCHS, Study, last_epochs_spread
from kws.formatting import count, percent
from kws.report import chart_kinds as kinds
from kws.report import search_charts
from kws.report.chart_kinds import COUNT, MOST_COLOURS, NUMBER, PERCENT, SECONDS, WHOLE, Axis, Figure, Row
from kws.report.vega import DASHES
from kws.training.evaluation import Evaluation

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
        found = [search_charts.heat(study, "val", "Validation"), search_charts.heat(study, "test", "Test")]
    else:
        caption = f"{study.data_info.get('test', 0)} test clips; the smallest step is one clip."
        found = [_dots(study, "Test accuracy", caption, "test accuracy", PERCENT, "test", metrics.TEST_ACCURACY)]
    found += [_curves(study, metric) for metric in CURVES]
    if len(study.parameters) == 1 and not study.is_search:
        if not any(math.isnan(item.epoch_s.mean) for item in study.configurations):  # else they are not comparable
            label, metric = "seconds per epoch", metrics.EPOCH_S_MEDIAN
            found.append(_dots(study, "Epoch time", EPOCH_TIME, label, SECONDS, "epoch_s", metric))
        found += [
            _dots(study, "Stability", STABILITY, "standard deviation", PERCENT, "stability", last_epochs_spread),
            _cost(study, "params", "Parameters", "Trainable parameters of the network.", "parameters"),
            _cost(study, "flops", "FLOPs", FLOPS, "FLOPs per clip"),
        ]
    found += [_trade_off(study), *_threshold_curves(study)]
    return [replace(figure, id=f"{study.key}-{figure.id}") for figure in found if figure]


def _label(study: Study) -> str:
    return ", ".join(study.parameters) or "configuration"


def _dots(
    study: Study, title: str, caption: str, y_label: str, unit: tuple[Any, str],
    estimate: str, value: str | Callable[[RunRecord], float],
) -> Figure | None:  # fmt: skip
    """Return dots for single runs (their metric or function `value`) beside the mean and its interval."""
    bars: list[Row] = []
    dots: list[Row] = []
    for item in study.configurations:
        name, found = item.short_label, getattr(item, estimate)
        # No quantity shown here is negative, but a t interval may reach below zero.
        bars.append({"label": name, "n": found.n, "mean": found.mean, "low": max(found.low, 0.0), "high": found.high})
        for place, run in enumerate(item.runs, 1):
            y = run.summary.get(value, math.nan) if isinstance(value, str) else value(run)
            dots.append({"label": name, "run": run.name, "y": y, "place": 0.45 * place / (len(item.runs) + 1)})
    if all(math.isnan(bar["mean"]) for bar in bars):
        return None
    names, ns = [bar["label"] for bar in bars], sorted({item.val.n for item in study.configurations})
    n = str(ns[0]) if len(ns) == 1 else f"{ns[0]} to {ns[-1]}"
    caption = f"{caption} Each dot is one seed; the bar is the mean and its 95 % interval (n = {n})."
    numbers = [bar[name] for bar in bars for name in ("mean", "low", "high")] + [dot["y"] for dot in dots]
    axis = Axis(y_label, unit, kinds.domain(numbers, zero=estimate != "test"))
    place_of, color = kinds.categories(_label(study), names), kinds.colour(names)
    tooltip = [axis.tooltip("mean", "mean"), axis.tooltip("low", "95 % interval from"), axis.tooltip("high", "to")]
    bar = kinds.layer("bars").encode(place_of, alt.XOffset(datum=0.55), color=color, tooltip=tooltip)
    dot = kinds.layer("dots").mark_circle(size=55, opacity=0.75).encode(place_of, axis(alt.Y, "y"), color=color)
    beside = alt.XOffset("place:Q", scale=alt.Scale(domain=[0, 1]))
    layers = [
        bar.mark_rule(strokeWidth=3, strokeCap="round").encode(axis(alt.Y, "low"), alt.Y2("high")),
        bar.mark_tick(thickness=4, size=16, orient="horizontal").encode(axis(alt.Y, "mean")),
        dot.encode(beside, tooltip=["run:N", axis.tooltip("y")]),
    ]
    rows = [
        [bar["label"], str(bar["n"]), axis.text(bar["mean"]), f"{axis.text(bar['low'])} to {axis.text(bar['high'])}"]
        + [", ".join(axis.text(dot["y"]) for dot in dots if dot["label"] == bar["label"])]
        for bar in bars
    ]
    heads = (_label(study), "n#", "mean#", "95 % interval#", "seeds")
    key, title = title.lower().replace(" ", "-"), f"{title} by {_label(study)}"
    return Figure(key, "dots", title, caption, kinds.spec(layers, bars=bars, dots=dots), heads, rows)


def _cost(study: Study, name: str, title: str, caption: str, y_label: str) -> Figure:
    values = {item.short_label: getattr(item, name) for item in study.configurations}
    title = f"{title} by {_label(study)}"
    return kinds.bars(name, title, caption, _label(study), y_label, COUNT, values, coloured=True)


def _curves(study: Study, metric: str) -> Figure | None:
    columns = [run.history.get(metric, []) for run in study.runs]
    if not any(value > 0 for column in columns for value in column):
        return None  # not recorded, or NaN in every epoch
    is_loss, title = metric == metrics.TRAIN_LOSS, CURVES[metric]
    if study.is_search or len(study.configurations) > MOST_COLOURS:
        groups = _best_and_rest(study)
        caption = "Mean and range of the best runs by validation accuracy and of the others. Thin lines: single runs."
    else:
        groups = {item.label: item.runs for item in study.configurations}
        caption = "Line: mean over seeds. Band: lowest to highest seed. Thin lines: single runs."
        if not is_loss:
            caption += " The first fifth of the epochs does not affect the scale."
    values = [value for column in columns for value in column[0 if is_loss else len(column) // 5 :]]
    y = Axis(title.lower(), NUMBER if is_loss else PERCENT, kinds.domain(values, log=is_loss), log=is_loss)
    last = max(len(run.history[metrics.EPOCH]) for run in study.runs)
    x, names = Axis("epoch", WHOLE, [1, last] if last > 1 else [0, 2]), list(groups)
    epochs = list(range(1, 1 + last))
    data: list[Row] = [
        {"label": label, "run": run.run_id, "x": epochs, "y": run.history.get(metric, [])}
        for label, runs in groups.items()
        for run in runs
    ]
    legend = alt.Legend(symbolType="stroke") if len(names) > 1 else None
    base = kinds.layer("lines").transform_filter(kinds.VISIBLE).transform_flatten(["x", "y"])
    base = base.encode(x(alt.X, "x"), color=kinds.colour(names, legend))
    mean = base.transform_aggregate(mean="mean(y)", low="min(y)", high="max(y)", groupby=["label", "x"])
    # Single runs have no clip path: with one for each, a PNG takes a minute.
    single = base.transform_filter(f"indexof(hidden, '{kinds.SINGLE_RUNS}') < 0 && datum.y >= {y.domain[0]}")
    dash = alt.StrokeDash("label:N", scale=alt.Scale(domain=names, range=DASHES), legend=legend)
    tooltip = [y.tooltip("mean"), y.tooltip("low", "lowest"), y.tooltip("high", "highest")]
    near = mean.transform_filter(f"datum.mean >= {y.domain[0]}").encode(y(alt.Y, "mean"))
    layers = [
        mean.mark_area(opacity=0.13, clip=True).encode(y(alt.Y, "low"), alt.Y2("high:Q")),
        single.mark_line(strokeOpacity=0.28, strokeWidth=1).encode(y(alt.Y, "y"), detail="run:N"),
        mean.mark_line(strokeWidth=2.4, clip=True).encode(y(alt.Y, "mean"), dash),
        kinds.hover(near, ["label", "x"], alt.Tooltip("label:N", title="line"), x.tooltip("x"), *tooltip),
    ]
    buttons = [*names, kinds.SINGLE_RUNS] if len(groups) < len(study.runs) else names
    means = [[y.text(_mean(runs, metric, epoch)) for runs in groups.values()] for epoch in range(1, 1 + last)]
    rows = [[str(epoch), *values] for epoch, values in enumerate(means, 1)]
    heads, title = ("epoch", *(f"{name}#" for name in names)), f"{title} by epoch"
    key, spec = metric.replace("/", "-"), kinds.spec(layers, lines=data)
    return Figure(key, "lines", title, caption, spec, heads, rows, buttons)


def _mean(runs: Sequence[RunRecord], metric: str, epoch: int) -> float:
    values = [value for run in runs for value in run.history.get(metric, [])[epoch - 1 : epoch] if math.isfinite(value)]
    return sum(values) / len(values) if values else math.nan


def _best_and_rest(study: Study) -> dict[str, list[RunRecord]]:
    ranked = sorted(study.runs, key=lambda run: -run.summary[metrics.BEST_VAL_ACCURACY])
    cut = max(1, round(BEST_SHOWN * len(ranked)))
    return {name: runs for name, runs in ((f"best {cut}", ranked[:cut]), ("others", ranked[cut:])) if runs}


def _trade_off(study: Study) -> Figure | None:
    if len({item.flops for item in study.configurations}) < 2:
        return None
    front = pareto([(item.flops, item.val.mean) for item in study.configurations])
    points: list[Row] = [
        {"label": item.label, "x": item.flops, "y": item.val.mean, "low": item.val.low, "high": item.val.high}
        | {"front": index in front}
        for index, item in enumerate(study.configurations)
    ]
    names, few = [point["label"] for point in points], len(points) <= MOST_COLOURS
    x = Axis("FLOPs per clip", COUNT, kinds.domain([point["x"] for point in points], log=True), log=True)
    shown = [point[name] for point in points for name in (("y", "low", "high") if few else ("y",))]
    y = Axis("validation accuracy", PERCENT, kinds.domain(shown))
    interval = [y.tooltip("low", "95 % interval from"), y.tooltip("high", "to")]
    tooltip = [alt.Tooltip("label:N"), x.tooltip("x"), y.tooltip("y"), *interval]
    base = kinds.layer("points").encode(x(alt.X, "x"), y(alt.Y, "y"), tooltip=tooltip)
    coloured = base.transform_filter(kinds.VISIBLE).encode(color=kinds.colour(names, alt.Legend(symbolSize=110)))
    line = base.transform_filter("datum.front")
    layers = [
        line.mark_line(style="soft", strokeDash=[4, 4], strokeWidth=1, interpolate="step-after"),
        coloured.transform_filter("datum.front").mark_point(filled=True, opacity=1, size=110),
        coloured.transform_filter("!datum.front").mark_point(style="hollow", size=90),
    ]
    if few:
        layers.insert(1, coloured.mark_rule(strokeWidth=2, opacity=0.6).encode(y(alt.Y, "low"), alt.Y2("high")))
    heads = ("configuration", "FLOPs per clip#", "validation accuracy#", "Pareto front")
    rows = [[p["label"], count(p["x"]), percent(p["y"]), "yes" if p["front"] else "no"] for p in points]
    spec, title = kinds.spec(layers, points=points), "Accuracy against FLOPs"
    return Figure("trade-off", "scatter", title, PARETO, spec, heads, rows, names if few else ())


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
    roc, precision_recall = evaluation.roc(), evaluation.precision_recall()
    false_rate, true_rate = zip(*roc, strict=True)
    recall, precision = zip(*precision_recall, strict=True)
    area = float(np.trapezoid(true_rate, false_rate))
    average = float(np.sum(np.diff(recall) * precision[1:]))
    zoom = area > 0.99  # the whole square would show a corner
    note = " Only the corner near the ideal is shown." if zoom else ""
    near_zero, near_one = ([0.0, 0.1], [0.9, 1.0]) if zoom else ([0.0, 1.0], [0.0, 1.0])
    axes = Axis("false positive rate", PERCENT, near_zero), Axis("true positive rate", PERCENT, near_one)
    caption = f"Area under the curve {area:.5f}; {run.config['words'][1]!r} is the positive word.{note}"
    of_roc = _steps("roc", f"ROC of {run.name}", caption, *axes, roc)
    axes = Axis("recall", PERCENT, near_one), Axis("precision", PERCENT, near_one)
    title, caption = f"Precision and recall of {run.name}", f"Average precision {average:.5f}.{note}"
    return [of_roc, _steps("precision-recall", title, caption, *axes, precision_recall)]


def _steps(key: str, title: str, caption: str, x: Axis, y: Axis, points: Sequence[tuple[float, float]]) -> Figure:
    base = kinds.layer("lines").encode(x(alt.X, "x"), y(alt.Y, "y"))
    near = base.transform_filter(f"datum.x >= {x.domain[0]} && datum.x <= {x.domain[1]} && datum.y >= {y.domain[0]}")
    layers = [
        base.mark_line(strokeWidth=2.4, clip=True, interpolate="step-after"),
        kinds.hover(near, ["x", "y"], x.tooltip("x"), y.tooltip("y")),
    ]
    spec = kinds.spec(layers, lines=[{"x": x, "y": y} for x, y in points])
    rows = [[x.text(a), y.text(b)] for a, b in points]
    return Figure(key, "lines", title, caption, spec, (x.label, f"{y.label}#"), rows, of_model=True)
