"""Kinds of charts: each function returns a Figure, a Vega-Lite spec made with Altair and its numbers as a table.

The data of a spec are its `datasets`; a curve is one row, with lists that the chart flattens. A spec has neither a size
nor colours: see kws.report.vega.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from kws.formatting import count, percent, seconds, value_text
from kws.report.vega import DASHES, Spec

Row = dict[str, Any]
MOST_COLOURS = 8  # more are not distinguishable
SINGLE_RUNS = "single runs"
# Units: how a number is written in tables, and its d3 format in the chart.
PERCENT, SECONDS, COUNT, NUMBER = (percent, ".2~%"), (seconds, ".3~g"), (count, ".3~s"), (value_text, "~g")


@dataclass(frozen=True)
class Axis:
    label: str
    unit: tuple[Any, str]
    domain: Sequence[float]
    log: bool = False
    whole: bool = False

    def __call__(self, channel: type, name: str) -> Any:
        """Return the encoding of the field `name` on this axis."""
        low, high = self.domain
        ticks = [step * 10.0**power for power in range(-6, 12) for step in (1, 2, 5)]
        wide = self.log and high > 10 * low  # Vega draws too many lines there
        axis = alt.Axis(
            format=self.unit[1], tickCount=5, tickMinStep=1 if self.whole else alt.Undefined,
            values=[tick for tick in ticks if low <= tick <= high] if wide else alt.Undefined,
        )  # fmt: skip
        scale = alt.Scale(domain=[low, high], type="log" if self.log else "linear", nice=False)
        return channel(f"{name}:Q", title=self.label, scale=scale, axis=axis)

    def tooltip(self, name: str, title: str = "") -> alt.Tooltip:
        return alt.Tooltip(f"{name}:Q", title=title or self.label, format=self.unit[1])

    def text(self, value: float) -> str:
        return "n/a" if math.isnan(value) else self.unit[0](value)


@dataclass(frozen=True)
class Figure:
    """A chart and its numbers; a head of the table that ends in # belongs to a column of numbers."""

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


def figure(
    key: str, kind: str, title: str, caption: str, layers: Iterable[alt.Chart], data: Row,
    heads: Sequence[str], rows: Sequence[Sequence[str]], legend: Sequence[str] = (), of_model: bool = False,
) -> Figure:  # fmt: skip
    chart = alt.layer(*layers).properties(width="container", height="container")
    spec = chart.add_params(alt.param(name="hidden", value=[])).to_dict() | {"datasets": data}
    del spec["config"]  # see kws.report.vega
    # Six digits, and None for NaN: JSON has no NaN.
    rounded = json.loads(
        json.dumps(spec), parse_constant=lambda _: None, parse_float=lambda text: float(f"{float(text):.6g}")
    )
    return Figure(key, kind, title, caption, rounded, heads, rows, legend, of_model)


def layer(rows: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(rows))


