"""Figures of studies with two or more scientific parameters: heat map, parallel coordinates, importance."""

from typing import Any

import altair as alt

from kws import metrics
from kws.analysis.statistics import Estimate, importance
from kws.analysis.study import Study
from kws.formatting import percent, value_text
from kws.report import chart_kinds as kinds
from kws.report.chart_kinds import PERCENT, Figure, Row

MOST_TICKS = 6  # of a setting: with more values, only the lowest and the highest have one
SCORE = "val accuracy"
PARALLEL = "One line per run, stronger if it is more accurate. The values of a setting are in order, not to scale."
IMPORTANCE = (
    "Share of the variance of the runs' ranks by validation accuracy that each setting explains by itself (epsilon "
    "squared), without interactions between settings. A rough estimate if there are few runs."
)


def heat(study: Study, which: str, title: str) -> Figure:
    """Return a heat map of the accuracy `which` ("val" or "test") over two parameters."""
    first, second = study.parameters
    columns, rows = (
        [value_text(value) for value in sorted({item.values[name] for item in study.configurations}, key=_order)]
        for name in study.parameters
    )
    estimates: list[Estimate] = [getattr(item, which) for item in study.configurations]
    squares: list[Row] = [
        {"label": value_text(item.values[first]), "row": value_text(item.values[second])}
        | {"text": percent(estimate.mean), "n": estimate.n, "mean": estimate.mean}
        for item, estimate in zip(study.configurations, estimates, strict=True)
    ]
    means = [estimate.mean for estimate in estimates]
    y = alt.Y("row:N", title=second, scale=alt.Scale(domain=rows[::-1], paddingInner=0.03))
    base = kinds.layer("squares").encode(kinds.categories(first, columns), y)
    tooltip = [alt.Tooltip("label:N", title=first), alt.Tooltip("row:N", title=second), "text:N", "n:Q"]
    shade = kinds.shade("mean", min(means), max(means), darkest=0.5)  # text is legible on it
    layers = [base.mark_rect(cornerRadius=4).encode(shade, tooltip=tooltip), base.mark_text().encode(text="text:N")]
    numbers = [[square["label"], square["row"], square["text"], str(square["n"])] for square in squares]
    title, heads = f"{title} accuracy by {first} and {second}", (first, f"{second}#", "mean#", "n#")
    caption = "Mean over seeds; an empty square has no finished run."
    return Figure(f"{which}-heat", "heat", title, caption, kinds.spec(layers, squares=squares), heads, numbers)


def parallel(study: Study) -> Figure:
    names = [*study.parameters, SCORE]
    runs = sorted(study.runs, key=lambda run: run.summary[metrics.BEST_VAL_ACCURACY])  # the best are drawn on top
    scores: list[float] = [run.summary[metrics.BEST_VAL_ACCURACY] for run in runs]
    low, high = scores[0], scores[-1]
    lines: list[Row] = [
        {"run": run.name, "score": score, "label": names, "at": []} for run, score in zip(runs, scores, strict=True)
    ]
    ticks = [{"label": SCORE, "at": at, "text": percent(score)} for at, score in ((0, low), (1, high))]
    for name in study.parameters:
        values = sorted({run.config[name] for run in runs}, key=_order)
        at = {value: index / (max(len(values) - 1, 1)) for index, value in enumerate(values)}
        for line, run in zip(lines, runs, strict=True):
            line["at"].append(at[run.config[name]])
        named = values if len(values) <= MOST_TICKS else (values[0], values[-1])
        ticks += [{"label": name, "at": at[value], "text": value_text(value)} for value in named]
    for line in lines:
        line["at"].append((line["score"] - low) / ((high - low) or 1))
    axis = alt.Axis(orient="top", labelAngle=-20, domain=False, grid=True)
    x = alt.X("label:N", title=None, scale=alt.Scale(domain=names, type="point"), axis=axis)
    y = alt.Y("at:Q", axis=None)
    base = kinds.layer("lines").transform_flatten(["label", "at"]).encode(x, y)
    score_tip = alt.Tooltip("score:Q", title="validation accuracy", format=PERCENT[1])
    text = kinds.layer("ticks").mark_text(align="left", dx=5, fontWeight="normal")
    layers = [
        base.mark_line(strokeWidth=1.6).encode(kinds.shade("score", low, high, darkest=1), detail="run:N"),
        text.encode(x, y, text="text:N"),
        kinds.hover(base, ["run"], alt.Tooltip("run:N"), score_tip),
    ]
    title, heads = "Settings and validation accuracy of every run", ("run", "validation accuracy#")
    numbers = [[line["run"], percent(line["score"])] for line in reversed(lines)]
    spec = kinds.spec(layers, lines=lines, ticks=ticks)
    return Figure("parallel", "parallel", title, PARALLEL, spec, heads, numbers)


def _order(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def importance_chart(study: Study) -> Figure:
    scores = [run.summary[metrics.BEST_VAL_ACCURACY] for run in study.runs]
    shares = {name: importance([run.config[name] for run in study.runs], scores) for name in study.parameters}
    ranked = dict(sorted(shares.items(), key=lambda item: -item[1]))
    title = "Importance of settings"
    return kinds.bars("importance", title, IMPORTANCE, "setting", "share explained", PERCENT, ranked, coloured=False)
