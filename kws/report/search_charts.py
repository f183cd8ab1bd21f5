"""The figures of studies with two scientific parameters or more: heat map, parallel coordinates, importance."""

import math

from kws import metrics
from kws.analysis.statistics import importance
from kws.formatting import percent, value_text


def make_figure(study, name, kind, title, caption, x, y, **parts):
    return {
        "id": f"{study.key}-{name}",
        "kind": kind,
        "title": title,
        "caption": caption,
        "x": x,
        "y": y,
        **parts,
    }


def heat(study, which, title):
    first, second = study.parameters
    xs, ys = (
        [*dict.fromkeys(configuration.values[name] for configuration in study.configurations)]
        for name in (first, second)
    )
    ys = sorted(ys, key=lambda value: (isinstance(value, str), value))
    squares = []
    for configuration in study.configurations:
        item = getattr(configuration, which)
        place = {"x": xs.index(configuration.values[first]), "y": ys.index(configuration.values[second])}
        squares.append(place | {"value": item.mean, "text": percent(item.mean), "n": item.n})
    caption = "Mean over seeds; an empty square has no finished run."
    return make_figure(
        study, f"{which}-heat", "heat", f"{title} by {first} and {second}", caption,
        {"label": first, "ticks": [value_text(v) for v in xs]},
        {"label": second, "ticks": [value_text(v) for v in ys], "format": "percent"}, squares=squares,
    )  # fmt: skip


def parallel(study):
    axes = []
    for name in study.parameters:
        values = sorted({run.config.get(name) for run in study.runs}, key=lambda v: (isinstance(v, str), v))
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values) and len(values) > 6
        log = numeric and min(values) > 0 and max(values) / min(values) > 20

        def place(value, values=values, numeric=numeric, log=log):
            if not numeric:
                return values.index(value) / max(len(values) - 1, 1)
            scale = math.log if log else float
            return (scale(value) - scale(values[0])) / (scale(values[-1]) - scale(values[0]))

        ticks = [values[0], values[-1]] if numeric else values
        axes.append((name, place, [{"at": place(v), "text": value_text(v)} for v in ticks]))
    scores = [run.summary[metrics.BEST_VAL_ACCURACY] for run in study.runs]
    low, high = min(scores), max(scores)
    ranked = sorted(
        study.runs, key=lambda run: run.summary[metrics.BEST_VAL_ACCURACY]
    )  # the best are drawn last, on top
    lines = []
    for run in ranked:
        score = run.summary[metrics.BEST_VAL_ACCURACY]
        share = (score - low) / (high - low) if high > low else 1.0
        at = [place(run.config.get(name)) for name, place, _ in axes] + [share]
        lines.append({"name": run.name, "at": at, "share": share, "score": score})
    ends = [{"at": 0.0, "text": percent(low)}, {"at": 1.0, "text": percent(high)}]
    return make_figure(
        study, "parallel", "parallel", "Every run, from its settings to validation accuracy",
        "One line a run; the darker, the more accurate.",
        {"label": ""}, {"label": "validation accuracy", "format": "percent"},
        axes=[{"name": name, "ticks": ticks} for name, _, ticks in axes] + [{"name": "val accuracy", "ticks": ends}],
        lines=lines,
    )  # fmt: skip


def importance_bars(study):
    scores = [run.summary[metrics.BEST_VAL_ACCURACY] for run in study.runs]
    shares = {name: importance([run.config.get(name) for run in study.runs], scores) for name in study.parameters}
    ranked = sorted(shares, key=lambda name: -shares[name])
    caption = (
        "Share of the variance of the runs' ranks by validation accuracy that a setting explains by itself (epsilon "
        "squared); what settings do together is not in it. With few runs it is rough."
    )
    bars = [{"label": name, "color": 0, "y": shares[name]} for name in ranked]
    return make_figure(
        study, "importance", "bars", "What mattered", caption,
        {"label": "setting"}, {"label": "share explained", "format": "percent", "zero": True}, bars=bars,
    )  # fmt: skip
