"""The figures of a study, made with Altair."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from statistics import fmean
from typing import Any

import altair as alt
import numpy as np
import torch

from kws import metrics
from kws.analysis.importance import importance
from kws.analysis.records import RunRecord
from kws.analysis.statistics import pareto
from kws.analysis.study import LAST_EPOCHS, Study, last_epochs_spread
from kws.report.vega import FROM_ZERO, LOG, MOST_COLOURS, NUMBER, PERCENT, WHOLE, Field, Figure, Row, layer
from kws.training.evaluation import Evaluation

DASHES = [[1, 0], [7, 3], [2, 3], [9, 3, 2, 3], [4, 2], [1, 2], [12, 3], [6, 2, 1, 2]]
BEST_SHOWN = 0.2  # share of a search's runs that its figures call the best
N, RUN, CONFIGURATION = Field("n", WHOLE), Field("run"), Field("configuration")
ACCURACY = Field("validation accuracy", PERCENT)
# The names that the reader chose by clicking on them in the legend; none chosen means all.
CHOSEN = alt.selection_point(name="chosen", fields=[CONFIGURATION.title], bind="legend", toggle="true")
TIME = "Median training time per epoch, without validation and without the first epoch."
STABILITY = f"Standard deviation of validation accuracy over a run's last {LAST_EPOCHS} epochs: higher is less stable."
PARALLEL = "One line per run, stronger if it is more accurate. Values are in order, not to scale."
IMPORTANCE = (
    "Share of the variance of validation accuracy that each setting explains by itself, over all values alike, however "
    "often the search tried them (fANOVA: it assumes that a random forest fitted to the runs predicts well)."
)
PARETO = "Mean and 95 % interval. Line: Pareto front; pale: not on it. Where intervals overlap, the front is uncertain."


def figures(study: Study) -> list[Figure]:
    """Return the study's figures, most informative first."""
    curves = [_curves(study, metrics.TRAIN_LOSS, Field("training loss", NUMBER, LOG))]
    curves.append(_curves(study, metrics.VAL_ACCURACY, ACCURACY))
    if study.is_search:
        found = [_parallel(study), _importance(study), *curves]
    elif len(study.parameters) == 2:
        found = [_heat(study), *curves]
    else:
        caption = f"{study.data_info['test']} test clips; the smallest step is one clip."
        test, spread = Field("test accuracy", PERCENT), Field("stability", PERCENT, FROM_ZERO)
        found = [_dots(study, test, caption, "test", lambda run: run.summary[metrics.TEST_ACCURACY]), *curves]
        time = Field("epoch time in seconds", NUMBER, FROM_ZERO)
        found.append(_dots(study, time, TIME, "epoch_s", lambda run: run.summary[metrics.EPOCH_S_MEDIAN]))
        found.append(_dots(study, spread, STABILITY, "stability", last_epochs_spread))
    drawn = [figure for figure in (*found, _trade_off(study), *_of_model(study)) if figure]
    return [replace(figure, id=f"{study.key}-{figure.id}") for figure in drawn]


def _dots(study: Study, y: Field, caption: str, estimate: str, value: Callable[[RunRecord], float]) -> Figure | None:
    """Return dots for single runs (their `value`) beside the mean and its interval (Configuration's `estimate`)."""
    label, seed = Field(", ".join(study.parameters) or "configuration"), Field("each seed", y.format)
    low, high = Field("95 % interval from", y.format), Field("to", y.format)
    rows: list[Row] = []
    for item in study.configurations:
        found = getattr(item, estimate)
        # No quantity shown here is negative, but a t interval may reach below zero.
        row = {"n": found.n, y.title: found.mean, low.title: max(found.low, 0.0), high.title: found.high}
        runs = {"run": [run.name for run in item.runs], seed.title: list(map(value, item.runs))}
        places = np.linspace(0.1, 0.5, len(item.runs)).tolist()
        rows.append({label.title: item.short_label, **row, **runs, "place": places})
    if all(math.isnan(row[y.title]) for row in rows):
        return None  # not recorded, or not comparable
    fields, x = [label, N, y, low, high], alt.X(f"{label.title}:N", sort=None)
    colour = label.colours([row[label.title] for row in rows])
    bar = layer(*fields).encode(x, alt.XOffset(datum=0.65), color=colour)
    dot = layer(label, RUN, seed).transform_flatten(["run", seed.title, "place"])
    beside = alt.XOffset("place:Q", scale=alt.Scale(domain=[0, 1]))
    layers = [
        bar.mark_rule(strokeWidth=3, strokeCap="round").encode(y.on(alt.Y, low.title), alt.Y2(high.title)),
        bar.mark_tick(thickness=4, size=16, orient="horizontal").encode(y.on(alt.Y)),
        dot.mark_circle(size=55, opacity=0.75).encode(x, beside, y.on(alt.Y, seed.title), color=colour),
    ]
    caption += " Each dot is one seed; the bar is the mean and its 95 % interval."
    key, title = y.title.replace(" ", "-"), f"{y.title.capitalize()} by {label.title}"
    return Figure(key, "dots", title, caption, [*fields, seed], rows, layers)


