"""The figures as files: each figure of charts.py drawn by matplotlib, as PNG and SVG."""

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kws.files import write_atomically
from kws.formatting import count
from kws.report.search_charts import Figure

# Okabe and Ito's colours, distinguishable by colour-blind readers: as in page.css.
COLORS = ("#0072b2", "#d55e00", "#008a64", "#b2568f", "#a87100", "#3d87b8", "#4d4d4d", "#7a7400")
DASHES = ("-", "--", ":", "-.")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2dfd7",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.edgecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "kws",  # the same runs give the same file
}
FORMATS = {
    "percent": lambda value, _: f"{100 * value:.4g} %",
    "points": lambda value, _: f"{100 * value:.4g}",
    "count": lambda value, _: f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value:,.0f}",
}


def save(figure: Figure, folder: Path) -> None:
    """Write the figure to folder/ID.png and folder/ID.svg."""
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(6.4, 4.2))
        # Fixed margins: matplotlib's constrained layout takes as long as the drawing.
        axes = canvas.add_axes((0.15, 0.135, 0.82, 0.775))
        DRAWERS[figure["kind"]](axes, figure)
        # parse_math: "$" in a run's name is not mathematics.
        axes.set_title(figure["title"], parse_math=False)
        if figure["kind"] != "parallel":
            axes.set_xlabel(figure["x"]["label"], parse_math=False)
            axes.set_ylabel(figure["y"]["label"], parse_math=False)
        options: dict[str, dict[str, Any]] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}
        for kind, given in options.items():
            buffer = io.BytesIO()
            canvas.savefig(buffer, format=kind, **given)
            with write_atomically(folder / f"{figure['id']}.{kind}") as temporary:
                temporary.write_bytes(buffer.getvalue())


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _scales(axes: Axes, figure: Figure) -> None:
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        spec = figure[name]
        if spec.get("log"):
            getattr(axes, f"set_{name}scale")("log")
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 4 * low else MaxNLocator(4))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        if spec.get("domain"):
            low, high = spec["domain"]
            margin = 0.02 * (high - low)
            getattr(axes, f"set_{name}lim")(low - margin, high + margin)
        if spec.get("format") == "whole":
            axis.set_major_locator(MaxNLocator(integer=True))
        if spec.get("format") in FORMATS:
            axis.set_major_formatter(FuncFormatter(FORMATS[spec["format"]]))
        if spec.get("zero"):
            axes.set_ylim(bottom=0, top=1.06 * axes.get_ylim()[1])


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _lines(axes: Axes, figure: Figure) -> None:
    for series in figure["series"]:
        x, color, dashes = series["x"], _color(series["color"]), DASHES[series["color"] % len(DASHES)]
        runs = [list(zip(x, _numbers(run["y"]), strict=False)) for run in series["runs"]]  # some end early
        axes.add_collection(LineCollection(runs, colors=color, alpha=0.25, linewidths=0.7))
        if series["runs"]:
            low, high = _numbers(series["low"]), _numbers(series["high"])
            axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
        axes.plot(
            x, _numbers(series["mean"]), color=color, linewidth=2, label=series["name"], linestyle=dashes,
            drawstyle="steps-post" if figure.get("step") else "default",
        )  # fmt: skip
    if len(figure["series"]) > 1:
        axes.legend()
    _scales(axes, figure)


def _dots(axes: Axes, figure: Figure) -> None:
    for place, group in enumerate(figure["groups"]):
        color = _color(group["color"])
        level: dict[float, int] = {}
        for value in (point["y"] for point in group["points"] if point["y"] is not None):
            level[value] = level.get(value, -1) + 1  # equal dots side by side, as on the page
            axes.plot(place - 0.08 - 0.06 * level[value], value, "o", color=color, alpha=0.7, markersize=5)
        if group["mean"] is None:
            continue
        if group["low"] is not None:
            axes.plot([place + 0.1] * 2, [group["low"], group["high"]], color=color, linewidth=2.5)
        axes.plot(place + 0.1, group["mean"], "_", color=color, markersize=14, markeredgewidth=3)
    _categories(axes, [group["label"] for group in figure["groups"]])
    _scales(axes, figure)


def _categories(axes: Axes, labels: Sequence[str]) -> None:
    crowded = sum(map(len, labels)) > 60  # characters that fit across the figure at this size
    rotation: dict[str, Any] = {"rotation": 35, "ha": "right"} if crowded else {}
    axes.set_xticks(range(len(labels)), labels, **rotation)
    if crowded:
        axes.set_position((0.15, 0.26, 0.82, 0.65))
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.grid(False, axis="x")


