"""Parts of charts: axes, colours and layers, made with Altair, and a Figure: a Vega-Lite spec with its numbers.

The data of a spec are its `datasets`; a spec has neither a size nor colours: see kws.report.vega.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from kws.formatting import count, percent, seconds, value_text
from kws.report.vega import Spec

Row = dict[str, Any]
MOST_COLOURS = 8  # more are not distinguishable
SINGLE_RUNS = "single runs"
VISIBLE = "indexof(hidden, datum.label) < 0"  # the page sets `hidden` to the labels that the reader switched off
# Units: how a number is written in tables, and its d3 format in the chart.
PERCENT, SECONDS, COUNT = (percent, ".2~%"), (seconds, ".3~g"), (count, ".3~s")
NUMBER, WHOLE = (value_text, "~g"), (str, "d")


@dataclass(frozen=True)
class Axis:
    label: str
    unit: tuple[Any, str]
    domain: Sequence[float]
    log: bool = False

    def __call__(self, channel: type, name: str) -> Any:
        """Return the encoding of the field `name` on this axis."""
        low, high = self.domain
        axis = alt.Axis(format=self.unit[1], tickCount=5, tickMinStep=1 if self.unit is WHOLE else 0)
        if self.log and high > 10 * low:  # Vega draws too many lines there
            ticks = [step * 10.0**power for power in range(-6, 12) for step in (1, 2, 5)]
            axis.values = [tick for tick in ticks if low <= tick <= high]
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
    legend: Sequence[str] = ()  # labels that the page can hide
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


def spec(layers: Iterable[alt.Chart], **datasets: Sequence[Row]) -> Spec:
    """Return the layers, lowest first, and their data as a Vega-Lite spec."""
    chart = alt.layer(*layers).properties(width="container", height="container")
    made = chart.add_params(alt.param(name="hidden", value=[])).to_dict() | {"datasets": datasets}
    del made["config"]  # see kws.report.vega
    # Six digits, and None for NaN: JSON has no NaN.
    rounded: Spec = json.loads(
        json.dumps(made), parse_constant=lambda _: None, parse_float=lambda text: float(f"{float(text):.6g}")
    )
    return rounded


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


def categories(title: str, names: Sequence[str]) -> alt.X:
    angle = -35 if sum(map(len, names)) > 60 else 0  # characters that fit across the figure
    axis = alt.Axis(labelAngle=angle, labelOverlap=True)
    return alt.X("label:N", title=title, sort=None, scale=alt.Scale(domain=list(names)), axis=axis)


def colour(names: Sequence[str], legend: alt.Legend | None = None) -> Any:
    """Return the encoding of a colour for each label, or of one colour if there are too many."""
    if len(names) > MOST_COLOURS:
        return alt.Undefined
    return alt.Color("label:N", scale=alt.Scale(domain=list(names)), legend=legend)


def shade(name: str, low: float, high: float, darkest: float) -> alt.Opacity:
    return alt.Opacity(f"{name}:Q", scale=alt.Scale(domain=[low, high], range=[0.12, darkest]), legend=None)


def hover(chart: alt.Chart, same: Sequence[str], *tooltip: alt.Tooltip) -> alt.Chart:
    """Return a ring around the point nearest to the pointer, with its tooltip; `same`: the fields that identify it."""
    nearest = alt.selection_point(name="hover", fields=list(same), on="pointerover", nearest=True, empty=False)
    shown = alt.condition(nearest, alt.value(1), alt.value(0))
    ring = chart.mark_point(style="ink", size=150, strokeWidth=2).encode(opacity=shown, tooltip=list(tooltip))
    found: alt.Chart = ring.add_params(nearest).properties(name="points")
    return found


def bars(
    key: str, title: str, caption: str, label: str, y_label: str, unit: tuple[Any, str], values: dict[str, float],
    coloured: bool,
) -> Figure:  # fmt: skip
    names, y = list(values), Axis(y_label, unit, domain(values.values(), zero=True))
    rows = [[name, y.text(value)] for name, value in values.items()]
    data = [{"label": name, "y": values[name], "text": text} for name, text in rows]
    base = layer("bars").encode(categories(label, names), y(alt.Y, "y"), tooltip=["label:N", y.tooltip("y")])
    color = colour(names) if coloured else alt.Undefined
    layers = [base.mark_bar(cornerRadiusEnd=3, width={"band": 0.6}).encode(color=color)]
    if len(names) <= MOST_COLOURS:
        layers.append(base.mark_text(dy=-8).encode(text="text:N"))
    return Figure(key, "bars", title, caption, spec(layers, bars=data), (label, f"{y_label}#"), rows)
