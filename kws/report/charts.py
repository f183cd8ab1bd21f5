"""The figures of a study: Vega-Lite specs made with Altair, and the same numbers as tables.

The data of a spec are its `datasets`; curves are one row each, with lists that the chart flattens. A spec has neither
size nor colours: see kws.report.vega.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import torch

from kws import metrics
from kws.analysis.records import RunRecord
from kws.analysis.statistics import Estimate, importance
from kws.analysis.study import LAST_EPOCHS, Configuration, Study, last_epochs_spread
from kws.formatting import count, percent, seconds, value_text
from kws.report.vega import DASHES, Spec
from kws.training.evaluation import Evaluation

MOST_LINES = 8  # colours are not distinguishable beyond that
MOST_HOVERED = 3000  # points of single runs with a tooltip: more slow the page down
BEST_SHOWN = 0.2  # share of a search's runs that its figures call the best
SINGLE_RUNS, SCORE = "single runs", "val accuracy"
Row = dict[str, Any]
CURVES = {metrics.TRAIN_LOSS: "Training loss", metrics.VAL_ACCURACY: "Validation accuracy"}


class Unit(NamedTuple):
    """How numbers are written: in tables, and the d3 formats of ticks and tooltips."""

    text: Callable[[float], str]
    ticks: str
    tooltip: str


def _two_digits(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"


def _three_digits(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3g}"


PERCENT, SECONDS = Unit(percent, ".2~%", ".2%"), Unit(seconds, "~g", ".2f")
COUNT, NUMBER = Unit(count, ".3~s", ",.0f"), Unit(_three_digits, "~g", ".3~g")
POINTS, EPOCHS = Unit(_two_digits, "~g", ".2f"), Unit(str, "~g", "~g")


@dataclass(frozen=True)
class Axis:
    label: str
    unit: Unit
    domain: Sequence[float]
    log: bool = False

    def channel(self, channel: type, name: str) -> Any:
        """Return the encoding of the field `name` on this axis."""
        scale = alt.Scale(domain=list(self.domain), type="log" if self.log else "linear", nice=False)
        step = 1 if self.unit is EPOCHS else alt.Undefined
        axis = alt.Axis(format=self.unit.ticks, tickCount=5, tickMinStep=step, values=self._ticks() or alt.Undefined)
        return channel(f"{name}:Q", title=self.label, scale=scale, axis=axis)

    def _ticks(self) -> list[float]:
        """Return 1, 2 and 5 times powers of ten on a wide logarithmic axis; on others Vega's ticks are good."""
        low, high = self.domain[0], self.domain[-1]
        if not self.log or high < 10 * low:
            return []
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
        return [step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high]

    def tooltip(self, name: str, title: str = "") -> alt.Tooltip:
        return alt.Tooltip(f"{name}:Q", title=title or self.label, format=self.unit.tooltip)


@dataclass(frozen=True)
class Figure:
    """A chart (`spec`), and its numbers as a table; a head that ends in # belongs to a column of numbers."""

    id: str
    kind: str  # lines, dots, bars, scatter, heat or parallel
    title: str
    caption: str
    spec: Spec
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Sequence[str] = field(default_factory=list)  # lines that the page can hide
    of_model: bool = False  # of the recommended model, not of the study

    @property
    def summary(self) -> str:
        """One sentence for screen readers: the first rows of the numbers, or of curves the last one."""
        if self.kind == "lines":
            ends = zip(self.heads[1:], self.rows[-1][1:], strict=True)
            items = [f"{head.rstrip('#')} ends at {value}" for head, value in ends]
        else:
            items = [f"{first}: {', '.join(rest[:3])}" for first, *rest in self.rows[:12]]
        return f"{self.title}. {'; '.join(items)}."


def figures(study: Study) -> list[Figure]:
    """Return the study's figures, most informative first."""
    found: list[Figure | None]
    if study.is_search:
        found = [_parallel(study), _importance(study)]
    elif len(study.parameters) == 2:
        found = [_heat(study, "val", "Validation accuracy"), _heat(study, "test", "Test accuracy")]
    else:
        found = [_accuracy(study)]
    found += [_curves(study, metric) for metric in CURVES]
    if len(study.parameters) == 1 and not study.is_search:
        found += [_epoch_time(study), _stability(study), *_costs(study)]
    return [figure for figure in (*found, _trade_off(study), *_threshold_curves(study)) if figure]


