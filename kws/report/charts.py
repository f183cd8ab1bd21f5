"""The figures of a study as plain data, drawn by page.js on the page and by plots.py into files.

A figure is a dict: `id`, `title`, `caption`, `kind` (lines, dots, bars, scatter, heat, parallel), `x` and `y` (axes:
`label`, `format`, and where they are set `domain`, `log` and `zero`) and what the kind needs. Formats: percent (of a
fraction), points, seconds, count, whole, number. A colour is the index of its configuration in the study. NaN becomes
None.
"""

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from kws import metrics
from kws.analysis.records import RunRecord
from kws.analysis.statistics import Estimate
from kws.analysis.study import LAST_EPOCHS, Configuration, Study, last_epochs_spread
from kws.report.search_charts import Figure, heat, importance_bars, make_figure, parallel
from kws.training.evaluation import Evaluation

MOST_LINES = 8  # colours are not distinguishable beyond that
BEST_SHOWN = 0.2  # share of a search's runs that its figures call the best
CURVES = {metrics.TRAIN_LOSS: "Training loss", metrics.VAL_ACCURACY: "Validation accuracy"}
COSTS = {
    "params": ("Parameters", "parameters", "Trainable parameters of the network."),
    "flops": (
        "FLOPs",
        "FLOPs per clip",
        "FLOPs of the network for one clip of a second (2 x multiply-accumulates), without the log-mel layer.",
    ),
}


def figures(study: Study) -> list[Figure]:
    """Return the study's figures, most informative first."""
    found: list[Figure | None]
    if study.is_search:
        found = [parallel(study), importance_bars(study)]
    elif len(study.parameters) == 2:
        found = [heat(study, "val", "Validation accuracy"), heat(study, "test", "Test accuracy")]
    else:
        found = [_accuracy(study)]
    found += [_curves(study, metric) for metric in CURVES]
    if len(study.parameters) == 1 and not study.is_search:
        found += [_epoch_time(study), _stability(study), *(_cost(study, name) for name in COSTS)]
    found += [_trade_off(study), *_threshold_curves(study)]
    return [_finite(figure) for figure in found if figure]


def _finite(figure: Figure) -> Figure:
    """Return the figure with floats of six digits, and None for NaN."""
    rounded: Figure = json.loads(
        json.dumps(figure), parse_constant=lambda _: None, parse_float=lambda text: float(f"{float(text):.6g}")
    )
    return rounded


def _axis_label(study: Study) -> str:
    return ", ".join(study.parameters) or "configuration"


def _by_seed_text(study: Study) -> str:
    numbers = sorted({item.val.n for item in study.configurations})
    n = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return f"Each dot is one seed; the bar is the mean and its 95 % interval (n = {n})."


def _dots(
    study: Study, name: str, title: str, caption: str, y: Figure,
    value: Callable[[RunRecord], float], estimate: Callable[[Configuration], Estimate],
) -> Figure:  # fmt: skip
    groups = []
    for index, configuration in enumerate(study.configurations):
        item = estimate(configuration)
        # No quantity shown here is negative, but a t interval may reach below zero.
        low = item.low if math.isnan(item.low) else max(0.0, item.low)
        points = [{"name": run.name, "y": value(run)} for run in configuration.runs]
        bar = {"mean": item.mean, "low": low, "high": item.high}
        groups.append({"label": configuration.short_label, "color": index, "points": points} | bar)
    x = {"label": _axis_label(study)}
    return make_figure(study, name, "dots", f"{title} by {_axis_label(study)}", caption, x, y, groups=groups)


def _summary(metric: str) -> Callable[[RunRecord], float]:
    return lambda run: run.summary[metric]


def _accuracy(study: Study) -> Figure:
    caption = f"{_by_seed_text(study)} {study.data_info.get('test', 0)} test clips; the smallest step is one clip."
    y = {"label": "test accuracy", "format": "percent"}
    value = _summary(metrics.TEST_ACCURACY)
    return _dots(study, "test-accuracy", "Test accuracy", caption, y, value, lambda item: item.test)


def _epoch_time(study: Study) -> Figure:
    caption = f"Median training time per epoch, without validation and without the first epoch. {_by_seed_text(study)}"
    y = {"label": "seconds per epoch", "format": "seconds", "zero": True}
    value = _summary(metrics.EPOCH_S_MEDIAN)
    return _dots(study, "epoch-time", "Epoch time", caption, y, value, lambda item: item.epoch_s)


def _stability(study: Study) -> Figure | None:
    if all(math.isnan(item.stability.mean) for item in study.configurations):
        return None
    caption = (
        f"Standard deviation of validation accuracy over a run's last {LAST_EPOCHS} epochs: higher is less stable. "
        f"{_by_seed_text(study)}"
    )
    y = {"label": "standard deviation, percentage points", "format": "points", "zero": True}
    return _dots(study, "stability", "Stability", caption, y, last_epochs_spread, lambda item: item.stability)


