"""Pieces of HTML that the page's sections share."""

import math
from html import escape

from kws.formatting import p_text, percent, percentage_points


def table(caption, heads, rows, classes="cards", marks=()):
    """Return an HTML table. Cells are HTML; a head that ends in # is of numbers; the rows in `marks` stand out."""
    names = [head.rstrip("#") for head in heads]
    kinds = [' class="n"' if head.endswith("#") else "" for head in heads]
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, names, strict=True))
    body = []
    for index, (first, *rest) in enumerate(rows):
        cells = zip(kinds[1:], names[1:], rest, strict=True)
        cells = "".join(f'<td{kind} data-head="{name}">{cell}</td>' for kind, name, cell in cells)
        taken = ' class="taken"' if index in marks else ""
        body.append(f'<tr{taken}><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f'<table class="{classes}"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(spec):
    """Return the place that page.js draws a figure of kws/figures.py into, with its caption."""
    kind, key = spec["kind"], spec["id"]
    with_legend = kind == "lines" and not spec.get("step")
    legend = '<div class="legend" role="group" aria-label="Lines to show"></div>' if with_legend else ""
    return f"""<figure{' class="whole"' if kind == "parallel" else ""}><h4>{escape(spec["title"])}</h4>{legend}
<div class="plot{" tallplot" if kind in ("heat", "parallel") else ""}" data-figure="{key}"></div>
<figcaption>{escape(spec["caption"])}</figcaption>
<details class="numbers" data-figure="{key}"><summary>Numbers</summary><div class="scroll"></div></details></figure>"""


def bullets(lines):
    return f'<ul class="lines">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'


def stacked(estimate):
    """Return mean ± standard deviation over its interval; the mean alone where there is one run."""
    if math.isnan(estimate.sd):
        return percent(estimate.mean)
    interval = f"{percentage_points(estimate.low)} to {percentage_points(estimate.high)}"
    return f'<span>{percentage_points(estimate.mean)} ± {percentage_points(estimate.sd)} %<span class="sub">{interval}</span></span>'


def difference(item):
    """Return a Difference in percentage points over its interval and corrected p."""
    interval = f"{percentage_points(item.low)} to {percentage_points(item.high)}, {p_text(item.p_holm)}"
    return f'<span>{percentage_points(item.mean, sign=True)}<span class="sub">{interval}</span></span>'
