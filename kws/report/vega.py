"""Vega-Lite for the charts: fields and figures, PNG and SVG files. Colours and fonts are in static/theme.json."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import vl_convert

from kws.files import write_atomically
from kws.formatting import value_text

Row = dict[str, Any]  # {title of a field: value}
PERCENT, NUMBER, WHOLE = ".2~%", ".3~g", "d"  # in d3's notation, which is Python's but for the ~
LOG, FROM_ZERO = {"type": "log", "zero": alt.Undefined}, {"zero": True}  # scales
MOST_COLOURS = 8  # more are not distinguishable
PHONE_WIDTH, SYMBOL_WIDTH, LETTER_WIDTH = 250, 30, 7  # pixels, for legends
LOCALE = {"decimal": ".", "thousands": ",", "grouping": [3], "currency": ["", ""], "percent": " %"}


class Field(NamedTuple):
    """An entry of a figure's rows, which is a column of its numbers; one without a format is a text."""

    title: str
    format: str = ""
    scale: Mapping[str, Any] = {}

    def on(self, channel: Any, title: str = "") -> Any:
        """Return the encoding of this field, or of another one on the same axis."""
        scale = alt.Scale(**{"zero": False, "nice": False, "padding": 12, **self.scale})
        axis = alt.Axis(format=self.format, tickCount=5, tickMinStep=1 if self.format == WHOLE else 0)
        return channel(f"{title or self.title}:Q", title=self.title, scale=scale, axis=axis)

    def colours(self, names: Sequence[str], symbol: str = "") -> Any:
        """Return the encoding of a colour for each name, if there are not too many; with `symbol`, with a legend."""
        if len(names) > MOST_COLOURS:
            return alt.Undefined
        columns = max(1, PHONE_WIDTH // (SYMBOL_WIDTH + LETTER_WIDTH * max(map(len, names))))
        legend = alt.Legend(symbolType=symbol, columns=columns) if symbol and len(names) > 1 else None
        return alt.Color(f"{self.title}:N", scale=alt.Scale(domain=names), legend=legend)

    def text(self, value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(map(self.text, value))
        if isinstance(value, float) and math.isnan(value):
            return "n/a"
        return format(value, self.format.replace("~", "")).replace("%", " %") if self.format else value_text(value)


@dataclass
class Figure:
    """A chart: the layers, lowest first, of the data `rows`, whose fields are also shown as a table of numbers."""

    id: str
    kind: str  # lines, dots, bars, scatter, heat, parallel or, for the chosen model, steps
    title: str
    caption: str
    fields: Sequence[Field]
    rows: Sequence[Row]
    layers: Sequence[alt.Chart]

    def spec(self) -> dict[str, Any]:
        """Return the Vega-Lite spec, without a theme."""
        chart = alt.layer(*self.layers).properties(width="container", height="container").to_dict()
        made = json.dumps(chart | {"config": None, "datasets": {"rows": self.rows}})
        # Six digits, and None for NaN: JSON has no NaN.
        found = json.loads(made, parse_float=lambda text: float(f"{float(text):.6g}"), parse_constant=lambda _: None)
        return dict(found)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return heads, of which those of numbers end in #, and rows."""
        heads = [field.title + "#" * bool(field.format) for field in self.fields]
        return heads, [[field.text(row[field.title]) for field in self.fields] for row in self.rows]


def layer(*fields: Field) -> alt.Chart:
    """Return a layer of a figure's rows, with the fields in its tooltip."""
    shown = [alt.Tooltip(f"{field.title}:{'Q' if field.format else 'N'}", format=field.format) for field in fields]
    return alt.Chart(alt.NamedData("rows")).encode(tooltip=shown)


def static(name: str) -> str:
    return files("kws.report").joinpath("static", name).read_text(encoding="utf-8")


def save(figure: Figure, path: Path) -> None:
    """Write the figure, with its title and in the light theme, to path.svg and path.png."""
    light = dict(re.findall(r"--(\w+): light-dark\((#\w+),", static("page.css")))
    config = re.sub(r"var\(--(\w+)\)", lambda variable: light[variable[1]], static("theme.json"))
    spec = figure.spec() | {"width": 540, "height": 320, "title": figure.title, "config": json.loads(config)}
    svg = vl_convert.vegalite_to_svg(spec, format_locale=LOCALE)
    for suffix, content in (("svg", svg.encode()), ("png", vl_convert.svg_to_png(svg, scale=2))):
        with write_atomically(path.with_suffix(f".{suffix}")) as temporary:
            temporary.write_bytes(content)