def domain(values: Iterable[float], log: bool = False, zero: bool = False) -> list[float]:
    """Return the range of an axis: that of the values with a margin, from zero if `zero`."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [0.5, 1.0]
    low, high = min(known), max(known)
    if log:
        margin = (high / low) ** 0.06 if high > low else 1.5
        return [low / margin, high * margin]
    margin = 0.08 * (high - low) or 0.05 * (abs(high) or 1)
    return [0.0 if zero else low - margin, high + margin if zero or high > 1 else min(high + margin, 1.0)]


def categories(label: str, names: Sequence[str]) -> alt.X:
    angle = -35 if sum(map(len, names)) > 60 else 0  # characters that fit across the figure
    axis = alt.Axis(labelAngle=angle, labelOverlap=True)
    return alt.X("label:N", title=label, sort=None, scale=alt.Scale(domain=list(names)), axis=axis)


def colour(names: Sequence[str], name: str = "label", legend: alt.Legend | None = None) -> Any:
    """Return the encoding of a colour for each of `names`, or of one colour if there are too many."""
    if len(names) > MOST_COLOURS:
        return alt.Undefined
    return alt.Color(f"{name}:N", scale=alt.Scale(domain=list(names)), legend=legend)


def shade() -> alt.Opacity:
    return alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.12, 1]), legend=None)


def hover(chart: alt.Chart, same: Sequence[str], *tooltip: alt.Tooltip) -> alt.Chart:
    """Return a ring around the point nearest to the pointer, with its tooltip; `same`: the fields that identify it."""
    nearest = alt.selection_point(name="hover", fields=list(same), on="pointerover", nearest=True, empty=False)
    shown = alt.condition(nearest, alt.value(1), alt.value(0))
    ring = chart.mark_point(style="ink", size=150, strokeWidth=2).encode(opacity=shown, tooltip=list(tooltip))
    found: alt.Chart = ring.add_params(nearest).properties(name="points")
    return found


def dots(key: str, title: str, caption: str, label: str, y: Axis, bars: Sequence[Row], points: Sequence[Row]) -> Figure:
    """Return dots for single runs beside the mean and its interval.

    bars: rows of label, n, mean, low, high; points: rows of label (as in `bars`), run, y.
    """
    gap, step = (y.domain[1] - y.domain[0]) / 60, min(0.06, 0.4 * len(bars) / len(points))
    taken: dict[tuple[str, int], int] = {}  # dots of equal height are drawn side by side
    for point in points:
        slot = point["label"], 0 if math.isnan(point["y"]) else round(point["y"] / gap)
        taken[slot] = taken.get(slot, -1) + 1
        point["place"] = 0.4 - step * taken[slot]
    names = [bar["label"] for bar in bars]
    x, place = categories(label, names), alt.XOffset("place:Q", scale=alt.Scale(domain=[0, 1]))
    tooltip = [y.tooltip("mean", "mean"), y.tooltip("low", "95 % interval from"), y.tooltip("high", "to")]
    bar = layer("bars").encode(x, alt.XOffset(datum=0.55), color=colour(names), tooltip=tooltip)
    dot = layer("dots").mark_circle(size=55, opacity=0.75)
    layers = [
        bar.mark_rule(strokeWidth=3, strokeCap="round").encode(y(alt.Y, "low"), alt.Y2("high")),
        bar.mark_tick(thickness=4, size=16, orient="horizontal").encode(y(alt.Y, "mean")),
        dot.encode(x, y(alt.Y, "y"), place, color=colour(names), tooltip=["run:N", y.tooltip("y")]),
    ]
    rows = [
        [bar["label"], str(bar["n"]), y.text(bar["mean"]), f"{y.text(bar['low'])} to {y.text(bar['high'])}"]
        + [", ".join(y.text(point["y"]) for point in points if point["label"] == bar["label"])]
        for bar in bars
    ]
    heads = (label, "n#", "mean#", "95 % interval#", "seeds")
    return figure(key, "dots", title, caption, layers, {"bars": bars, "dots": points}, heads, rows)


def bars(
    key: str, title: str, caption: str, label: str, y_label: str, unit: tuple[Any, str], values: dict[str, float],
    coloured: bool = True,
) -> Figure:  # fmt: skip
    names, y = list(values), Axis(y_label, unit, domain(values.values(), zero=True))
    data = [{"label": name, "y": value, "text": y.text(value)} for name, value in values.items()]
    base = layer("bars").encode(categories(label, names), y(alt.Y, "y"), tooltip=["label:N", y.tooltip("y")])
    color = colour(names) if coloured else alt.Undefined
    layers = [base.mark_bar(cornerRadiusEnd=3, width={"band": 0.6}).encode(color=color)]
    if len(names) <= MOST_COLOURS:
        layers.append(base.mark_text(dy=-8).encode(text="text:N"))
    rows = [[name, y.text(value)] for name, value in values.items()]
    return figure(key, "bars", title, caption, layers, {"bars": data}, (label, f"{y_label}#"), rows)


def lines(
    key: str, title: str, caption: str, x: Axis, y: Axis, curves: Sequence[Row], of_model: bool = False
) -> Figure:
    """Return curves. Their rows have series, x, y, low, high and, where they have a tooltip, line (its name).

    Several runs are one row with single=True, and NaN between the runs: with a path each, a PNG takes a minute.
    """
    means = [curve for curve in curves if "single" not in curve]
    names = [curve["series"] for curve in means]
    shown_legend = alt.Legend(symbolType="stroke") if len(names) > 1 else None
    hidden = f"indexof(hidden, datum.series) >= 0 || datum.single && indexof(hidden, '{SINGLE_RUNS}') >= 0"
    base = layer("lines").transform_filter(f"!({hidden})")
    base = base.encode(x(alt.X, "x"), y(alt.Y, "y"), color=colour(names, "series", shown_legend))
    mean = base.transform_filter("!datum.single").transform_flatten(["x", "y", "low", "high"])
    single = base.transform_filter("datum.single").transform_flatten(["x", "y"]).transform_window(n="row_number()")
    named = base.transform_filter("isValid(datum.line)").transform_flatten(["x", "y", "line"])
    named = named.transform_filter(f"datum.y >= {y.domain[0]}")
    dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=names, range=DASHES), legend=shown_legend)
    layers = [
        mean.mark_area(opacity=0.13, clip=True).encode(y(alt.Y, "low"), alt.Y2("high:Q")),
        single.mark_line(strokeOpacity=0.28, strokeWidth=1, clip=True).encode(order="n:Q"),
        mean.mark_line(strokeWidth=2.4, clip=True, interpolate="step-after" if of_model else "linear").encode(dash),
        hover(named, ["line", "x"], alt.Tooltip("line:N"), x.tooltip("x"), y.tooltip("y")),
    ]
    legend = [] if of_model else [*names, *([SINGLE_RUNS] if len(means) < len(curves) else [])]
    rows = [[x.text(at[0]), *map(y.text, at[1:])] for at in zip(means[0]["x"], *(c["y"] for c in means), strict=True)]
    heads = (x.label, *(f"{name}#" for name in names))
    return figure(key, "lines", title, caption, layers, {"lines": curves}, heads, rows, legend, of_model)