def _curves(study: Study, metric: str, y: Field) -> Figure | None:
    """Return the mean, lowest and highest curve of each configuration, or of the best runs and the others."""
    groups = {item.label: item.runs for item in study.configurations}
    if study.is_search or len(groups) > MOST_COLOURS:
        ranked = sorted(study.runs, key=lambda run: -run.summary[metrics.BEST_VAL_ACCURACY])
        cut = max(1, round(BEST_SHOWN * len(ranked)))
        groups = {f"best {cut} by validation": ranked[:cut], "others": ranked[cut:]}
    rows: list[Row] = []
    for name, runs in groups.items():
        for epoch, values in enumerate(zip_longest(*(run.history.get(metric, []) for run in runs)), 1):
            known = [value for value in values if value is not None and math.isfinite(value)]
            if known and (min(known) > 0 or y.scale is not LOG):
                row = {y.title: fmean(known), "lowest": min(known), "highest": max(known)}
                rows.append({"epoch": epoch, CONFIGURATION.title: name, **row})
    if not rows:
        return None  # not recorded, or NaN in every epoch
    rows.sort(key=lambda row: row["epoch"])
    skipped = 0 if y.scale is LOG else rows[-1]["epoch"] // 5
    caption = "Line: mean of the runs. Band: lowest to highest."
    caption += f" Epochs up to {skipped} are in the numbers only." if skipped else ""
    names, low, high = list(groups), Field("lowest", y.format), Field("highest", y.format)
    fields = [Field("epoch", WHOLE), CONFIGURATION, y, low, high]
    base = layer(*fields).transform_filter(CHOSEN).transform_filter(f"datum.epoch > {skipped}")
    base = base.encode(fields[0].on(alt.X), y.on(alt.Y), CONFIGURATION.colours(names, "stroke"))
    dash = alt.StrokeDash(f"{CONFIGURATION.title}:N", scale=alt.Scale(domain=names, range=DASHES))
    layers = [
        base.mark_area(opacity=0.13).encode(y.on(alt.Y, low.title), alt.Y2(high.title)).add_params(CHOSEN),
        base.mark_line(strokeWidth=2.4).encode(dash),
        base.mark_circle(opacity=0, size=250),  # for the tooltip
    ]
    key, title = metric.replace("/", "-"), f"{y.title.capitalize()} by epoch"
    return Figure(key, "lines", title, caption, fields, rows, layers)


def _heat(study: Study) -> Figure:
    first, second = study.parameters
    accuracy = Field(f"{study.chosen_on} accuracy", PERCENT)
    fields = [Field(first), Field(second), accuracy, N]
    rows = [item.values | {accuracy.title: item.val.mean, "n": item.val.n} for item in study.configurations]
    base = layer(*fields).encode(alt.X(f"{first}:O"), alt.Y(f"{second}:O", sort="descending"))
    text = base.mark_text().encode(alt.Text(f"{accuracy.title}:Q", format=".2%"))
    shade = alt.Opacity(f"{accuracy.title}:Q", scale=alt.Scale(zero=False, range=[0.12, 0.5]), legend=None)
    layers = [base.mark_rect(cornerRadius=4).encode(shade), text]
    caption = "Mean over seeds; an empty square has no finished run."
    title = f"{accuracy.title.capitalize()} by {first} and {second}"
    return Figure("val-heat", "heat", title, caption, fields, rows, layers)


def _parallel(study: Study) -> Figure:
    fields = [RUN, *map(Field, study.parameters), ACCURACY]
    rows: list[Row] = [
        {name: run.config[name] for name in study.parameters}
        | {"run": run.name, ACCURACY.title: run.summary[metrics.BEST_VAL_ACCURACY]}
        for run in sorted(study.runs, key=lambda run: -run.summary[metrics.BEST_VAL_ACCURACY])
    ]
    short = "replace(datum.label, 'validation ', '')"
    axis = alt.Axis(orient="top", grid=True, domain=False, labelAngle=-20, labelExpr=short)
    x = alt.X("axis:N", title=None, sort=None, scale=alt.Scale(type="point"), axis=axis)
    base = layer(*fields).encode(x, alt.Y("place:Q", axis=None))
    base = base.transform_fold([field.title for field in fields[1:]], as_=["axis", "value"])
    base = base.transform_window(rank="dense_rank()", sort=[alt.SortField("value")], groupby=["axis"])
    base = base.transform_joinaggregate(ranks="max(rank)", groupby=["axis"])
    base = base.transform_calculate(place="(datum.rank - 1) / max(datum.ranks - 1, 1)")
    # A setting of many values has ticks at the lowest and the highest.
    ticks = base.transform_filter("datum.ranks <= 6 || datum.place == 0 || datum.place == 1")
    ticks = ticks.transform_aggregate(groupby=["axis", "place", "value"]).mark_text(align="left", dx=5)
    form = f"datum.axis == '{ACCURACY.title}' ? '.2%' : '.4~g'"
    ticks = ticks.transform_calculate(text=f"isNumber(datum.value) ? format(datum.value, {form}) : datum.value")
    shade = alt.Opacity(f"{ACCURACY.title}:Q", scale=alt.Scale(zero=False, range=[0.12, 1]), legend=None)
    layers = [base.mark_line(strokeWidth=1.6).encode(shade, detail="run:N"), ticks.encode(text="text:N")]
    title = "Settings and validation accuracy of every run"
    return Figure("parallel", "parallel", title, PARALLEL, fields, rows, layers)