def _bars(axes: Axes, figure: Figure) -> None:
    heights = [bar["y"] for bar in figure["bars"]]
    bars = axes.bar(range(len(heights)), heights, color=[_color(bar["color"]) for bar in figure["bars"]], width=0.6)
    if figure["y"].get("format") == "count":
        axes.bar_label(bars, [count(height) for height in heights], padding=2)
    _categories(axes, [bar["label"] for bar in figure["bars"]])
    _scales(axes, figure)


def _scatter(axes: Axes, figure: Figure) -> None:
    points = figure["points"]
    front = sorted((point["x"], point["y"]) for point in points if point["front"])
    axes.step(*zip(*front, strict=True), where="post", color="#5a5f68", linestyle="--", linewidth=1)
    few = len(points) <= 8
    for point in points:
        x, color = point["x"], _color(point["color"])
        if few and point["low"] is not None:
            axes.plot([x] * 2, [point["low"], point["high"]], color=color, alpha=0.6)
        fill = color if point["front"] else "white"
        axes.plot(x, point["y"], "o", color=color, markerfacecolor=fill, markersize=7)
    axes.margins(0.06)
    _scales(axes, figure)
    if few:
        _name_points(axes, [point for point in points if len(point["label"]) < 16])


def _name_points(axes: Axes, points: Iterable[Figure]) -> None:
    """Write each point's name beside it, at the first of four places where it covers no other name."""
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    to_inches = axes.transData + canvas.dpi_scale_trans.inverted()
    left_end, right_end = (to_inches.transform((x, axes.get_ylim()[0]))[0] * 72 for x in axes.get_xlim())
    taken: list[tuple[float, float, float]] = []
    for point in points:
        text = point["label"]
        x, y = to_inches.transform((point["x"], point["y"])) * 72
        width = 5.5 * len(text)
        for across, up in ((7, 7), (-7, 7), (7, -14), (-7, -14)):
            left, bottom = (x + across if across > 0 else x + across - width), y + up
            free = all(left > a + w or left + width < a or abs(bottom - b) > 11 for a, b, w in taken)
            if free and left_end < left and left + width < right_end + 10:
                taken.append((left, bottom, width))
                axes.annotate(
                    text, (point["x"], point["y"]), xytext=(across, up), textcoords="offset points",
                    ha="left" if across > 0 else "right", parse_math=False,
                )  # fmt: skip
                break


def _heat(axes: Axes, figure: Figure) -> None:
    x_ticks, y_ticks = figure["x"]["ticks"], figure["y"]["ticks"]
    grid = [[math.nan] * len(x_ticks) for _ in y_ticks]
    known = [square["value"] for square in figure["squares"]]
    middle = (min(known) + max(known)) / 2
    for square in figure["squares"]:
        grid[square["y"]][square["x"]] = square["value"]
        color = "white" if square["value"] > middle else "black"
        axes.text(square["x"], square["y"], square["text"], ha="center", va="center", color=color)
    axes.imshow(grid, origin="lower", aspect="auto", cmap="Blues")
    axes.set_xticks(range(len(x_ticks)), x_ticks)
    axes.set_yticks(range(len(y_ticks)), y_ticks)
    axes.grid(False)


def _parallel(axes: Axes, figure: Figure) -> None:
    shade = matplotlib.colormaps["Blues"]
    for line in figure["lines"]:
        share = line["share"]
        axes.plot(range(len(line["at"])), line["at"], color=shade(0.25 + 0.75 * share), alpha=0.4 + 0.6 * share)
    for place, axis in enumerate(figure["axes"]):
        axes.axvline(place, color="#5a5f68", linewidth=0.8)
        for tick in axis["ticks"]:
            axes.text(place + 0.03, tick["at"], tick["text"], fontsize=8, va="center", parse_math=False)
    axes.set_xlim(-0.1, len(figure["axes"]) - 0.6)  # room for the last one's numbers
    axes.set_xticks(range(len(figure["axes"])), [axis["name"] for axis in figure["axes"]], rotation=20)
    axes.set_yticks([])
    axes.grid(False)


DRAWERS = {"lines": _lines, "dots": _dots, "bars": _bars, "scatter": _scatter, "heat": _heat, "parallel": _parallel}
