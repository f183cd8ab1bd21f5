"""The figures as files: each of kws/figures.py's figures drawn by matplotlib, as PNG and SVG."""

import io
import math

import matplotlib
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kws.files import write_atomically
from kws.formatting import count

# Okabe and Ito's colours, told apart by colour-blind readers: as in page.css.
COLORS = ("#0072b2", "#d55e00", "#008a64", "#b2568f", "#a87100", "#3d87b8", "#4d4d4d", "#7a7400")
DASHES = ("-", "--", ":", "-.")
STYLE = {
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


def save(figure, folder):
    """Write the figure to folder/ID.png and folder/ID.svg."""
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(6.4, 4.2))
        # Fixed margins: matplotlib's constrained layout takes as long as the drawing.
        axes = canvas.add_axes((0.15, 0.135, 0.82, 0.775))
        DRAWERS[figure["kind"]](axes, figure)
        # A "$" in a run's name is no mathematics.
        axes.set_title(figure["title"], parse_math=False)
        if figure["kind"] != "parallel":
            axes.set_xlabel(figure["x"]["label"], parse_math=False)
            axes.set_ylabel(figure["y"]["label"], parse_math=False)
        for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
            buffer = io.BytesIO()
            canvas.savefig(buffer, format=kind, **options)
            with write_atomically(folder / f"{figure['id']}.{kind}") as temporary:
                temporary.write_bytes(buffer.getvalue())


def _color(index):
    return COLORS[index % len(COLORS)]


FORMATS = {
    "percent": lambda value, _: f"{100 * value:.4g} %",
    "points": lambda value, _: f"{100 * value:.4g}",
    "count": lambda value, _: f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value:,.0f}",
}


def _scales(axes, figure):
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
            air = 0.02 * (high - low)
            getattr(axes, f"set_{name}lim")(low - air, high + air)
        if spec.get("format") == "whole":
            axis.set_major_locator(MaxNLocator(integer=True))
        if spec.get("format") in FORMATS:
            axis.set_major_formatter(FuncFormatter(FORMATS[spec["format"]]))
        if spec.get("zero"):
            axes.set_ylim(bottom=0, top=1.06 * axes.get_ylim()[1])


def _numbers(values):
    return [math.nan if value is None else value for value in values]


def _lines(axes, figure):
    for series in figure["series"]:
        color = _color(series["color"])
        runs = [list(zip(series["x"], _numbers(run["y"]), strict=False)) for run in series["runs"]]  # some end early
        axes.add_collection(LineCollection(runs, colors=color, alpha=0.25, linewidths=0.7))
        if series["runs"]:
            axes.fill_between(
                series["x"],
                _numbers(series["low"]),
                _numbers(series["high"]),
                color=color,
                alpha=0.12,
                linewidth=0,
            )
        axes.plot(
            series["x"], _numbers(series["mean"]), color=color, linewidth=2, label=series["name"],
            linestyle=DASHES[series["color"] % len(DASHES)],
            drawstyle="steps-post" if figure.get("step") else "default",
        )  # fmt: skip
    if len(figure["series"]) > 1:
        axes.legend()
    _scales(axes, figure)


def _dots(axes, figure):
    for place, group in enumerate(figure["groups"]):
        values = [point["y"] for point in group["points"] if point["y"] is not None]
        level = {}
        for value in values:  # equal dots side by side, as on the page
            level[value] = level.get(value, -1) + 1
            axes.plot(
                place - 0.08 - 0.06 * level[value],
                value,
                "o",
                color=_color(group["color"]),
                alpha=0.7,
                markersize=5,
            )
        if group["mean"] is not None:
            if group["low"] is not None:
                axes.plot(
                    [place + 0.1] * 2,
                    [group["low"], group["high"]],
                    color=_color(group["color"]),
                    linewidth=2.5,
                )
            axes.plot(
                place + 0.1,
                group["mean"],
                "_",
                color=_color(group["color"]),
                markersize=14,
                markeredgewidth=3,
            )
    _categories(axes, [group["label"] for group in figure["groups"]])
    _scales(axes, figure)


def _categories(axes, labels):
    crowded = sum(map(len, labels)) > 60  # letters, of this size, across the figure
    axes.set_xticks(range(len(labels)), labels, **({"rotation": 35, "ha": "right"} if crowded else {}))
    if crowded:
        axes.set_position((0.15, 0.26, 0.82, 0.65))
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.grid(False, axis="x")


