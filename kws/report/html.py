"""Pieces of HTML that the page's sections share."""

from collections.abc import Collection, Iterable, Sequence
from html import escape

from kws.report.content import Cell
from kws.report.search_charts import Figure


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Iterable[str]],
    marks: Collection[int] = (),
    sortable: bool = False,
) -> str:
    """Return an HTML table of HTML cells. A head that ends in # is of numbers; the rows `marks` are highlighted."""
    names = [head.rstrip("#") for head in heads]
    kinds = [' class="n"' if head.endswith("#") else "" for head in heads]
    shown = [f'<button type="button">{name}</button>' for name in names] if sortable else names
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, shown, strict=True))
    body = []
    for index, (first, *rest) in enumerate(rows):
        columns = zip(kinds[1:], names[1:], rest, strict=True)
        cells = "".join(f'<td{kind} data-head="{name}">{cell}</td>' for kind, name, cell in columns)
        mark = ' class="marked"' if index in marks else ""
        body.append(f'<tr{mark}><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="{"tall" if sortable else "scroll"}" tabindex="0" role="region" aria-label="{caption}">'
        f'<table class="{"runs" if sortable else "cards"}"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def figure_frame(figure: Figure) -> str:
    """Return the place that page.js draws a figure into, with its caption."""
    kind, key = figure["kind"], figure["id"]
    with_legend = kind == "lines" and not figure.get("step")
    legend = '<div class="legend" role="group" aria-label="Lines to show"></div>' if with_legend else ""
    return f"""<figure{' class="full"' if kind == "parallel" else ""}><h4>{escape(figure["title"])}</h4>{legend}
<div class="plot{" tallplot" if kind in ("heat", "parallel") else ""}" data-figure="{key}"></div>
<figcaption>{escape(figure["caption"])}</figcaption>
<details class="numbers" data-figure="{key}"><summary>Numbers</summary><div class="scroll"></div></details></figure>"""


def bullets(lines: Iterable[str]) -> str:
    return f'<ul class="lines">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'


def stacked(cell: Cell) -> str:
    """Return a cell as HTML, with its note below."""
    if isinstance(cell, str):
        return escape(cell)
    return f'<span>{escape(cell[0])}<span class="sub">{escape(cell[1])}</span></span>'
