"""The DET curve of kws listen: missed keywords against false alarms, at each threshold."""

from collections.abc import Sequence

import altair as alt

from kws.inference.rates import Rates
from kws.report.vega import NUMBER, PERCENT, Field, Figure, Row, layer

FALSE_ALARMS = Field("false alarms per hour", NUMBER)
TICKS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
MISSED = Field("missed keywords", PERCENT, {"zero": True})
THRESHOLD, IS_CHOSEN = Field("threshold", NUMBER), Field("chosen")


def det_curve(curve: Sequence[Rates], threshold: float) -> Figure:
    """Return the figure of a curve, with a larger point at `threshold`."""
    fields = [THRESHOLD, MISSED, FALSE_ALARMS, IS_CHOSEN]
    rows: list[Row] = [
        {THRESHOLD.title: item.threshold, MISSED.title: item.miss_rate}
        | {FALSE_ALARMS.title: item.false_alarms_per_hour, IS_CHOSEN.title: item.threshold == threshold}
        for item in curve
    ]
    most = max(row[FALSE_ALARMS.title] for row in rows)
    # Equal steps for equal ratios, but linear below one per hour: there may be none at all.
    scale = alt.Scale(type="symlog", domainMin=0, nice=False, padding=12)
    axis = alt.Axis(values=[tick for tick in TICKS if tick <= most])
    x = alt.X(f"{FALSE_ALARMS.title}:Q", title=FALSE_ALARMS.title, scale=scale, axis=axis)
    base = layer(*fields).encode(x, MISSED.on(alt.Y), order=f"{THRESHOLD.title}:Q")
    chosen = base.transform_filter(alt.datum[IS_CHOSEN.title])
    layers = [base.mark_line(strokeWidth=2.4), base.mark_circle(size=40), chosen.mark_circle(size=160)]
    last = curve[-1]
    title = f"{last.keywords:,} keywords in {last.hours:.2f} h; large: threshold {threshold:g}"
    return Figure("det", "steps", title, "", fields, rows, layers)