def _bars(axes, figure):
    heights = [bar["y"] for bar in figure["bars"]]
    bars = axes.bar(range(len(heights)), heights, color=[_color(bar["color"]) for bar in figure["bars"]], width=0.6)
    if figure["y"].get("format") == "count":
        axes.bar_label(bars, [count(height) for height in heights], padding=2)
    _categories(axes, [bar["label"] for bar in figure["bars"]])
    _scales(axes, figure)


def _scatter(axes, figure):
    front = sorted((cell for cell in figure["cells"] if cell["front"]), key=lambda cell: cell["x"])
    axes.step(
        [cell["x"] for cell in front],
        [cell["y"] for cell in front],
        where="post",
        color="#5a5f68",
        linestyle="--",
        linewidth=1,
    )
    few = len(figure["cells"]) <= 8
    for cell in figure["cells"]:
        color = _color(cell["color"])
        if few and cell["low"] is not None:
            axes.plot([cell["x"]] * 2, [cell["low"], cell["high"]], color=color, alpha=0.6)
        axes.plot(
            cell["x"],
            cell["y"],
            "o",
            color=color,
            markerfacecolor=color if cell["front"] else "white",
            markersize=7,
        )
    axes.margins(0.06)
    _scales(axes, figure)
    if few:
        _name_marks(axes, [cell for cell in figure["cells"] if len(cell["label"]) < 16])


def _name_marks(axes, cells):
    """Write each mark's name beside it, at the first of four places where it covers no other name."""
    points_of = axes.transData + axes.figure.dpi_scale_trans.inverted()
    left_end, right_end = (points_of.transform((x, axes.get_ylim()[0]))[0] * 72 for x in axes.get_xlim())
    taken = []
    for cell in cells:
        x, y = points_of.transform((cell["x"], cell["y"])) * 72
        width = 5.5 * len(cell["label"])
        for across, up in ((7, 7), (-7, 7), (7, -14), (-7, -14)):
            left, bottom = (x + across if across > 0 else x + across - width), y + up
            free = all(left > a + w or left + width < a or abs(bottom - b) > 11 for a, b, w in taken)
            if free and left_end < left and left + width < right_end + 10:
                taken.append((left, bottom, width))
                axes.annotate(
                    cell["label"],
                    (cell["x"], cell["y"]),
                    xytext=(across, up),
                    ha="left" if across > 0 else "right",
                    textcoords="offset points",
                    parse_math=False,
                )
                break


def _heat(axes, figure):
    grid = [[math.nan] * len(figure["x"]["ticks"]) for _ in figure["y"]["ticks"]]
    for square in figure["squares"]:
        grid[square["y"]][square["x"]] = square["value"]
    known = [square["value"] for square in figure["squares"]]
    middle = (min(known) + max(known)) / 2
    axes.imshow(grid, origin="lower", aspect="auto", cmap="Blues")
    for square in figure["squares"]:
        color = "white" if square["value"] > middle else "black"
        axes.text(square["x"], square["y"], square["text"], ha="center", va="center", color=color)
    axes.set_xticks(range(len(figure["x"]["ticks"])), figure["x"]["ticks"])
    axes.set_yticks(range(len(figure["y"]["ticks"])), figure["y"]["ticks"])
    axes.grid(False)


def _parallel(axes, figure):
    shade = matplotlib.colormaps["Blues"]
    for line in figure["lines"]:
        axes.plot(
            range(len(line["at"])),
            line["at"],
            color=shade(0.25 + 0.75 * line["share"]),
            alpha=0.4 + 0.6 * line["share"],
        )
    for place, axis in enumerate(figure["axes"]):
        axes.axvline(place, color="#5a5f68", linewidth=0.8)
        for tick in axis["ticks"]:
            axes.text(place + 0.03, tick["at"], tick["text"], fontsize=8, va="center", parse_math=False)
    axes.set_xlim(-0.1, len(figure["axes"]) - 0.6)  # room for the last one's numbers
    axes.set_xticks(range(len(figure["axes"])), [axis["name"] for axis in figure["axes"]], rotation=20)
    axes.set_yticks([])
    axes.grid(False)


DRAWERS = {
    "lines": _lines,
    "dots": _dots,
    "bars": _bars,
    "scatter": _scatter,
    "heat": _heat,
    "parallel": _parallel,
}
