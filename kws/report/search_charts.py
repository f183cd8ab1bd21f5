"""Figures of studies with two or more scientific parameters: heat map, parallel coordinates, importance."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from kws import metrics
from kws.analysis.records import RunRecord
from kws.analysis.statistics import Estimate, importance
from kws.analysis.study import Study
from kws.formatting import percent, value_text
from kws.report import chart_kinds as kinds
from kws.report.chart_kinds import PERCENT, Figure, Row

SCORE = "val accuracy"
IMPORTANCE = (
    "Share of the variance of the runs' ranks by validation accuracy that each setting explains by itself (epsilon "
    "squared), without interactions between settings. A rough estimate if there are few runs."
)


def heat(study: Study, which: str, title: str) -> Figure:
    """Return a heat map of the estimate `which` ("val" or "test") over two parameters."""
    first, second = study.parameters
    columns, rows = (
        [value_text(value) for value in sorted({item.values[name] for item in study.configurations}, key=_order)]
        for name in study.parameters
    )
    estimates: list[Estimate] = [getattr(item, which) for item in study.configurations]
    low, high = (pick(item.mean for item in estimates) for pick in (min, max))
    squares: list[Row] = [
        {"label": value_text(item.values[first]), "row": value_text(item.values[second])}
        | {"text": percent(estimate.mean), "n": estimate.n, "share": (estimate.mean - low) / ((high - low) or 1)}
        for item, estimate in zip(study.configurations, estimates, strict=True)
    ]
    y = alt.Y("row:N", title=second, scale=alt.Scale(domain=rows[::-1], paddingInner=0.03))
    base = kinds.layer("squares").encode(kinds.categories(first, columns), y)
    tooltip = [alt.Tooltip("label:N", title=first), alt.Tooltip("row:N", title=second), "text:N", "n:Q"]
    text = base.encode(text="text:N")
    layers = [
        base.mark_rect(cornerRadius=4).encode(kinds.shade(), tooltip=tooltip),
        text.transform_filter("datum.share <= 0.55").mark_text(style="ink"),
        text.transform_filter("datum.share > 0.55").mark_text(style="card"),
    ]
    numbers = [[square["label"], square["row"], square["text"], str(square["n"])] for square in squares]
    caption, title = "Mean over seeds; an empty square has no finished run.", f"{title} by {first} and {second}"
    heads = (first, f"{second}#", "mean#", "n#")
    return kinds.figure(
        f"{study.key}-{which}-heat", "heat", title, caption, layers, {"squares": squares}, heads, numbers
    )


def parallel(study: Study) -> Figure:
    names = [*study.parameters, SCORE]
    scores = [_score(run) for run in study.runs]
    low, high = min(scores), max(scores)
    places: list[list[float]] = []  # of each parameter: of each run, from 0 to 1
    ticks = [{"label": SCORE, "at": 0.0, "text": percent(low)}, {"label": SCORE, "at": 1.0, "text": percent(high)}]
    for name in study.parameters:
        values = sorted({run.config[name] for run in study.runs}, key=_order)
        at = dict(zip(values, _places(values), strict=True))
        places.append([at[run.config[name]] for run in study.runs])
        named = [values[0], values[-1]] if _is_continuous(values) else values
        ticks += [{"label": name, "at": at[value], "text": value_text(value)} for value in named]
    places.append([(score - low) / (high - low) if high > low else 1.0 for score in scores])
    rows: list[Row] = [
        {"run": run.name, "score": score, "share": at[-1], "label": names, "at": at}
        for run, score, at in zip(study.runs, scores, zip(*places, strict=True), strict=True)
    ]
    rows.sort(key=lambda row: row["score"])  # the best are drawn last, on top
    axis = alt.Axis(orient="top", labelAngle=-20, domain=False, grid=True)
    x = alt.X("label:N", title=None, scale=alt.Scale(domain=names, type="point"), axis=axis)
    y = alt.Y("at:Q", axis=None)
    base = kinds.layer("lines").transform_flatten(["label", "at"]).encode(x, y)
    score_tip = alt.Tooltip("score:Q", title="validation accuracy", format=PERCENT[1])
    text = kinds.layer("ticks").mark_text(align="left", dx=5, fontWeight="normal")
    layers = [
        base.mark_line(strokeWidth=1.6).encode(kinds.shade(), detail="run:N"),
        text.encode(x, y, text="text:N"),
        kinds.hover(base, ["run"], alt.Tooltip("run:N"), score_tip),
    ]
    numbers = [[row["run"], percent(row["score"])] for row in reversed(rows)]
    title, caption = "Settings and validation accuracy of every run", "One line per run; darker is more accurate."
    data, heads = {"lines": rows, "ticks": ticks}, ("run", "validation accuracy#")
    return kinds.figure(f"{study.key}-parallel", "parallel", title, caption, layers, data, heads, numbers)


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


def importance_chart(study: Study) -> Figure:
    scores = [_score(run) for run in study.runs]
    shares = {name: importance([run.config[name] for run in study.runs], scores) for name in study.parameters}
    ranked = dict(sorted(shares.items(), key=lambda item: -item[1]))
    key, title = f"{study.key}-importance", "Importance of settings"
    return kinds.bars(key, title, IMPORTANCE, "setting", "share explained", PERCENT, ranked, coloured=False)
