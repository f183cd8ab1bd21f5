"""Figures of studies with two or more scientific parameters: heat map, parallel coordinates, importance."""

import math
from collections.abc import Sequence
from typing import Any

from kws import metrics
from kws.analysis.records import RunRecord
from kws.analysis.statistics import importance
from kws.analysis.study import Study
from kws.formatting import percent, value_text

Figure = dict[str, Any]  # see charts.py


def make_figure(
    study: Study, name: str, kind: str, title: str, caption: str, x: Figure, y: Figure, **parts: Any
) -> Figure:
    return {"id": f"{study.key}-{name}", "kind": kind, "title": title, "caption": caption, "x": x, "y": y, **parts}


def heat(study: Study, which: str, title: str) -> Figure:
    """Return a heat map of the estimate `which` ("val" or "test") over two parameters."""
    first, second = study.parameters
    xs, ys = ([*dict.fromkeys(item.values[name] for item in study.configurations)] for name in (first, second))
    ys = sorted(ys, key=_order)
    squares = []
    for configuration in study.configurations:
        item = getattr(configuration, which)
        place = {"x": xs.index(configuration.values[first]), "y": ys.index(configuration.values[second])}
        squares.append(place | {"value": item.mean, "text": percent(item.mean), "n": item.n})
    caption = "Mean over seeds; an empty square has no finished run."
    x = {"label": first, "ticks": [value_text(v) for v in xs]}
    y = {"label": second, "ticks": [value_text(v) for v in ys], "format": "percent"}
    title = f"{title} by {first} and {second}"
    return make_figure(study, f"{which}-heat", "heat", title, caption, x, y, squares=squares)


def parallel(study: Study) -> Figure:
    places: list[list[float]] = []  # of each parameter: of each run, from 0 to 1
    axes: list[Figure] = []
    for name in study.parameters:
        given = [run.config[name] for run in study.runs]
        values = sorted(set(given), key=_order)
        at = dict(zip(values, _places(values), strict=True))
        places.append([at[value] for value in given])
        ticks = [values[0], values[-1]] if _is_continuous(values) else values
        axes.append({"name": name, "ticks": [{"at": at[value], "text": value_text(value)} for value in ticks]})
    scores = [_score(run) for run in study.runs]
    low, high = min(scores), max(scores)
    axes.append(
        {"name": "val accuracy", "ticks": [{"at": 0.0, "text": percent(low)}, {"at": 1.0, "text": percent(high)}]}
    )
    lines: list[Figure] = []
    for run, score, *at_axes in zip(study.runs, scores, *places, strict=True):
        share = (score - low) / (high - low) if high > low else 1.0
        lines.append({"name": run.name, "at": [*at_axes, share], "share": share, "score": score})
    lines.sort(key=lambda line: line["score"])  # the best are drawn last, on top
    return make_figure(
        study, "parallel", "parallel", "Settings and validation accuracy of every run",
        "One line per run; darker is more accurate.", {"label": ""},
        {"label": "validation accuracy", "format": "percent"}, axes=axes, lines=lines,
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


def importance_bars(study: Study) -> Figure:
    scores = [_score(run) for run in study.runs]
    shares = {name: importance([run.config[name] for run in study.runs], scores) for name in study.parameters}
    caption = (
        "Share of the variance of the runs' ranks by validation accuracy that each setting explains by itself (epsilon "
        "squared), without interactions between settings. A rough estimate if there are few runs."
    )
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    bars = [{"label": name, "color": 0, "y": share} for name, share in ranked]
    y = {"label": "share explained", "format": "percent", "zero": True}
    return make_figure(
        study, "importance", "bars", "Importance of settings", caption, {"label": "setting"}, y, bars=bars
    )
