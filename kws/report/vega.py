"""Vega-Lite around the charts: the config with the page's colours, PNG and SVG files, and the page's JavaScript."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import vl_convert

from kws.files import write_atomically

Spec = dict[str, Any]
DASHES = ((1, 0), (7, 3), (2, 3), (9, 3, 2, 3), (4, 2), (1, 2), (12, 3), (6, 2, 1, 2))
LOCALE = {"decimal": ".", "thousands": ",", "grouping": [3], "currency": ["", ""], "percent": " %"}
SNIPPET = "window.vegaEmbed = vegaEmbed;"
FILE_SIZE = {"width": 540, "height": 320}


def static(name: str) -> str:
    return files("kws.report").joinpath("static", name).read_text(encoding="utf-8")


def page_config() -> Spec:
    """Return the Vega-Lite config of the page's charts: colours are CSS variables, so that they follow the theme."""
    variables = {name: f"var(--{name})" for name in _light_colours()}
    return _config(variables, "system-ui, sans-serif") | {"background": None}


def _light_colours() -> dict[str, str]:
    return dict(re.findall(r"--(\w+): light-dark\((#\w+),", static("page.css")))


def _config(colours: Mapping[str, str], font: str) -> Spec:
    ink, soft, rule, card = (colours[name] for name in ("ink", "soft", "rule", "card"))
    return {
        "aria": False,  # the page describes each chart in a sentence and a table
        "autosize": {"type": "fit", "contains": "padding"},
        "background": card,
        "font": font,
        "mark": {"color": colours["c0"]},
        "range": {"category": [colours[f"c{index}"] for index in range(8)]},
        "style": {"ink": {"color": ink}, "soft": {"color": soft}, "card": {"color": card}, "hollow": {"fill": card}},
        "title": {"color": ink, "anchor": "start", "fontSize": 14, "offset": 14},
        "legend": {"orient": "top", "title": None, "labelColor": ink, "labelFontSize": 12, "symbolSize": 300}
        | {"symbolOpacity": 1, "symbolStrokeWidth": 3, "offset": 26, "symbolFillColor": "transparent"},
        "text": {"color": ink, "fontSize": 12, "fontWeight": 600},
        "view": {"stroke": None},
        "axis": {"labelColor": soft, "labelFontSize": 12, "gridColor": rule, "domainColor": soft, "ticks": False}
        | {"titleColor": soft, "titleFontSize": 12, "titleFontWeight": "normal", "labelPadding": 7},
        "axisX": {"grid": False, "titlePadding": 8},
        # The title of the y axis is horizontal, above the axis.
        "axisY": {"domain": False, "titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": -45}
        | {"titleY": -14, "titleBaseline": "bottom", "minExtent": 45},
    }


def save(spec: Spec, title: str, path: Path) -> None:
    """Write the chart, with its title and in the light theme, to path.svg and path.png."""
    drawn = spec | FILE_SIZE | {"title": title, "config": _config(_light_colours(), "sans-serif")}
    svg = vl_convert.vegalite_to_svg(drawn, format_locale=LOCALE)
    # Vega numbers the clip paths of a process; from 0 in each file, the same runs give the same files.
    numbers = {number: str(index) for index, number in enumerate(dict.fromkeys(re.findall(r'id="clip(\d+)"', svg)))}
    svg = re.sub(r'((?:id="|url\(#)clip)(\d+)', lambda found: found[1] + numbers.get(found[2], found[2]), svg)
    for suffix, content in (("svg", svg.encode()), ("png", vl_convert.svg_to_png(svg, scale=2))):
        with write_atomically(path.with_suffix(f".{suffix}")) as temporary:
            temporary.write_bytes(content)


@cache
def bundle() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed, for an inline script."""
    return vl_convert.javascript_bundle(SNIPPET).replace("</script", "<\\/script")


def json_in_html(value: Any) -> str:
    """Return JSON that no text in it can turn into markup: "<" is escaped."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