def _figure(
    study: Study, name: str, kind: str, title: str, caption: str, layers: Iterable[alt.Chart], data: dict[str, Any],
    heads: Sequence[str], rows: Iterable[Sequence[str]], **more: Any,
) -> Figure:  # fmt: skip
    chart = alt.layer(*layers).properties(width="container", height="container")
    if more.get("legend"):
        chart = chart.add_params(alt.param(name="hidden", value=[]))
    spec = chart.to_dict(context={"pre_transform": False}) | {"datasets": data}
    del spec["config"]  # see kws.report.vega
    # Six digits, and None for NaN: JSON has no NaN.
    rounded = json.loads(
        json.dumps(spec), parse_constant=lambda _: None, parse_float=lambda text: float(f"{float(text):.6g}")
    )
    return Figure(f"{study.key}-{name}", kind, title, caption, rounded, heads, list(rows), **more)


def _layer(rows: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(rows))


def _domain(values: Iterable[float], log: bool = False, zero: bool = False) -> list[float]:
    """Return the range of an axis: that of the values with a margin, from zero if `zero`."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [0.5, 1.0]
    low, high = min(known), max(known)
    if log:
        margin = (high / low) ** 0.06 if high > low else 1.5
        return [low / margin, high * margin]
    margin = 0.08 * (high - low) or 0.05 * (abs(high) or 1)
    return [0.0 if zero else low - margin, high + margin if zero or high > 1 else min(high + margin, 1.0)]


def _names(label: str, names: Sequence[str]) -> alt.X:
    angle = -35 if sum(map(len, names)) > 60 else 0  # characters that fit across the figure
    axis = alt.Axis(labelAngle=angle, labelOverlap=True)
    return alt.X("label:N", title=label, sort=None, scale=alt.Scale(domain=list(names)), axis=axis)


def _color(names: Sequence[str], legend: alt.Legend | None = None, name: str = "label") -> Any:
    """Return the encoding of a colour for each of `names`, or of one colour if there are too many."""
    if len(names) > MOST_LINES:
        return alt.Undefined
    return alt.Color(f"{name}:N", scale=alt.Scale(domain=list(names)), legend=legend)


def _hover(chart: alt.Chart, same: Sequence[str], *tooltip: alt.Tooltip) -> alt.Chart:
    """Return a ring around the point nearest to the pointer, with its tooltip; `same`: the fields that identify it."""
    nearest = alt.selection_point(name="hover", fields=list(same), on="pointerover", nearest=True, empty=False)
    ring = chart.mark_point(style="ink", size=150, strokeWidth=2)
    shown = alt.condition(nearest, alt.value(1), alt.value(0))
    found: alt.Chart = ring.encode(opacity=shown, tooltip=list(tooltip)).add_params(nearest).properties(name="points")
    return found


def _label(study: Study) -> str:
    return ", ".join(study.parameters) or "configuration"


def _by_seed_text(study: Study) -> str:
    numbers = sorted({item.val.n for item in study.configurations})
    n = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return f"Each dot is one seed; the bar is the mean and its 95 % interval (n = {n})."


def _dots(
    study: Study, name: str, title: str, caption: str, label: str, unit: Unit,
    value: Callable[[RunRecord], float], estimate: Callable[[Configuration], Estimate],
) -> Figure | None:  # fmt: skip
    names = [item.short_label for item in study.configurations]
    # No quantity shown here is negative, but a t interval may reach below zero.
    estimates = [replace(item, low=max(item.low, 0.0)) for item in map(estimate, study.configurations)]
    every = [[(run.name, value(run)) for run in item.runs] for item in study.configurations]
    if all(math.isnan(item.mean) for item in estimates):
        return None
    bars = [
        {"label": text, "mean": item.mean, "low": item.low, "high": item.high}
        for text, item in zip(names, estimates, strict=True)
    ]
    shown = [number for item in estimates for number in (item.mean, item.low, item.high)]
    shown += [number for runs in every for _, number in runs]
    y = Axis(label, unit, _domain(shown, zero=unit is not PERCENT))
    gap, step = (y.domain[1] - y.domain[0]) / 60, min(0.06, 0.4 / max(map(len, every)))
    dots = []
    for text, runs in zip(names, every, strict=True):
        taken: dict[int, int] = {}  # dots of equal height are drawn side by side
        for run, number in runs:
            slot = 0 if math.isnan(number) else round(number / gap)
            taken[slot] = taken.get(slot, -1) + 1
            dots.append({"label": text, "run": run, "y": number, "place": 0.4 - step * taken[slot]})
    x, color = _names(_label(study), names), _color(names)
    place, middle = alt.XOffset("place:Q", scale=alt.Scale(domain=[0, 1])), alt.XOffset(datum=0.55)
    tooltip = [y.tooltip("mean", "mean"), y.tooltip("low", "95 % interval from"), y.tooltip("high", "to")]
    bar = _layer("bars").encode(x, middle, color=color, tooltip=tooltip)
    layers = [
        bar.mark_rule(strokeWidth=3, strokeCap="round").encode(y.channel(alt.Y, "low"), alt.Y2("high")),
        bar.mark_tick(thickness=4, size=16, orient="horizontal").encode(y.channel(alt.Y, "mean")),
        _layer("dots").mark_circle(size=55, opacity=0.75)
        .encode(x, y.channel(alt.Y, "y"), place, color=color, tooltip=["run:N", y.tooltip("y")]),
    ]  # fmt: skip
    heads = (_label(study), "n#", "mean#", "95 % interval#", "seeds")
    rows = [
        [text, str(item.n), unit.text(item.mean), f"{unit.text(item.low)} to {unit.text(item.high)}"]
        + [", ".join(unit.text(number) for _, number in runs)]
        for text, item, runs in zip(names, estimates, every, strict=True)
    ]
    title = f"{title} by {_label(study)}"
    return _figure(study, name, "dots", title, caption, layers, {"bars": bars, "dots": dots}, heads, rows)


def _accuracy(study: Study) -> Figure | None:
    caption = f"{_by_seed_text(study)} {study.data_info.get('test', 0)} test clips; the smallest step is one clip."
    return _dots(
        study, "test-accuracy", "Test accuracy", caption, "test accuracy", PERCENT,
        lambda run: run.summary[metrics.TEST_ACCURACY], lambda item: item.test,
    )  # fmt: skip


def _epoch_time(study: Study) -> Figure | None:
    if any(math.isnan(item.epoch_s.mean) for item in study.configurations):
        return None  # the times cannot be compared
    caption = f"Median training time per epoch, without validation and without the first epoch. {_by_seed_text(study)}"
    return _dots(
        study, "epoch-time", "Epoch time", caption, "seconds per epoch", SECONDS,
        lambda run: run.summary.get(metrics.EPOCH_S_MEDIAN, math.nan), lambda item: item.epoch_s,
    )  # fmt: skip


def _stability(study: Study) -> Figure | None:
    caption = (
        f"Standard deviation of validation accuracy over a run's last {LAST_EPOCHS} epochs: higher is less stable. "
        f"{_by_seed_text(study)}"
    )

    def points(item: Configuration) -> Estimate:
        it = item.stability
        return Estimate(it.n, 100 * it.mean, 100 * it.sd, 100 * it.low, 100 * it.high)

    return _dots(
        study, "stability", "Stability", caption, "standard deviation, percentage points", POINTS,
        lambda run: 100 * last_epochs_spread(run), points,
    )  # fmt: skip


def _bars(
    study: Study, name: str, title: str, caption: str, label: str, names: Sequence[str], y: Axis,
    values: Sequence[float],
) -> Figure:  # fmt: skip
    data: list[Row] = [
        {"label": text, "y": value, "text": y.unit.text(value)} for text, value in zip(names, values, strict=True)
    ]
    color = alt.Undefined if name == "importance" else _color(names)
    bars = _layer("bars").encode(_names(label, names), y.channel(alt.Y, "y"), tooltip=["label:N", y.tooltip("y")])
    layers = [
        bars.mark_bar(cornerRadiusEnd=3, width={"band": 0.6}).encode(color=color),
        bars.mark_text(dy=-8).encode(text="text:N"),
    ]
    heads, rows = (label, f"{y.label}#"), [[item["label"], item["text"]] for item in data]
    return _figure(
        study, name, "bars", title, caption, layers[: 1 + (len(data) <= MOST_LINES)], {"bars": data}, heads, rows
    )


def _cost(study: Study, name: str, title: str, label: str, caption: str, values: Sequence[float]) -> Figure:
    names, title = [item.short_label for item in study.configurations], f"{title} by {_label(study)}"
    y = Axis(label, COUNT, _domain(values, zero=True))
    return _bars(study, name, title, caption, _label(study), names, y, values)


def _costs(study: Study) -> list[Figure]:
    text = "FLOPs of the network for one clip of a second (2 x multiply-accumulates), without the log-mel layer."
    params, flops = zip(*((item.params, item.flops) for item in study.configurations), strict=True)
    return [
        _cost(study, "params", "Parameters", "parameters", "Trainable parameters of the network.", params),
        _cost(study, "flops", "FLOPs", "FLOPs per clip", text, flops),
    ]


def _curves(study: Study, metric: str) -> Figure | None:
    if not any(value > 0 for run in study.runs for value in run.history.get(metric, [])):
        return None  # not recorded, or NaN in every epoch
    is_loss, title = metric == metrics.TRAIN_LOSS, CURVES[metric]
    if study.is_search or len(study.configurations) > MOST_LINES:
        groups = _best_and_rest(study)
        caption = "Mean and range of the best runs by validation accuracy and of the others. Thin lines: single runs."
    else:
        groups = [(item.label, item.runs) for item in study.configurations]
        caption = "Line: mean over seeds. Band: lowest to highest seed. Thin lines: single runs."
        if not is_loss:
            caption += " The first fifth of the epochs does not affect the scale."
    lines = [line for label, runs in groups for line in _series(label, runs, metric)]
    columns = [run.history.get(metric, []) for run in study.runs]
    values = [value for column in columns for value in column[0 if is_loss else len(column) // 5 :]]
    y = Axis(title.lower(), NUMBER if is_loss else PERCENT, _domain(values, log=is_loss), log=is_loss)
    epochs = max(len(run.history[metrics.EPOCH]) for run in study.runs)
    x = Axis(metrics.EPOCH, EPOCHS, [1, epochs] if epochs > 1 else [0, 2])
    names = [label for label, _ in groups]
    return _lines(study, metric.replace("/", "-"), f"{title} by epoch", caption, names, lines, x, y)


def _best_and_rest(study: Study) -> list[tuple[str, list[RunRecord]]]:
    ranked = sorted(study.runs, key=lambda run: -run.summary[metrics.BEST_VAL_ACCURACY])
    cut = max(1, round(BEST_SHOWN * len(ranked)))
    return [group for group in ((f"best {cut}", ranked[:cut]), ("others", ranked[cut:])) if group[1]]


def _series(label: str, runs: Sequence[RunRecord], metric: str) -> list[Row]:
    """Return the mean over the runs of a configuration, with the range, and the runs themselves if there are several.

    The runs are one row, with a NaN between two of them: with a path each, the PNG would take a minute.
    """
    columns = [run.history.get(metric, []) for run in runs]
    epochs = list(range(1, 1 + max(len(run.history[metrics.EPOCH]) for run in runs)))
    by_epoch = [[c[i - 1] for c in columns if i <= len(c) and math.isfinite(c[i - 1])] or [math.nan] for i in epochs]
    values = {"y": [sum(v) / len(v) for v in by_epoch], "low": [*map(min, by_epoch)], "high": [*map(max, by_epoch)]}
    mean = {"series": label, "x": epochs, "line": [f"{label}, mean" if len(runs) > 1 else label] * len(epochs)} | values
    single: Row = {"series": label, "single": True, "x": [], "y": [], "line": []}
    for run, column in zip(runs, columns, strict=True):
        single["x"] += range(1, len(column) + 2)
        single["y"] += [*column, math.nan]
        single["line"] += [run.name] * (len(column) + 1)
    return [mean, single] if len(runs) > 1 else [mean]


def _lines(
    study: Study, name: str, title: str, caption: str, names: Sequence[str], lines: Sequence[Row], x: Axis, y: Axis,
    of_model: bool = False,
) -> Figure:  # fmt: skip
    means = [line for line in lines if "single" not in line]
    legend = [] if of_model else [*names, *([SINGLE_RUNS] if len(means) < len(lines) else [])]
    legend_of_chart = alt.Legend(symbolType="stroke") if len(names) > 1 else None
    color = _color(names, legend_of_chart, "series")
    base = _layer("lines").encode(x.channel(alt.X, "x"), y.channel(alt.Y, "y"), color=color)
    if legend:
        hides_run = f"datum.single && indexof(hidden, '{SINGLE_RUNS}') >= 0"
        base = base.transform_filter(f"indexof(hidden, datum.series) < 0 && !({hides_run})")
    mean = base.transform_filter("!datum.single").transform_flatten(["x", "y", "low", "high"])
    hovered = base
    if sum(len(line["x"]) for line in lines) > MOST_HOVERED:
        hovered = base.transform_filter("!datum.single")
        for line in lines:
            if "single" in line:
                del line["line"]
    dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=list(names), range=DASHES), legend=legend_of_chart)
    layers = [
        mean.mark_area(opacity=0.13, clip=True).encode(y.channel(alt.Y, "low"), alt.Y2("high:Q")),
        base.transform_filter("datum.single").transform_flatten(["x", "y"]).transform_window(n="row_number()")
        .mark_line(strokeOpacity=0.28, strokeWidth=1, clip=True).encode(order="n:Q"),
        mean.mark_line(strokeWidth=2.4, clip=True, interpolate="step-after" if of_model else "linear").encode(dash),
        _hover(
            hovered.transform_flatten(["x", "y", "line"]).transform_filter(f"datum.y >= {y.domain[0]}"),
            ["line", "x"], alt.Tooltip("line:N"), x.tooltip("x"), y.tooltip("y"),
        ),
    ]  # fmt: skip
    longest = max((line["x"] for line in means), key=len)
    columns = [[y.unit.text(value) for value in line["y"]] for line in means]
    rows = [
        [x.unit.text(at), *(column[index] if index < len(column) else "" for column in columns)]
        for index, at in enumerate(longest)
    ]
    heads, data = (x.label, *(f"{text}#" for text in names)), {"lines": list(lines)}
    return _figure(study, name, "lines", title, caption, layers, data, heads, rows, legend=legend, of_model=of_model)


def _trade_off(study: Study) -> Figure | None:
    if len({item.flops for item in study.configurations}) < 2:
        return None
    front = pareto([(item.flops, item.val.mean) for item in study.configurations])
    points: list[Row] = [
        {"label": item.label, "x": item.flops, "y": item.val.mean, "low": item.val.low, "high": item.val.high}
        | {"front": index in front}
        for index, item in enumerate(study.configurations)
    ]
    x = Axis("FLOPs per clip", COUNT, _domain([point["x"] for point in points], log=True), log=True)
    few = len(points) <= MOST_LINES
    shown = [point[name] for point in points for name in (("y", "low", "high") if few else ("y",))]
    y = Axis("validation accuracy", PERCENT, _domain(shown))
    names = [point["label"] for point in points]
    base = _layer("points").encode(x.channel(alt.X, "x"), y.channel(alt.Y, "y"), color=_color(names))
    tooltip = [
        "label:N",
        x.tooltip("x"),
        y.tooltip("y"),
        y.tooltip("low", "95 % interval from"),
        y.tooltip("high", "to"),
    ]
    layers = [
        _layer("points").transform_filter("datum.front").mark_line(
            style="soft", strokeDash=[4, 4], strokeWidth=1, interpolate="step-after"
        ).encode(x.channel(alt.X, "x"), y.channel(alt.Y, "y")),
        base.mark_rule(strokeWidth=2, opacity=0.6).encode(y.channel(alt.Y, "low"), alt.Y2("high")),
        base.transform_filter("datum.front").mark_point(filled=True, opacity=1, size=110).encode(tooltip=tooltip),
        base.transform_filter("!datum.front").mark_point(style="hollow", size=90).encode(tooltip=tooltip),
    ]  # fmt: skip
    if few:
        _name_points(points, x, y)
        text = _layer("points").encode(x.channel(alt.X, "x"), y.channel(alt.Y, "y"), text="label:N")
        layers += [
            text.transform_filter("datum.align == 'left'").mark_text(align="left", dx=9, dy=-12),
            text.transform_filter("datum.align == 'right'").mark_text(align="right", dx=-9, dy=-12),
        ]
    else:
        del layers[1]
    caption = (
        "Mean validation accuracy with its 95 % interval. The line is the Pareto front: no other configuration is both "
        "cheaper and as accurate. Where intervals overlap, the front is uncertain."
    )
    heads = ("configuration", "FLOPs per clip#", "validation accuracy#", "Pareto front")
    rows = [[p["label"], count(p["x"]), percent(p["y"]), "yes" if p["front"] else "no"] for p in points]
    data = {"points": points}
    return _figure(study, "trade-off", "scatter", "Accuracy against FLOPs", caption, layers, data, heads, rows)


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

    def curve(name: str, title: str, caption: str, x: Axis, y: Axis, points: tuple[Any, Any]) -> Figure:
        names, nothing = [y.label] * len(points[0]), [math.nan] * len(points[0])
        line = {"series": y.label, "line": names, "x": points[0], "y": points[1], "low": nothing, "high": nothing}
        return _lines(study, name, f"{title} of {run.name}", caption + note, [y.label], [line], x, y, of_model=True)

    return [
        curve(
            "roc", "ROC", f"Area under the curve {area:.5f}; {run.config['words'][1]!r} is the positive word.",
            Axis("false positive rate", PERCENT, near_zero), Axis("true positive rate", PERCENT, near_one),
            (false_rate, true_rate),
        ),
        curve(
            "precision-recall", "Precision and recall", f"Average precision {average:.5f}.",
            Axis("recall", PERCENT, near_one), Axis("precision", PERCENT, near_one), (recall, precision),
        ),
    ]  # fmt: skip


def _heat(study: Study, which: str, title: str) -> Figure:
    """Return a heat map of the estimate `which` ("val" or "test") over two parameters."""
    first, second = study.parameters
    xs, ys = (
        [*dict.fromkeys(sorted((c.values[name] for c in study.configurations), key=_order))] for name in (first, second)
    )
    estimates: list[Estimate] = [getattr(item, which) for item in study.configurations]
    low, high = min(item.mean for item in estimates), max(item.mean for item in estimates)
    squares: list[Row] = [
        {"label": value_text(item.values[first]), "row": value_text(item.values[second]), "mean": estimate.mean}
        | {"text": percent(estimate.mean), "n": estimate.n, "share": (estimate.mean - low) / ((high - low) or 1)}
        for item, estimate in zip(study.configurations, estimates, strict=True)
    ]
    row = alt.Y("row:N", title=second, scale=alt.Scale(domain=[value_text(v) for v in reversed(ys)], paddingInner=0.03))
    base = _layer("squares").encode(_names(first, [value_text(v) for v in xs]), row)
    shade = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.12, 1]), legend=None)
    tooltip = [alt.Tooltip("label:N", title=first), alt.Tooltip("row:N", title=second), "text:N", "n:Q"]
    layers = [
        base.mark_rect(cornerRadius=4).encode(shade, tooltip=tooltip),
        base.transform_filter("datum.share <= 0.55").mark_text(style="ink").encode(text="text:N"),
        base.transform_filter("datum.share > 0.55").mark_text(style="card").encode(text="text:N"),
    ]
    rows = [[s["label"], s["row"], s["text"], str(s["n"])] for s in squares]
    caption = "Mean over seeds; an empty square has no finished run."
    title = f"{title} by {first} and {second}"
    heads = (first, f"{second}#", "mean#", "n#")
    return _figure(study, f"{which}-heat", "heat", title, caption, layers, {"squares": squares}, heads, rows)


def _parallel(study: Study) -> Figure:
    scores = [_score(run) for run in study.runs]
    low, high = min(scores), max(scores)
    columns: list[list[float]] = []  # of each parameter: the place of each run, from 0 to 1
    ticks: list[Row] = []
    for name in study.parameters:
        given = [run.config[name] for run in study.runs]
        values = sorted(set(given), key=_order)
        at = dict(zip(values, _places(values), strict=True))
        columns.append([at[value] for value in given])
        named = [values[0], values[-1]] if _is_continuous(values) else values
        ticks += [{"label": name, "at": at[value], "text": value_text(value)} for value in named]
    ticks += [{"label": SCORE, "at": 0.0, "text": percent(low)}, {"label": SCORE, "at": 1.0, "text": percent(high)}]
    columns.append([(score - low) / (high - low) if high > low else 1.0 for score in scores])
    lines = [
        {"run": run.name, "score": score, "share": at[-1], "label": [*study.parameters, SCORE], "at": at}
        for run, score, at in zip(study.runs, scores, zip(*columns, strict=True), strict=True)
    ]
    lines.sort(key=lambda line: line["score"])  # the best are drawn last, on top
    axis = alt.Axis(orient="top", labelAngle=-20, domain=False, grid=True)
    x = alt.X(
        "label:N", title=None, sort=None, scale=alt.Scale(domain=[*study.parameters, SCORE], type="point"), axis=axis
    )
    base = _layer("lines").transform_flatten(["label", "at"]).encode(x, alt.Y("at:Q", axis=None))
    shade = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.12, 1]), legend=None)
    score_tip = alt.Tooltip("score:Q", title="validation accuracy", format=PERCENT.tooltip)
    layers = [
        base.mark_line(strokeWidth=1.6).encode(shade, detail="run:N"),
        _layer("ticks")
        .mark_text(align="left", dx=5, fontWeight="normal")
        .encode(x, alt.Y("at:Q", axis=None), text="text:N"),
        _hover(base, ["run"], alt.Tooltip("run:N"), score_tip),
    ]
    rows = [[line["run"], percent(line["score"])] for line in reversed(lines)]
    return _figure(
        study, "parallel", "parallel", "Settings and validation accuracy of every run",
        "One line per run; darker is more accurate.", layers, {"lines": lines, "ticks": ticks},
        ("run", "validation accuracy#"), rows,
    )  # fmt: skip


def _order(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _is_continuous(values: Sequence[Any]) -> bool:
    return len(values) > 6 and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _places(values: Sequence[Any]) -> list[float]:
    """Return a place from 0 to 1 for each of the sorted values: by rank, or to scale where they are continuous."""
    if not _is_continuous(values):
        return [rank / max(len(values) - 1, 1) for rank in range(len(values))]
    scale = math.log if values[0] > 0 and values[-1] / values[0] > 20 else float
    low, high = scale(values[0]), scale(values[-1])
    return [(scale(value) - low) / (high - low) for value in values]


def _score(run: RunRecord) -> float:
    return run.summary[metrics.BEST_VAL_ACCURACY]


def _importance(study: Study) -> Figure:
    scores = [_score(run) for run in study.runs]
    shares = {name: importance([run.config[name] for run in study.runs], scores) for name in study.parameters}
    caption = (
        "Share of the variance of the runs' ranks by validation accuracy that each setting explains by itself (epsilon "
        "squared), without interactions between settings. A rough estimate if there are few runs."
    )
    names, values = zip(*sorted(shares.items(), key=lambda item: -item[1]), strict=True)
    y = Axis("share explained", PERCENT, _domain(values, zero=True))
    return _bars(study, "importance", "Importance of settings", caption, "setting", names, y, values)