def _cost(study: Study, name: str) -> Figure:
    title, label, caption = COSTS[name]
    bars = [
        {"label": item.short_label, "color": index, "y": getattr(item, name)}
        for index, item in enumerate(study.configurations)
    ]
    x, y = {"label": _axis_label(study)}, {"label": label, "format": "count", "zero": True}
    return make_figure(study, name, "bars", f"{title} by {_axis_label(study)}", caption, x, y, bars=bars)


def _curves(study: Study, metric: str) -> Figure | None:
    if not any(value > 0 for run in study.runs for value in run.history.get(metric, [])):
        return None  # not recorded, or NaN in every epoch
    y: Figure = {"label": CURVES[metric].lower()}
    if metric == metrics.TRAIN_LOSS:
        y |= {"format": "number", "log": True}
    else:
        y |= {"format": "percent", "domain": _range_after_start(study.runs, metric)}
    if study.is_search or len(study.configurations) > MOST_LINES:
        groups = _best_and_rest(study)
        caption = "Mean and range of the best runs by validation accuracy and of the others. Thin lines: single runs."
    else:
        groups = [(item.label, index, item.runs) for index, item in enumerate(study.configurations)]
        caption = "Line: mean over seeds. Band: lowest to highest seed. Thin lines: single runs."
        if metric == metrics.VAL_ACCURACY:
            caption += " The first fifth of the epochs does not affect the scale."
    series = [_series(label, color, runs, metric) for label, color, runs in groups]
    x = {"label": "epoch", "format": "whole"}
    name, title = metric.replace("/", "-"), f"{CURVES[metric]} by epoch"
    return make_figure(study, name, "lines", title, caption, x, y, series=series)


def _range_after_start(runs: Sequence[RunRecord], metric: str) -> list[float]:
    """Return the range of values after the first fifth of the epochs, which would compress the rest."""
    columns = [run.history.get(metric) or [math.nan] for run in runs]
    later = [value for c in columns for value in c[len(c) // 5 :] if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(later), max(later)
    margin = max(0.05 * (high - low), 0.002)
    return [max(0.0, low - margin), min(1.0 + margin / 2, high + margin)]


def _best_and_rest(study: Study) -> list[tuple[str, int, list[RunRecord]]]:
    ranked = sorted(study.runs, key=lambda run: -run.summary[metrics.BEST_VAL_ACCURACY])
    cut = max(1, round(BEST_SHOWN * len(ranked)))
    return [group for group in ((f"best {cut}", 0, ranked[:cut]), ("others", 1, ranked[cut:])) if group[2]]


def _series(label: str, color: int, runs: Sequence[RunRecord], metric: str) -> Figure:
    length = max(len(run.history[metrics.EPOCH]) for run in runs)
    columns = [run.history.get(metric, []) for run in runs]
    by_epoch = [[c[i] for c in columns if i < len(c) and math.isfinite(c[i])] for i in range(length)]
    single = [{"name": run.name, "y": values} for run, values in zip(runs, columns, strict=True)]
    return {
        "name": label,
        "color": color,
        "x": list(range(1, length + 1)),
        "mean": [sum(values) / len(values) if values else None for values in by_epoch],
        "low": [min(values, default=None) for values in by_epoch],
        "high": [max(values, default=None) for values in by_epoch],
        "runs": single if len(runs) > 1 else [],
    }


def _trade_off(study: Study) -> Figure | None:
    if len({item.flops for item in study.configurations}) < 2:
        return None
    front = pareto([(item.flops, item.val.mean) for item in study.configurations])
    points = []
    for index, item in enumerate(study.configurations):
        color = 0 if len(study.configurations) > MOST_LINES else index
        place = {"x": item.flops, "y": item.val.mean, "low": item.val.low, "high": item.val.high}
        points.append({"label": item.label, "color": color, "front": index in front} | place)
    caption = (
        "Mean validation accuracy with its 95 % interval. The line is the Pareto front: no other configuration is both "
        "cheaper and as accurate. Where intervals overlap, the front is uncertain."
    )
    x = {"label": "FLOPs per clip", "format": "count", "log": True}
    y = {"label": "validation accuracy", "format": "percent"}
    return make_figure(study, "trade-off", "scatter", "Accuracy against FLOPs", caption, x, y, points=points)


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

    def curve(name: str, title: str, caption: str, x: Figure, y: Figure) -> Figure:
        values = {"x": x.pop("values"), "mean": y.pop("values"), "low": [], "high": [], "runs": []}
        series = [{"name": y["label"], "color": 0} | values]
        title = f"{title} of {run.name}"
        return make_figure(study, name, "lines", title, caption + note, x, y, series=series, step=True)

    def axis(label: str, values: Sequence[float], domain: list[float]) -> Figure:
        return {"label": label, "format": "percent", "domain": domain, "values": list(values)}

    return [
        curve(
            "roc", "ROC", f"Area under the curve {area:.5f}; {run.config['words'][1]!r} is the positive word.",
            axis("false positive rate", false_rate, near_zero),
            axis("true positive rate", true_rate, near_one),
        ),
        curve(
            "precision-recall", "Precision and recall", f"Average precision {average:.5f}.",
            axis("recall", recall, near_one), axis("precision", precision, near_one),
        ),
    ]  # fmt: skip