def _importance(study: Study) -> Figure:
    settings = {name: [run.config[name] for run in study.runs] for name in study.parameters}
    shares = importance(settings, [run.summary[metrics.BEST_VAL_ACCURACY] for run in study.runs])
    fields = _, share = Field("setting"), Field("share explained", PERCENT, FROM_ZERO)
    rows = [{"setting": name, share.title: value} for name, value in shares.items()]
    bars = layer(*fields).mark_bar(cornerRadiusEnd=3).encode(share.on(alt.X), alt.Y("setting:N", sort=None))
    return Figure("importance", "bars", "Importance of settings", IMPORTANCE, fields, rows, [bars])


def _trade_off(study: Study) -> Figure | None:
    if len({item.flops for item in study.configurations}) < 2:
        return None
    flops, on_front = Field("MFLOPs per clip", NUMBER, LOG), Field("Pareto front")
    accuracy = Field(f"{study.chosen_on} accuracy", PERCENT)
    low, high = Field("95 % interval from", PERCENT), Field("to", PERCENT)
    front = pareto([(item.flops, item.val.mean) for item in study.configurations])
    rows: list[Row] = [
        {CONFIGURATION.title: item.label, flops.title: item.flops / 1e6, accuracy.title: item.val.mean}
        | {low.title: item.val.low, high.title: item.val.high, on_front.title: "yes" if index in front else "no"}
        for index, item in enumerate(study.configurations)
    ]
    fields, names = [CONFIGURATION, flops, accuracy, low, high, on_front], [item.label for item in study.configurations]
    base = layer(*fields).encode(flops.on(alt.X), accuracy.on(alt.Y))
    line = base.transform_filter(alt.datum[on_front.title] == "yes")
    pale = alt.Opacity(f"{on_front.title}:O", scale=alt.Scale(domain=["yes", "no"], range=[1, 0.35]), legend=None)
    points = base.transform_filter(CHOSEN).encode(pale, color=CONFIGURATION.colours(names, "circle"))
    layers = [
        points.mark_circle(size=110).add_params(CHOSEN),
        line.mark_line(strokeDash=[4, 4], strokeWidth=1, interpolate="step-after"),
        points.mark_rule(strokeWidth=2).encode(accuracy.on(alt.Y, low.title), alt.Y2(high.title)),
    ]
    shown = layers if len(names) <= MOST_COLOURS else layers[:2]
    return Figure("trade-off", "scatter", "Accuracy against FLOPs", PARETO, fields, rows, shown)


def _of_model(study: Study) -> list[Figure]:
    """Return the chosen run's threshold curves: of two labels, the second's; of more, of each against the rest."""
    run = study.chosen_run
    labels, probabilities = (torch.tensor(column) for column in zip(*run.predictions.values(), strict=True))
    evaluation = Evaluation(list(run.predictions), labels, probabilities, math.nan)
    names = dict(enumerate(run.labels)) if len(run.labels) > 2 else {1: run.labels[1]}
    roc = {name: np.array(evaluation.roc(label)) for label, name in names.items()}
    precision_recall = {name: np.array(evaluation.precision_recall(label)) for label, name in names.items()}
    area = fmean(np.trapezoid(points[:, 1], points[:, 0]) for points in roc.values())
    average = fmean(np.sum(np.diff(points[:, 0]) * points[1:, 1]) for points in precision_recall.values())
    edge, note = (0.1, " Only the corner near the ideal is shown.") if area > 0.99 else (1, "")
    near_zero, near_one = ({"domain": domain, "clamp": True} for domain in ([0, edge], [1 - edge, 1]))
    x, y = Field("false positive rate", PERCENT, near_zero), Field("true positive rate", PERCENT, near_one)
    caption = f"Area under the curve {area:.5f} ({' and '.join(roc)} against the rest).{note}"
    of_roc = _steps("roc", f"ROC of {run.name}", caption, x, y, roc)
    x, y = Field("recall", PERCENT, near_one), Field("precision", PERCENT, near_one)
    title, caption = f"Precision and recall of {run.name}", f"Average precision {average:.5f}.{note}"
    return [of_roc, _steps("precision-recall", title, caption, x, y, precision_recall)]


def _steps(key: str, title: str, caption: str, x: Field, y: Field, curves: dict[str, Any]) -> Figure:
    label = Field("label")
    base = layer(label, x, y).encode(x.on(alt.X), y.on(alt.Y), detail="label:N")
    base = base.encode(color=label.colours(list(curves), "stroke"))
    layers = [base.mark_line(strokeWidth=2.4, interpolate="step-after"), base.mark_circle(opacity=0, size=250)]
    rows = [{"label": name, x.title: a, y.title: b} for name, points in curves.items() for a, b in points.tolist()]
    return Figure(key, "steps", title, caption, [label, x, y], rows, layers)
